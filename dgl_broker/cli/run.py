"""`dgl-broker run`: the streaming filter, from Kafka to Kafka."""

from pathlib import Path

from dgl_broker.cli.streaming import add_arguments, count, stream


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("run", help="the streaming filter: Kafka in, scores and candidates out")
    add_arguments(parser, "broker.yaml")
    parser.add_argument("--max-alerts", type=count, metavar="N", help="end after N alerts")
    parser.add_argument("--dry-run", action="store_true", help="score, but produce and commit nothing")
    parser.add_argument(
        "--keep-packets",
        default="none",
        metavar="top:N|all|none",
        help="keep the bytes of each night's best N (or all), and the companion stamps as used",
    )
    parser.add_argument("--keep-folder", type=Path, default="kept", metavar="DIR", help="where; on a local disk (default kept)")
    parser.add_argument("--keep-nights", type=count, default=14, metavar="N", help="for so many nights (default 14)")


def run(args):
    """Run the filter; 0 when what was asked for is read, 128 + the signal when one ended it, else the error's own code."""
    from dgl_broker.archive.keep import parse_keep
    from dgl_broker.settings import load_settings
    from dgl_broker.stream.worker import Worker

    parse_keep(args.keep_packets)  # told before anything starts
    settings = load_settings(args.config)
    keep = {"rule": args.keep_packets, "folder": str(args.keep_folder), "nights": args.keep_nights}

    def make_worker(stop, progress):
        return Worker(settings, stop, progress, keeper=make_keeper(settings.survey, **keep))

    job = {"verb": "run", "keep": keep}
    return stream(args, settings, make_worker, job, max_alerts=args.max_alerts, dry_run=args.dry_run)


def make_keeper(survey, rule, folder, nights):
    """Makes the keeper of packets when the schemas are known; None where nothing is kept."""
    from dgl_broker.archive.keep import Keeper, parse_keep

    parsed = parse_keep(rule)
    return None if parsed is None else lambda schemas: Keeper(folder, parsed, survey, schemas, nights=nights)
