"""`dgl-broker report`: candidates to reports, an object once a state and never more a night than the cap."""

from pathlib import Path

from dgl_broker.cli.looking_back import told_by_log


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("report", help="of the candidates, each object once a state, and a cap a night")
    parser.add_argument("--config", required=True, type=Path, metavar="broker.yaml")
    parser.add_argument("--until-eof", action="store_true", help="end where the candidates end at the start")
    parser.add_argument("--summary", type=Path, metavar="S.json", help="write the closing summary there")
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--nights", action="store_true", help="print what was reported of each night, and end")
    others.add_argument("--undelivered", action="store_true", help="post what the webhook refused once more, and end")


def run(args):
    """Report; 0 when what was asked for is read, 128 + the signal when one ended it, else the error's own code."""
    from dgl_broker.errors import ConfigError
    from dgl_broker.settings import load_settings
    from dgl_broker.stream.stopping import Stop

    settings = load_settings(args.config)
    if args.undelivered and settings.reports.webhook is None:
        raise ConfigError("report --undelivered: no reports.webhook, expected the URL to post to")
    with Stop() as stop:
        work = _nights if args.nights else _again if args.undelivered else _report
        code = told_by_log(settings, lambda: work(args, settings, stop))
    return stop.exit_code or code


def _report(args, settings, stop):
    from dgl_broker.observe.report_watch import report_summary_text
    from dgl_broker.observe.summary import write_summary
    from dgl_broker.stream.report import ReportStage

    stage = ReportStage(settings, stop)
    try:
        stage.run(args.until_eof)
    finally:
        summary = stage.summary()
        if args.summary:
            write_summary(summary, args.summary)
        print(report_summary_text(summary))
    return 0


def _again(args, settings, stop):
    from dgl_broker.stream.report import send_again

    sent, aside = send_again(settings, stop)
    print(f"sent {sent}, set aside again {aside}")
    return 0


def _nights(args, settings, stop):
    from dgl_broker.observe.report_watch import nights_text
    from dgl_broker.stream.report import read_nights

    nights = read_nights(settings, stop)
    print("\n".join(nights_text(nights, len(nights))) or "no report yet")
    return 0
