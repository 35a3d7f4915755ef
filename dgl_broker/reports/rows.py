"""Rows of the state of the reports: what the compacted topic holds, as (kind, name) keys and JSON values."""

import json
from dataclasses import dataclass, field

from dgl_broker.errors import StateError

KINDS = ("object", "night", "position")
VERSION = 1  # a row of a later version is not guessed at


@dataclass(frozen=True, slots=True)
class Seen:
    """One object.

    Attributes
    ----------
    reported : dict
        State -> night in which it was reported.
    withheld : tuple of (night, state)
        What the cap held back, in nights of late.
    first : dict
        Band -> (MJD TAI, magnitude or None) of its first candidate in that band since its first report, that included.
    new_band, new_alert_id, new_mjd_tai
        Of the alert that was its first report.
    """

    reported: dict = field(default_factory=dict)
    withheld: tuple = ()
    first: dict = field(default_factory=dict)
    new_band: str | None = None
    new_alert_id: int | None = None
    new_mjd_tai: float | None = None

    def with_band(self, band, mjd_tai, magnitude):
        """This object with its first candidate in a band noted, where it has none of that band yet and was reported."""
        if band is None or band in self.first or not self.reported:
            return self
        return Seen(
            self.reported,
            self.withheld,
            {**self.first, band: (mjd_tai, magnitude)},
            self.new_band,
            self.new_alert_id,
            self.new_mjd_tai,
        )


@dataclass(frozen=True, slots=True)
class Night:
    """One night: how many reports were made, and how many more there would have been without the cap."""

    reported: int = 0
    withheld: int = 0

    @property
    def would_have_passed(self):
        """Reports that there would have been without a cap."""
        return self.reported + self.withheld


@dataclass(frozen=True, slots=True)
class Position:
    """One partition of the candidates: the offset of the next message to be read."""

    offset: int


def key_of(kind, name):
    """Key of a row; `name` is the object's, the night's, or `topic[partition]`."""
    return kind, name


def place_name(place):
    """Name of the position of a (topic, partition)."""
    return f"{place[0]}[{place[1]}]"


def place_of(name):
    """(topic, partition) of a position's name."""
    topic, _, partition = name.rstrip("]").rpartition("[")
    return topic, int(partition)


def encode_row(key, row):
    """(key, value) bytes of a row; the value of one that is taken away is None."""
    kind, name = key
    return f"{kind}:{name}".encode(), None if row is None else json.dumps(_plain(row), separators=(",", ":")).encode()


def decode_row(key, value):
    """(key, row) of a message of the state's topic; the row is None where the value is.

    Raises
    ------
    StateError
        If it is none of ours: what was reported would not be known.
    """
    try:
        kind, _, name = key.decode().partition(":")
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}")
        return (kind, name), None if value is None else _row(kind, json.loads(value))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"a row of the reports' state cannot be read: key {key!r}: {error!r}") from error


def _plain(row):
    if isinstance(row, Seen):
        first = {band: list(at) for band, at in row.first.items()}
        new = None if row.new_alert_id is None else [row.new_band, str(row.new_alert_id), row.new_mjd_tai]
        withheld = [list(w) for w in row.withheld]
        return {"v": VERSION, "reported": row.reported, "withheld": withheld, "first": first, "new": new}
    if isinstance(row, Night):
        return {"v": VERSION, "reported": row.reported, "withheld": row.withheld}
    return {"v": VERSION, "offset": row.offset}


def _row(kind, said):
    if said["v"] > VERSION:
        raise ValueError(f"version {said['v']}, expected at most {VERSION}: written by a later program")
    if kind == "night":
        return Night(int(said["reported"]), int(said["withheld"]))
    if kind == "position":
        return Position(int(said["offset"]))
    band, alert_id, mjd_tai = said["new"] or (None, None, None)
    return Seen(
        dict(said["reported"]),
        tuple((night, state) for night, state in said["withheld"]),
        {b: (mjd, magnitude) for b, (mjd, magnitude) in said["first"].items()},
        band,
        None if alert_id is None else int(alert_id),
        mjd_tai,
    )
