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
    (found,) = measure([stamp(noise(1) * 0.01 + 1000 * gaussian(31 + dx, 31 + dy, 1.0))], "ztf")
    assert found.neighbours == pytest.approx(np.exp(-0.5), abs=0.01)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_negative_source_is_judged_as_a_positive_one(sign):
    image = sign * (noise(2) + 500 * gaussian(31, 31, 0.85))
    one, other = measure([stamp(image), stamp(-image)], "ztf")
    assert one == other


def test_faint_sources_are_not_taken_for_tracks():
    found = measure([stamp(noise(seed) + 8 * gaussian(31.2, 30.7, 0.85)) for seed in range(200)], "ztf")
    assert min(one.neighbours for one in found) > 0.2


@pytest.mark.parametrize("angle", np.linspace(0, np.pi, 9))
def test_tracks_one_pixel_wide_have_nothing_beside_them(angle):
    image = noise(3)
    for step in np.linspace(-5, 5, 60):
        image[int(round(31 + step * np.sin(angle))), int(round(31 + step * np.cos(angle)))] = 150.0
    # Where a slanted track steps, one neighbour of two is lit: the other counts with 2 sigma of noise, sqrt(2 x 152) / 150.
    (found,) = measure([stamp(image)], "ztf")
    assert found.neighbours < 0.2


def test_two_sources_blended_are_wider_than_one():
    alone = noise(4) * 0.1 + 300 * gaussian(31, 31, 0.9)
    blend = noise(4) * 0.1 + 300 * gaussian(30.4, 31, 0.9) + 200 * gaussian(31.8, 31, 0.9)
    one, two = measure([stamp(alone), stamp(blend)], "ztf")
    assert two.neighbours >= one.neighbours - 0.01


@pytest.mark.parametrize("survey", ["lsst", "ztf"])
def test_quality_is_what_its_definition_says_and_the_same_in_any_company(survey):
    sigma_px = {"lsst": 0.8 / 0.2 / 2.355, "ztf": 2.0 / 1.01 / 2.355}[survey]
    y, x = np.mgrid[-3:4, -3:4]
    kernel = np.exp(-0.5 * (x * x + y * y) / sigma_px**2)
    kernel /= np.sqrt((kernel**2).sum())
    images = [noise(seed) + 30 * gaussian(30 + seed % 3, 31, 1.2) for seed in range(20)]
    images += [np.zeros((63, 63)), noise(20) * 1e-30, -images[0]]
    places = [(31.0, 31.0)] * (len(images) - 1) + [(80.0, 31.0)]
    stamps = [stamp(image, *place) for image, place in zip(images, places, strict=True)]
    found = measure(stamps, survey)
    assert found == [one for alone in stamps for one in measure([alone], survey)]
    assert found[20] is None and found[22] is None
    for image, one in zip(images[:20], found, strict=False):
        level = np.median(image)
        sigma = 1.4826 * np.median(np.abs(image - level))
        cut = image - level
        filtered = [(cut[28 + dy : 35 + dy, 28 + dx : 35 + dx] * kernel).sum() for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        assert one.snr == pytest.approx(np.abs(filtered).max() / sigma, rel=1e-4)
        core = np.abs(cut[28:35, 28:35])
        py, px = (int(k) + 28 for k in np.unravel_index(core.argmax(), core.shape))
        around = cut[py - 1 : py + 2, px - 1 : px + 2] * np.sign(cut[py, px])
        assert one.sharpness == pytest.approx(around[1, 1] / around.clip(0).sum(), rel=1e-4)


def test_a_stamp_whose_noise_is_next_to_nothing_shows_no_source():
    pixels = (noise(3) * 1e-43).astype(np.float32)  # subnormal: a signal over it is beyond float32
    pixels[31, 31] = 1e6
    assert measure([stamp(pixels)], "ztf") == [None]
