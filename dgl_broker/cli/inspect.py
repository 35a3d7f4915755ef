"""`dgl-broker inspect`: one packet, the alert in it, what the network sees of it, and why it is or is not scorable."""

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

FIRST_OWN_ID = 900_000  # registry ids from here are of our own packet writer; Rubin's are 100 x major + minor
HELP = "one packet: the alert, what the network sees, why it is or is not scorable"


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("inspect", help=HELP, description=HELP)
    parser.add_argument("packet", type=Path, metavar="PACKET", help="a file of one or many alerts: .avro, framed, .parquet")
    parser.add_argument("--survey", choices=["ztf", "lsst"], help="by default told from the packet")
    parser.add_argument("--schemas", default=os.environ.get("DGL_SCHEMAS"), metavar="DIR|URL", help="writers' schemas by id")
    parser.add_argument("--bundle", default="default", help="default, the id of a shipped bundle, a folder, or none")
    parser.add_argument("--filters", action="append", default=[], metavar="F", help="a file or the name of a shipped filter")
    parser.add_argument("--row", type=int, default=0, metavar="N", help="which alert of a file of many, from 0 (default 0)")
    parser.add_argument("--out", type=Path, metavar="PAGE.html", help="default: inspect_<alert id>.html in this folder")


@dataclass
class Inspection:
    """What was found out about one message. `error` or `alert` is there; the rest as far as it went."""

    message: object
    error: object = None
    alert: object = None
    spec: object = None
    example: object = None  # Example, or the NotScorable that says why there is none
    bundle: object = None
    no_bundle: str | None = None  # why there are no scores
    outcome: object = None


def inspect_message(message, survey=None, schemas=None, bundle="default", filters=()):
    """Everything that the pipeline would do with one message, without stopping at a refusal.

    Parameters
    ----------
    message : dgl_broker.alert.Message
    survey : str, optional
    schemas : SchemaSource, optional
    bundle : str or Path
        "none" for no scores.
    filters : list of path or name

    Returns
    -------
    Inspection

    Raises
    ------
    ConfigError, InputUnavailable, StateError, GuardRefused
        If bundle, schemas or filters are not to be had; never because of what the message holds.
    """
    from dgl_broker import surveys, wire
    from dgl_broker.errors import PacketError

    found = Inspection(message)
    try:
        packet = message.packet
        if isinstance(packet, PacketError):
            raise packet
        packet = packet or wire.decode(message.value, survey, schemas, key=message.key)
        found.alert = surveys.read_alert(packet)
    except PacketError as error:
        found.error = error
        return found
    found.bundle, found.no_bundle = _bundle(bundle, found.alert.survey)
    _build(found)
    if found.bundle is not None:
        from dgl_broker.scorer import Scorer

        scorer = Scorer(found.alert.survey, found.bundle, filters=filters, schemas=schemas, ungated=True)
        found.outcome = scorer.score([message])[0]
    return found


def _bundle(name, survey):
    """(bundle or None, why not)."""
    from dgl_broker.model import default_bundle, load_bundle

    if name == "none":
        return None, "no bundle was asked for"
    if name == "default" and not (default_bundle(survey) / "card.json").is_file():
        return None, f"no bundle for {survey} is at hand"
    return load_bundle(name, survey=survey), None


def _build(found):
    """The example that the bundle's networks take; without a bundle, that of the survey's usual card."""
    from dgl_broker.example import ExampleSpec, build_examples
    from dgl_broker.model.untrained import untrained_card
    from dgl_broker.paper_example import PaperSpec, build_paper_examples

    card = found.bundle.card if found.bundle else untrained_card(found.alert.survey)
    if card["kind"] == "paper":
        found.spec = PaperSpec.from_card(card)
        found.example = build_paper_examples([found.alert], found.spec)[0]
    else:
        found.spec = ExampleSpec.from_card(card)
        found.example = build_examples([found.alert], found.spec)[0]


def pick_message(path, row=0, survey=None):
    """One message of a file.

    Raises
    ------
    InputUnavailable
        If the file cannot be read.
    ConfigError
        If it has no such row.
    """
    from dgl_broker.archive.sources import read_messages
    from dgl_broker.errors import ConfigError, InputUnavailable

    if path.is_dir():
        raise InputUnavailable(f"{path}: a folder, expected one file")
    if row < 0:
        raise ConfigError(f"--row {row}, expected 0 or more")
    messages = read_messages([path], survey)
    for message in islice(messages, row, None):
        return message
    n = sum(1 for _ in read_messages([path], survey))
    raise ConfigError(f"{path}: --row {row}, the file has {n} alert{'s' if n != 1 else ''}")


def _own_schemas(value):
    """Folder of the schemas that our own packets of simulations are written by, if it is such a frame, else None."""
    from dgl_broker.data_files import folder

    is_own = value[:1] == b"\0" and int.from_bytes(value[1:5], "big") >= FIRST_OWN_ID
    return str(folder("schemas") / "write") if is_own else None


def run(args):
    """Inspect; the exit code."""
    from dgl_broker.cli.inspect_page import inspection_page
    from dgl_broker.cli.inspect_text import print_inspection
    from dgl_broker.html.page import write_page
    from dgl_broker.wire import schema_source

    message = pick_message(args.packet, args.row, args.survey)
    schemas = schema_source(args.schemas or _own_schemas(message.value))
    found = inspect_message(message, args.survey, schemas, args.bundle, args.filters)
    print_inspection(found)
    if found.alert is not None:
        out = args.out or Path(f"inspect_{found.alert.alert_id}.html")
        print(f"\nPage: {write_page(out, inspection_page(found)).resolve()}")
    return 0
