"""The images behind the detections of a visit: rendered once, made to give exactly the fluxes that the packets state."""

from dataclasses import dataclass

import numpy as np

from dgl_broker.sim.observe import Patch

LSST_SIDES = (30, 102)  # stamps are the footprint's box, within these (Rubin's packageAlerts; real packets agree)
PSF_SIDE = 41


@dataclass
class Frame:
    """Where the system's centre falls on the detector in one visit [pixel]."""

    x: float
    y: float


def visit_frame(sky, i):
    """The frame of visit i."""
    return Frame(*sky.centre_pixel[i].tolist())


def noise_generator(sky, i):
    """The generator of visit i's image noise: the same whatever alerts of the visit are written."""
    return sky.system.rng(100_000 + i)


def footprint_side(flux, error, fwhm_px):
    """Side of the box around a detection's footprint [pixel].

    Where the PSF-convolved image is above 5 sigma, grown by 2.4 sigma of the PSF; real v10 alerts have 10 to 13 px at S/N 5,
    16 at 17, 29 at 220 (FWHM 1"), as this gives.
    """
    sigma = fwhm_px / 2.355
    snr = max(abs(flux) / error, 5.0)
    return int(np.ceil(2 * sigma * (2.4 + np.sqrt(2.0) * np.sqrt(2 * np.log(snr / 5.0))))) + 1


def first_pixel(at, side):
    """First pixel of a stamp on the detector: the source within half a pixel of the middle, as in real stamps."""
    return int(np.floor(at)) - side // 2 + 1 if side % 2 == 0 else int(np.round(at)) - side // 2


def condition(patch, sky, i, detections):
    """Makes a patch give the detections' fluxes: the noise changes only in its projections on PSF and PSF slopes.

    White noise is independent of its projections on a few shapes, so replacing these by values that were drawn from their own
    distribution leaves noise of the right distribution. The flux projection becomes that of the stated flux; the slopes become
    those that move the peak by the centroid noise already in the stated place.

    Parameters
    ----------
    patch : Patch
        Changed in place: science, difference and noise.
    detections : list of Detection
        Of visit `i`, made from photometry (those made on images are left as they are).
    """
    wanted = [d for d in detections if d.patch is None]
    if not wanted:
        return
    rows, columns = _around(patch, sky, i, wanted)
    x, y = patch.x[columns], patch.y[rows]
    difference, noise, deep_noise = (getattr(patch, name)[rows, columns] for name in ("difference", "noise", "deep_noise"))
    shapes, targets, deep_targets = [], [], []
    for d in wanted:
        psf, slope_x, slope_y = _psf_and_slopes(sky, i, d, x, y)
        moved = sky.to_pixel(i, d.shift_e, d.shift_n)
        norm = np.vdot(psf, psf)
        shapes += [psf, slope_x, slope_y]
        targets.append(d.flux * norm - np.vdot(difference, psf))
        # Slopes fall along x where the source moves up: the noise that shifts a peak by s is -F s in units of the slope.
        targets += [-d.flux * m * np.vdot(t, t) - np.vdot(noise, t) for t, m in ((slope_x, moved[0]), (slope_y, moved[1]))]
        deep_targets += [d.deep * norm - np.vdot(deep_noise, psf), 0.0, 0.0]
    basis = np.array(shapes).reshape(len(shapes), -1)
    gram = basis @ basis.T
    # Two detections on nearly one place leave the system near singular: the small ridge keeps the change of noise small.
    gram[np.diag_indices_from(gram)] *= 1 + 1e-9
    change, deep = (np.linalg.solve(gram, np.array([targets, deep_targets]).T).T @ basis).reshape(2, len(y), len(x))
    difference += change  # views: the patch changes
    noise += change
    patch.science[rows, columns] += change + deep
    patch.template[rows, columns] += deep
    deep_noise += deep


def _around(patch, sky, i, detections):
    """Slices of a patch's rows and columns that hold the detections' PSFs, to six FWHM."""
    reach = 6.0 * sky.visits.fwhm_arcsec[i] / sky.visits.pixel_scale + 2.0
    places = np.array([sky.to_pixel(i, d.east, d.north) for d in detections])
    (x_lo, y_lo), (x_hi, y_hi) = places.min(axis=0) - reach, places.max(axis=0) + reach
    return slice(*np.searchsorted(patch.y, (y_lo, y_hi))), slice(*np.searchsorted(patch.x, (x_lo, x_hi)))


def _psf_and_slopes(sky, i, d, x, y):
    """The PSF at a detection's place on a patch, and its slopes along x and y; (H, W) each."""
    sx, sy = sky.to_pixel(i, d.east, d.north)
    wide = sky.psf(i, np.concatenate([[x[0] - 1], x, [x[-1] + 1]]) - sx, np.concatenate([[y[0] - 1], y, [y[-1] + 1]]) - sy)
    slope_x, slope_y = 0.5 * (wide[1:-1, 2:] - wide[1:-1, :-2]), 0.5 * (wide[2:, 1:-1] - wide[:-2, 1:-1])
    return wide[1:-1, 1:-1], slope_x, slope_y


def visit_patch(sky, i, detections, sides, margin=0):
    """The images that hold the stamps of all detections of visit i.

    Parameters
    ----------
    sides : list of int
        Side of each detection's stamp [pixel].

    Returns
    -------
    Patch, corners : list of (int, int)
        First pixel of each stamp on the detector.
    """
    frame = visit_frame(sky, i)
    places = [sky.to_pixel(i, d.east, d.north) for d in detections]
    corners = [(first_pixel(frame.x + px, n), first_pixel(frame.y + py, n)) for (px, py), n in zip(places, sides)]
    made = next((d.patch for d in detections if d.patch is not None), None)
    if made is not None:
        return made, corners, frame
    x_lo, y_lo = min(c[0] for c in corners) - margin, min(c[1] for c in corners) - margin
    x_hi = max(c[0] + n for c, n in zip(corners, sides)) + margin
    y_hi = max(c[1] + n for c, n in zip(corners, sides)) + margin
    patch = sky.render(i, x_lo - frame.x, y_lo - frame.y, x_hi - x_lo, y_hi - y_lo, noise_generator(sky, i))
    condition(patch, sky, i, detections)
    return patch, corners, frame


def cut(patch, frame, corner, side):
    """Planes of one stamp from a patch, as a Patch of `side` pixels; pixels that the patch lacks are NaN."""
    row, column = corner[1] - round(frame.y + patch.y0), corner[0] - round(frame.x + patch.x0)
    height, width = patch.science.shape
    if row >= 0 and column >= 0 and row + side <= height and column + side <= width:
        where = slice(row, row + side), slice(column, column + side)
        planes = [getattr(patch, name)[where] for name in _PLANES]
    else:
        planes = []
        for name in _PLANES:
            plane = np.full((side, side), np.nan)
            r = slice(max(row, 0), min(row + side, height))
            c = slice(max(column, 0), min(column + side, width))
            plane[r.start - row : r.stop - row, c.start - column : c.stop - column] = getattr(patch, name)[r, c]
            planes.append(plane)
    return Patch(*planes, x0=corner[0] - frame.x, y0=corner[1] - frame.y)


_PLANES = (
    "science",
    "template",
    "difference",
    "science_variance",
    "template_variance",
    "difference_variance",
    "noise",
    "deep_noise",
)
