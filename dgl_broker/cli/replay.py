"""`dgl-broker replay`: archived alerts through the live code path, scores to a Parquet table."""

import os
import sys
from pathlib import Path

EXIT_DEAD_LETTERS = 8


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("replay", help="archived alerts through the same pipeline, scores to a table")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="files or folders: .avro (one or many alerts), .parquet")
    parser.add_argument("--survey", choices=["ztf", "lsst"], required=True)
    parser.add_argument("--out", required=True, type=Path, metavar="scores.parquet")
    parser.add_argument("--schemas", default=os.environ.get("DGL_SCHEMAS"), metavar="DIR|URL", help="writers' schemas by id")
    parser.add_argument("--bundle", default="default", help="default, the id of a shipped bundle, or a folder")
    parser.add_argument("--filters", action="append", default=[], metavar="F", help="a file or the name of a shipped filter")
    parser.add_argument(
        "--companions",
        action="store_true",
        help="use earlier stamps of an object, kept in this process; alerts are then sorted by time, in memory",
    )
    parser.add_argument("--batch-size", type=int, default=256, metavar="N")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prevalence", type=float, default=1e-6, help="declared share of lensed supernovae, for `posterior`")
    parser.add_argument("--ungated", action="store_true", help="score what pre-cuts would refuse; a column for each cut")
    parser.add_argument(
        "--keep-packets",
        default="none",
        metavar="top:N|all|none",
        help="keep the bytes of the best N (or all), and the companion stamps as used, in <out>.kept beside the table",
    )
    parser.add_argument("--strict", action="store_true", help="exit 8 if anything was dead-lettered")
    parser.add_argument("--summary", type=Path, metavar="S.json")
    parser.add_argument("--quiet", action="store_true", help="no progress line")


def run(args):
    """Replay; the exit code."""
    from dgl_broker.archive.keep import parse_keep
    from dgl_broker.archive.replay import Replay
    from dgl_broker.errors import ConfigError
    from dgl_broker.observe.summary import summary_text, write_summary
    from dgl_broker.scorer import Scorer

    if args.out.is_dir():
        raise ConfigError(f"--out {args.out}: a folder, expected a file such as scores.parquet")
    if args.batch_size < 1:
        raise ConfigError(f"--batch-size {args.batch_size}, expected 1 or more")
    keep = parse_keep(args.keep_packets)
    scorer = Scorer(
        survey=args.survey,
        bundle=args.bundle,
        device=args.device,
        filters=args.filters,
        schemas=args.schemas,
        companions="memory" if args.companions else None,
        prevalence=args.prevalence,
        ungated=args.ungated,
        batch_size=args.batch_size,
    )
    if not scorer.is_trained:
        print(f"bundle {scorer.bundle_id}: the weights are UNTRAINED; its scores mean nothing", file=sys.stderr)
    show = None if args.quiet or not sys.stderr.isatty() else _show_progress
    summary = Replay(scorer, args.out, args.ungated, args.companions, keep).run(args.sources, args.batch_size, show)
    print(summary_text(summary))
    if args.summary:
        write_summary(summary, args.summary)
    return EXIT_DEAD_LETTERS if args.strict and summary["dead_lettered"] else 0


def _show_progress(accounts):
    t = accounts.total
    line = f"{t.consumed} consumed, {t.scored} scored, {t.refused} refused, {t.dead_lettered} dead-lettered"
    sys.stderr.write(f"\r{line}\x1b[K")
    sys.stderr.flush()
