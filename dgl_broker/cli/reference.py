"""`dgl-broker reference`: scores of a replayed night in a small file, for a running filter to tell its drift from them."""

from pathlib import Path


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("reference", help="scores of a replayed night, for a running filter to see drift")
    parser.add_argument("scores", type=Path, metavar="scores.parquet", help="as `replay` writes it")
    parser.add_argument("--out", required=True, type=Path, metavar="reference.json", help="for `metrics.reference`")
    parser.add_argument("--night", metavar="YYYY-MM-DD", help="of this night alone; by default of all in the table")


def run(args):
    """Make the reference; the exit code."""
    from dgl_broker.archive.reference import reference_of_table

    found = reference_of_table(args.scores, args.night)
    found.save(args.out)
    middle = found.log_odds[len(found.log_odds) // 2]
    print(f"{args.out}: {found.n} scores of {found.survey} in the night {found.night}, median log odds {middle:.2f}")
    print(f"bundle {found.bundle_id} {found.bundle_sha256}")
    return 0
