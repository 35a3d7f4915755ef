"""Nights: dates by hand, from the surveys' own times of observing."""

import numpy as np
import pytest

from dgl_broker.nights import night_of, nights_of

# MJD of a UTC time by hand: 61000 is 2025-11-21 00:00 UTC (MJD 60000 is 2023-02-25); TAI is 37 s ahead.
TAI = 37.0 / 86400.0


@pytest.mark.parametrize(
    "survey, mjd_utc, night",
    [
        ("ztf", 61000.25, "2025-11-21"),  # 06:00 UTC over Palomar
        ("ztf", 60999.9999, "2025-11-20"),
        ("lsst", 61000.0 - 1 / 24, "2025-11-20"),  # 23:00 UTC: the evening at Cerro Pachon
        ("lsst", 61000.0 + 9 / 24, "2025-11-20"),  # 09:00 UTC: the same night's end
        ("lsst", 61000.5, "2025-11-21"),
    ],
)
def test_a_night_is_not_cut_in_two(survey, mjd_utc, night):
    assert night_of(survey, mjd_utc + TAI) == night


def test_the_clock_is_utc_and_not_tai():
    # 20 s before midnight UTC is past midnight TAI.
    assert night_of("ztf", 61000.0 + (37.0 - 20.0) / 86400.0) == "2025-11-20"


def test_times_beyond_the_calendar_have_no_night():
    assert night_of("lsst", None) == night_of("lsst", float("nan")) == night_of("lsst", 1.48e9) == "unknown"
    assert nights_of("ztf", np.array([61000.25, np.inf])).tolist() == ["2025-11-21", "unknown"]
