"""Histories of a ZTF packet -> light curve: detections and upper limits mixed, forced photometry beside them."""

import numpy as np

from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT
from dgl_broker.photometry import flux_from_mag, mjd_tai_from_jd_utc, njy_of_count
from dgl_broker.surveys.history import Rows, merged
from dgl_broker.surveys.values import column

PIXEL_SCALE_ARCSEC = 1.012  # Dekany et al. 2020, PASP 132, 038001, table 1
EXPOSURE_S = 30.0  # Bellm et al. 2019, PASP 131, 018002; where the packet does not say
BAND_OF_FID = {1: "g", 2: "r", 3: "i"}
SIGN = {"t": 1.0, "1": 1.0, "f": -1.0, "0": -1.0, 1: 1.0, 0: -1.0}  # True and False are 1 and 0
MAGNITUDES = (-5.0, 35.0)  # sentinels (-999, -99999) and other nonsense lie outside
SAME_EXPOSURE_D = 1e-5  # d; exposures are 40 s (5e-4 d) apart at least
# The reference source is taken for the object's own host where it is this near: the survey's own radius for one object.
REFERENCE_RADIUS_ARCSEC = 1.5


def sign(isdiffpos):
    """+1, -1, or 0 for what is none of the spellings."""
    try:
        return SIGN.get(isdiffpos, 0.0)
    except TypeError:  # a list or dict
        return 0.0


def exposure_s(rows):
    """Exposures [s], shape (n,); 30 s where the packet does not say, or says 0 (schema 3.0)."""
    stated = column(rows, "exptime")
    return np.where((stated > 0) & (stated < 3600), stated, EXPOSURE_S)


def light_curve(record, candidate):
    """(LightCurve, rows dropped) of a packet whose trigger is known to be usable."""
    earlier = [row for row in record["prv_candidates"] or () if row is not None]
    forced = [row for row in record.get("fp_hists") or () if row is not None]
    jds = np.concatenate([[candidate["jd"]], column(earlier, "jd"), column(forced, "jd")])
    exposures = _exposures(jds)
    n = 1 + len(earlier)
    detected = _candidates([candidate, *earlier], exposures[:n], jds[:n])
    trigger, history = _split(detected)
    return merged(trigger, Rows.joined([history, _forced(forced, exposures[n:], jds[n:])]))


def _split(rows):
    """The first row, and the others."""
    parts = {name: getattr(rows, name) for name in Rows.__dataclass_fields__}
    return Rows(**{n: v[:1] for n, v in parts.items()}), Rows(**{n: v[1:] for n, v in parts.items()})


def _exposures(jd):
    """A number for each row that rows at one time share, int64: one exposure has one start, to rounding."""
    order = np.argsort(jd, kind="stable")
    starts = np.diff(jd[order], prepend=-np.inf) > SAME_EXPOSURE_D
    out = np.empty(len(jd), np.int64)
    out[order] = np.cumsum(starts)
    return out


def _bands(rows):
    index = {fid: BANDS.index(band) for fid, band in BAND_OF_FID.items()}
    fid = column(rows, "fid")
    out = np.full(len(rows), -1, np.int8)
    for number_, band in index.items():
        out[fid == number_] = band
    return out


def _magnitudes(rows, field):
    """A column of magnitudes, NaN for sentinels and other impossible values."""
    mag = column(rows, field)
    return np.where((mag > MAGNITUDES[0]) & (mag < MAGNITUDES[1]), mag, np.nan)


def _candidates(rows, exposures, jd):
    """Detections and upper limits as columns: a row without magpsf is an upper limit at its diffmaglim."""
    flux, err = flux_from_mag(_magnitudes(rows, "magpsf"), column(rows, "sigmapsf"))
    flux = flux * np.array([sign(row["isdiffpos"]) or np.nan for row in rows], float)
    is_limit = np.isnan(column(rows, "magpsf"))
    limit, _ = flux_from_mag(_magnitudes(rows, "diffmaglim"), 0.0)
    bands = _bands(rows)
    total, total_err = _totals(rows, column(rows, "distnr") * PIXEL_SCALE_ARCSEC, flux, err)
    return Rows(
        mjd_tai=mjd_tai_from_jd_utc(jd, exposure_s(rows)),
        band=bands,
        flux_njy=np.where(is_limit, 0.0, flux),
        flux_err_njy=np.where(is_limit, limit / 5.0, err),
        kind=np.where(is_limit, UPPER_LIMIT, DETECTION).astype(np.int8),
        total_njy=total,
        total_err_njy=total_err,
        exposure=exposures,
        detector=bands.astype(np.int64),
        allowed=np.ones(len(rows), bool),
        known=np.ones(len(rows), bool),
    )


def _forced(rows, exposures, jd):
    """Forced photometry as columns; -99999 stands for a fit that failed."""
    counts, counts_err = column(rows, "forcediffimflux"), column(rows, "forcediffimfluxunc")
    scale = njy_of_count(_magnitudes(rows, "magzpsci"))
    failed = (counts <= -99998.0) | ~(counts_err > 0)
    flux, err = np.where(failed, np.nan, counts * scale), np.where(failed, np.nan, counts_err * scale)
    total, total_err = _totals(rows, column(rows, "distnr"), flux, err)  # distnr is in arcsec here
    bands = _bands(rows)
    return Rows(
        mjd_tai=mjd_tai_from_jd_utc(jd, exposure_s(rows)),
        band=bands,
        flux_njy=flux,
        flux_err_njy=err,
        kind=np.full(len(rows), FORCED, np.int8),
        total_njy=total,
        total_err_njy=total_err,
        exposure=exposures,
        detector=bands.astype(np.int64),
        allowed=np.ones(len(rows), bool),
        known=np.ones(len(rows), bool),
    )


def _totals(rows, separation_arcsec, flux_njy, err_njy):
    """Flux on the science image [nJy]: of the reference source plus the difference, where that source is the object's own."""
    reference, reference_err = flux_from_mag(_magnitudes(rows, "magnr"), np.nan_to_num(column(rows, "sigmagnr")))
    own = (separation_arcsec >= 0) & (separation_arcsec < REFERENCE_RADIUS_ARCSEC)
    total = np.where(own, reference + flux_njy, np.nan)
    return total, np.where(np.isfinite(total), np.hypot(reference_err, err_njy), np.nan)
