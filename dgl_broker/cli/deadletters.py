"""`dgl-broker deadletters`: what could not be read, by reason; one of it as bytes; all of it once more after a fix."""

import os
from pathlib import Path

from dgl_broker.cli.looking_back import parse_time, printable, told_by_log

EXIT_DEAD_LETTERS = 8
SHOWN = 2000  # characters of an error


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("deadletters", help="what could not be read: list it, show it, replay it after a fix")
    actions = parser.add_subparsers(dest="action", metavar="list|show|replay", required=True)
    for name, text in (("list", "groups by reason"), ("show", "one, and its bytes to a file"), ("replay", "once more, marked")):
        action = actions.add_parser(name, help=text)
        if name == "show":
            action.add_argument("names", nargs="+", metavar="[DIR] ID", help="id or number, after the folder or with --config")
            action.add_argument("--out", type=Path, metavar="FILE", help="where its bytes go (mode 0600); by default ./ID.bin")
        else:
            action.add_argument("names", nargs="*", metavar="DIR", help="folder <out>.deadletters of a replay")
            action.add_argument("--reason", metavar="R", help="only these")
            action.add_argument("--since", metavar="T", help="only those since this ISO time (UTC where no zone is given)")
            action.add_argument("--summary", type=Path, metavar="S.json")
        action.add_argument("--config", type=Path, metavar="broker.yaml", help="the dead letters of this configuration's topic")
        if name == "list":
            action.add_argument("--all", action="store_true", help="one line for each as well")
        if name == "replay":
            action.add_argument("--strict", action="store_true", help="exit 8 if any failed again, or its bytes are gone")
            action.add_argument("--survey", choices=["ztf", "lsst"], help="with DIR: whose packets they are")
            action.add_argument("--schemas", default=os.environ.get("DGL_SCHEMAS"), metavar="DIR|URL", help="with DIR")
            action.add_argument("--bundle", default="default", help="with DIR: an id, or a folder")
            action.add_argument("--filters", action="append", default=[], metavar="F", help="with DIR")
            action.add_argument("--device", default="cpu", help="with DIR")


def run(args):
    """List, show or replay; the exit code."""
    from dgl_broker.errors import ConfigError

    n_names = {"list": 0, "replay": 0, "show": 1}[args.action] + (args.config is None)
    if len(args.names) != n_names:
        wanted = "--config broker.yaml or a folder" + (", and an id or number" if args.action == "show" else "")
        raise ConfigError(f"deadletters {args.action}: {' '.join(args.names) or 'nothing'} given, expected {wanted}")
    args.since_ms = parse_time(args.since, "--since") if getattr(args, "since", None) else None
    return (_on_topic if args.config else _in_folder)(args)


def _in_folder(args):
    from dgl_broker.archive.deadletters import LetterFolder

    folder = LetterFolder(args.names[0])
    if args.action == "list":
        return _list(args, folder.letters(args.reason, args.since_ms), {"folder": str(folder.folder)})
    if args.action == "show":
        return _show(folder.find(args.names[1]), args.out)
    from dgl_broker.errors import ConfigError
    from dgl_broker.scorer import Scorer

    if args.survey is None:
        raise ConfigError("deadletters replay DIR: no --survey, expected ztf or lsst")
    scorer = Scorer(args.survey, args.bundle, args.device, args.filters, args.schemas)
    account = folder.replay(scorer, args.reason, args.since_ms)
    return _told(args, {"folder": str(folder.folder), "table": str(folder.table), **account})


def _on_topic(args):
    from dgl_broker.settings import load_settings
    from dgl_broker.stream.stopping import Stop

    settings = load_settings(args.config)
    if args.action != "replay":
        return told_by_log(settings, lambda: _look(args, settings, Stop()))
    with Stop() as stop:  # a signal finishes the batch in hand
        code = told_by_log(settings, lambda: _replay(args, settings, stop))
        return stop.exit_code or code


def _replay(args, settings, stop):
    from dgl_broker.stream.redelivery import Redelivery

    account = Redelivery(settings, stop).replay(args.reason, args.since_ms)
    return _told(args, {"topic": settings.dead_letters_topic, **account})


def _look(args, settings, stop):
    import contextlib

    from dgl_broker.stream.failures import Failures
    from dgl_broker.stream.redelivery import TopicLetters

    with contextlib.closing(TopicLetters(settings, Failures(settings.service.max_failures, stop))) as kept:
        if args.action == "show":
            return _show(kept.find(args.names[0]), args.out)
        return _list(args, kept.letters(args.reason, args.since_ms), {"topic": kept.topic}, kept)


def _list(args, letters, where, kept=None):
    from dgl_broker.observe.summary import write_summary
    from dgl_broker.outputs.kept import Groups, time_text

    groups = Groups()
    for letter in letters:
        groups.add(letter)
        if args.all:
            told = (letter.number, letter.id, time_text(letter.time_ms) or "-", letter.reason, letter.where)
            print(" ".join(printable(part) for part in told))
    report = {**where, "dead_letters": groups.count, "reasons": groups.as_list()}
    if kept is not None:
        report["unreadable"] = kept.unreadable
    for group in report["reasons"]:
        example = group["example"]
        times = f"{group['first'] or '-'} to {group['last'] or '-'}"
        print(f"{group['count']} {printable(group['reason'])}: {times}, {group['bytes']} bytes")
        print(f"  such as {example['number']} ({example['id']}), of {printable(example['where'])}")
        print(f"  {printable(example['error'])[:SHOWN]}")
        for line in (example["traceback"] or "").splitlines():
            print(f"    {printable(line)}")
    foreign = f", {kept.unreadable} records that are none of ours" if report.get("unreadable") else ""
    print(f"{groups.count} dead letters{foreign}")
    if args.summary:
        write_summary(report, args.summary)
    return 0


def _show(letter, out):
    from dgl_broker.archive.deadletters import original_bytes

    for name, value in letter.as_dict().items():
        if name != "traceback":
            print(f"{name}: {printable(str(value))}")
    for line in (letter.traceback or "").splitlines():
        print(f"  {printable(line)}")
    path = out or Path(f"{letter.id}.bin")
    digest = original_bytes(letter, path)
    print(f"bytes: {path} (sha256 {digest})")
    return 0


def _told(args, account):
    from dgl_broker.observe.summary import write_summary

    names = ("replayed_before", "repeated", "unavailable", "failed_again", "scored", "refused")
    print(f"seen {account['seen']} = " + " + ".join(f"{name.replace('_', ' ')} {account[name]}" for name in names))
    for reason, count in account["failed_again_by_reason"].items():
        print(f"failed again: {printable(reason)} {count}")
    for text in account["unavailable_why"]:
        print(f"unavailable: {printable(text)}")
    if account.get("unreadable"):
        print(f"{account['unreadable']} records on the topic are none of ours")
    if args.summary:
        write_summary(account, args.summary)
    return EXIT_DEAD_LETTERS if args.strict and (account["failed_again"] or account["unavailable"]) else 0
