import numpy as np
import pytest
from astropy.time import Time

from dgl_broker.photometry import (
    flux_from_mag,
    jd_utc_from_mjd_tai,
    mag_from_flux,
    mjd_tai_from_jd_utc,
    njy_of_count,
)


def test_microjansky_is_ab_magnitude_23_90():
    # Oke & Gunn 1983: m_AB = -2.5 log10(f / Jy) + 8.90, so that 1 uJy is 23.90 and 3631 Jy is 0 (to 3e-4)
    flux, _ = flux_from_mag([23.9, 8.9, 0.0], 0.0)
    np.testing.assert_allclose(flux, [1e3, 1e9, 3631e9], rtol=3e-4)


def test_magnitude_error_of_a_tenth_is_nine_percent_of_flux():
    flux, err = flux_from_mag([19.0], [0.1])
    np.testing.assert_allclose(err / flux, 0.0921034, rtol=1e-6)  # 0.1 ln(10) / 2.5 by hand
    half_step = 0.5 * (flux_from_mag([18.9], 0)[0] - flux_from_mag([19.1], 0)[0])
    np.testing.assert_allclose(err, half_step, rtol=2e-3)  # by finite difference


def test_magnitudes_and_fluxes_are_inverse():
    mag = np.linspace(10, 30, 41)
    np.testing.assert_allclose(mag_from_flux(flux_from_mag(mag, 0.0)[0]), mag, rtol=0, atol=1e-12)


def test_flux_that_is_not_positive_has_no_magnitude():
    assert np.isnan(mag_from_flux([0.0, -5.0, np.nan])).all()


def test_magnitude_that_is_unknown_has_no_flux():
    assert np.isnan(flux_from_mag([np.nan], [0.1])).all()


def test_count_at_zero_point_31_4_is_a_nanojansky():
    np.testing.assert_allclose(njy_of_count([31.4, 26.4]), [1.0, 100.0], rtol=1e-12)
    assert np.isnan(njy_of_count(np.nan))


@pytest.mark.parametrize(
    "utc, tai_minus_utc",
    [("1998-12-31", 31), ("1999-01-01", 32), ("2012-06-30", 34), ("2012-07-01", 35), ("2016-12-31", 36), ("2017-01-01", 37)],
)
def test_leap_seconds_are_those_of_bulletin_c(utc, tai_minus_utc):
    jd = Time(utc, scale="utc").jd + 0.25
    assert (mjd_tai_from_jd_utc(jd) - (jd - 2400000.5)) * 86400 == pytest.approx(tai_minus_utc, abs=1e-4)


def test_clock_agrees_with_astropy():
    # Since 2017: on a day that ends with a leap second astropy's UTC day is stretched, by up to 1 s at its end
    jd = np.random.default_rng(1).uniform(2457754.5, 2462000.0, 500)
    ours = mjd_tai_from_jd_utc(jd)
    theirs = Time(jd, format="jd", scale="utc").tai.mjd
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)  # 0.1 ms: a double holds a JD to 40 us


def test_middle_of_a_30_s_exposure_is_52_s_later_by_the_tai_clock():
    assert (mjd_tai_from_jd_utc(2460000.75, 30.0) - 60000.25) * 86400 == pytest.approx(52.0, abs=1e-4)  # 37 + 15


def test_exposures_may_differ_by_row_and_unknown_times_stay_unknown():
    mid = mjd_tai_from_jd_utc(np.array([2460000.75, np.nan, 2460000.75]), np.array([30.0, 30.0, 240.0]))
    assert (mid[2] - mid[0]) * 86400 == pytest.approx(105.0, abs=1e-4)
    assert np.isnan(mid[1])


def test_clocks_are_inverse():
    mjd = np.random.default_rng(2).uniform(50000, 62000, 500)
    np.testing.assert_allclose(mjd_tai_from_jd_utc(jd_utc_from_mjd_tai(mjd, 30.0), 30.0), mjd, rtol=0, atol=1e-9)
    jd = jd_utc_from_mjd_tai(60000.25 + 52 / 86400, 30.0)
    assert jd == pytest.approx(2460000.75, abs=1e-9)
