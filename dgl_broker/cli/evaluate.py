"""`dgl-broker evaluate`: a bundle or a baseline judged on a test set."""

from pathlib import Path


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("evaluate", help="judge a bundle on a test set")
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="a bundle (folder, id, or default with --survey) or a baseline's folder"
    )
    parser.add_argument("--survey", choices=["lsst", "ztf"], help="whose default bundle")
    parser.add_argument("--data", action="append", required=True, metavar="DIR", help="shards of examples, or a paper set")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="index.html, report.json, summary.txt and scores.npz go there"
    )
    parser.add_argument("--split", default="test", help="the split that is judged")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision", choices=["float32", "float16", "bfloat16"], help="default: float32 on a CPU, float16 on a GPU"
    )
    parser.add_argument("--draws", type=int, default=300, metavar="N", help="of the bootstrap")
    parser.add_argument("--garbage", type=int, default=300, metavar="N", help="spoiled alerts of each sort; 0: leave out")
    parser.add_argument("--no-ablation", action="store_true", help="do not take inputs away")
    parser.add_argument("--no-fusions", action="store_true", help="do not fit the other ways to fuse on the split calibration")
    parser.add_argument("--compare", type=Path, metavar="REPORT", help="report folder of another bundle on the same rows")
    parser.add_argument("--result", type=Path, metavar="FILE", help="the report without curves as well, for docs/results/")
    parser.add_argument(
        "--into-card", action="store_true", help="write the headline numbers onto the bundle's card (its hash changes)"
    )
    parser.add_argument(
        "--published-splits", action="store_true", help="paper sets: read the pickled split files (arrays only)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU")


def run(args):
    """Evaluate; the exit code."""
    import torch

    from dgl_broker.evaluation.compare import compare_reports
    from dgl_broker.evaluation.results import write_result
    from dgl_broker.evaluation.run import evaluate, plain, write_report
    from dgl_broker.evaluation.text import summary
    from dgl_broker.model.device import choose_device
    from dgl_broker.training.progress import bar

    if args.threads:
        torch.set_num_threads(args.threads)
    device = str(choose_device(args.device)[0])
    predictor, card = _predictor(args.bundle, args.survey)
    test, calibration, counts = _tables(args, predictor, card)
    with bar("scores", len(test), "examples") as advance:
        report, scored = evaluate(
            predictor,
            card,
            test,
            device=device,
            precision=args.precision,
            calibration=calibration,
            folders=args.data,
            n_draws=args.draws,
            n_garbage=args.garbage,
            ablate=not args.no_ablation,
            refusals=counts,
            advance=advance,
        )
    if args.compare:
        report["comparison"] = compare_reports(args.compare, scored, test.labels, card)
    if args.into_card:
        report["bundle"]["sha256_with_figures"] = _into_card(predictor, report)
    write_report(args.out, report, scored, test.labels)
    if args.result:
        write_result(args.result, plain(report))
    print(summary(report))
    return 0


def _predictor(name, survey):
    """A bundle, or a baseline where the folder holds one; and its card."""
    from dgl_broker.model import load_bundle
    from dgl_broker.training.baselines import load_baseline

    if (Path(name) / "baseline.json").is_file():
        baseline = load_baseline(name)
        return baseline, baseline.card
    bundle = load_bundle(name, survey)
    return bundle, bundle.card


def _tables(args, predictor, card):
    """The split judged, the split calibration where ways to fuse are compared (else None), counts of the data set."""
    from dgl_broker.training.dataset import summed_counts
    from dgl_broker.training.make import check_input
    from dgl_broker.training.shards import Table

    compare = not args.no_fusions and not hasattr(predictor, "score")
    if card["kind"] == "paper":
        from dgl_broker.training.paper_data import open_paper_tables

        tables = open_paper_tables(args.data, card, args.published_splits)
        return tables[args.split], tables["calibration"] if compare else None, None
    test = Table.open(args.data, args.split)
    check_input({args.split: test}, card)
    calibration = Table.open(args.data, "calibration") if compare else None
    counts = {str(folder): summed_counts(folder) for folder in args.data}
    return test, calibration, counts


def _into_card(bundle, report):
    """Headline numbers onto the card; the scores, and with them the null, stay what they are. Returns the new hash."""
    from dgl_broker.errors import ConfigError
    from dgl_broker.evaluation.goals import headline
    from dgl_broker.evaluation.run import plain
    from dgl_broker.model import load_bundle, save_bundle

    if hasattr(bundle, "score"):
        raise ConfigError("--into-card: a baseline has no card to write to")
    card = {**bundle.card, "metrics": plain(headline(report))}
    save_bundle(bundle.path, card, bundle.networks, bundle.fusion, bundle.calibration, overwrite=True)
    return load_bundle(bundle.path).sha256
