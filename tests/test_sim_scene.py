"""Static images: flux, alignment, and lenstronomy's ray-shooting."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dgl_broker.sim.galaxies import Galaxy
from dgl_broker.sim.lensing import Lens
from dgl_broker.sim.scene import Grid, Scene, SersicProfile, galaxy_map, lensed_galaxy_map, point_map

MAGS = np.full(6, 20.0)
NO_DUST = np.zeros(6)


@pytest.mark.parametrize(("n", "radius"), [(0.7, 0.8), (1.0, 0.5), (1.0, 0.15), (4.0, 0.5), (4.0, 0.2)])
@pytest.mark.parametrize("scale", [0.2, 1.01])
def test_galaxy_keeps_its_flux(n, radius, scale):
    galaxy = Galaxy(0.5, MAGS, radius, n, 0.1, -0.15, east=0.03, north=-0.07)
    side = 401 if n > 2 and scale < 1 else 121
    assert galaxy_map(Grid(side, scale), galaxy).sum() == pytest.approx(1.0, abs=0.012)


def test_sersic_encloses_half_its_light_in_the_half_light_radius():
    from scipy.integrate import quad

    for n in (1.0, 4.0):
        profile = SersicProfile(Galaxy(0.5, MAGS, 1.0, n, 0.0, 0.0))
        inside = quad(lambda r, p=profile: 2 * np.pi * r * float(p(np.array(r), np.array(0.0))), 0.0, 1.0)[0]
        assert inside == pytest.approx(0.5, abs=1e-4)


def centroid(image, scale):
    half = 0.5 * (image.shape[0] - 1)
    axis = (np.arange(image.shape[0]) - half) * scale
    return (image.sum(axis=0) @ axis) / image.sum(), (image.sum(axis=1) @ axis) / image.sum()


@pytest.mark.parametrize("side", [30, 31, 45, 46])
def test_nothing_is_half_a_pixel_off(side):
    """A round galaxy at (0.11, -0.07) arcsec has its centroid there, on odd and even grids."""
    grid = Grid(side, 0.2)
    galaxy = Galaxy(0.5, MAGS, 0.35, 1.0, 0.0, 0.0, east=0.11, north=-0.07)
    np.testing.assert_allclose(centroid(galaxy_map(grid, galaxy), 0.2), (0.11, -0.07), atol=2e-3)
    np.testing.assert_allclose(centroid(point_map(grid, 0.11, -0.07), 0.2), (0.11, -0.07), atol=1e-9)


def test_columns_grow_east_and_rows_grow_north():
    image = point_map(Grid(21, 0.2), 1.0, 0.4)
    assert np.unravel_index(image.argmax(), image.shape) == (12, 15)


@pytest.mark.parametrize(("side", "scale", "oversampling"), [(45, 0.2, 20), (21, 1.01, 60)])
def test_arcs_agree_with_lenstronomy(side, scale, oversampling):
    """After a PSF of FWHM 0.7" (LSST) or 2" (ZTF) to 1e-3 of the peak; the total to 1e-3."""
    from lenstronomy.Data.pixel_grid import PixelGrid
    from lenstronomy.Data.psf import PSF
    from lenstronomy.ImSim.image_model import ImageModel
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.light_model import LightModel

    lens = Lens(0.8, 0.1, 0.05, 0.03, -0.02, 0.4)
    source = Galaxy(1.0, MAGS, 0.3, 1.5, 0.1, 0.2, east=0.15, north=0.1)
    profile = SersicProfile(source)
    corner = -0.5 * (side - 1) * scale
    image_model = ImageModel(
        PixelGrid(side, side, np.eye(2) * scale, corner, corner), PSF("NONE"), LensModel(["SIE", "SHEAR"]),
        LightModel(["SERSIC_ELLIPSE"]), kwargs_numerics={"supersampling_factor": oversampling},
    )  # fmt: skip
    light = {"amp": profile.norm * np.exp(-profile.b), "R_sersic": 0.3, "n_sersic": 1.5, "e1": 0.1, "e2": 0.2,
             "center_x": 0.15, "center_y": 0.1}  # fmt: skip
    expected = image_model.image(lens.lenstronomy_kwargs(), [light])
    got = lensed_galaxy_map(Grid(side, scale), lens, source)
    width = (0.7 if scale < 1 else 2.0) / 2.355 / scale
    seen, wanted = gaussian_filter(got, width), gaussian_filter(expected, width)
    assert np.abs(seen - wanted).max() < 1e-3 * wanted.max()
    assert got.sum() == pytest.approx(expected.sum(), rel=1e-3)


def test_scene_sums_its_components_and_dust_dims_them():
    galaxy = Galaxy(0.4, MAGS, 0.4, 1.0, 0.0, 0.0)
    clear = Scene([galaxy], NO_DUST, stars=np.array([[1.0, 1.0]]), star_magnitudes=MAGS[None])
    image = clear.image_njy("gr", 81, 0.2)
    # 20 mag is 10^(0.4 (31.4 - 20)) = 36308 nJy, twice.
    np.testing.assert_allclose(image.sum(axis=(1, 2)), 2 * 36307.8, rtol=5e-3)
    dusty = Scene([galaxy], np.array([0, 1.0, 0.5, 0, 0, 0]), stars=clear.stars, star_magnitudes=clear.star_magnitudes)
    ratio = dusty.image_njy("gr", 81, 0.2).sum(axis=(1, 2)) / image.sum(axis=(1, 2))
    np.testing.assert_allclose(-2.5 * np.log10(ratio), [1.0, 0.5], atol=1e-5)


def test_band_order_and_cache():
    mags = np.array([24.0, 23.0, 22.0, 21.0, 20.0, 19.0])
    scene = Scene([Galaxy(0.4, mags, 0.4, 1.0, 0.0, 0.0)], NO_DUST)
    both = scene.image_njy("gz", 31, 0.2)
    assert both.dtype == np.float32
    np.testing.assert_allclose(both[1] / both[0], 10 ** (0.4 * 3.0), rtol=1e-4)
    assert scene.image_njy("gz", 31, 0.2) is both
    np.testing.assert_array_equal(scene.image_njy("zg", 31, 0.2)[::-1], both)


def test_source_magnification_matches_the_image():
    lens = Lens(0.7, 0.1, 0.0, 0.0, 0.03, 0.4)
    source = Galaxy(1.0, MAGS, 0.25, 1.0, 0.0, 0.1, east=0.2, north=-0.1)
    scene = Scene([], NO_DUST, lens, source)
    total = lensed_galaxy_map(Grid(121, 0.1), lens, source).sum()
    assert scene.source_magnification() == pytest.approx(total, rel=0.03)
