"""Distances, dust and filters against astropy, the `extinction` package and published numbers."""

import numpy as np
import pytest

from dgl_broker.alert import BANDS
from dgl_broker.sim import cosmology
from dgl_broker.sim.bandpasses import Bandpass, bandpasses, pivots_angstrom
from dgl_broker.sim.dust import draw_milky_way_ebv, extinction_per_ebv, galactic_latitude_deg

REDSHIFTS = np.array([0.01, 0.3, 0.9, 2.5, 6.0])


@pytest.fixture(scope="module")
def reference():
    from astropy.cosmology import FlatLambdaCDM

    return FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0)


def test_distances_agree_with_astropy(reference):
    np.testing.assert_allclose(
        cosmology.luminosity_distance_mpc(REDSHIFTS), reference.luminosity_distance(REDSHIFTS).value, rtol=1e-5
    )
    np.testing.assert_allclose(
        cosmology.comoving_volume_per_z(REDSHIFTS), reference.differential_comoving_volume(REDSHIFTS).value, rtol=1e-5
    )
    np.testing.assert_allclose(
        cosmology.angular_distance_between_mpc(0.4, 1.2),
        reference.angular_diameter_distance(0.4, 1.2).value,
        rtol=1e-5,
    )


def test_einstein_radius_and_delay_scale_agree_with_lenstronomy(reference):
    from lenstronomy.Cosmo.lens_cosmo import LensCosmo

    other = LensCosmo(0.5, 1.3, reference)
    assert cosmology.einstein_radius_arcsec(230.0, 0.5, 1.3) == pytest.approx(other.sis_sigma_v2theta_E(230.0), rel=1e-5)
    assert cosmology.time_delay_days_per_arcsec2(0.5, 1.3) == pytest.approx(other.time_delay_units(1.0), rel=1e-5)


def test_source_in_front_of_the_lens_is_not_deflected():
    assert cosmology.einstein_radius_arcsec(250.0, 0.8, 0.5) == 0.0


def test_extinction_law_agrees_with_another_program():
    from extinction import ccm89

    wave = np.linspace(1200.0, 24000.0, 200)
    np.testing.assert_allclose(extinction_per_ebv(wave), ccm89(wave, 3.1, 3.1), rtol=1e-6)


def test_galactic_latitude_agrees_with_astropy():
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    ra, dec = np.array([0.0, 83.6, 266.4, 192.86]), np.array([-60.0, 22.0, -29.0, 27.13])
    expected = SkyCoord(ra * u.deg, dec * u.deg).galactic.b.deg
    np.testing.assert_allclose(galactic_latitude_deg(ra, dec), expected, atol=0.01)


def test_dust_is_thicker_towards_the_plane():
    rng = np.random.default_rng(1)
    pole, low = (np.median([draw_milky_way_ebv(rng, b) for _ in range(400)]) for b in (85.0, 12.0))
    assert 0.018 < pole < 0.032  # Schlafly & Finkbeiner 2011 at the poles
    assert low > 3.5 * pole


def test_flat_spectrum_has_magnitude_zero_in_every_band():
    """f_nu = 3631 Jy is AB magnitude 0 by definition, at any distance-free redshift once (1 + z) f_nu is kept."""
    wave = np.arange(1000.0, 25000.0, 5.0)
    flat = 3631e-23 * 2.99792458e18 / wave**2
    for survey in ("lsst", "ztf", "des"):
        for curve in bandpasses(survey).values():
            assert curve.weights(wave, 0.0) @ flat == pytest.approx(1.0, rel=2e-3)
            # Redshifted, the same spectrum has f_nu (1 + z) times as large.
            assert curve.weights(wave, 0.4) @ flat == pytest.approx(1.4, rel=2e-3)


def test_pivot_of_a_narrow_filter_is_its_wavelength():
    wave = np.linspace(4990.0, 5010.0, 21)
    assert Bandpass(wave, np.ones(21)).pivot_angstrom == pytest.approx(5000.0, abs=0.1)


def test_pivots_are_near_published_ones():
    # Rubin: docs of the throughputs v1.9 (3671 4827 6223 7546 8691 9712); ZTF: SVO mean wavelengths 4805 6437 7968.
    np.testing.assert_allclose(pivots_angstrom("lsst"), [3671, 4827, 6223, 7546, 8691, 9712], rtol=0.015)
    ztf = pivots_angstrom("ztf")[[BANDS.index(b) for b in "gri"]]
    np.testing.assert_allclose(ztf, [4805, 6437, 7968], rtol=0.015)
