"""What an archive holds, read through once: the time, object and place of every message, and the hash of every input.

With it a replay runs in order of time across files, knows how much is left, takes the part that was asked for, and says
afterwards exactly what it was made of.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.errors import ConfigError

ROW = np.dtype(
    [
        ("source", np.int32),
        ("ordinal", np.int64),
        ("mjd_tai", np.float64),  # inf where the message cannot be read: those come last
        ("alert_id", np.int64),
        ("ra", np.float64),
        ("dec", np.float64),
        ("band", np.int8),  # of BANDS, -1 where unknown
        ("moves", np.bool_),  # a solar-system object
        ("shard", np.uint64),
        ("draw", np.uint64),
        ("object", np.uint64),
    ]
)


def object_hashes(survey, object_id):
    """Three numbers of 64 bits from an object's id, the same everywhere: for its shard, for the sample, and to know it by."""
    digest = hashlib.sha256(f"object|{survey}|{object_id}".encode()).digest()
    return tuple(int.from_bytes(digest[n : n + 8], "big") for n in (0, 8, 16))


@dataclass(eq=False)
class Catalogue:
    """Messages of some sources: `rows` of `ROW`, in the order of the sources; `inputs` says what each source is."""

    sources: list
    rows: np.ndarray
    inputs: list

    def __len__(self):
        return len(self.rows)

    def joined(self, other):
        """Both, the other's sources behind these."""
        rows = other.rows.copy()
        rows["source"] += len(self.sources)
        return Catalogue(self.sources + other.sources, np.concatenate([self.rows, rows]), self.inputs + other.inputs)

    @property
    def night_span(self):
        """(first, last) time [MJD TAI] of what could be read; (nan, nan) of nothing."""
        times = self.rows["mjd_tai"][np.isfinite(self.rows["mjd_tai"])]
        return (float(times.min()), float(times.max())) if len(times) else (np.nan, np.nan)


def read_catalogue(sources, survey, head, progress=None):
    """Reads all sources through.

    Parameters
    ----------
    sources : list
        As `archive.sources.FileSource`: `name`, `state()` and `messages(survey, digest=...)`.
    survey : str
    head : callable
        Message -> its AlertHead or Alert, or None where it cannot be read; as `Scorer.head`.
    progress : callable, optional
        (messages so far) -> None.

    Returns
    -------
    Catalogue
    """
    parts, inputs, n = [], [], 0
    for number, source in enumerate(sources):
        digest, rows = hashlib.sha256(), []
        state = source.state()
        for ordinal, message in enumerate(source.messages(survey, digest=digest)):
            rows.append(_row(number, ordinal, message, survey, head(message)))
            n += 1
            if progress is not None and n % 256 == 0:
                progress(n)
        parts.append(np.array(rows, ROW))
        inputs.append({"name": source.name, **state, "sha256": digest.hexdigest(), "messages": len(rows)})
    if progress is not None:
        progress(n)
    return Catalogue(list(sources), np.concatenate(parts) if parts else np.zeros(0, ROW), inputs)


def _row(source, ordinal, message, survey, head):
    if head is None:
        # No object to go by: by its bytes, so that it belongs to one shard and one only.
        told = hashlib.sha256(message.value or message.where().encode()).hexdigest()
        return source, ordinal, np.inf, 0, np.nan, np.nan, -1, False, *object_hashes(survey, f"unread|{told}")
    known_as = head.object_id if head.object_id is not None else f"alert|{head.alert_id}"
    place = float(head.ra), float(head.dec), BANDS.find(head.band), bool(head.is_solar_system)
    return source, ordinal, float(head.mjd_tai), int(head.alert_id), *place, *object_hashes(survey, known_as)


@dataclass(frozen=True)
class Part:
    """Which part of an archive is replayed.

    Attributes
    ----------
    first_mjd, end_mjd : float, optional
        Alerts from this time on, up to but not at that one [MJD TAI].
    objects : frozenset of str, optional
        Only these.
    sample : float
        Share of the objects, drawn by hash, so that histories stay whole.
    shard : (int, int)
        (i, n): the i-th of n parts, from 0.
    shard_by : str
        "object": by hash of the object, whose alerts stay together, which each shard reads the whole archive for. "source":
        every n-th source, so that each is read by one shard alone.

    What cannot be read is in every window and every list of objects, since nobody can say that it is not.
    """

    first_mjd: float | None = None
    end_mjd: float | None = None
    objects: frozenset | None = None
    sample: float = 1.0
    shard: tuple = (0, 1)
    shard_by: str = "object"

    def of_sources(self, sources):
        """Those of all `sources` that this part is in.

        Raises
        ------
        ConfigError
            If there are fewer than shards by source: one would have nothing to do, and would not be missed.
        """
        which, n = self.shard
        if self.shard_by == "object" or n == 1:
            return sources
        if len(sources) < n:
            raise ConfigError(f"--shard {which}/{n} --shard-by source: {len(sources)} sources, expected {n} or more")
        return sources[which::n]

    def choose(self, catalogue, survey):
        """(order, left out): row numbers to be replayed, in order of time, and how many were left out, by reason."""
        rows = catalogue.rows
        keep = np.ones(len(rows), bool)
        left = {}
        unread = ~np.isfinite(rows["mjd_tai"])

        def cut(reason, mask):
            nonlocal keep
            left[reason] = int(np.count_nonzero(keep & ~mask))
            keep = keep & mask

        if self.first_mjd is not None or self.end_mjd is not None:
            low = -np.inf if self.first_mjd is None else self.first_mjd
            high = np.inf if self.end_mjd is None else self.end_mjd
            cut("of other times", unread | ((rows["mjd_tai"] >= low) & (rows["mjd_tai"] < high)))
        if self.objects is not None:
            wanted = np.array(sorted(object_hashes(survey, name)[2] for name in self.objects), np.uint64)
            cut("of other objects", unread | np.isin(rows["object"], wanted))
        if self.sample < 1.0:
            cut("not in the sample", rows["draw"].astype(np.float64) < self.sample * 2.0**64)
        which, n = self.shard
        if n > 1 and self.shard_by == "object":
            cut("of other shards", rows["shard"] % np.uint64(n) == np.uint64(which))
        chosen = np.flatnonzero(keep)
        part = rows[chosen]
        order = np.lexsort((part["ordinal"], part["source"], part["alert_id"], part["mjd_tai"]))
        return chosen[order], left
