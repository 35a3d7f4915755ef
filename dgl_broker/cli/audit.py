"""`dgl-broker audit`: whether every input of a window of time has its outcome."""

from pathlib import Path

from dgl_broker.cli.looking_back import parse_time, told_by_log

EXIT_INCOMPLETE = 8
PROBLEMS = {
    "lost": "without an outcome that they should have",
    "perhaps_too_old": "without an outcome, unless overload.max_age_s refused them: output.refused publishes no trace of that",
    "waiting": "not read yet: the group has not committed them",
    "candidates_missing": "passed a filter, and are not on the candidates topic",
    "twice": "have more than one outcome under exactly_once",
}
PRINTED = 20


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("audit", help="whether every input of a window of time has its outcome")
    parser.add_argument("--config", required=True, type=Path, metavar="broker.yaml|rekey.yaml")
    parser.add_argument("--from", required=True, dest="begin", metavar="T", help="ISO time, UTC where no zone is given")
    parser.add_argument("--to", required=True, dest="end", metavar="T", help="ISO time; the window ends before it")
    parser.add_argument("--summary", type=Path, metavar="S.json", help="write the report there, with the lists")


def run(args):
    """Audit; 0 when every input has its outcome, 8 when not."""
    from dgl_broker.errors import ConfigError

    begin, end = parse_time(args.begin, "--from"), parse_time(args.end, "--to")
    if begin >= end:
        raise ConfigError(f"--from {args.begin} --to {args.end}, expected a window that ends after it begins")
    settings, make = _configured(args.config)
    return told_by_log(settings, lambda: _audit(settings, make, begin, end, args.summary))


def _configured(path):
    """(settings, what makes the audit of them): a file with a section `rekey` is one of `dgl-broker rekey`."""
    from dgl_broker.yaml_reader import read_yaml

    raw = read_yaml(path)
    if isinstance(raw, dict) and "rekey" in raw:
        from dgl_broker.settings_rekey import load_rekey_settings
        from dgl_broker.stream.rekey_audit import RekeyAudit

        return load_rekey_settings(path), RekeyAudit
    from dgl_broker.settings import load_settings
    from dgl_broker.stream.audit import Audit

    return load_settings(path), Audit


def _audit(settings, make, begin, end, summary):
    from dgl_broker.observe.summary import write_summary
    from dgl_broker.stream.stopping import Stop

    report = make(settings, Stop()).audit(begin, end)
    print(report_text(report))
    if summary:
        write_summary(report, summary)
    return 0 if report["complete"] else EXIT_INCOMPLETE


def report_text(report):
    """The report for people."""
    r, done = report, "written" if "written" in report else "scored"
    lines = [
        f"{r['from']} to {r['to']}: {r['inputs']} inputs of {', '.join(r['topics']) or 'no topic'}",
        f"{done} {r[done]}, refused and published {r['refused_published']}, refused and by policy not published"
        f" {r['refused_unpublished']}, withheld {r['withheld']}, dead-lettered {r['dead_lettered']}"
        f" (of them replayed {r['dead_lettered_and_replayed']})",
        f"duplicates {r['duplicates']} of {r['inputs_with_duplicates']} inputs, of two kinds {r['of_two_kinds']};"
        f" expired before they were read, at most {r['expired']}",
    ]
    if r["cut_by_retention"]:
        lines.append(f"retention may have taken the window's beginning: {', '.join(r['cut_by_retention'])} is the first left")
    if r["unreadable_outputs"]:
        lines.append(f"{r['unreadable_outputs']} outputs could not be read")
    for kind, text in PROBLEMS.items():
        if r[kind]:
            lines.append(f"{r[kind]} {text}:")
            listed = r["listed"][kind]
            lines += [f"  {one['input']} {one['alert_id'] or ''} {one['found']}" for one in listed[:PRINTED]]
            if r[kind] > PRINTED:
                lines.append(f"  and {r[kind] - PRINTED} more; --summary lists {len(listed)}")
    lines.append("complete" if r["complete"] else "NOT complete")
    return "\n".join(lines)
