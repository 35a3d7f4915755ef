"""Nights, for rates and caps: the UTC date for ZTF, and the date twelve hours earlier for Rubin, so that none is cut in two."""

import numpy as np

from dgl_broker.photometry import MJD_OF_JD, jd_utc_from_mjd_tai

# Cerro Pachon's nights run from 23 h to 10 h UTC, across the date; Palomar's from 2 h to 14 h, within it.
SHIFT_DAYS = {"lsst": -0.5, "ztf": 0.0}
_MJD_EPOCH = np.datetime64("1858-11-17")  # MJD 0
UNKNOWN = "unknown"  # night of an alert whose time is beyond the calendar


def night_of(survey, mjd_tai):
    """The night of one alert: `2026-11-22`; `unknown` where it has no time on the calendar.

    Parameters
    ----------
    survey : "lsst" or "ztf"
    mjd_tai : float or None
        Mid-exposure [MJD TAI].
    """
    return UNKNOWN if mjd_tai is None else str(nights_of(survey, [mjd_tai])[0])


def nights_of(survey, mjd_tai):
    """The nights of many alerts of one survey, as an array of text."""
    mjd = np.asarray(mjd_tai, float)
    # 1900 to 2500: beyond, text of a date has other lengths, and no survey's packet is meant.
    sound = np.isfinite(mjd) & (mjd > 15020.0) & (mjd < 234165.0)
    utc = jd_utc_from_mjd_tai(np.where(sound, mjd, 60000.0)) - MJD_OF_JD
    days = np.floor(utc + SHIFT_DAYS[survey]).astype(np.int64)
    dates = (_MJD_EPOCH + days.astype("timedelta64[D]")).astype(str)
    return np.where(sound, dates, UNKNOWN)
