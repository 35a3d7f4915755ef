"""Units: magnitudes, zero points and clocks to nJy and MJD TAI, and back."""

from bisect import bisect_right
from functools import cache

import numpy as np

AB_ZERO_POINT_NJY = 31.4  # mag of 1 nJy: 8.90 + 2.5 log10(1e9), Oke & Gunn 1983, doi:10.1086/160817
LN10_OVER_2P5 = 0.4 * np.log(10.0)
MJD_OF_JD = 2400000.5
SECONDS_A_DAY = 86400.0


def flux_from_mag(mag, mag_err):
    """AB magnitudes as flux in nJy (Oke & Gunn 1983, doi:10.1086/160817).

    Parameters
    ----------
    mag, mag_err : array, shape (n,)
        AB magnitude and its 1-sigma uncertainty [mag].

    Returns
    -------
    flux_njy, flux_err_njy : array, shape (n,), float64
        Errors to first order, so trust them only for mag_err < 0.2. NaN where a magnitude is.
    """
    flux = 10.0 ** (0.4 * (AB_ZERO_POINT_NJY - np.asarray(mag, float)))
    return flux, flux * LN10_OVER_2P5 * np.asarray(mag_err, float)


def mag_from_flux(flux_njy):
    """AB magnitude of flux in nJy; NaN where the flux is not positive."""
    flux = np.asarray(flux_njy, float)
    return AB_ZERO_POINT_NJY - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def njy_of_count(zero_point_mag):
    """nJy of one count on an image whose AB zero point is `zero_point_mag`."""
    return 10.0 ** (0.4 * (AB_ZERO_POINT_NJY - np.asarray(zero_point_mag, float)))


def _leap_seconds():
    """TAI - UTC [s] against MJD UTC, from the built-in table of ERFA, astropy's core (IERS Bulletin C); no network.

    By itself: astropy's own door to that table takes a second and 35 MB in the first alert of every worker (measured).
    """
    import erfa

    table = erfa.leap_seconds.get()
    starts = erfa.cal2jd(table["year"], table["month"], 1)[1]
    return np.asarray(starts, float), np.asarray(table["tai_utc"], float)


@cache
def _leap():
    """`_leap_seconds` as arrays, and as lists for single times."""
    starts, offsets = _leap_seconds()
    return starts, offsets, starts.tolist(), offsets.tolist()


def mjd_tai_from_jd_utc(jd_utc, exposure_s=0.0):
    """JD UTC at the start of an exposure as MJD TAI at its middle.

    Parameters
    ----------
    jd_utc : array or float
        Start of exposure [JD, UTC].
    exposure_s : array or float
        Length of the exposure [s].
    """
    starts, offsets, starts_list, offsets_list = _leap()
    if isinstance(jd_utc, float) and isinstance(exposure_s, float):
        mjd = jd_utc - MJD_OF_JD
        return mjd + (offsets_list[max(bisect_right(starts_list, mjd) - 1, 0)] + 0.5 * exposure_s) / SECONDS_A_DAY
    mjd = np.asarray(jd_utc, float) - MJD_OF_JD
    tai_utc = offsets[np.clip(np.searchsorted(starts, mjd, side="right") - 1, 0, None)]
    return mjd + (tai_utc + 0.5 * np.asarray(exposure_s, float)) / SECONDS_A_DAY


def jd_utc_from_mjd_tai(mjd_tai, exposure_s=0.0):
    """The inverse of `mjd_tai_from_jd_utc`, exact but within a leap second itself."""
    mjd_tai = np.asarray(mjd_tai, float)
    guess = mjd_tai + MJD_OF_JD - 37.0 / SECONDS_A_DAY
    return guess - (mjd_tai_from_jd_utc(guess, exposure_s) - mjd_tai)
