"""`dgl-broker run`: the streaming filter, from Kafka to Kafka."""

import argparse
from pathlib import Path


def _count(text):
    """A number of 1 or more."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number of 1 or more")
    return number


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("run", help="the streaming filter: Kafka in, scores and candidates out")
    parser.add_argument("--config", required=True, type=Path, metavar="broker.yaml")
    parser.add_argument("--until-eof", action="store_true", help="end at the partitions' ends as they stand at the start")
    parser.add_argument("--max-alerts", type=_count, metavar="N", help="end after N alerts")
    parser.add_argument("--dry-run", action="store_true", help="score, but produce and commit nothing")
    parser.add_argument("--summary", type=Path, metavar="S.json", help="write the closing summary there")
    parser.add_argument(
        "--keep-packets",
        default="none",
        metavar="top:N|all|none",
        help="keep the bytes of each night's best N (or all), and the companion stamps as used",
    )
    parser.add_argument("--keep-folder", type=Path, default="kept", metavar="DIR", help="where; on a local disk (default kept)")
    parser.add_argument("--keep-nights", type=_count, default=14, metavar="N", help="for so many nights (default 14)")


def run(args):
    """Run the filter; 0 when what was asked for is read, 128 + the signal when one ended it, else the error's own code."""
    import sys

    from dgl_broker.archive.keep import parse_keep
    from dgl_broker.observe.log import set_up_log
    from dgl_broker.observe.progress import Progress
    from dgl_broker.observe.summary import summary_text, write_summary
    from dgl_broker.settings import load_settings
    from dgl_broker.stream.stopping import Stop
    from dgl_broker.stream.worker import Worker

    keep = parse_keep(args.keep_packets)
    settings = load_settings(args.config)
    with Stop() as stop:
        with Progress() as progress:
            set_up_log(settings.log.format, settings.log.level, settings.secrets(), sys.stderr)
            worker = Worker(settings, stop, progress, keeper=_keeper(args, keep, settings.survey))
            code = _run(worker, stop, until_eof=args.until_eof, max_alerts=args.max_alerts, dry_run=args.dry_run)
        summary = worker.summary()
        if args.summary:
            write_summary(summary, args.summary)
        print(summary_text(summary))
    return code


def _keeper(args, rule, survey):
    """Makes the keeper of packets when the schemas are known; None where nothing is kept."""
    if rule is None:
        return None
    from dgl_broker.archive.keep import Keeper

    return lambda schemas: Keeper(args.keep_folder, rule, survey, schemas, nights=args.keep_nights)


def _run(worker, stop, **how):
    """The exit code of a worker's run. What fails is told by the log, which leaves secrets out."""
    import logging

    from dgl_broker.errors import DglError, ServiceFailed

    log = logging.getLogger("dgl_broker")
    try:
        worker.run(**how)
    except ServiceFailed as error:
        if stop.signal is None:
            log.error("%s", error)
            return error.exit_code
        log.warning("%s", error)  # it was to end anyway, and what was not delivered is read again
    except DglError as error:
        log.error("%s", error)
        return error.exit_code
    except Exception:  # noqa: BLE001 - a device, a bug: whatever it is, it must not be told past the log
        log.exception("unforeseen")
        return 1
    return stop.exit_code
