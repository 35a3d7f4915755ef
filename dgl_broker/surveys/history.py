"""Rows of histories and triggers -> light curves: nothing later than the trigger, nothing twice, sorted by time.

The rows of a batch of alerts are laid end to end and treated elementwise; sorting and counting run within one alert only.
"""

from dataclasses import dataclass

import numpy as np

from dgl_broker import native
from dgl_broker.alert import DETECTION, LightCurve
from dgl_broker.photometry import mag_from_flux

MJD, FLUX, ERR, TOTAL, TOTAL_ERR = range(5)
BAND, KIND, EXPOSURE, DETECTOR = range(4)


@dataclass(slots=True)
class Rows:
    """Rows of many alerts' histories as columns.

    `numbers` (5, n) float64: time [MJD TAI], flux, its error, total flux, its error [nJy], as `LightCurve` has them.
    `labels` (4, n) int64: band (-1 where unknown), kind, and exposure and detector, which together say which rows are of one
    exposure. `owner` (n,): number of the alert. `allowed` (n,) is False for rows that the survey has withdrawn and for what was
    not known at the alert's time; `counts` (n,) False for the latter, which are not told of as dropped.
    """

    numbers: np.ndarray
    labels: np.ndarray
    owner: np.ndarray
    allowed: np.ndarray
    counts: np.ndarray


def owners(histories):
    """Number of the alert of each row of a list of histories, one an alert; int64."""
    return np.repeat(np.arange(len(histories)), [len(rows) for rows in histories])


def light_curves(numbers, labels, history):
    """The light curves at triggers.

    Of rows of one exposure the trigger wins, then a detection, a forced point, an upper limit, then the more significant:
    whatever the order in which they came.

    Parameters
    ----------
    numbers, labels : arrays, shape (5, n_alerts), (4, n_alerts)
        Of the triggers, as `Rows` has them.
    history : Rows

    Returns
    -------
    list of (LightCurve, int)
        A light curve's last point is the trigger. Beside it the number of rows up to the trigger that were unusable:
        withdrawn, or without time, band, flux or error.
    """
    n = numbers.shape[1]
    now = ~(history.numbers[MJD] > numbers[MJD][history.owner]) & history.counts
    usable = np.isfinite(history.numbers[:TOTAL]).all(axis=0) & (history.numbers[ERR] > 0) & (history.labels[BAND] >= 0)
    usable &= history.allowed
    n_dropped = np.bincount(history.owner[~usable & now], minlength=n).tolist()
    kept = np.flatnonzero(usable & now)
    owner = np.concatenate([np.arange(n), history.owner[kept]])
    grouped = np.argsort(owner, kind="stable")  # each trigger before its history
    numbers = np.concatenate([numbers, history.numbers.take(kept, axis=1)], axis=1).take(grouped, axis=1)
    labels = np.concatenate([labels, history.labels.take(kept, axis=1)], axis=1).take(grouped, axis=1)
    ends = np.cumsum(np.bincount(owner, minlength=n))
    order, ends = _order(numbers, labels, ends)
    numbers, labels = numbers.take(order, axis=1), labels.take(order, axis=1)
    band, kind = labels[BAND].astype(np.int8), labels[KIND].astype(np.int8)
    mjd, flux, err, total, total_err = numbers
    found, start = [], 0
    for end, dropped in zip(ends.tolist(), n_dropped):
        at = slice(start, end)
        found.append((LightCurve(mjd[at], band[at], flux[at], err[at], kind[at], total[at], total_err[at]), dropped))
        start = end
    return found


def _order(numbers, labels, ends):
    """(places of the rows that stay, in their order; where each light curve ends then); a trigger is first of its rows."""
    if native.COMPILED is not None:
        found = native.COMPILED.light_curve_order(numbers, labels, ends)
        return tuple(np.frombuffer(part, np.int64) for part in found)
    owner = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    is_trigger = np.zeros(len(owner), np.int8)
    is_trigger[np.concatenate([[0], ends[:-1]])[: len(ends)]] = 1
    significance = -np.abs(numbers[FLUX]) / numbers[ERR]
    keys = (owner, labels[EXPOSURE], labels[DETECTOR])
    order = np.lexsort((numbers[FLUX], significance, labels[KIND], -is_trigger, *keys[::-1]))
    first = np.zeros(len(order), bool)
    first[:1] = True
    for key in keys:
        first[1:] |= key[order[1:]] != key[order[:-1]]
    place = order[first]
    # Rows at one time keep one order, however they came; the trigger goes last.
    ties = (numbers[FLUX], labels[BAND], labels[KIND], is_trigger, numbers[MJD], owner)
    place = place[np.lexsort(tuple(key[place] for key in ties))]
    return place, np.cumsum(np.bincount(owner[place], minlength=len(ends)))


def brightest_magnitude(curve):
    """AB magnitude of the brightest positive detection, or None."""
    flux = curve.flux_njy[(curve.kind == DETECTION) & (curve.flux_njy > 0)]
    return float(mag_from_flux(flux.max())) if len(flux) else None


def first_detection(stated_mjd_tai, curve):
    """First detection [MJD TAI]: as the survey states it, else, or where that is later than the trigger, of the light curve."""
    if stated_mjd_tai is not None and stated_mjd_tai <= curve.mjd_tai[-1]:
        return stated_mjd_tai
    return float(curve.mjd_tai[curve.kind == DETECTION].min())
