"""Histories of a ZTF packet -> light curve: detections and upper limits mixed, forced photometry beside them."""

import numpy as np

from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT
from dgl_broker.photometry import LN10_OVER_2P5, mjd_tai_from_jd_utc, njy_of_count
from dgl_broker.surveys.history import Rows, light_curves, owners
from dgl_broker.surveys.values import columns, meanings, number, present
from dgl_broker.wire.histories import end_to_end

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


def read_curves(records):
    """(LightCurve, rows dropped) of each of many packets whose triggers are known to be usable."""
    candidates = [record["candidate"] for record in records]
    earlier = [present(record["prv_candidates"]) for record in records]
    forced = [present(record.get("fp_hists")) for record in records]
    sources = end_to_end([candidates, *earlier])
    detected = columns(sources, DETECTED)
    measured = columns(end_to_end(forced), MEASURED)
    signs = meanings(sources, "isdiffpos", sign, np.float64)
    n, n_detected = len(records), detected.shape[1]
    owner = np.concatenate([np.arange(n), owners(earlier), owners(forced)])
    times = np.concatenate([detected[:TIMES], measured[:TIMES]], axis=1)
    shared = _times(times[0], times[1]), _exposures(times[0], owner), _bands(times[2])
    numbers, labels = _candidates(detected[TIMES:], signs, *(part[:n_detected] for part in shared))
    forced_numbers, forced_labels = _forced(measured[TIMES:], *(part[n_detected:] for part in shared))
    numbers = np.concatenate([numbers, forced_numbers], axis=1)
    labels = np.concatenate([labels, forced_labels], axis=1)
    all_rows = np.ones(len(owner) - n, bool)
    history = Rows(numbers[:, n:], labels[:, n:], owner[n:], allowed=all_rows, counts=all_rows)
    return light_curves(numbers[:, :n], labels[:, :n], history)


def _times(jd, stated):
    """MJD TAI at mid-exposure of starts [JD UTC] and exposures as the packet states them, shape (n,)."""
    exposures = np.where((stated > 0) & (stated < LONGEST_EXPOSURE_S), stated, EXPOSURE_S)
    return mjd_tai_from_jd_utc(jd, exposures)


def _exposures(jd, owner):
    """A number for each row that rows of one alert at one time share: one exposure has one start, to rounding."""
    order = np.lexsort((jd, owner))
    starts = np.diff(jd[order], prepend=-np.inf) > SAME_EXPOSURE_D
    starts |= np.diff(owner[order], prepend=-1) > 0
    out = np.empty(len(jd), np.int64)
    out[order] = np.cumsum(starts)
    return out


def _bands(fid):
    """Index of the band, -1 for a filter that is none; shape (n,)."""
    known = (fid >= 1) & (fid < len(BAND_INDEX_OF_FID)) & (fid == np.floor(fid))
    return BAND_INDEX_OF_FID[np.where(known, fid, 0).astype(np.int64)]


def _magnitudes(mag):
    """Magnitudes, NaN for sentinels and other impossible values."""
    return np.where((mag > MAGNITUDES[0]) & (mag < MAGNITUDES[1]), mag, np.nan)


def _candidates(columns_, signs, mjd, exposures, bands):
    """Detections and upper limits as `Rows` has them: a row without magpsf is an upper limit at its diffmaglim."""
    magnitudes, (sigma, reference_sigma, separation_px) = columns_[:3], columns_[3:]
    is_limit = np.isnan(magnitudes[0])
    flux, limit, reference = njy_of_count(_magnitudes(magnitudes))  # a magnitude is the zero point of one count
    err = flux * LN10_OVER_2P5 * sigma
    flux = flux * np.where(signs == 0.0, np.nan, signs)
    total, total_err = _totals(reference, reference_sigma, separation_px * PIXEL_SCALE_ARCSEC, flux, err)
    flux, err = np.where(is_limit, 0.0, flux), np.where(is_limit, limit / 5.0, err)
    kind = np.where(is_limit, UPPER_LIMIT, DETECTION)
    return _rows((mjd, flux, err, total, total_err), (bands, kind, exposures, bands))


def _forced(columns_, mjd, exposures, bands):
    """Forced photometry as `Rows` has it; -99999 stands for a fit that failed."""
    magnitudes, (counts, counts_err, reference_sigma, separation_arcsec) = columns_[:2], columns_[2:]
    scale, reference = njy_of_count(_magnitudes(magnitudes))
    failed = (counts <= -99998.0) | ~(counts_err > 0)
    flux, err = np.where(failed, np.nan, counts * scale), np.where(failed, np.nan, counts_err * scale)
    total, total_err = _totals(reference, reference_sigma, separation_arcsec, flux, err)
    return _rows((mjd, flux, err, total, total_err), (bands, np.full(len(mjd), FORCED), exposures, bands))


def _rows(numbers, labels):
    return np.stack(numbers), np.stack(labels)


def _totals(reference_njy, reference_sigma, separation_arcsec, flux_njy, err_njy):
    """Flux on the science image [nJy]: of the reference source plus the difference, where that source is the object's own."""
    reference_err = reference_njy * LN10_OVER_2P5 * np.nan_to_num(reference_sigma)
    own = (separation_arcsec >= 0) & (separation_arcsec < REFERENCE_RADIUS_ARCSEC)
    total = np.where(own, reference_njy + flux_njy, np.nan)
    return total, np.where(np.isfinite(total), np.hypot(reference_err, err_njy), np.nan)
