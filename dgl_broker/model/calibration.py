"""Conformal p-values against a null of negative objects, by stratum (Vovk, Gammerman & Shafer 2005, sections 2.3 and 4.5).

p = (1 + #{null >= s}) / (n + 1) in the stratum of the alert: over negatives exchangeable with the null, P(p <= a) <= a. A
stratum is a cell of at most twelve over facts of the alert (number of detections, bands, brightness); one with fewer than
2,000 negatives is pooled upward, first over brightness, then bands, then all. Needs no torch.
"""

import base64
import binascii
import hashlib
import json
import math
import zlib
from dataclasses import dataclass, field

import numpy as np

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.model.card import json_document

# Fact of the alert, and the lower edges of its second and later bins.
DEFAULT_AXES = (("n_detections", (3, 6)), ("n_bands", (2,)), ("snr", (10.0,)))
MAX_STRATA = 12
MIN_NULL = 2000
MAX_NULL = 50_000_000  # values of one stratum; a file that claims more is damaged or hostile
EVERYTHING = "all"


@dataclass(frozen=True, eq=False)
class Calibration:
    """Sorted null log-odds of each stratum that is used.

    `null` maps a stratum's name to float32, ascending; "all" is always there. `axes` are (fact, edges), coarse to fine.
    `scores_sha256` says whose log-odds they are (see `bundle`); `about` holds where the null came from.
    """

    axes: tuple
    null: dict
    scores_sha256: str | None = None
    about: dict = field(default_factory=dict)

    @property
    def calibration_id(self):
        """Short hash of strata, null and bundle."""
        parts = hashlib.sha256(json.dumps([self.axes, self.scores_sha256]).encode())
        for name in sorted(self.null):
            parts.update(name.encode() + b"\0" + self.null[name].astype("<f4").tobytes())
        return parts.hexdigest()[:16]

    def strata(self, facts):
        """Name of the stratum that each alert is judged in.

        Parameters
        ----------
        facts : sequence of dict
            Facts of each alert by name; one that is absent, None or not finite pools upward.
        """
        cells = _cells(self.axes, facts)
        chosen = np.full(len(facts), EVERYTHING, object)
        for level in range(1, len(self.axes) + 1):
            names = _names(self.axes, cells, level)
            known = np.array([name in self.null for name in names], bool)
            chosen[known] = names[known]
        return chosen

    def p_value(self, log_odds, facts):
        """Conformal p-values and their floors.

        Parameters
        ----------
        log_odds : array, shape (N,)
        facts : sequence of N dicts

        Returns
        -------
        p_value, floor : array, shape (N,), float64
            `floor` is 1 / (n + 1), the least p-value that the stratum can give.
        stratum : array of str, shape (N,)
        """
        log_odds = np.asarray(log_odds, np.float64)
        if log_odds.shape != (len(facts),):
            raise ValueError(f"log_odds of shape {log_odds.shape} with {len(facts)} facts, expected one each")
        stratum = self.strata(facts)
        p_value, floor = np.full(len(log_odds), np.nan), np.full(len(log_odds), np.nan)
        for name in set(stratum.tolist()):
            here, null = stratum == name, self.null[name]
            above = len(null) - np.searchsorted(null, _float32_at_least(log_odds[here]), side="left")
            p_value[here] = (1.0 + above) / (len(null) + 1.0)
            floor[here] = 1.0 / (len(null) + 1.0)
        p_value[np.isnan(log_odds)] = np.nan
        return p_value, floor, stratum

    def to_dict(self):
        """What `calibration.json` holds; the null is zlib-compressed little-endian float32 in base 64."""
        packed = {
            name: {"n": len(null), "log_odds": base64.b64encode(zlib.compress(null.astype("<f4").tobytes(), 9)).decode()}
            for name, null in sorted(self.null.items())
        }
        return {
            "format": 1,
            "calibration_id": self.calibration_id,
            "scores_sha256": self.scores_sha256,
            "axes": [{"fact": fact, "edges": list(edges)} for fact, edges in self.axes],
            "null": packed,
            "about": self.about,
        }

    def save(self, path):
        """Write `calibration.json`."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=1)
            file.write("\n")

    @classmethod
    def from_file(cls, path):
        """Read `calibration.json`; StateError names what is wrong with it."""
        try:
            with open(path, encoding="utf-8") as file:
                return cls.from_dict(json_document(file.read()), str(path))
        except OSError as err:
            raise StateError(f"{path}: cannot be read: {err.strerror}") from err
        except ValueError as err:
            raise StateError(f"{path}: not a JSON document: {err}") from err

    @classmethod
    def from_dict(cls, values, where="calibration"):
        """From what `to_dict` gives, every part checked."""
        if not isinstance(values, dict) or values.get("format") != 1:
            found = values.get("format") if isinstance(values, dict) else type(values).__name__
            raise StateError(f"{where}: format {found!r}, expected 1")
        axes = _checked_axes(values.get("axes"), where)
        packed = values.get("null")
        if not isinstance(packed, dict) or EVERYTHING not in packed:
            raise StateError(f"{where}: `null` has no stratum {EVERYTHING!r}")
        allowed = set(_all_names(axes))
        unknown = sorted(set(packed) - allowed)
        if unknown:
            raise StateError(f"{where}: stratum {unknown[0]!r} is not among those of its axes")
        null = {name: _unpack(part, f"{where}: stratum {name!r}") for name, part in packed.items()}
        about = values.get("about")
        found = cls(axes, null, values.get("scores_sha256"), about if isinstance(about, dict) else {})
        if found.calibration_id != values.get("calibration_id"):
            raise StateError(
                f"{where}: calibration_id {values.get('calibration_id')!r}, but its contents give {found.calibration_id}"
            )
        return found


def fit_null(
    log_odds,
    facts,
    *,
    axes=DEFAULT_AXES,
    object_ids=None,
    alert_ids=None,
    min_null=MIN_NULL,
    scores_sha256=None,
    about=None,
):
    """The null of the p-values from negative objects that nothing was fitted on.

    Parameters
    ----------
    log_odds : array, shape (N,)
        Of alerts of negative objects, finite.
    facts : sequence of N dicts
        Facts by name, as `Calibration.strata` reads them.
    axes : sequence of (fact, edges)
        At most twelve cells in all; coarse to fine, the last is pooled first.
    object_ids, alert_ids : sequence of N, optional
        With them one alert per object and stratum enters, the one with the smallest hash of its id.
    min_null : int
        Strata with fewer are left to the next coarser one.

    Returns
    -------
    Calibration
    """
    axes = _checked_axes([{"fact": f, "edges": list(e)} for f, e in axes], "axes", ConfigError)
    log_odds = np.asarray(log_odds, np.float64)
    if log_odds.ndim != 1 or len(log_odds) == 0 or len(facts) != len(log_odds):
        raise ConfigError(f"null of shape {log_odds.shape} with {len(facts)} facts, expected one value and one dict an alert")
    if not np.isfinite(log_odds).all():
        raise ConfigError(f"null: {int((~np.isfinite(log_odds)).sum())} of {len(log_odds)} log-odds are not finite")
    order = np.arange(len(log_odds))
    if object_ids is not None:
        if alert_ids is None or len(object_ids) != len(log_odds) or len(alert_ids) != len(log_odds):
            raise ConfigError("null: object_ids need alert_ids, one of each an alert")
        hashes = [hashlib.blake2b(str(a).encode(), digest_size=8).digest() for a in alert_ids]
        order = np.array(sorted(order.tolist(), key=hashes.__getitem__))
    cells = _cells(axes, facts)
    null = {}
    for level in range(len(axes) + 1):
        names = _names(axes, cells, level)
        for name, members in _members(names, order, object_ids).items():
            if level == 0 or len(members) >= min_null:
                # Rounded up, so that an alert of the null counts itself when it is scored again.
                null[name] = np.sort(_float32_at_least(log_odds[members]))
    return Calibration(axes, null, scores_sha256, dict(about or {}))


def _float32_at_least(values):
    """The least float32 not below each value: for float32 x, x >= s exactly where x >= this."""
    rounded = values.astype(np.float32)
    low = rounded.astype(np.float64) < values
    rounded[low] = np.nextafter(rounded[low], np.float32(np.inf))
    return rounded


def _members(names, order, object_ids):
    """Indices by stratum name, one per object where ids are given, the first in `order`."""
    found, seen = {}, set()
    for i in order.tolist():
        name = names[i]
        if name is None:
            continue
        if object_ids is not None:
            if (name, object_ids[i]) in seen:
                continue
            seen.add((name, object_ids[i]))
        found.setdefault(name, []).append(i)
    return found


def _cells(axes, facts):
    """Bin of each alert on each axis, (N, axes); -1 where the fact is unknown."""
    cells = np.full((len(facts), len(axes)), -1, np.int64)
    for column, (fact, edges) in enumerate(axes):
        values = np.array([_number(f.get(fact)) for f in facts], np.float64)
        known = np.isfinite(values)
        cells[known, column] = np.searchsorted(np.asarray(edges, np.float64), values[known], side="right")
    return cells


def _number(value):
    return math.nan if value is None else float(value)


def _bin_name(fact, edges, index):
    """`snr<10`, `3<=n_detections<6`, `n_detections>=6`."""
    if index == 0:
        return f"{fact}<{edges[0]:g}"
    if index == len(edges):
        return f"{fact}>={edges[-1]:g}"
    return f"{edges[index - 1]:g}<={fact}<{edges[index]:g}"


def _names(axes, cells, level):
    """Stratum names of the alerts over the first `level` axes, None where a fact is unknown."""
    if level == 0:
        return np.full(len(cells), EVERYTHING, object)
    names = {}
    for key in {tuple(row) for row in cells[:, :level].tolist()}:
        known = all(index >= 0 for index in key)
        names[key] = ",".join(_bin_name(*axis, index) for axis, index in zip(axes, key)) if known else None
    found = np.empty(len(cells), object)
    found[:] = [names[tuple(row)] for row in cells[:, :level].tolist()]
    return found


def _all_names(axes):
    """Names of all strata, pooled ones included."""
    names = [EVERYTHING]
    paths = [()]
    for fact, edges in axes:
        paths = [(*path, _bin_name(fact, edges, i)) for path in paths for i in range(len(edges) + 1)]
        names += [",".join(path) for path in paths]
    return names


def _checked_axes(values, where, error=StateError):
    """Axes as ((fact, edges), ...), at most twelve cells."""
    try:
        axes = tuple((axis["fact"], tuple(axis["edges"])) for axis in values)
    except (TypeError, KeyError) as err:
        raise error(f"{where}: axes {values!r}, expected a list of fact and edges") from err
    cells = 1
    for fact, edges in axes:
        numbers = all(isinstance(e, int | float) and not isinstance(e, bool) and math.isfinite(e) for e in edges)
        if not isinstance(fact, str) or not edges or not numbers or list(edges) != sorted(set(edges)):
            raise error(f"{where}: axis {fact!r} with edges {list(edges)}, expected a fact and ascending numbers")
        cells *= len(edges) + 1
    if cells > MAX_STRATA or len({fact for fact, _ in axes}) != len(axes):
        raise error(f"{where}: {cells} strata over {[fact for fact, _ in axes]}, expected distinct facts, at most {MAX_STRATA}")
    return axes


def _unpack(part, where):
    """Null of one stratum: float32, ascending, finite."""
    count = part.get("n") if isinstance(part, dict) else None
    text = part.get("log_odds") if isinstance(part, dict) else None
    if type(count) is not int or not 1 <= count <= MAX_NULL or not isinstance(text, str):
        raise StateError(f"{where}: n is {count!r}, expected 1 to {MAX_NULL}, and log_odds as base 64")
    try:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(base64.b64decode(text, validate=True), 4 * count + 1)
    except (binascii.Error, zlib.error) as err:
        raise StateError(f"{where}: log_odds cannot be unpacked: {err}") from err
    if len(raw) != 4 * count or not inflater.eof:
        raise StateError(f"{where}: log_odds holds {len(raw)} bytes or more, expected {4 * count} for n {count}")
    null = np.frombuffer(raw, "<f4").astype(np.float32)
    if not np.isfinite(null).all() or (np.diff(null) < 0).any():
        raise StateError(f"{where}: log_odds are not finite and ascending")
    return null
