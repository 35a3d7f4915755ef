"""The null of the p-values from scores of the running stream: the best null there is, since all but a millionth are negatives.

It replaces the null alone; log-odds, and the thresholds on them, stay what they are.
"""

import csv
import math
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, InputUnavailable

COLUMNS = ("alert_id", "object_id", "ra", "dec", "status", "log_odds", "stratum", "bundle_sha256")


def read_scores(paths):
    """Columns of scored rows of score tables (Parquet), one after the other.

    Returns
    -------
    dict of lists
        `COLUMNS`, of the rows with status "scored".

    Raises
    ------
    InputUnavailable
        If a table cannot be read or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in paths:
        try:
            names = pq.read_schema(path).names
            missing = [c for c in COLUMNS if c not in names]
            if missing:
                raise InputUnavailable(f"{path}: no column {', '.join(missing)}; expected a table of `dgl-broker replay`")
            tables.append(pq.read_table(path, columns=list(COLUMNS)))
        except (OSError, pa.ArrowException) as error:
            raise InputUnavailable(f"{path}: cannot be read: {error}") from error
    joined = pa.concat_tables(tables)
    joined = joined.filter(pa.compute.equal(joined["status"], "scored"))
    return {name: joined[name].to_pylist() for name in COLUMNS}


def read_ids(path):
    """Ids in a file: one a line, or the columns `object_id` and `alert_id` of a CSV with a header.

    Returns
    -------
    set of str
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputUnavailable(f"{path}: cannot be read: {error}") from error
    lines = text.splitlines()
    if lines and {"object_id", "alert_id"} & {c.strip() for c in lines[0].split(",")}:
        rows = csv.DictReader(lines, skipinitialspace=True)
        return {row[c].strip() for row in rows for c in ("object_id", "alert_id") if row.get(c)}
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def read_places(path):
    """(ra, dec) [deg] of a CSV with columns `ra` and `dec`; shape (n, 2)."""
    try:
        with open(path, newline="", encoding="utf-8") as held:
            rows = [(float(row["ra"]), float(row["dec"])) for row in csv.DictReader(held, skipinitialspace=True)]
    except (OSError, UnicodeDecodeError) as error:
        raise InputUnavailable(f"{path}: cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: expected columns ra and dec in degrees: {error}") from error
    return np.array(rows, float).reshape(-1, 2)


def near(ra, dec, places, radius_arcsec):
    """Which positions lie within `radius_arcsec` of any of `places` (n, 2) [deg]; unknown positions do not."""
    ra, dec = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    out = np.zeros(len(ra), bool)
    for ra0, dec0 in np.radians(places):
        hav = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
        with np.errstate(invalid="ignore"):
            out |= 2 * np.arcsin(np.sqrt(hav)) <= math.radians(radius_arcsec / 3600)
    return out


def anchor_null(bundle, columns, leave_out=(), known=None, radius_arcsec=10.0, min_null=2000):
    """A calibration from scored rows of a stream.

    Parameters
    ----------
    bundle : dgl_broker.model.Bundle
        Whose log-odds they are; strata are those of its own calibration.
    columns : dict
        As `read_scores` gives it.
    leave_out : list of paths
        Ids of injections and known positives.
    known : path, optional
        Places of known positives.
    radius_arcsec : float
    min_null : int

    Returns
    -------
    calibration : dgl_broker.model.Calibration
    report : dict
        `scored`, `left_out`, `near_known`, `used` (alerts; one an object and stratum enters), `other_bundle`.

    Raises
    ------
    ConfigError
        If the scores are of another bundle, or none is left.
    """
    from dgl_broker.model import fit_null
    from dgl_broker.model.calibration import DEFAULT_AXES

    n = len(columns["alert_id"])
    same = np.array([sha == bundle.sha256 for sha in columns["bundle_sha256"]], bool)
    if n and not same.all():
        other = sorted({str(sha)[:12] for sha in columns["bundle_sha256"]} - {bundle.sha256[:12]})
        raise ConfigError(
            f"{int((~same).sum())} of {n} scores are of other bundles ({', '.join(other)}), not {bundle.sha256[:12]}"
        )
    gone = set().union(*(read_ids(path) for path in leave_out)) if leave_out else set()
    objects = [str(o) if o is not None else f"alert {a}" for o, a in zip(columns["object_id"], columns["alert_id"])]
    named = np.array([o in gone or str(a) in gone for o, a in zip(objects, columns["alert_id"])], bool)
    # An object that is left out takes all of its alerts with it, also where only one alert was named.
    tainted = {o for o, is_named in zip(objects, named) if is_named}
    out = np.array([o in tainted for o in objects], bool)
    close = near(columns["ra"], columns["dec"], read_places(known), radius_arcsec) if known else np.zeros(n, bool)
    log_odds = np.array(columns["log_odds"], float)
    use = np.flatnonzero(~out & ~close & np.isfinite(log_odds))
    if len(use) == 0:
        raise ConfigError(f"calibrate: of {n} scored alerts none is left")
    axes = bundle.calibration.axes if bundle.calibration is not None else DEFAULT_AXES
    facts = [stratum_facts(columns["stratum"][i], axes) for i in use]
    calibration = fit_null(
        log_odds[use],
        facts,
        axes=axes,
        object_ids=[objects[i] for i in use],
        alert_ids=[columns["alert_id"][i] for i in use],
        min_null=min_null,
        scores_sha256=bundle.scores_sha256,
        about={"from": "a running stream", "alerts": len(use), "objects": len({objects[i] for i in use})},
    )
    report = {"scored": n, "left_out": int(out.sum()), "near_known": int((close & ~out).sum()), "used": len(use)}
    return calibration, report


def stratum_facts(name, axes):
    """Facts of an alert that lie in the stratum of that name, as `Calibration.strata` names it; none for "all" or None.

    The table of scores has the stratum's name and not the facts behind it. An alert that was pooled upward stays there.
    """
    facts = {}
    for part, (fact, edges) in zip((name or "").split(","), axes):
        inside = [edges[0] - 1, *edges]
        names = [f"{fact}<{edges[0]:g}", *(f"{a:g}<={fact}<{b:g}" for a, b in zip(edges, edges[1:])), f"{fact}>={edges[-1]:g}"]
        if part in names:
            facts[fact] = inside[names.index(part)]
    return facts
