"""What one system of a paper set is before noise, whichever profile drew it, and how it becomes two arrays."""

from dataclasses import dataclass, field

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.photometry import AB_ZERO_POINT_NJY, flux_from_mag
from dgl_broker.sim.paper_recipe import PAPER_BANDS, SIDE
from dgl_broker.sim.paper_render import FWHM_PER_SIGMA, PAD, add_noise, blur, point_sources, preprocess, sky_sigma
from dgl_broker.sim.scene import Grid, galaxy_map, lensed_galaxy_map

GRIZ = np.array([BANDS.index(band) for band in PAPER_BANDS])


@dataclass
class Observing:
    """Conditions of each epoch and band, all (T, 4): nights [day], seeing, sky, zero points.

    `sky_counts` is the sky in electrons per second and arcsec^2, however the profile came by it.
    """

    recipe: object
    nights: np.ndarray
    seeing_arcsec: np.ndarray
    sky_counts: np.ndarray
    zero_points: np.ndarray

    @property
    def sigma_px(self):
        """PSF sigma [pixel]."""
        return self.seeing_arcsec / FWHM_PER_SIGMA / self.recipe.pixel_arcsec

    @property
    def counts_per_njy(self):
        """Electrons per second of one nJy."""
        return 10.0 ** (0.4 * (self.zero_points - AB_ZERO_POINT_NJY))

    @property
    def sky_sigma(self):
        """Noise of an empty pixel [e/s]."""
        recipe = self.recipe
        return sky_sigma(self.sky_counts, recipe.pixel_arcsec, recipe.read_noise_e, np.array(recipe.exposure_s))

    @property
    def five_sigma_njy(self):
        """5-sigma flux [nJy] of an isolated point source by PSF photometry, noise of the sky alone."""
        return 5.0 * self.sky_sigma * np.sqrt(4 * np.pi) * self.sigma_px / self.counts_per_njy


@dataclass
class PaperScene:
    """Static maps [nJy per pixel] (4, 63, 63), point sources in pixels from the middle, and their flux (K, T, 4) [nJy]."""

    static: np.ndarray = field(default_factory=lambda: np.zeros((4, SIDE + 2 * PAD, SIDE + 2 * PAD)))
    places_px: list = field(default_factory=list)
    flux_njy: list = field(default_factory=list)

    def add_galaxy(self, recipe, galaxies, lens=None):
        """Add a galaxy given as one `Galaxy`, or as four where its shape differs by band; lensed where a lens is given."""
        grid = Grid(SIDE + 2 * PAD, recipe.pixel_arcsec)
        per_band = isinstance(galaxies, list | tuple)
        shapes = galaxies if per_band else (galaxies,)
        maps = [galaxy_map(grid, g) if lens is None else lensed_galaxy_map(grid, lens, g) for g in _distinct(shapes)]
        index = [_distinct(shapes).index(g) for g in shapes] if per_band else [0] * 4
        flux = flux_from_mag(shapes[0].magnitudes[GRIZ], 0.0)[0]
        self.static += flux[:, None, None] * np.array([maps[k] for k in index])

    def add_point(self, recipe, east, north, flux_njy):
        """Add a point source of flux (T, 4) [nJy]."""
        self.places_px.append((east / recipe.pixel_arcsec, north / recipe.pixel_arcsec))
        self.flux_njy.append(flux_njy)

    def add_star(self, recipe, east, north, magnitudes, epochs):
        """Add a star that does not vary."""
        flux = flux_from_mag(magnitudes[GRIZ], 0.0)[0]
        self.add_point(recipe, east, north, np.broadcast_to(flux, (epochs, 4)))


def _distinct(galaxies):
    """Galaxies of different shape, in order; equal shapes in two bands are drawn once."""
    out = []
    for galaxy in galaxies:
        if not any(galaxy is other for other in out):
            out.append(galaxy)
    return out


def observe(rng, scene, observing, calibrated, extra_counts=None):
    """Image (4, 45, 45) and light curve (T, 4) of a scene, scaled as published, and whether both are usable.

    Parameters
    ----------
    calibrated : bool
        True: noisy images are brought to nJy before anything is added up, so that bands and epochs share a zero point.
    extra_counts : array, optional
        Added to every image [e/s], broadcast; the published empty sky has such.
    """
    factor = observing.counts_per_njy[..., None, None].astype(np.float32)
    images = blur(scene.static, observing.sigma_px) * factor
    if scene.places_px:
        x, y = np.array(scene.places_px).T
        points = point_sources(x, y, np.array(scene.flux_njy), observing.sigma_px)
        images = images + points * factor
    if extra_counts is not None:
        images = images + extra_counts
    images = add_noise(rng, images, observing.sky_sigma, observing.recipe.exposure_s)
    return preprocess(images / factor if calibrated else images)
