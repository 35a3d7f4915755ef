"""Rows of histories and the trigger -> one light curve: nothing later than the trigger, nothing twice, sorted by time."""

from dataclasses import dataclass

import numpy as np

from dgl_broker.alert import DETECTION, LightCurve
from dgl_broker.photometry import mag_from_flux


@dataclass
class Rows:
    """Rows of histories as columns of shape (n,), in the units of `LightCurve`.

    `band` is -1 where unknown. `exposure` and `detector` together say which rows are of one exposure; int64.
    `allowed` is False for rows that the survey has withdrawn. `known` is False for what was not known at the alert's time.
    """

    mjd_tai: np.ndarray
    band: np.ndarray
    flux_njy: np.ndarray
    flux_err_njy: np.ndarray
    kind: np.ndarray
    total_njy: np.ndarray
    total_err_njy: np.ndarray
    exposure: np.ndarray
    detector: np.ndarray
    allowed: np.ndarray
    known: np.ndarray

    CURVE = ("mjd_tai", "band", "flux_njy", "flux_err_njy", "kind", "total_njy", "total_err_njy")

    @classmethod
    def joined(cls, parts):
        """Several as one."""
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__})


def merged(trigger, history):
    """The light curve at a trigger.

    Of rows of one exposure the trigger wins, then a detection, a forced point, an upper limit, then the more significant:
    whatever the order in which they came.

    Parameters
    ----------
    trigger : Rows
        One row.
    history : Rows

    Returns
    -------
    curve : LightCurve
        The trigger is its last point.
    n_dropped : int
        Rows up to the trigger that were unusable: withdrawn, or without time, band, flux or error.
    """
    mjd = trigger.mjd_tai[0]
    later = (history.mjd_tai > mjd) | ~history.known
    usable = (
        history.allowed
        & np.isfinite(history.mjd_tai)
        & (history.band >= 0)
        & np.isfinite(history.flux_njy)
        & np.isfinite(history.flux_err_njy)
        & (history.flux_err_njy > 0)
    )
    n_dropped = int(np.count_nonzero(~usable & ~later))
    rows = Rows.joined([trigger, history])
    place = np.concatenate([[0], 1 + np.flatnonzero(usable & ~later)])
    rank = np.where(place == 0, -1, rows.kind[place])
    flux, err = rows.flux_njy[place], rows.flux_err_njy[place]
    exposure, detector = rows.exposure[place], rows.detector[place]
    order = np.lexsort((flux, -np.abs(flux) / err, rank, detector, exposure))
    exposure, detector = exposure[order], detector[order]
    first = np.ones(len(order), bool)
    first[1:] = (exposure[1:] != exposure[:-1]) | (detector[1:] != detector[:-1])
    place = place[order[first]]
    # Rows at one time keep one order, however they came; the trigger (place 0) goes last.
    ties = (rows.flux_njy[place], rows.band[place], rows.kind[place], place == 0, rows.mjd_tai[place])
    place = place[np.lexsort(ties)]
    return LightCurve(*(getattr(rows, name)[place] for name in Rows.CURVE)), n_dropped


def brightest_magnitude(curve):
    """AB magnitude of the brightest positive detection, or None."""
    flux = curve.flux_njy[(curve.kind == DETECTION) & (curve.flux_njy > 0)]
    return float(mag_from_flux(flux.max())) if len(flux) else None


def first_detection(stated_mjd_tai, curve):
    """First detection [MJD TAI]: as the survey states it, else, or where that is later than the trigger, of the light curve."""
    if stated_mjd_tai is not None and stated_mjd_tai <= curve.mjd_tai[-1]:
        return stated_mjd_tai
    return float(curve.mjd_tai[curve.kind == DETECTION].min())
