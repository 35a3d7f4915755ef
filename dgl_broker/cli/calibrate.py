"""`dgl-broker calibrate`: the null of the p-values from the scores of a running stream."""

import sys
from pathlib import Path


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("calibrate", help="re-anchor the null of the p-values on a running stream")
    parser.add_argument("--from", dest="scores", action="append", required=True, type=Path, metavar="scores.parquet",
                        help="scores as `replay` writes them; may be repeated")  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="calibration.json")
    parser.add_argument("--bundle", default="default", help="whose log-odds they are (its strata are kept)")
    parser.add_argument("--survey", choices=["lsst", "ztf"], help="for the default bundle")
    parser.add_argument("--leave-out", action="append", default=[], type=Path, metavar="FILE",
                        help="object or alert ids that are no negatives (injections, known positives): one a line, or a CSV "
                        "with a column object_id or alert_id")  # fmt: skip
    parser.add_argument(
        "--radius", type=float, default=10.0, metavar="ARCSEC", help="around known lensed supernovae (with --known)"
    )
    parser.add_argument("--known", type=Path, metavar="FILE.csv", help="places of known positives: columns ra, dec [deg]")
    parser.add_argument("--min-null", type=int, default=2000, metavar="N", help="negatives a stratum needs of its own")


def run(args):
    """Fit the null; the exit code."""
    from dgl_broker.errors import StateError
    from dgl_broker.model import load_bundle
    from dgl_broker.training.anchor import anchor_null, read_scores

    bundle = load_bundle(args.bundle, args.survey)
    columns = read_scores(args.scores)
    calibration, report = anchor_null(bundle, columns, args.leave_out, args.known, args.radius, args.min_null)
    try:
        fresh = args.out.with_name(f".{args.out.name}.part")
        calibration.save(fresh)
        fresh.replace(args.out)
    except OSError as error:
        raise StateError(f"{args.out}: cannot be written: {error}") from error
    for name, n in report.items():
        print(f"{name:24s} {n}")
    print(
        f"{args.out}: calibration {calibration.calibration_id}, strata {', '.join(sorted(calibration.null))}", file=sys.stderr
    )
    return 0
