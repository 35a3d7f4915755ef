"""Histories of a ZTF packet -> light curve: detections and upper limits mixed, forced photometry beside them."""

import numpy as np

from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT
from dgl_broker.photometry import LN10_OVER_2P5, mjd_tai_from_jd_utc, njy_of_count
from dgl_broker.surveys.history import Rows, merged
from dgl_broker.surveys.values import columns, meanings, number, present

PIXEL_SCALE_ARCSEC = 1.012  # Dekany et al. 2020, PASP 132, 038001, table 1
EXPOSURE_S = 30.0  # Bellm et al. 2019, PASP 131, 018002; where the packet does not say
LONGEST_EXPOSURE_S = 3600.0
BAND_OF_FID = {1: "g", 2: "r", 3: "i"}
BAND_INDEX_OF_FID = np.array([-1, *(BANDS.index(band) for band in BAND_OF_FID.values())])
SIGN = {"t": 1.0, "1": 1.0, "f": -1.0, "0": -1.0, 1: 1.0, 0: -1.0}  # True and False are 1 and 0
MAGNITUDES = (-5.0, 35.0)  # sentinels (-999, -99999) and other nonsense lie outside
SAME_EXPOSURE_D = 1e-5  # d; exposures are 40 s (5e-4 d) apart at least
# The reference source is taken for the object's own host where it is this near: the survey's own radius for one object.
REFERENCE_RADIUS_ARCSEC = 1.5
TIMES = 3  # fields that candidates and forced points have in common, first; magnitudes follow, which become flux in one step
DETECTED = ("jd", "exptime", "fid", "magpsf", "diffmaglim", "magnr", "sigmapsf", "sigmagnr", "distnr")
# Of a forced point distnr is in arcsec, of a candidate in pixels.
MEASURED = ("jd", "exptime", "fid", "magzpsci", "magnr", "forcediffimflux", "forcediffimfluxunc", "sigmagnr", "distnr")


def sign(isdiffpos):
    """+1, -1, or 0 for what is none of the spellings."""
    try:
        return SIGN.get(isdiffpos, 0.0)
    except TypeError:  # a list or dict
        return 0.0


def exposure_of(stated):
    """Exposure [s] of one row; 30 s where the packet does not say, or says 0 (schema 3.0)."""
    stated = number(stated)
    return stated if stated is not None and 0 < stated < LONGEST_EXPOSURE_S else EXPOSURE_S


def light_curve(record, candidate):
    """(LightCurve, rows dropped) of a packet whose trigger is known to be usable."""
    earlier, forced = present(record["prv_candidates"]), present(record.get("fp_hists"))
    detected = np.concatenate([columns([candidate], DETECTED), columns(earlier, DETECTED)], axis=1)
    signs = np.array([sign(candidate["isdiffpos"]), *meanings(earlier, "isdiffpos", sign)])
    measured = columns(forced, MEASURED)
    n = detected.shape[1]
    times = np.concatenate([detected[:TIMES], measured[:TIMES]], axis=1)
    mjd, exposures, bands = _times(times), _exposures(times[0]), _bands(times[2])
    candidates = _candidates(detected[TIMES:], signs, mjd[:n], exposures[:n], bands[:n])
    trigger = Rows(candidates.numbers[:, :1], candidates.labels[:, :1])
    history = Rows(candidates.numbers[:, 1:], candidates.labels[:, 1:])
    return merged(trigger, history, _forced(measured[TIMES:], mjd[n:], exposures[n:], bands[n:]))


def _times(times):
    """MJD TAI at mid-exposure, shape (n,), of jd and exptime."""
    jd, stated, _ = times
    exposures = np.where((stated > 0) & (stated < LONGEST_EXPOSURE_S), stated, EXPOSURE_S)
    return mjd_tai_from_jd_utc(jd, exposures)


def _exposures(jd):
    """A number for each row that rows at one time share, int64: one exposure has one start, to rounding."""
    order = np.argsort(jd, kind="stable")
    starts = np.diff(jd[order], prepend=-np.inf) > SAME_EXPOSURE_D
    out = np.empty(len(jd), np.int64)
    out[order] = np.cumsum(starts)
    return out


def _bands(fid):
    """Index of the band, -1 for a filter that is none; shape (n,), int64."""
    known = (fid >= 1) & (fid < len(BAND_INDEX_OF_FID)) & (fid == np.floor(fid))
    return BAND_INDEX_OF_FID[np.where(known, fid, 0).astype(np.int64)]


def _magnitudes(mag):
    """Magnitudes, NaN for sentinels and other impossible values."""
    return np.where((mag > MAGNITUDES[0]) & (mag < MAGNITUDES[1]), mag, np.nan)


def _candidates(columns_, signs, mjd, exposures, bands):
    """Detections and upper limits as columns: a row without magpsf is an upper limit at its diffmaglim."""
    magnitudes, (sigma, reference_sigma, separation_px) = columns_[:3], columns_[3:]
    is_limit = np.isnan(magnitudes[0])
    flux, limit, reference = njy_of_count(_magnitudes(magnitudes))  # the flux of a magnitude: of one count with that zero point
    err = flux * LN10_OVER_2P5 * sigma
    flux = flux * np.where(signs == 0.0, np.nan, signs)
    total, total_err = _totals(reference, reference_sigma, separation_px * PIXEL_SCALE_ARCSEC, flux, err)
    flux, err = np.where(is_limit, 0.0, flux), np.where(is_limit, limit / 5.0, err)
    kind = np.where(is_limit, UPPER_LIMIT, DETECTION)
    return Rows(np.stack([mjd, flux, err, total, total_err]), np.stack([bands, kind, exposures, bands]))


def _forced(columns_, mjd, exposures, bands):
    """Forced photometry as columns; -99999 stands for a fit that failed."""
    magnitudes, (counts, counts_err, reference_sigma, separation_arcsec) = columns_[:2], columns_[2:]
    if not len(mjd):
        return Rows(np.empty((5, 0)), np.empty((4, 0), np.int64))
    scale, reference = njy_of_count(_magnitudes(magnitudes))
    failed = (counts <= -99998.0) | ~(counts_err > 0)
    flux, err = np.where(failed, np.nan, counts * scale), np.where(failed, np.nan, counts_err * scale)
    total, total_err = _totals(reference, reference_sigma, separation_arcsec, flux, err)
    kind = np.full(len(mjd), FORCED)
    return Rows(np.stack([mjd, flux, err, total, total_err]), np.stack([bands, kind, exposures, bands]))


def _totals(reference_njy, reference_sigma, separation_arcsec, flux_njy, err_njy):
    """Flux on the science image [nJy]: of the reference source plus the difference, where that source is the object's own."""
    reference_err = reference_njy * LN10_OVER_2P5 * np.nan_to_num(reference_sigma)
    own = (separation_arcsec >= 0) & (separation_arcsec < REFERENCE_RADIUS_ARCSEC)
    total = np.where(own, reference_njy + flux_njy, np.nan)
    return total, np.where(np.isfinite(total), np.hypot(reference_err, err_njy), np.nan)
