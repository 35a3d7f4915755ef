"""The lens against lenstronomy, and the laws that images obey."""

import numpy as np
import pytest

from dgl_broker.sim.cosmology import time_delay_days_per_arcsec2
from dgl_broker.sim.lensing import Lens, draw_source_position, solve_images


def random_lenses(n, seed=3):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield Lens(rng.uniform(0.2, 1.6), *rng.normal(0, 0.13, 2), *rng.normal(0, 0.05, 2), 0.45), rng


@pytest.fixture(scope="module")
def model():
    from lenstronomy.LensModel.lens_model import LensModel

    return LensModel(["SIE", "SHEAR"])


def test_deflection_and_magnification_agree_with_lenstronomy(model):
    for lens, rng in random_lenses(6):
        x, y = rng.uniform(-2.0, 2.0, (2, 60))
        kwargs = lens.lenstronomy_kwargs()
        np.testing.assert_allclose(lens.source_plane(x, y), model.ray_shooting(x, y, kwargs), atol=1e-7)
        # lenstronomy softens its centre: inverse magnifications differ by 1e-5 near it.
        got, expected = 1 / lens.magnification(x, y), 1 / model.magnification(x, y, kwargs)
        np.testing.assert_allclose(got, expected, atol=2e-5, rtol=2e-5)


def test_delays_agree_with_lenstronomy(model):
    for lens, rng in random_lenses(6, seed=5):
        beta = rng.uniform(-0.1, 0.1, 2) * lens.theta_e
        images = solve_images(lens, *beta, 1.1)
        fermat = model.fermat_potential(images.x, images.y, lens.lenstronomy_kwargs(), *beta)
        expected = (fermat - fermat.min()) * time_delay_days_per_arcsec2(0.45, 1.1)
        np.testing.assert_allclose(images.delay_days, expected, atol=1e-4)


def test_images_map_back_to_their_source(model):
    for lens, rng in random_lenses(10, seed=7):
        beta = rng.uniform(-0.6, 0.6, 2) * lens.theta_e
        images = solve_images(lens, *beta, 1.0)
        assert len(images) >= 1
        back = model.ray_shooting(images.x, images.y, lens.lenstronomy_kwargs())
        np.testing.assert_allclose(back, np.repeat(beta[:, None], len(images), axis=1), atol=1e-6)


def test_isothermal_sphere_follows_the_textbook():
    """theta = beta +- theta_E, mu = 1 +- theta_E / beta (Schneider, Kochanek & Wambsganss 2006, eq. 40)."""
    lens = Lens(1.0, 0.0, 0.0, 0.0, 0.0, 0.5)
    images = solve_images(lens, 0.20, 0.15, 1.2)
    assert len(images) == 2
    along = images.x * 0.8 + images.y * 0.6
    order = np.argsort(along)
    np.testing.assert_allclose(along[order], [-0.75, 1.25], atol=2e-3)
    np.testing.assert_allclose(images.magnification[order], [-3.0, 5.0], rtol=1e-2)
    # The delay of an isothermal sphere is (theta_1^2 - theta_2^2) / 2 times the distance.
    expected = 0.5 * (1.25**2 - 0.75**2) * time_delay_days_per_arcsec2(0.5, 1.2)
    assert images.delay_days.max() == pytest.approx(expected, rel=2e-3)


def test_farther_image_of_a_double_comes_first():
    """The image on the source's side, farther from the lens, is the minimum of the arrival time."""
    images = solve_images(Lens(0.8, 0.05, 0.0, 0.0, 0.0, 0.4), 0.3, 0.05, 1.0)
    assert len(images) == 2
    radius = np.hypot(images.x, images.y)
    assert radius[0] > radius[1]
    assert images.delay_days[0] == 0.0 < images.delay_days[1]
    assert images.magnification[0] > 0 > images.magnification[1]  # the later one is a saddle


def test_source_far_outside_has_one_image():
    images = solve_images(Lens(0.6, 0.1, 0.05, 0.02, 0.0, 0.4), 1.5, 0.4, 1.0)
    assert len(images) == 1
    assert images.separation_arcsec == 0.0
    assert images.total_magnification == pytest.approx(1.0 + 0.6 / np.hypot(1.5, 0.4), rel=0.15)


def test_magnified_positions_are_uniform_in_the_source_plane():
    """Image-plane sampling gives the distribution of magnifications that plain rejection gives (KS, p > 1e-3)."""
    from scipy.stats import ks_2samp

    lens, needed = Lens(0.5, 0.1, 0.1, 0.03, 0.02, 0.35), 8.0
    rng = np.random.default_rng(11)
    fast = [draw_source_position(rng, lens, 0.9, needed) for _ in range(160)]
    fast = [place[2].total_magnification for place in fast if place is not None]
    slow = []
    while len(slow) < 120:
        radius, phi = 1.25 * lens.theta_e * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        images = solve_images(lens, radius * np.cos(phi), radius * np.sin(phi), 0.9)
        if len(images) > 1 and images.total_magnification >= needed:
            slow.append(images.total_magnification)
    assert len(fast) > 150
    assert ks_2samp(fast, slow).pvalue > 1e-3


def test_needed_magnification_is_reached():
    rng = np.random.default_rng(2)
    for needed in (0.0, 3.0, 40.0):
        place = draw_source_position(rng, Lens(0.4, 0.05, -0.1, 0.0, 0.04, 0.3), 0.8, needed)
        assert place[2].total_magnification >= needed and len(place[2]) > 1
