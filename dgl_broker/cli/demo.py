"""`dgl-broker demo`: a simulated night through the real pipeline on an embedded Kafka, and a page to look at."""

import sys
from pathlib import Path

HELP = "a simulated night through the real pipeline on an embedded Kafka, with a page to look at"
ALERTS = 2000  # of all surveys together: about a minute on two cores


def _count(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_count.__name__ = "number of 1 or more"


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("demo", help=HELP, description=HELP)
    parser.add_argument("--alerts", type=_count, default=ALERTS, metavar="N", help=f"messages in all (default {ALERTS})")
    parser.add_argument("--survey", choices=["lsst", "ztf", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated systems (default 1)")
    parser.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="where demo.html goes (default: here)")


def run(args):
    """The demonstration; the exit code."""
    import tempfile

    from rich.console import Console

    from dgl_broker.demo.progress import DemoProgress
    from dgl_broker.demo.report import demo_page
    from dgl_broker.demo.stage import choose_bundle, play
    from dgl_broker.demo.table import candidate_table, first_line, truth_table
    from dgl_broker.html.page import write_page
    from dgl_broker.observe.log import set_up_log
    from dgl_broker.observe.summary import summary_text
    from dgl_broker.stream.embedded import EmbeddedKafka
    from dgl_broker.stream.stopping import Stop

    surveys = ["lsst", "ztf"] if args.survey == "both" else [args.survey]
    bundles = {survey: choose_bundle(survey) for survey in surveys}
    line = first_line(bundles.values())
    print(line, flush=True)
    # The page and the table say what the filter would warn of; what goes wrong is still told.
    set_up_log("text", "error", stream=sys.stderr)
    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = 128
    shares = [
        args.alerts - args.alerts // len(surveys) * (len(surveys) - 1),
        *[args.alerts // len(surveys)] * (len(surveys) - 1),
    ]
    shows = []
    with Stop() as stop, tempfile.TemporaryDirectory(prefix="dgl-demo-") as scratch, EmbeddedKafka() as kafka:
        for survey, n in zip(surveys, shares, strict=True):
            if stop() or not n:
                break
            with DemoProgress(out, survey, n) as progress:
                shows.append(play(kafka, survey, n, args.seed, Path(scratch), stop, progress, bundle=bundles[survey]))
        for show in shows:
            out.print()
            out.print(show.survey, style="bold")
            out.print(summary_text(show.summary), soft_wrap=True)
            out.print()
            out.print(truth_table(show))
        out.print()
        out.print(candidate_table(shows))
        path = write_page(args.out / "demo.html", demo_page(shows, line))
    out.print()
    print(f"Page with stamps and light curves: {path.resolve()}")
    return stop.exit_code
