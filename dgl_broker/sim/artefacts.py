"""Detections that are no sources: cosmic rays, bad columns, dipoles of misregistered cores, static lenses badly subtracted.

Each is put into the images of one or a few visits; these are searched as the survey searches them: peaks of either sign of the
difference image convolved with the PSF that exceed five sigma.
"""

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.signal import fftconvolve

from dgl_broker.sim.association import THRESHOLD, Detection
from dgl_broker.sim.stamps import noise_generator, visit_frame
from dgl_broker.sim.visits import STATED_ERROR

PATCH_SIDE = {"lsst": 150, "ztf": 96}  # wide enough for the largest stamp around any peak in the searched middle
SEARCH_RADIUS_ARCSEC = {"lsst": 3.0, "ztf": 12.0}
REPEATS = {"cosmic_ray": 1, "bad_column": 2, "dipole": 6, "bad_subtraction": 6}  # at most so many visits are affected


def cosmic_ray(x, y, target_njy, rng):
    """A straight track of a cosmic ray, unspread, (H, W) [nJy]: 2 to 25 pixels long, about one wide, through the middle.

    Parameters
    ----------
    x, y : arrays
        Pixel columns and rows relative to where it should be.
    target_njy : float
        Light in it.
    """
    angle, length, width = rng.uniform(0, np.pi), 2.0 + rng.gamma(1.2, 5.0), rng.uniform(0.3, 0.6)
    along = x[None, :] * np.cos(angle) + y[:, None] * np.sin(angle)
    across = -x[None, :] * np.sin(angle) + y[:, None] * np.cos(angle)
    track = np.exp(-0.5 * (across / width) ** 2) * (np.abs(along) <= 0.5 * length)
    track *= np.exp(0.4 * np.cumsum(rng.standard_normal(len(x))) / np.sqrt(len(x)))[None, :]
    return target_njy * track / max(track.sum(), 1e-9)


def bad_column(x, y, target_njy, rng):
    """Excess or lack of light along one or two columns, (H, W) [nJy], of `target_njy` per 10 rows."""
    columns = np.zeros(len(x))
    middle = int(np.argmin(np.abs(x)))
    columns[middle : middle + 1 + (rng.uniform() < 0.3)] = rng.choice((-1.0, 1.0), p=(0.6, 0.4)) * target_njy / 10.0
    rows = np.ones(len(y))
    if rng.uniform() < 0.5:  # ends somewhere near
        rows[: int(np.argmin(np.abs(y - rng.uniform(-6, 1))))] = 0.0
    return rows[:, None] * columns[None, :] * (1 + 0.1 * rng.standard_normal((len(y), len(x))))


def search(sky, i, patch, radius_arcsec):
    """Peaks of a patch beyond five sigma, strongest first.

    Returns
    -------
    list of (x, y, flux, error)
        Places in the frame of the system's centre [pixel], sub-pixel by parabolas.
    """
    half = np.arange(-20, 21, dtype=float)
    psf = sky.psf(i, half, half)
    matched = fftconvolve(patch.difference, psf[::-1, ::-1], mode="same") / np.sum(psf**2)
    error = np.sqrt(np.maximum(fftconvolve(patch.difference_variance, psf[::-1, ::-1] ** 2, mode="same"), 0)) / np.sum(psf**2)
    error = np.maximum(error, 1e-6 * np.max(error))
    ratio = np.abs(matched) / error
    peaks = (ratio == maximum_filter(ratio, size=3)) & (ratio > THRESHOLD * STATED_ERROR[sky.survey])
    reach = radius_arcsec / sky.visits.pixel_scale
    peaks &= (patch.x[None, :] ** 2 + patch.y[:, None] ** 2) < reach**2
    found = []
    for row, column in zip(*np.nonzero(peaks)):
        if not (0 < row < len(patch.y) - 1 and 0 < column < len(patch.x) - 1):
            continue
        here = np.abs(matched[row - 1 : row + 2, column - 1 : column + 2])
        place = [patch.x[column], patch.y[row]]
        for axis, (a, b, c) in enumerate(((here[1, 0], here[1, 1], here[1, 2]), (here[0, 1], here[1, 1], here[2, 1]))):
            bend = a - 2 * b + c
            place[axis] += 0.5 * (a - c) / bend if bend < 0 else 0.0
        flux, sigma = _fit(sky, i, patch, row, column, *place)
        if abs(flux) > THRESHOLD * STATED_ERROR[sky.survey] * sigma:
            found.append((*place, flux, sigma))
    return sorted(found, key=lambda p: -abs(p[2]) / p[3])


def _fit(sky, i, patch, row, column, x, y):
    """PSF flux at a sub-pixel place and its error, on 41 pixels around (row, column)."""
    rows, columns = (slice(max(at - 20, 0), at + 21) for at in (row, column))
    psf = sky.psf(i, patch.x[columns] - x, patch.y[rows] - y)
    norm = np.sum(psf * psf)
    flux = np.vdot(patch.difference[rows, columns], psf) / norm
    return float(flux), float(np.sqrt(np.vdot(patch.difference_variance[rows, columns], psf * psf)) / norm)


def _affected(sky, kind, rng):
    """Visits that have the artefact, inside the active days."""
    v, system = sky.visits, sky.system
    since = v.mjd_tai - system.reference_mjd_tai
    inside = np.flatnonzero((since >= system.active_days[0]) & (since <= system.active_days[1]))
    if not len(inside):
        return inside
    count = 1 + min(rng.poisson(0.6 if REPEATS[kind] > 2 else 0.15), REPEATS[kind] - 1, len(inside) - 1)
    return np.sort(rng.choice(inside, count, replace=False))


def _errors(kind, rng):
    """What the subtraction gets wrong for unit strength: scale_error, (east, north) shift in units of the FWHM, width_error."""
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    if kind == "dipole":
        return 0.1 * rng.standard_normal(), direction, 0.1 * rng.standard_normal()
    return rng.standard_normal(), 0.2 * rng.standard_normal() * direction, rng.standard_normal()


def artefact_detections(sky, rng):
    """Detections of a system's artefact, in order of time, each with the images that it was found on.

    Strengths are drawn so that the strongest peak has S/N 5 to about 50, but no more than a shift of half the FWHM, or half of
    flux and width: where the scene is too faint for that, nothing is found.
    """
    kind, v = sky.system.artefact, sky.visits
    stated = STATED_ERROR[sky.survey]
    side = PATCH_SIDE[sky.survey]
    found = []
    for i in _affected(sky, kind, rng):
        frame = visit_frame(sky, i)
        x_lo, y_lo = int(np.floor(frame.x)) - side // 2, int(np.floor(frame.y)) - side // 2
        corner = x_lo - frame.x, y_lo - frame.y
        wanted = 5.5 * stated * np.exp(rng.exponential(0.7))
        draws = np.random.default_rng(rng.integers(1 << 62))
        own = v.flux_sigma_njy()[i]
        if kind in ("cosmic_ray", "bad_column"):
            x, y = corner[0] + np.arange(side), corner[1] + np.arange(side)
            at = draws.uniform(-1.5, 1.5, 2) / v.pixel_scale
            maker = cosmic_ray if kind == "cosmic_ray" else bad_column
            light = maker(x - at[0], y - at[1], 1.0, draws)
            half = np.arange(-20, 21, dtype=float)
            psf = sky.psf(i, half, half)
            response = np.max(np.abs(fftconvolve(light, psf, mode="same"))) / np.sum(psf**2)
            extra = {"artefact": light * (wanted * own / max(response, 1e-9))}
        else:
            scale, shift, width = _errors(kind, draws)
            shift = shift * v.fwhm_arcsec[i]
            strength = _strength(sky, i, corner, side, scale, shift, width, wanted * own)
            extra = {
                "scale_error": float(np.clip(strength * scale, -0.5, 0.5)),
                "shift": strength * shift,
                "width_error": float(np.clip(strength * width, -0.5, 0.5)),
            }
        patch = sky.render(i, *corner, side, side, noise_generator(sky, i), **extra)
        peaks = search(sky, i, patch, SEARCH_RADIUS_ARCSEC[sky.survey])
        kept = []
        for x, y, flux, error in peaks:
            if all(np.hypot(x - a, y - b) * v.pixel_scale > v.fwhm_arcsec[i] for a, b in kept) and len(kept) < 2:
                kept.append((x, y))
                east, north = sky.to_sky(i, x, y)
                found.append(
                    Detection(int(i), float(east), float(north), 0.0, 0.0, flux, error, error * stated, 0.0, 1, patch, kind)
                )
    return found


def _strength(sky, i, corner, side, scale, shift, width, wanted_njy):
    """How strong the errors must be for the strongest peak to have the wanted flux; no stronger than half the FWHM."""
    small = min(side, 60)
    edge = (side - small) // 2
    quiet = np.random.default_rng(0)
    unit = 0.05
    args = (i, corner[0] + edge, corner[1] + edge, small, small, quiet)
    patch = sky.render(*args, scale_error=unit * scale, shift=unit * shift, width_error=unit * width)
    clean = patch.difference - patch.noise - sky.point_sources(i, sky.change[:, i], patch.x, patch.y)
    half = np.arange(-20, 21, dtype=float)
    psf = sky.psf(i, half, half)
    peak = np.max(np.abs(fftconvolve(clean, psf, mode="same"))) / np.sum(psf**2)
    return min(0.5, unit * wanted_njy / max(peak, 1e-9))
