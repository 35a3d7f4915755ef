"""`dgl-broker validate`: a replay judged, as pages and JSON that open from disk."""

import os
from pathlib import Path

HELP = "a replay judged: completeness, purity, candidates a night, refusals, the best, and against another"


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("validate", help=HELP, description=HELP)
    parser.add_argument("scores", type=Path, metavar="scores.parquet", help="a table of `replay`, or a folder of them")
    parser.add_argument("--labels", type=Path, metavar="labels.csv", help="survey, alert_id or object_id, class, source")
    parser.add_argument(
        "--against",
        metavar="OTHER",
        help="another table (another bundle or filter), or the live stream: kafka:TOPIC of scores, with --config",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="index.html, candidates.html, report.json go there"
    )
    parser.add_argument("--packets", type=Path, metavar="P", help="kept packets or the folder replayed; default: kept beside")
    parser.add_argument("--schemas", default=os.environ.get("DGL_SCHEMAS"), metavar="DIR|URL", help="writers' schemas by id")
    parser.add_argument("--filters", action="append", default=[], metavar="F", help="files of the filters that judged")
    parser.add_argument("--best", type=int, default=50, metavar="N", help="candidates shown (default 50)")
    parser.add_argument("--config", type=Path, metavar="broker.yaml", help="of the brokers, for --against kafka:TOPIC")


def run(args):
    """Validate; the exit code."""
    from dgl_broker.errors import ConfigError
    from dgl_broker.tune.packets import Packets
    from dgl_broker.validate.judged import read_judged
    from dgl_broker.validate.report import make_report, write_report
    from dgl_broker.validate.text import report_text

    if args.best < 1:
        raise ConfigError(f"--best {args.best}, expected 1 or more")
    table = read_judged(args.scores, args.labels)
    other = None if args.against is None else read_judged(_other(args), args.labels)
    packets = Packets([args.scores], args.packets, args.schemas)
    report, candidates, filters = make_report(table, packets, args.labels, other, args.filters, args.best)
    page = write_report(args.out, table, report, candidates, filters)
    print(report_text(report))
    print(f"Page: {page.resolve()}")
    return 0


def _other(args):
    """The table to compare with; records of a topic are first written to one in the report's folder."""
    if not args.against.startswith("kafka:"):
        return Path(args.against)
    from dgl_broker.archive.live_table import write_live_table
    from dgl_broker.errors import ConfigError
    from dgl_broker.settings import load_settings
    from dgl_broker.stream.replaying import score_records
    from dgl_broker.stream.stopping import Stop

    if args.config is None:
        raise ConfigError(f"--against {args.against} without --config: expected the broker.yaml that names the brokers")
    settings = load_settings(args.config)
    return write_live_table(args.out / "live.parquet", score_records(args.against, settings, Stop()))
