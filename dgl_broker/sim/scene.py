"""The static sky of a system as an image before any PSF: galaxies, lensed galaxies, stars.

Each component is sampled once on its own grids: two samples a pixel and axis everywhere, more where it is steep; every
grid has an even number of samples a pixel, since an odd one puts a sample on a profile's cusp (20 % of the flux of a de
Vaucouleurs galaxy). All bands share a component's map, so an image in any bands is one matrix product.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import gamma

from dgl_broker.alert import BANDS
from dgl_broker.photometry import AB_ZERO_POINT_NJY
from dgl_broker.sim.galaxies import Galaxy, axis_ratio_and_angle, sersic_b
from dgl_broker.sim.lensing import Lens

FINE_ARCSEC = 0.06  # spacing of samples on arcs
BLOCK_SAMPLES = 48_000  # at most, in the finely sampled block of an arc
CUSP_SAMPLES = 16_000  # spent on an arc's brightest pixels
CORE_SAMPLES = (16, 64)  # samples a pixel and axis around a galaxy's cusp: for radii above a pixel, and at most


def flux_njy(magnitudes, dust_mag=0.0):
    """Flux [nJy] of AB magnitudes dimmed by dust [mag]."""
    return 10.0 ** (0.4 * (AB_ZERO_POINT_NJY - np.asarray(magnitudes, float) - dust_mag))


class SersicProfile:
    """Surface brightness of unit total flux per arcsec^2, elliptical, product-averaged radius."""

    def __init__(self, galaxy):
        self.n, self.radius = galaxy.sersic_n, galaxy.radius_arcsec
        self.b = float(sersic_b(self.n))
        q, angle = axis_ratio_and_angle(galaxy.e1, galaxy.e2)
        cos, sin = np.cos(angle), np.sin(angle)
        # r^2 = q u^2 + v^2 / q as one quadratic form in (x, y).
        self.xx, self.yy = q * cos**2 + sin**2 / q, q * sin**2 + cos**2 / q
        self.xy = 2 * cos * sin * (q - 1 / q)
        total = 2 * np.pi * self.n * self.radius**2 * self.b ** (-2 * self.n) * gamma(2 * self.n)
        self.norm = 1.0 / total

    def __call__(self, x, y):
        """Flux per arcsec^2 at offsets from the galaxy's centre [arcsec], any shape."""
        r2 = self.xx * x * x + self.yy * y * y + self.xy * x * y
        r2 = np.maximum(r2, 1e-12) * (1.0 / self.radius**2)
        return self.norm * np.exp(-self.b * r2 ** (0.5 / self.n))


@dataclass(frozen=True)
class Grid:
    """A square image: `side` pixels of `scale` arcsec, centred on the origin."""

    side: int
    scale: float

    def samples(self, rows, columns, per_pixel):
        """Offsets (east of columns, north of rows) of samples in a block of pixels, as broadcastable (1, n) and (m, 1)."""
        step = (np.arange(per_pixel) + 0.5) / per_pixel - 0.5
        half = 0.5 * (self.side - 1)
        x = ((np.arange(columns.start, columns.stop)[:, None] + step).ravel() - half) * self.scale
        y = ((np.arange(rows.start, rows.stop)[:, None] + step).ravel() - half) * self.scale
        return x[None, :], y[:, None]

    def block(self, east, north, half_arcsec):
        """Slices of rows and columns that cover a square of this half-side, cut at the image; may be empty."""
        centre = 0.5 * (self.side - 1)

        def cut(value):
            low = int(np.floor((value - half_arcsec) / self.scale + centre + 0.5))
            high = int(np.floor((value + half_arcsec) / self.scale + centre + 0.5)) + 1
            return slice(min(max(low, 0), self.side), min(max(high, 0), self.side))

        return cut(north), cut(east)

    def mean_over(self, brightness, rows, columns, per_pixel):
        """Flux per pixel in a block of pixels, from the mean of samples of `brightness(x, y)` per arcsec^2."""
        x, y = self.samples(rows, columns, per_pixel)
        values = brightness(x, y)
        shape = (rows.stop - rows.start, per_pixel, columns.stop - columns.start, per_pixel)
        return values.reshape(shape).mean(axis=(1, 3)) * self.scale**2


def _empty(rows, columns):
    return rows.stop <= rows.start or columns.stop <= columns.start


def point_map(grid, east, north):
    """Unit flux at a point, shared by the four nearest pixels so that its centroid is right; zero outside the image."""
    out = np.zeros((grid.side, grid.side))
    column, row = east / grid.scale + 0.5 * (grid.side - 1), north / grid.scale + 0.5 * (grid.side - 1)
    c0, r0 = int(np.floor(column)), int(np.floor(row))
    for r, part_r in ((r0, 1 - (row - r0)), (r0 + 1, row - r0)):
        for c, part_c in ((c0, 1 - (column - c0)), (c0 + 1, column - c0)):
            if 0 <= r < grid.side and 0 <= c < grid.side:
                out[r, c] = part_r * part_c
    return out


def galaxy_map(grid, galaxy):
    """Share of a galaxy's total flux in each pixel, (side, side)."""
    if galaxy.radius_arcsec < 0.12 * grid.scale:
        return point_map(grid, galaxy.east, galaxy.north)
    profile = SersicProfile(galaxy)

    def brightness(x, y):
        return profile(x - galaxy.east, y - galaxy.north)

    out = np.zeros((grid.side, grid.side))
    reach = galaxy.radius_arcsec * (9.0 if galaxy.sersic_n < 1.6 else 40.0) + 2 * grid.scale
    rows, columns = grid.block(galaxy.east, galaxy.north, reach)
    if _empty(rows, columns):
        return out
    out[rows, columns] = grid.mean_over(brightness, rows, columns, 2)
    core = int(np.clip(2 * np.ceil(10 * grid.scale / galaxy.radius_arcsec), *CORE_SAMPLES))
    for half, per_pixel in ((1.5 * galaxy.radius_arcsec, 6), (grid.scale, core)):
        half = min(max(half, grid.scale), 6 * grid.scale)
        rows, columns = grid.block(galaxy.east, galaxy.north, half)
        if not _empty(rows, columns):
            out[rows, columns] = grid.mean_over(brightness, rows, columns, per_pixel)
    return out


def lensed_galaxy_map(grid, lens, galaxy):
    """Flux in each pixel of a galaxy of unit unlensed flux behind a lens at the origin; (side, side)."""
    profile = SersicProfile(galaxy)

    def brightness(x, y):
        beta_x, beta_y = lens.source_plane(x, y)
        return profile(beta_x - galaxy.east, beta_y - galaxy.north)

    whole = slice(0, grid.side)
    out = grid.mean_over(brightness, whole, whole, 2)
    half = 2.2 * lens.theta_e + np.hypot(galaxy.east, galaxy.north) + 2.5 * galaxy.radius_arcsec
    rows, columns = grid.block(0.0, 0.0, half)
    if _empty(rows, columns):
        return out
    pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
    wanted = 2 * int(np.ceil(0.5 * grid.scale / min(FINE_ARCSEC, 0.25 * galaxy.radius_arcsec)))
    allowed = 2 * max(int(0.5 * np.sqrt(BLOCK_SAMPLES / pixels)), 1)
    per_pixel = min(wanted, allowed)
    if per_pixel > 2:
        out[rows, columns] = grid.mean_over(brightness, rows, columns, per_pixel)
    # Images of the source's cusp are what an even grid still misses: the brightest pixels of the block once more, finer.
    block = out[rows, columns]
    finest = max(16, 2 * per_pixel)
    steep = np.argsort(block, axis=None)[-max(CUSP_SAMPLES // finest**2, 1) :]
    row, column = np.unravel_index(steep, block.shape)
    step = ((np.arange(finest) + 0.5) / finest - 0.5) * grid.scale
    centre = 0.5 * (grid.side - 1)
    x = (column + columns.start - centre)[:, None, None] * grid.scale + step[None, None, :]
    y = (row + rows.start - centre)[:, None, None] * grid.scale + step[None, :, None]
    block[row, column] = brightness(x, y).mean(axis=(1, 2)) * grid.scale**2
    return out


@dataclass
class Scene:
    """Galaxies, stars and at most one lensed galaxy, with the Milky Way's dust in front of all.

    `stars` are offsets (n, 2) and `star_magnitudes` (n, 6). `source` is the galaxy behind `lens`, in the source plane.
    """

    galaxies: list[Galaxy]
    dust_mag: np.ndarray
    lens: Lens | None = None
    source: Galaxy | None = None
    stars: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    star_magnitudes: np.ndarray = field(default_factory=lambda: np.empty((0, 6)))
    _maps: dict = field(default_factory=dict, repr=False)
    _images: dict = field(default_factory=dict, repr=False)

    def image_njy(self, bands, side, pixel_scale_arcsec):
        """Flux per pixel before any PSF, (len(bands), side, side) float32 [nJy]; remembered, do not write into it."""
        key = (bands, side, pixel_scale_arcsec)
        if key not in self._images:
            maps, flux = self._component_maps(side, pixel_scale_arcsec), self.component_flux_njy()
            index = [BANDS.index(band) for band in bands]
            image = np.tensordot(flux[:, index].T, maps, axes=1) if len(maps) else np.zeros((len(bands), side, side))
            self._images[key] = np.ascontiguousarray(image, np.float32)
        return self._images[key]

    def component_flux_njy(self):
        """Flux of each component before lensing, (n, 6) [nJy]: galaxies, the lensed one, stars."""
        mags = [galaxy.magnitudes for galaxy in self.galaxies]
        if self.source is not None:
            mags.append(self.source.magnitudes)
        mags.extend(self.star_magnitudes)
        return flux_njy(np.array(mags).reshape(-1, len(BANDS)), self.dust_mag)

    def _component_maps(self, side, scale):
        key = (side, scale)
        if key not in self._maps:
            grid = Grid(side, scale)
            maps = [galaxy_map(grid, galaxy) for galaxy in self.galaxies]
            if self.source is not None:
                maps.append(lensed_galaxy_map(grid, self.lens, self.source))
            maps.extend(point_map(grid, *place) for place in self.stars)
            self._maps[key] = np.array(maps).reshape(-1, side, side)
        return self._maps[key]

    def source_magnification(self):
        """Total magnification of the lensed galaxy's light, to a few per cent; 1 without a lens."""
        if self.source is None:
            return 1.0
        half = 2.5 * self.lens.theta_e + np.hypot(self.source.east, self.source.north) + 4.0 * self.source.radius_arcsec
        grid = Grid(48, 2 * half / 48)
        profile = SersicProfile(self.source)
        whole = slice(0, 48)
        x, y = grid.samples(whole, whole, 2)
        beta_x, beta_y = self.lens.source_plane(x, y)
        lensed = profile(beta_x - self.source.east, beta_y - self.source.north).sum()
        plain = profile(x - self.source.east, y - self.source.north).sum()
        return float(np.clip(lensed / plain, 1.0, 60.0))
