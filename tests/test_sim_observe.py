"""Images and photometry of the survey side, against independent ways to get the same numbers."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from sim_toys import Steady, system

from dgl_broker.sim.association import associate, find_peaks
from dgl_broker.sim.campaign import run_campaign, source_fluxes
from dgl_broker.sim.observe import Sky
from dgl_broker.sim.psf import overlap, pixel_psf, transfer
from dgl_broker.sim.visits import observe_visits

QUIET = {"scale_error": 0.0, "shift": (0.0, 0.0), "width_error": 0.0}


def _visits(n=12, depth=24.0, seed=0, survey="lsst", **changes):
    rng = np.random.default_rng(seed)
    bands = np.arange(n) % 4 + 1 if survey == "lsst" else np.arange(n) % 3 + 1
    visits = observe_visits(survey, 61000.0 + 3.0 * np.arange(n), bands, np.full(n, depth), rng)
    for name, value in changes.items():
        setattr(visits, name, np.broadcast_to(value, n).copy())
    return visits


def _sky(chosen, visits):
    return Sky(chosen, visits, *source_fluxes(chosen, visits))


@pytest.mark.parametrize("beta", [2.5, 3.5, 4.5])
def test_transfer_function_is_the_profiles_transform(beta):
    # By a discrete transform of the finely sampled profile: 0.1 px steps, FWHM 4 px.
    at = np.arange(-400, 400) * 0.1
    a = 2.0 / np.sqrt(2 ** (1 / beta) - 1)
    profile = (1 + (at[None] ** 2 + at[:, None] ** 2) / a**2) ** -beta * (beta - 1) / (np.pi * a**2) * 0.01
    for f in (0.05, 0.12, 0.2):
        direct = np.sum(profile * np.cos(2 * np.pi * f * at[None]))
        assert transfer(np.array([2 * np.pi * a * f]), beta)[0] == pytest.approx(direct, abs=2e-3)


def test_overlap_is_what_a_fit_reads_of_a_neighbour():
    at = np.arange(-40.0, 41.0)
    psf = pixel_psf(at, at, 5.0, 3.5)
    other = pixel_psf(at - 3.0, at, 5.0, 3.5)
    # 2 %: the table has no pixels.
    assert overlap(3.0 / 5.0, 3.5) == pytest.approx(np.sum(psf * other) / np.sum(psf**2), rel=0.02)


@pytest.mark.parametrize("survey", ["lsst", "ztf"])
def test_stamp_of_a_gaussian_galaxy_is_galaxy_times_psf(survey):
    chosen = system(galaxies=((0.7, -0.4, 50000.0, 0.5),), places=())
    rotation = [0.3, 1.9, 3.5, 5.0] if survey == "lsst" else 0.0
    visits = _visits(4, survey=survey, rotation=rotation, e1=0.05, e2=-0.08)
    sky = _sky(chosen, visits)
    for i in range(4):
        patch = sky.render(i, -15.2, -14.6, 30, 30, np.random.default_rng(0), **QUIET)
        noise_free = patch.science - patch.noise - patch.deep_noise
        # Direct sum over the galaxy as 4000 points, each a pixel-integrated PSF.
        rng = np.random.default_rng(1)
        n = 4000
        east, north = 0.7 + 0.5 * rng.standard_normal(n), -0.4 + 0.5 * rng.standard_normal(n)
        x, y = sky.to_pixel(i, east, north)
        direct = sum(sky.psf(i, patch.x - a, patch.y - b) for a, b in zip(x, y)) * 50000.0 / n
        # 3 % of the peak: Monte-Carlo error of 4000 points.
        assert np.max(np.abs(noise_free - direct)) < 0.03 * direct.max()
        assert noise_free.sum() == pytest.approx(direct.sum(), rel=0.01)


def test_pixel_axes_have_the_skys_parity_and_turn_with_the_visit():
    sky = _sky(system(), _visits(6))
    for i in range(6):
        (ex, ey), (nx, ny) = sky.pixel_axes(i)
        assert ex * ny - ey * nx == pytest.approx(-(0.2**2))  # east to the left when north is up
        assert np.hypot(ex, nx) == pytest.approx(0.2)
        x, y = sky.to_pixel(i, 1.1, -0.7)
        assert sky.to_sky(i, x, y) == pytest.approx((1.1, -0.7))


@pytest.mark.parametrize("survey", ["lsst", "ztf"])
def test_static_photometry_is_the_fit_to_the_image(survey):
    chosen = system(galaxies=((0.2, 0.1, 80000.0, 0.4),), places=((0.9, -0.3),))
    visits = _visits(8, survey=survey)
    sky = _sky(chosen, visits)
    for i in range(8):
        patch = sky.render(i, -25.3, -25.8, 51, 51, np.random.default_rng(0), **QUIET)
        change = sky.point_sources(i, sky.change[:, i], patch.x, patch.y)
        image = patch.science - patch.noise - patch.deep_noise - change
        x, y = sky.to_pixel(i, 0.9, -0.3)
        psf = sky.psf(i, patch.x - x, patch.y - y)
        one = np.array([i]), np.array([0.9]), np.array([-0.3])
        flux, _, _, _, weighted = sky.static_at(*one)
        # ZTF's large pixels: the noise area is approximate below 2 px, and the square is taken before the pixel, not after.
        close, of_noise = (0.01, 0.01) if survey == "lsst" else (0.03, 0.06)
        assert flux[0] == pytest.approx(np.sum(image * psf) / np.sum(psf**2), rel=close)
        assert weighted[0] == pytest.approx(np.sum(image * psf**2) / np.sum(psf**2), rel=of_noise)


def test_noise_has_the_stated_variance_and_a_white_difference():
    chosen = system(galaxies=(), places=())
    sky = _sky(chosen, _visits(40))
    pulls, templates, neighbours = [], [], []
    for i in range(40):
        patch = sky.render(i, 0.0, 0.0, 40, 40, np.random.default_rng(i), **QUIET)
        pulls.append(patch.difference / np.sqrt(patch.difference_variance))
        templates.append(patch.template / np.sqrt(patch.template_variance))
        neighbours.append(np.mean(pulls[-1][:, 1:] * pulls[-1][:, :-1]))
    # 64,000 pixels: the variance is known to 0.6 %.
    assert np.var(pulls) == pytest.approx(1.0, abs=0.02)
    assert np.var(templates) == pytest.approx(1.0, abs=0.02)
    assert abs(np.mean(neighbours)) < 0.01
    warped = np.array(templates)
    # Real template stamps have a correlation of a quarter between neighbours.
    assert np.mean(warped[..., 1:] * warped[..., :-1]) == pytest.approx(0.25, abs=0.03)


def test_difference_has_no_static_residual_but_for_the_visits_errors():
    chosen = system(galaxies=((0.0, 0.0, 300000.0, 0.4),), places=())
    sky = _sky(chosen, _visits(4))
    patch = sky.render(0, -15.0, -15.0, 30, 30, np.random.default_rng(0), **QUIET)
    assert np.allclose(patch.difference, patch.noise)
    shifted = sky.render(0, -15.0, -15.0, 30, 30, np.random.default_rng(0), scale_error=0.0, shift=(0.02, 0.0), width_error=0.0)
    residual = shifted.difference - shifted.noise
    # A scene moved by 0.02" to the east against its template: what is left is minus that times the slope.
    coordinates = np.mgrid[:30, :30].astype(float)
    dx, dy = sky.to_pixel(0, 0.02, 0.0)
    scene = patch.science - patch.noise - patch.deep_noise
    coordinates += np.array([dy, dx])[:, None, None]
    moved = scene - map_coordinates(scene, coordinates, order=3, mode="nearest")
    inner = slice(4, -4)
    assert np.max(np.abs(residual[inner, inner] - moved[inner, inner])) < 0.05 * np.max(np.abs(moved))


@pytest.mark.parametrize("separation, peaks", [(0.5, 1), (0.95, 1), (1.5, 2)])
def test_equal_images_merge_within_1p2_fwhm(separation, peaks):
    # Sparrow's limit of two Gaussians is 2 sigma; PSF and matched filter have sqrt(2) FWHM / 2.355 together, so 1.2 FWHM.
    fwhm = 1.0
    offset = np.array([[[-separation / 2, 0.0]], [[separation / 2, 0.0]]])
    ends = find_peaks(np.array([[1.0], [1.0]]), offset, np.array([np.sqrt(2) * fwhm / 2.355]))
    apart = np.linalg.norm(ends[0, 0] - ends[1, 0])
    assert (1 if apart < 0.15 else 2) == peaks


def test_sources_of_opposite_sign_do_not_merge():
    offset = np.array([[[-0.2, 0.0]], [[0.2, 0.0]]])
    ends = find_peaks(np.array([[1.0], [-1.0]]), offset, np.array([0.6]))
    assert ends[0, 0, 0] == pytest.approx(-0.2, abs=1e-6) and ends[1, 0, 0] == pytest.approx(0.2, abs=1e-6)


def test_wide_lens_becomes_two_objects_with_a_light_curve_each():
    wide = system(places=((1.3, 0.0), (-0.9, 0.3)), peaks_njy=(20000.0, 12000.0), delays_days=(0.0, 25.0))
    objects = run_campaign(wide, "lsst", _visits(30)).objects
    assert len(objects) == 2
    for o, (east, north) in zip(sorted(objects, key=lambda o: -o.places[-1][0]), ((1.3, 0.0), (-0.9, 0.3))):
        assert np.hypot(o.places[-1][0] - east, o.places[-1][1] - north) < 0.15
        assert len(o.detections) > 5


def test_narrow_lens_is_one_object_at_the_flux_weighted_place():
    narrow = system(places=((0.25, 0.0), (-0.25, 0.0)), peaks_njy=(20000.0, 20000.0))
    objects = run_campaign(narrow, "lsst", _visits(12)).objects
    assert len(objects) == 1
    assert np.hypot(*objects[0].places[-1]) < 0.1
    assert {d.n_merged for d in objects[0].detections} == {2}


def test_source_that_fades_below_its_template_is_negative():
    fading = system(variability=Steady(((0.3, 0.2),), 9000.0, 1000.0))
    objects = run_campaign(fading, "lsst", _visits(12)).objects
    fluxes = np.array([d.flux for o in objects for d in o.detections])
    assert len(fluxes) > 3 and np.all(fluxes < 0)
    assert np.median(fluxes) == pytest.approx(-8000.0, rel=0.1)


def test_noise_alone_and_steady_light_make_no_detection():
    steady = system(variability=Steady(((0.3, 0.2),), 9000.0))
    assert not run_campaign(steady, "lsst", _visits(40)).objects


def test_detection_rate_at_the_depth_is_about_a_half():
    visits = _visits(400, depth=24.0, scale_error=0.0, shift_e=0.0, shift_n=0.0, width_error=0.0)
    at_depth = 10 ** (0.4 * (31.4 - 24.0))
    bright = system(variability=Steady(((0.0, 0.0),), 0.0, at_depth), galaxies=())
    found = associate([d for o in run_campaign(bright, "lsst", visits).objects for d in o.detections], "lsst")
    # The template's noise lowers S/N by a few per cent, searching for the peak raises it by as much.
    assert 0.3 < sum(len(o.detections) for o in found) / 400 < 0.65
