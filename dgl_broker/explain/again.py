"""A recorded score made again from the packet's bytes, by the bundle and the filters that made it."""

from dataclasses import dataclass, field
from pathlib import Path

from dgl_broker import wire
from dgl_broker.alert import Message
from dgl_broker.archive.kept import KeptPackets
from dgl_broker.archive.one_row import verdicts_of
from dgl_broker.archive.sources import read_messages
from dgl_broker.errors import ConfigError, InputUnavailable, PacketError
from dgl_broker.scorer import Scorer
from dgl_broker.selection import find_filter, load_filter
from dgl_broker.selection.audit import log_path, read_log, version_content


@dataclass
class Found:
    """What a recorded score was made of, as far as it is at hand.

    `missing` says in words what is not: a filter's version, a companion's stamps.
    """

    row: dict
    message: Message
    companions: dict
    schemas: object
    filters: list = field(default_factory=list)
    missing: list = field(default_factory=list)


class UsedCompanions:
    """A store that gives each alert the companions it was scored with, and keeps nothing."""

    def __init__(self, by_alert):
        self._by_alert = by_alert
        self.counters = {}

    def fetch(self, keys):
        """Per key {band: Companion}."""
        return [dict(self._by_alert.get((key.survey, key.before_alert_id), {})) for key in keys]

    def remember(self, companions):
        """Keeps nothing."""

    def close(self):
        """Nothing to close."""


def find_inputs(row, scores, packets=(), filters=(), schemas=None):
    """The packet, companions and filters of a recorded score.

    Parameters
    ----------
    row : dict
        Of a table of scores.
    scores : path
        The table.
    packets : sequence of path
        Folders of kept packets, or files and folders of alerts to be searched; by default what was kept beside the table.
    filters : sequence of path or name
        Where the filters that judged are looked for, their audit logs included; shipped ones are found by name.
    schemas : SchemaSource, optional
        For framed packets that were not kept with theirs.

    Raises
    ------
    InputUnavailable
        If the packet is nowhere.
    """
    for f in filters:
        find_filter(f)  # a name that was mistyped is no filter that is missing
    survey, alert_id = row["survey"], row["alert_id"]
    message, companions, found_schemas = _packet(survey, alert_id, scores, packets, schemas)
    found = Found(row, message, companions, found_schemas)
    lacking = sorted(set(row["companion_alert_ids"] or ()) - {c.alert_id for c in companions.values()})
    if lacking:
        found.missing.append(f"the stamps of {len(lacking)} companions: alerts {', '.join(map(str, lacking))}")
    for verdict in verdicts_of(row):
        one = filter_of_version(verdict["filter"], int(verdict["version"]), filters)
        if one is None:
            found.missing.append(f"filter {verdict['filter']} version {verdict['version']}; --filters names its file")
        else:
            found.filters.append(one)
    if not verdicts_of(row):  # a refusal names none: those that are given, for the reason
        found.filters = [load_filter(f) for f in filters]
    return found


def _packet(survey, alert_id, scores, packets, schemas):
    """(message, companions, schemas) of an alert."""
    folders = [Path(p) for p in packets if (Path(p) / "packets.sqlite").is_file()]
    kept = KeptPackets.open(*folders) if folders else None if packets else KeptPackets.beside(scores)
    if kept is not None:
        with kept:
            if (survey, alert_id) in kept:
                message = kept.message(survey, alert_id)
                return message, kept.companions(survey, alert_id), _with_kept(kept, message, schemas)
    for message in read_messages([p for p in packets if Path(p) not in folders], survey):
        if _is_of(message, survey, alert_id, schemas):
            return message, {}, schemas
    where = ", ".join(map(str, packets)) or f"the packets kept beside {scores}"
    raise InputUnavailable(f"{survey} {alert_id}: its packet is not in {where}; --packets names where to look")


def _with_kept(kept, message, schemas):
    """The schema of a framed message, taken out of the kept ones while they are open."""
    if message.value[:1] != b"\0":
        return schemas
    number = int.from_bytes(message.value[1:5], "big")
    try:
        return _OneSchema(number, kept.schemas.writer_schema(number))
    except PacketError:
        return schemas


class _OneSchema:
    def __init__(self, number, schema):
        self.number, self.schema = number, schema

    def writer_schema(self, number):
        if number != self.number:
            raise PacketError("unknown_schema", f"schema id {number}, kept is {self.number}")
        return self.schema


def _is_of(message, survey, alert_id, schemas):
    from dgl_broker import surveys

    try:
        opened = wire.open_message(message, survey, schemas)
        head = surveys.read_head(opened) or surveys.read_alert(opened.packet())
    except PacketError:
        return False
    return head.alert_id == alert_id


def filter_of_version(name, version, places):
    """The filter of this name and version: a file, what its audit log has, or one that ships; None where it is nowhere.

    Parameters
    ----------
    name : str
    version : int
    places : sequence of path or name
        Files that are not there are passed over.
    """
    for place in [*places, name]:
        try:
            one = load_filter(place)
        except InputUnavailable:
            continue
        if one.name != name:
            continue
        if one.version == version:
            return one
        if one.source is not None:
            try:
                return version_content(read_log(log_path(one.source))[0], name, version)
            except ConfigError:
                continue
    return None


def find_bundle(row, name=None):
    """The bundle of the recorded hash: that of `name`, or the one among those that ship.

    Raises
    ------
    InputUnavailable
        If none has it.
    """
    from dgl_broker import model

    wanted = row["bundle_sha256"]
    if name is not None:
        return model.load_bundle(name, survey=row["survey"])
    folder = model.default_bundle(row["survey"]).parent
    seen = []
    for path in sorted(p for p in folder.iterdir() if (p / "card.json").is_file()):
        bundle = model.load_bundle(path)
        seen.append(f"{bundle.card['id']} {bundle.sha256[:12]}")
        if bundle.sha256 == wanted:
            return bundle
    raise InputUnavailable(
        f"no bundle of hash {str(wanted)[:12]}, which scored it, is here ({', '.join(seen)}); --bundle names its folder"
    )


def make_scorer(found, bundle, device="cpu", ungated=False):
    """A `Scorer` as the one that made the score: bundle, filters, companions, prevalence and, on the device, precision."""
    row = found.row
    key = row["survey"], row["alert_id"]
    uses = bool(row["companion_alert_ids"])
    return Scorer(
        survey=row["survey"],
        bundle=bundle,
        device=device,
        filters=[f for f in found.filters if f.bundle_sha256 in (None, bundle.sha256)],
        schemas=found.schemas,
        companions=UsedCompanions({key: found.companions}) if uses else None,
        prevalence=row["prevalence"] if row["prevalence"] is not None else 1e-6,
        ungated=ungated,
        batch_size=1,
    )
