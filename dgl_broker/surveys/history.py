"""Rows of histories and the trigger -> one light curve: nothing later than the trigger, nothing twice, sorted by time."""

from dataclasses import dataclass

import numpy as np

from dgl_broker.alert import DETECTION, LightCurve
from dgl_broker.photometry import mag_from_flux

MJD, FLUX, ERR, TOTAL, TOTAL_ERR = range(5)
BAND, KIND, EXPOSURE, DETECTOR = range(4)


@dataclass(slots=True)
class Rows:
    """Rows of a history as columns, few arrays for few steps: most histories have a dozen rows.

    `numbers` (5, n) float64: time [MJD TAI], flux, its error, total flux, its error [nJy], as `LightCurve` has them.
    `labels` (4, n) int64: band (-1 where unknown), kind, and exposure and detector, which together say which rows are of one
    exposure. `allowed` (n,) is False for rows that the survey has withdrawn, `known` for what was not known at the
    alert's time; None where all are.
    """

    numbers: np.ndarray
    labels: np.ndarray
    allowed: np.ndarray | None = None
    known: np.ndarray | None = None

    def __len__(self):
        return self.numbers.shape[1]


def merged(trigger, *histories):
    """The light curve at a trigger.

    Of rows of one exposure the trigger wins, then a detection, a forced point, an upper limit, then the more significant:
    whatever the order in which they came.

    Parameters
    ----------
    trigger : Rows
        One row.
    histories : Rows

    Returns
    -------
    curve : LightCurve
        The trigger is its last point.
    n_dropped : int
        Rows up to the trigger that were unusable: withdrawn, or without time, band, flux or error.
    """
    mjd, n_dropped = trigger.numbers[MJD, 0], 0
    numbers, labels = [trigger.numbers], [trigger.labels]
    for rows in histories:
        if not len(rows):
            continue
        usable = np.isfinite(rows.numbers[:TOTAL]).all(axis=0) & (rows.numbers[ERR] > 0) & (rows.labels[BAND] >= 0)
        if rows.allowed is not None:
            usable &= rows.allowed
        now = ~(rows.numbers[MJD] > mjd)
        if rows.known is not None:
            now &= rows.known
        n_dropped += int(np.count_nonzero(~usable & now))
        place = np.flatnonzero(usable & now)
        numbers.append(rows.numbers.take(place, axis=1))
        labels.append(rows.labels.take(place, axis=1))
    if len(numbers) == 1:
        return _curve(trigger.numbers, trigger.labels), n_dropped
    return _curve(*_in_order(np.concatenate(numbers, axis=1), np.concatenate(labels, axis=1))), n_dropped


def _in_order(numbers, labels):
    """Rows, the trigger first, without repetitions and sorted by time."""
    is_trigger = np.zeros(numbers.shape[1], np.int8)
    is_trigger[0] = 1
    flux, significance = numbers[FLUX], -np.abs(numbers[FLUX]) / numbers[ERR]
    exposure, detector = labels[EXPOSURE], labels[DETECTOR]
    order = np.lexsort((flux, significance, labels[KIND], -is_trigger, detector, exposure))
    exposure, detector = exposure[order], detector[order]
    first = np.ones(len(order), bool)
    first[1:] = (exposure[1:] != exposure[:-1]) | (detector[1:] != detector[:-1])
    place = order[first]
    numbers, labels, is_trigger = numbers.take(place, axis=1), labels.take(place, axis=1), is_trigger[place]
    # Rows at one time keep one order, however they came; the trigger goes last.
    order = np.lexsort((numbers[FLUX], labels[BAND], labels[KIND], is_trigger, numbers[MJD]))
    return numbers.take(order, axis=1), labels.take(order, axis=1)


def _curve(numbers, labels):
    band, kind = labels[BAND].astype(np.int8), labels[KIND].astype(np.int8)
    return LightCurve(numbers[MJD], band, numbers[FLUX], numbers[ERR], kind, numbers[TOTAL], numbers[TOTAL_ERR])


def brightest_magnitude(curve):
    """AB magnitude of the brightest positive detection, or None."""
    flux = curve.flux_njy[(curve.kind == DETECTION) & (curve.flux_njy > 0)]
    return float(mag_from_flux(flux.max())) if len(flux) else None


def first_detection(stated_mjd_tai, curve):
    """First detection [MJD TAI]: as the survey states it, else, or where that is later than the trigger, of the light curve."""
    if stated_mjd_tai is not None and stated_mjd_tai <= curve.mjd_tai[-1]:
        return stated_mjd_tai
    return float(curve.mjd_tai[curve.kind == DETECTION].min())
