"""Resampling to the north-up grid: flux, place, handedness, masks, company."""

import numpy as np
import pytest
from make_alerts import gaussian

from dgl_broker.north_up import place_north_up


def rotated(angle_deg, flip=False, scale=0.2):
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    matrix = scale * np.array([[-c, s], [s, c]])
    return matrix @ np.diag([-1.0, 1.0]) if flip else matrix


def place(image, matrix, x0, y0, side=30, scale=0.2, valid=None):
    valid = np.ones(image.shape, bool) if valid is None else valid
    out, good = place_north_up(
        image[None, None].astype(np.float32), valid[None, None], matrix[None], np.array([[x0, y0]]), side, scale
    )
    return out[0, 0], good[0, 0]


def scene(side, matrix, x0, y0, sources, sigma_arcsec=0.35):
    """Point sources at (east, north, flux) seen on a grid, per pixel by its centre."""
    y, x = np.mgrid[:side, :side]
    east = matrix[0, 0] * (x - x0) + matrix[0, 1] * (y - y0)
    north = matrix[1, 0] * (x - x0) + matrix[1, 1] * (y - y0)
    area = abs(np.linalg.det(matrix))
    image = np.zeros((side, side))
    for e, n, flux in sources:
        image += (
            flux * area / (2 * np.pi * sigma_arcsec**2) * np.exp(-0.5 * ((east - e) ** 2 + (north - n) ** 2) / sigma_arcsec**2)
        )
    return image


SOURCES = [(0.0, 0.0, 1000.0), (0.9, 0.3, 400.0), (-0.4, -1.1, 250.0)]  # no symmetry at all


@pytest.mark.parametrize("angle", [0, 6, 57, 90, 134, 180, -142])
@pytest.mark.parametrize("flip", [False, True])
def test_a_rotated_or_mirrored_stamp_shows_the_same_sky(angle, flip):
    matrix = rotated(angle, flip)
    north_up = scene(30, rotated(0), 14.5, 14.5, SOURCES)
    placed, good = place(scene(30, matrix, 14.2, 15.1, SOURCES), matrix, 14.2, 15.1)
    # Cubic convolution errs most at half-pixel shifts: 1.3 % of the peak for a PSF of 4 px FWHM.
    assert np.abs(placed - north_up)[good].max() < 0.015 * north_up.max()
    assert placed.sum() == pytest.approx(north_up.sum(), rel=2e-3)


def test_rows_grow_north_and_columns_west():
    east_of_centre, _ = place(scene(30, rotated(57), 14.5, 14.5, [(1.0, 0.0, 1.0)]), rotated(57), 14.5, 14.5)
    north_of_centre, _ = place(scene(30, rotated(57), 14.5, 14.5, [(0.0, 1.0, 1.0)]), rotated(57), 14.5, 14.5)
    assert np.unravel_index(east_of_centre.argmax(), (30, 30))[1] < 14
    assert np.unravel_index(north_of_centre.argmax(), (30, 30))[0] > 15


def test_flux_is_kept_when_the_scale_changes():
    matrix = rotated(20, scale=0.26)
    placed, _ = place(scene(30, matrix, 14.5, 14.5, [(0, 0, 1000.0)]), matrix, 14.5, 14.5)
    assert placed.sum() == pytest.approx(1000.0, rel=3e-3)


def test_a_grid_that_coincides_is_copied_exactly():
    image = gaussian(63, 31, 31)
    placed, good = place(image, np.array([[-1.012, 0], [0, 1.012]]), 31, 31, side=31, scale=1.012)
    assert np.array_equal(placed, image[16:47, 16:47]) and good.all()


def test_masked_pixels_spread_only_to_their_neighbours():
    valid = np.ones((30, 30), bool)
    valid[10, 12] = False
    image = scene(30, rotated(0), 14.5, 14.5, SOURCES)
    image[10, 12] = 1e9
    placed, good = place(image, rotated(0), 14.3, 14.5, valid=valid)
    assert (~good).sum() <= 4 + 30  # two columns of one row, and the column that the shift leaves empty
    assert np.abs(placed).max() < 100


def test_company_changes_no_bit():
    rng = np.random.default_rng(4)
    images = rng.normal(size=(33, 2, 30, 30)).astype(np.float32)
    valid = np.ones(images.shape, bool)
    valid[5, 0, 3:6, 4] = False
    matrices = np.stack([rotated(a, bool(a % 2)) for a in range(33)])
    origins = rng.uniform(13, 16, (33, 2))
    whole, good = place_north_up(images, valid, matrices, origins, 30, 0.2)
    for n in (0, 5, 32):
        one, one_good = place_north_up(images[n : n + 1], valid[n : n + 1], matrices[n : n + 1], origins[n : n + 1], 30, 0.2)
        assert np.array_equal(one[0], whole[n]) and np.array_equal(one_good[0], good[n])
