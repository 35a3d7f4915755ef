"""Galaxies against the tables that they were fitted to, and against scaling relations."""

import numpy as np
import pytest

from dgl_broker.alert import BANDS
from dgl_broker.sim.galaxies import (
    Galaxy,
    copula,
    draw_field_galaxies,
    draw_field_stars,
    draw_host_galaxy,
    draw_lens_galaxy,
    galaxy_model,
    sersic_b,
)

G, R, I, Z = (BANDS.index(b) for b in "griz")


def test_model_that_ships_is_the_fit_to_the_tables(shared):
    from dgl_broker.sim.galaxy_fit import fit_galaxy_model

    fitted = fit_galaxy_model(shared / "data" / "sim")
    shipped = galaxy_model()
    for population in ("lens", "source", "star"):
        assert shipped[population]["variables"] == fitted[population]["variables"]
        np.testing.assert_allclose(shipped[population]["quantiles"], fitted[population]["quantiles"], atol=2e-4)
        np.testing.assert_allclose(shipped[population]["correlation"], fitted[population]["correlation"], atol=2e-3)
    np.testing.assert_allclose(shipped["spectra"]["early"], fitted["spectra"]["early"], rtol=2e-2)


def test_tables_of_every_configuration_are_pooled(shared):
    from dgl_broker.sim.galaxy_fit import pooled_tables

    pools = pooled_tables(shared / "data" / "sim")
    # simulation.md counts 1815 distinct lenses; rows that agree in all fitted columns are one galaxy here.
    assert 1500 < len(pools["lens"]["z"]) < 1900
    assert len(pools["source"]["z"]) > 3500 and len(pools["star"]["i"]) > 3000


def test_copula_reproduces_the_tables_marginals_and_colours():
    """Medians of config 3 in simulation.md section 1.2, all tables alike: lens z .50, i 19.5, sigma_v 230; source i 21.3."""
    lens = copula("lens").draw(np.random.default_rng(1), 20000)
    assert np.median(lens["z"]) == pytest.approx(0.50, abs=0.01)
    assert np.median(lens["i"]) == pytest.approx(19.5, abs=0.1)
    assert np.exp(np.median(lens["ln_sigma_v"])) == pytest.approx(230.0, abs=4.0)
    assert np.corrcoef(lens["z"], lens["r-i"])[0, 1] > 0.7  # the 4000 A break moves through r
    source = copula("source").draw(np.random.default_rng(2), 20000)
    assert np.median(source["i"]) == pytest.approx(21.3, abs=0.1)


def test_no_two_draws_are_the_same_galaxy():
    rows = copula("lens").draw(np.random.default_rng(1), 5000)
    assert len(np.unique(rows["i"])) == 5000


def test_lens_galaxy_has_the_red_sequence_colours_of_its_redshift():
    """DES luminous red galaxies (tables): g-r 1.86, r-i .71 at z = .48; r-i 1.01 at .62; and fainter when farther."""
    rng = np.random.default_rng(3)
    at = {z: np.array([draw_lens_galaxy(rng, z, 230.0, "des").magnitudes for _ in range(300)]) for z in (0.48, 0.62, 0.9)}
    colour = {z: np.median(-np.diff(mags, axis=1), axis=0) for z, mags in at.items()}
    assert colour[0.48][G] == pytest.approx(1.86, abs=0.1)
    assert colour[0.48][R] == pytest.approx(0.71, abs=0.07)
    assert colour[0.62][R] == pytest.approx(1.01, abs=0.07)
    assert np.median(at[0.9][:, I]) > np.median(at[0.62][:, I]) + 0.8


def test_luminosity_follows_dispersion():
    """Bernardi et al. (2003): the mean of M_r at given sigma falls by 0.78 x 0.84 / 0.107 = 6.1 mag per dex, scatter 0.53."""
    rng = np.random.default_rng(4)
    at = {s: np.array([draw_lens_galaxy(rng, 0.4, s, "lsst").absolute_r for _ in range(500)]) for s in (158.5, 300.0)}
    assert at[158.5].mean() - at[300.0].mean() == pytest.approx(6.12 * np.log10(300.0 / 158.5), abs=0.12)
    assert at[158.5].mean() == pytest.approx(-21.15 - 0.85 * 0.4, abs=0.08)
    assert at[300.0].std() == pytest.approx(0.525, rel=0.1)


def test_hosts_are_weighted_by_light():
    """Half of the light of a Schechter function of alpha = -1.05 comes from above 0.58 L*; M*_r = -21.2 - 0.9 z."""
    rng = np.random.default_rng(5)
    absolute = np.array([draw_host_galaxy(rng, 0.1, "lsst").absolute_r for _ in range(600)])
    assert np.median(absolute) == pytest.approx(-21.29 - 2.5 * np.log10(0.605), abs=0.2)


def test_events_follow_the_light():
    """Half of them inside the half-light radius, cut at 99 % of the light; elongated along the position angle."""
    rng = np.random.default_rng(6)
    for n in (1.0, 4.0):
        round_one = Galaxy(0.3, np.full(6, 20.0), 0.8, n, 0.0, 0.0)
        radius = np.hypot(*round_one.draw_offsets(rng, 20000).T)
        assert np.mean(radius < 0.8) == pytest.approx(0.5 / 0.99, abs=0.015)
    along_east = Galaxy(0.3, np.full(6, 20.0), 0.8, 1.0, 0.3, 0.0).draw_offsets(rng, 20000)
    q = 0.7 / 1.3
    assert along_east[:, 1].std() / along_east[:, 0].std() == pytest.approx(q, rel=0.03)


def test_sersic_b_of_textbooks():
    assert sersic_b(1.0) == pytest.approx(1.678, abs=1e-3)  # Graham & Driver 2005
    assert sersic_b(4.0) == pytest.approx(7.669, abs=1e-3)


def test_field_counts():
    """10 galaxies an arcmin^2 to i = 22.5 (Capak et al. 2007)."""
    rng = np.random.default_rng(7)
    number = np.mean([len(draw_field_galaxies(rng, 60.0, 22.5, "lsst")) for _ in range(60)])
    assert number == pytest.approx(40.0, rel=0.08)
    stars = [len(draw_field_stars(rng, 60.0, 21.0, b)[0]) for b in (80.0, 15.0) for _ in range(100)]
    assert np.mean(stars[100:]) > 2 * np.mean(stars[:100])
