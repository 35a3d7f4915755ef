"""The static sky as a reference catalogue lists it: blended within an arcsec, with noise, limits and a star score.

Depths and the behaviour of the score are Pan-STARRS1's (Chambers et al. 2016: 5-sigma stacks g r i z 23.3 23.2 23.1 22.3;
Tachibana & Miller 2018: stars near 1, galaxies near 0 at r < 20, both spreading towards 0.5 at the limit).
"""

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.photometry import AB_ZERO_POINT_NJY
from dgl_broker.sim.scene import flux_njy
from dgl_broker.sim.system import CatalogueEntry

LIMIT_MAG = {"g": 23.3, "r": 23.2, "i": 23.1, "z": 22.3}
BLEND_ARCSEC = 1.0
GRIZ = [BANDS.index(band) for band in LIMIT_MAG]


def list_entries(rng, scene, points=()):
    """Entries of a scene, brightest first.

    Parameters
    ----------
    scene : Scene
    points : iterable of (east, north, magnitudes (6,))
        Varying sources that are always there: quasars' images, nuclei, variable stars; at their mean.
    """
    flux = scene.component_flux_njy()[:, GRIZ]
    rows = [(galaxy.east, galaxy.north, flux[k], 0.0, galaxy.radius_arcsec) for k, galaxy in enumerate(scene.galaxies)]
    k = len(scene.galaxies)
    if scene.source is not None:
        # An arc is centred on its lens, a part of it lies on either side.
        east, north = 0.5 * scene.source.east, 0.5 * scene.source.north
        rows.append((east, north, flux[k] * scene.source_magnification(), 0.0, scene.source.radius_arcsec))
        k += 1
    rows += [(*place, flux[k + j], 1.0, 0.0) for j, place in enumerate(scene.stars)]
    rows += [(east, north, flux_njy(mags)[GRIZ], 1.0, 0.0) for east, north, mags in points]
    entries = (_entry(rng, blend) for blend in _blends(rows))
    return [entry for entry in entries if entry is not None]


def _blends(rows):
    """Groups of rows whose places lie within `BLEND_ARCSEC` of the group's brightest."""
    left = sorted(rows, key=lambda row: -row[2][2])
    while left:
        first = left[0]
        near = [row for row in left if np.hypot(row[0] - first[0], row[1] - first[1]) < BLEND_ARCSEC]
        left = [row for row in left if np.hypot(row[0] - first[0], row[1] - first[1]) >= BLEND_ARCSEC]
        yield near


def _entry(rng, blend):
    flux = np.array([row[2] for row in blend])
    weight = flux[:, 2] / flux[:, 2].sum()
    total_mag = AB_ZERO_POINT_NJY - 2.5 * np.log10(np.maximum(flux.sum(axis=0), 1e-3))
    magnitude = {}
    for band, mag in zip(LIMIT_MAG, total_mag):
        measured = float(mag + rng.normal(0.0, 0.015 + 0.2 * 10 ** (0.4 * (mag - LIMIT_MAG[band]))))
        if mag < LIMIT_MAG[band] and np.isfinite(measured):
            magnitude[band] = measured
    if not magnitude:
        return None
    size = float(np.sum(weight * [row[4] for row in blend]))
    # Faintness takes the score towards 0.5, smallness a galaxy's towards a star's.
    faint = np.clip((total_mag[1] - 19.5) / 3.5, 0.0, 1.0)
    starry = float(np.sum(weight * [row[3] for row in blend]))
    small = np.exp(-size / 0.25)
    mean = np.clip(starry * (0.985 - 0.4 * faint) + (1 - starry) * (0.015 + 0.3 * faint**1.5 + 0.3 * small * faint), 0.01, 0.99)
    score = float(np.clip(rng.beta(8 * mean + 0.05, 8 * (1 - mean) + 0.05), 0.0, 1.0))
    east, north = (float(np.sum(weight * [row[axis] for row in blend])) for axis in (0, 1))
    return CatalogueEntry(east, north, score, magnitude)
