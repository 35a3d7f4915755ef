"""Sources on difference stamps: Gaussians drawn by hand pass wherever in a pixel they lie, tracks one pixel wide do not."""

import numpy as np
import pytest

from dgl_broker.stamp_quality import measure
from dgl_broker.stamps import Stamp


def stamp(pixels, x0=31.0, y0=31.0):
    return Stamp(pixels.astype(np.float32), np.ones(pixels.shape, bool), np.eye(2), x0, y0)


def noise(seed, shape=(63, 63)):
    return np.random.default_rng(seed).normal(0.0, 1.0, shape)


def gaussian(x0, y0, sigma, shape=(63, 63)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("dx, dy", [(0.0, 0.0), (0.5, 0.0), (0.3, -0.4), (0.49, 0.49)])
def test_neighbours_of_a_bright_gaussian_follow_its_width_wherever_it_lies(dx, dy):
    found = measure(stamp(noise(1) * 0.01 + 1000 * gaussian(31 + dx, 31 + dy, 1.0)), "ztf")
    assert found.neighbours == pytest.approx(np.exp(-0.5), abs=0.01)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_negative_source_is_judged_as_a_positive_one(sign):
    image = sign * (noise(2) + 500 * gaussian(31, 31, 0.85))
    assert measure(stamp(image), "ztf") == measure(stamp(-image), "ztf")


def test_faint_sources_are_not_taken_for_tracks():
    for seed in range(200):
        found = measure(stamp(noise(seed) + 8 * gaussian(31.2, 30.7, 0.85)), "ztf")
        assert found.neighbours > 0.2


@pytest.mark.parametrize("angle", np.linspace(0, np.pi, 9))
def test_tracks_one_pixel_wide_have_nothing_beside_them(angle):
    image = noise(3)
    for step in np.linspace(-5, 5, 60):
        image[int(round(31 + step * np.sin(angle))), int(round(31 + step * np.cos(angle)))] = 150.0
    # Where a slanted track steps, one neighbour of two is lit: the other counts with 2 sigma of noise, sqrt(2 x 152) / 150.
    assert measure(stamp(image), "ztf").neighbours < 0.2


def test_two_sources_blended_are_wider_than_one():
    one = measure(stamp(noise(4) * 0.1 + 300 * gaussian(31, 31, 0.9)), "ztf")
    two = measure(stamp(noise(4) * 0.1 + 300 * gaussian(30.4, 31, 0.9) + 200 * gaussian(31.8, 31, 0.9)), "ztf")
    assert two.neighbours >= one.neighbours - 0.01
