"""`dgl-broker replay`: archived alerts through the live code path, scores to Parquet tables, to Kafka, or to both."""

import os
import sys
from pathlib import Path

EXIT_DEAD_LETTERS = 8
HELP = "archived alerts through the same pipeline, scores to a table"


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("replay", help=HELP, description=HELP)
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="files or folders of alerts (.avro, .avro.gz, .parquet, .tar, .tar.gz), or a Kafka topic: kafka:TOPIC, "
        "kafka:TOPIC@2026-11-22T04:00..2026-11-22T06:00, kafka:TOPIC[3]@1000..2000",
    )
    parser.add_argument("--survey", choices=["ztf", "lsst"], help="whose alerts; needed without --config")
    parser.add_argument(
        "--config", type=Path, metavar="broker.yaml", help="of the live filter: bundle, filters, schemas, Kafka and topics"
    )
    _add_outputs(parser.add_argument_group("what is written"))
    _add_part(parser.add_argument_group("what is replayed, and how fast"))
    _add_judging(parser.add_argument_group("how it is judged"))
    _add_running(parser.add_argument_group("running"))


def _add_outputs(group):
    group.add_argument("--out", type=Path, metavar="scores.parquet", help="the table; with --by-night or --shard a folder")
    group.add_argument("--by-night", action="store_true", help="a table for each night: DIR/night=2026-11-22/...")
    group.add_argument("--to-kafka", action="store_true", help="publish as the live filter does, to topics of another name")
    group.add_argument(
        "--topic-prefix", default="replay.", metavar="P", help="before the names of the live topics (default replay.)"
    )
    group.add_argument(
        "--keep-packets",
        default="none",
        metavar="top:N|all|none",
        help="keep the bytes of the best N (or all), and the companion stamps as used, in <out>.kept beside the table",
    )
    group.add_argument("--summary", type=Path, metavar="S.json", help="write the closing summary there")
    group.add_argument("--strict", action="store_true", help="exit 8 if anything was dead-lettered")


def _add_part(group):
    group.add_argument("--from", dest="first", metavar="T", help="alerts from this time on (UTC, such as 2026-11-22T04:00)")
    group.add_argument("--to", dest="end", metavar="T", help="up to but not at this time")
    group.add_argument("--objects", type=Path, metavar="FILE", help="only these objects: an id a line")
    group.add_argument("--sample", type=float, default=1.0, metavar="S", help="a share of the objects, drawn by hash of the id")
    group.add_argument("--shard", default="0/1", metavar="i/n", help="the i-th of n parts, from 0")
    group.add_argument(
        "--shard-by",
        choices=["object", "source"],
        default="object",
        help="parts by hash of the object (default), or whole files and partitions, each read by one shard alone",
    )
    group.add_argument("--speed", metavar="10x", help="so many times as fast as the alerts came")
    group.add_argument("--rate", metavar="256/s", help="so many alerts a second; by default as fast as possible")
    group.add_argument(
        "--inject", metavar="DIR|N", help="mix in N simulated lensed supernovae, or those of a folder of `simulate --packets`"
    )
    group.add_argument("--inject-seed", type=int, default=1, metavar="N", help="which, where and when (default 1)")


def _add_judging(group):
    group.add_argument("--bundle", help="default, the id of a shipped bundle, or a folder")
    group.add_argument("--shadow-bundle", metavar="B", help="a bundle that scores beside, never a verdict")
    group.add_argument("--filters", action="append", metavar="F", help="a file or the name of a shipped filter")
    group.add_argument(
        "--verdicts",
        default="now",
        metavar="then|now|FILE",
        help="by the filters that judged then, by today's (default), or by a given one; the table says which",
    )
    group.add_argument(
        "--live-records", metavar="PATH|kafka:TOPIC", help="the live scores, which name the versions that judged then"
    )
    group.add_argument("--schemas", metavar="DIR|URL", help="writers' schemas by id (or DGL_SCHEMAS)")
    group.add_argument(
        "--companions",
        action="store_true",
        help="use earlier stamps of an object, kept in this process, by order of time",
    )
    group.add_argument("--ungated", action="store_true", help="score what pre-cuts would refuse; a column for each cut")
    group.add_argument("--prevalence", type=float, help="declared share of lensed supernovae, for `posterior` (1e-6)")


def _add_running(group):
    group.add_argument("--batch-size", type=int, default=256, metavar="N")
    group.add_argument("--device", help="cpu (default), cuda or cuda:N")
    group.add_argument("--ledger", type=Path, metavar="FILE", help="where it writes down how far it is; default beside --out")
    group.add_argument("--restart", action="store_true", help="begin anew where an unfinished replay is found")
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args):
    """Replay; the exit code."""
    from dgl_broker.cli.replay_setup import Interrupted, prepare
    from dgl_broker.cli.replay_text import replay_text
    from dgl_broker.observe.replay_progress import ReplayProgress
    from dgl_broker.observe.summary import write_summary
    from dgl_broker.stream.stopping import Stop

    args.schemas = args.schemas or os.environ.get("DGL_SCHEMAS")
    with Stop() as stop, ReplayProgress(args.quiet) as progress:
        try:
            prepared = prepare(args, progress, stop)
        except Interrupted:
            print("stopped while the archive was read through; nothing was begun", file=sys.stderr)
            return stop.exit_code
        replay = prepared.replay
        if not replay.scorer.is_trained:
            print(f"bundle {replay.scorer.bundle_id}: the weights are UNTRAINED; its scores mean nothing", file=sys.stderr)
        progress.begin(replay.total, replay.resumed_at)
        summary = replay.run(progress, stop)
        summary |= {"left_out": prepared.left_out, "injected": prepared.n_injected}
    print(replay_text(summary))
    if args.summary:
        write_summary(summary, args.summary)
    if summary["consumed"] < summary["selected"]:
        return stop.exit_code
    return EXIT_DEAD_LETTERS if args.strict and summary["dead_lettered"] else 0
