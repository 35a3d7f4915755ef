"""`dgl-broker train`: data to a bundle, or a bundle refreshed on new data."""

from pathlib import Path


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("train", help="train or refresh a bundle")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--survey", choices=["lsst", "ztf"], help="an alert bundle for this survey")
    what.add_argument(
        "--set", choices=["desi_dot", "lsst_wide", "des_wide", "des_deep"], help="a bundle for one of the paper's sets"
    )
    what.add_argument("--refresh", type=Path, metavar="FROM_BUNDLE", help="start from a bundle's weights, on new data")
    what.add_argument(
        "--preset-file", type=Path, metavar="P.json", help="a recipe of your own (see dgl_broker/training/presets)"
    )
    parser.add_argument(
        "--data", action="append", required=True, metavar="DIR", help="shards of examples, or a paper set; may be repeated"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="BUNDLE", help="folder of the bundle to make")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="alert (narrowed, default for surveys), paper (published widths, default for sets), authors (their recipe), "
        "or the baselines zippernet and cnn_lstm",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--share", type=float, default=1.0, metavar="S", help="share of the training systems to use, and of rows an epoch"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="state of the training, resumed from (default: OUT.work)")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: torch's own choice)")
    parser.add_argument(
        "--test", action="append", metavar="DIR", help="refresh: the frozen test set (default: split test of --data)"
    )
    parser.add_argument("--force", action="store_true", help="refresh: keep the new bundle even if it is worse")
    parser.add_argument("--published-splits", action="store_true", help="sets: read the pickled split files (arrays only)")


def run(args):
    """Train; the exit code (7: a refreshed bundle is worse on the frozen test set)."""
    import torch

    from dgl_broker.errors import ConfigError
    from dgl_broker.training.baselines import BASELINES
    from dgl_broker.training.make import make_baseline_from, make_bundle_from

    if args.threads is not None:
        if args.threads < 1:
            raise ConfigError(f"--threads {args.threads}, expected 1 or more")
        torch.set_num_threads(args.threads)
    common = {"work": args.work, "device": args.device, "seed": args.seed, "share": args.share}
    if args.refresh:
        from dgl_broker.training.refresh import refresh

        if args.preset:
            raise ConfigError("--preset: a refresh keeps the recipe of the bundle it starts from")
        report = refresh(args.refresh, args.data, args.out, test_folders=args.test, force=args.force, **common)
        print(report.text())
        return 0
    preset, baseline = _preset(args, BASELINES)
    tables = None
    if preset["card"].get("kind") == "paper":
        from dgl_broker.training.paper_data import open_paper_tables

        tables = open_paper_tables(args.data, preset["card"], args.published_splits, args.share)
    elif args.published_splits:
        raise ConfigError("--published-splits: only for the paper's sets")
    if baseline:
        make_baseline_from(baseline, preset, args.data, args.out, tables=tables, **common)
    else:
        make_bundle_from(preset, args.data, args.out, tables=tables, **common)
    return 0


def _preset(args, baselines):
    """The preset, and the name of the baseline where one is asked for."""
    from dgl_broker.training.presets import load_preset

    if args.preset_file:
        return load_preset(str(args.preset_file)), None
    name = args.preset or ("alert" if args.survey else "paper")
    prefix = args.survey or args.set
    if name in baselines:
        return load_preset(f"{prefix}_{'alert' if args.survey else 'paper'}"), name
    return load_preset(f"{prefix}_{name}"), None
