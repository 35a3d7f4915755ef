"""Simulated lensed supernovae mixed into a replay, at positions and in exposures of the archive itself, always marked.

Each system is moved as a whole: one of its detections, drawn at random, falls on an exposure of the same band of a real alert,
at that alert's place; the others come along where they fall within the archive's nights. Which and where follows from the seed
and the archive alone, so every shard and every resumed replay mixes in the same.
"""

import csv
import io
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dgl_broker import wire
from dgl_broker.alert import BANDS, Message
from dgl_broker.archive.files import readable_name, told
from dgl_broker.archive.sources import FileSource
from dgl_broker.errors import ConfigError, InputUnavailable, PacketError, StateError
from dgl_broker.surveys.facts import PLAUSIBLE_MJD
from dgl_broker.surveys.moved import move_packet

KINDS = ("lensed_sn_ia", "lensed_sn_cc")
ALERTS_OF_A_SYSTEM = 10
LABELS = (
    "survey", "alert_id", "object_id", "class", "kind", "source", "n_detections", "days_since_first", "n_images",
    "separation_arcsec", "magnification", "z_lens", "z_source", "snr", "seed", "system", "mjd_tai", "band", "moved_days",
)  # fmt: skip
_PLACE_STREAM = 88


@dataclass(eq=False)
class SimulatedSystem:
    """One system's alerts before it is moved: labels, and what gives the bytes of each, in order of time."""

    number: int
    labels: list
    values: list
    schemas: object = None
    days: float = 0.0
    origin: tuple = (0.0, 0.0)
    target: tuple = (0.0, 0.0)
    kept: list = field(default_factory=list)


class InjectedSource:
    """Injected alerts as a source of messages, in order of time."""

    name = "injected"

    def __init__(self, survey, systems):
        self.survey = survey
        alerts = [(s.labels[k]["mjd_tai"] + s.days, s.labels[k]["alert_id"], s, k) for s in systems for k in s.kept]
        self._alerts = sorted(alerts, key=lambda one: one[:2])

    def __len__(self):
        return len(self._alerts)

    def state(self):
        """Nothing: its size is not known before it is made."""
        return {}

    def messages(self, survey=None, limits=None, digest=None):
        """As `archive.sources.FileSource.messages`; each is marked `injected`."""
        for _, _, system, k in self._alerts:
            value = move_packet(system.values[k](), self.survey, system.schemas, system.days, system.origin, system.target)
            if digest is not None:
                digest.update(value)
            yield Message(value, source=f"injected:{system.number}", source_row=k, injected=True)

    def labels(self):
        """Truth of each alert, rows of `LABELS`."""
        for mjd, _, system, k in self._alerts:
            row = {**system.labels[k], "mjd_tai": mjd, "source": "injected", "moved_days": system.days}
            yield {name: row.get(name) for name in LABELS}

    @property
    def schemas(self):
        """Source of the schemas of framed packets that were injected, or None."""
        return next((s.schemas for _, _, s, _ in self._alerts if s.schemas is not None), None)


def write_labels(path, labels):
    """The truth of what was injected, rows of `LABELS`; None takes away what an earlier replay left there.

    Raises
    ------
    StateError
    """
    path = Path(path)
    try:
        if labels is None:
            path.unlink(missing_ok=True)
            return
        partial = path.with_name(f".{path.name}.part")
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, LABELS, lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in labels)
        os.replace(partial, path)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from error


def make_injection(what, seed, catalogue, survey):
    """Injected alerts for an archive.

    Parameters
    ----------
    what : str
        How many systems are to be simulated, or the folder of a `dgl-broker simulate --packets`.
    seed : int
    catalogue : Catalogue
        Of the archive, whole.
    survey : "lsst" or "ztf"

    Raises
    ------
    ConfigError, InputUnavailable
    """
    rows = catalogue.rows
    times = rows["mjd_tai"]
    plausible = (times > PLAUSIBLE_MJD[0]) & (times < PLAUSIBLE_MJD[1])  # an injection at another time would be refused
    real = rows[plausible & ~rows["moves"] & (rows["band"] >= 0)]
    if not len(real):
        raise InputUnavailable("--inject: the archive has no alert whose position and time it could take")
    systems = simulated_systems(survey, int(what), seed) if str(what).isdecimal() else systems_of_folder(Path(what), survey)
    first, last = float(real["mjd_tai"].min()), float(real["mjd_tai"].max())
    for system in systems:
        _place(system, real, seed, first, last)
    return InjectedSource(survey, systems)


def _place(system, real, seed, first, last):
    """Say where and when a system is put, and which of its alerts fall within the archive's nights."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, system.number, _PLACE_STREAM]))
    anchor = int(rng.integers(len(system.labels)))
    label = system.labels[anchor]
    alike = real[real["band"] == BANDS.index(label["band"])]
    alike = alike if len(alike) else real
    to = alike[int(rng.integers(len(alike)))]
    system.days = float(to["mjd_tai"]) - label["mjd_tai"]
    system.origin, system.target = _place_of(system, anchor), (float(to["ra"]), float(to["dec"]))
    moved = np.array([one["mjd_tai"] for one in system.labels]) + system.days
    system.kept = [int(k) for k in np.flatnonzero((moved >= first - 1e-9) & (moved <= last + 1e-9))]


def _place_of(system, k):
    from dgl_broker import surveys

    alert = surveys.read_alert(wire.decode(system.values[k](), system.labels[k]["survey"], system.schemas))
    return alert.ra, alert.dec


def simulated_systems(survey, n, seed):
    """`n` lensed supernovae that the survey would detect, Ia and core collapse in turn."""
    from dgl_broker.sim.packets import own_schemas, simulate_packets
    from dgl_broker.sim.population import draw_system

    found, index = [], 0
    while len(found) < n:
        system = draw_system(survey, seed, index, kind=KINDS[len(found) % len(KINDS)])
        alerts = simulate_packets(system, survey, max_alerts=ALERTS_OF_A_SYSTEM)
        if alerts:
            values = [(lambda alert=alert: alert.value) for alert in alerts]
            found.append(SimulatedSystem(index, [alert.labels for alert in alerts], values, own_schemas(survey)))
        index += 1
        if index > 100 * n + 1000:
            raise ConfigError(f"--inject {n}: {index} systems gave {len(found)} with an alert")
    return found


def systems_of_folder(folder, survey):
    """The systems of a folder that `dgl-broker simulate --packets` wrote.

    Raises
    ------
    InputUnavailable
        If it is none, or lacks the packets.
    ConfigError
        If they are another survey's.
    """
    path = folder / "labels.csv"
    with told(path):
        text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or not {"survey", "alert_id", "object_id", "system", "seed", "mjd_tai", "band", "file", "row"} <= set(rows[0]):
        raise InputUnavailable(f"{path}: not the labels of `dgl-broker simulate`, or without an alert")
    if rows[0]["survey"] != survey:
        raise ConfigError(f"--inject {folder}: alerts of {rows[0]['survey']}, expected {survey}")
    if not all(row["file"] for row in rows):
        raise InputUnavailable(f"{path}: labels without packets, expected those of `dgl-broker simulate --packets`")
    schemas = wire.schema_source(folder / "schemas") if (folder / "schemas").is_dir() else None
    grouped = {}
    for row in rows:
        grouped.setdefault((row["seed"], row["system"]), []).append(row)
    systems = []
    for number, mine in enumerate(grouped.values()):
        mine.sort(key=lambda row: float(row["mjd_tai"]))
        labels = [{**row, "alert_id": int(row["alert_id"]), "mjd_tai": float(row["mjd_tai"])} for row in mine]
        values = [(lambda row=row: _packet(folder, row, survey)) for row in mine]
        systems.append(SimulatedSystem(number, labels, values, schemas))
    return systems


def _packet(folder, row, survey):
    path, wanted = folder / row["file"], int(row["row"])
    for n, message in enumerate(FileSource(path).messages(survey)):
        if n == wanted and not isinstance(message.packet, PacketError):
            return message.value
    raise InputUnavailable(f"{readable_name(path)}: no alert in row {wanted}")


class BothSchemas:
    """The archive's schemas, and those of our own writer for what is injected; ids of the two do not meet."""

    def __init__(self, archive, own):
        self._archive, self._own = archive, own
        self._ids = frozenset(own.ids())

    def __repr__(self):
        return f"{self._archive} and {self._own}"

    def check(self):
        """As the archive's."""
        if self._archive is not None:
            self._archive.check()

    def writer_schema(self, number):
        """The `WriterSchema` of an id."""
        if number in self._ids:
            return self._own.writer_schema(number)
        if self._archive is None:
            raise PacketError("unknown_schema", f"schema id {number}: no folder or registry of schemas was given")
        return self._archive.writer_schema(number)
