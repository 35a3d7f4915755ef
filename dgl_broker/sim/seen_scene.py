"""The static scene of a system through each visit's PSF, as images on the visit's pixels and as PSF-fit fluxes at any place.

The scene is rendered once per band on a grid of the sky and transformed once. For a visit it is multiplied by the PSF's
transfer function; stamps are read off with cubic splines at the visit's rotated pixels (the spline's prefilter is part of the
transfer function), and fluxes are sums over the spectrum, exact for the visit's own PSF.
"""

from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates

from dgl_broker.alert import BANDS
from dgl_broker.sim.psf import BETAS, moffat_radius, transfer, transfer_of_square
from dgl_broker.sim.visits import PIXEL_SCALE

SCENE = {"lsst": (96, 0.2), "ztf": (128, 0.506)}  # side and scale [arcsec] of the rendered scene; around it is empty sky
GRID = {"lsst": (96, 0.2), "ztf": (80, 1.012)}  # side and scale of the transforms: the scene's samples, or every second one
FIT_SIDE = {"lsst": 48, "ztf": 56}  # frequencies kept for photometry of the static scene: a PSF squared passes no more
# Rows of the detector grow north at rotation 0, or south: columns and rows of real ZTF alerts of one image against their places
# give -1.013" of declination a row, and neighbours stand there in the stamps.
UP = {"lsst": 1.0, "ztf": -1.0}
ALIGNED = {"lsst": False, "ztf": True}  # pixels stand along the grid and have its scale: read off without interpolation
TEMPLATE_BETA = 3.5


@lru_cache(maxsize=4)
def _frequencies(survey):
    """East and north frequencies [1/arcsec] of the half-plane transform, and its spline prefilter with pixel response."""
    side, scale = GRID[survey]
    north = np.fft.fftfreq(side, scale)[:, None]
    east = np.fft.rfftfreq(side, scale)[None, :]
    spline = 1.0 if ALIGNED[survey] else (2 + np.cos(2 * np.pi * north * scale)) * (2 + np.cos(2 * np.pi * east * scale)) / 9.0
    px, own = PIXEL_SCALE[survey], SCENE[survey][1]
    pixel = np.sinc(north * px) * np.sinc(east * px) / (np.sinc(north * own) * np.sinc(east * own))
    return east.astype(np.float32), north.astype(np.float32), (pixel * (px / own) ** 2 / spline).astype(np.float32)


@lru_cache(maxsize=4)
def _fit_grid(survey):
    """Frequencies of photometry, without the Nyquist ones: rows, east (1, m), north (l, 1) [1/arcsec], and a common factor.

    The factor is the response of pixels in image and fit over that of the scene's own, and 2 for the half-plane left out.
    """
    side, own = GRID[survey][0], SCENE[survey][1]
    half = FIT_SIDE[survey] // 2
    rows = np.r_[0:half, side - half + 1 : side]
    east, north, _ = _frequencies(survey)
    east, north = east[:, :half], north[rows]
    px = PIXEL_SCALE[survey]
    pixel = np.sinc(north * px) * np.sinc(east * px)
    common = pixel * pixel / (np.sinc(north * own) * np.sinc(east * own)) * (px / own) ** 2 / side**2
    common[:, 1:] *= 2.0
    return rows, east, north, common.astype(np.float32)


class SeenScene:
    """A static scene as the visits of one survey see it.

    Parameters
    ----------
    scene : StaticScene
    visits : Visits
    """

    def __init__(self, scene, visits):
        self.visits, self.survey = visits, visits.survey
        (self.side, self.scale), (rendered, own) = GRID[self.survey], SCENE[self.survey]
        bands = "".join(BANDS[b] for b in np.unique(visits.band))
        images = np.asarray(scene.image_njy(bands, rendered, own), np.float32)
        fold = round(self.scale / own)
        pad = (fold * self.side - rendered) // 2
        spectra = fft.rfft2(np.pad(images, ((0, 0), (pad, pad), (pad, pad))))
        if fold > 1:  # the PSF passes only the low frequencies
            half = self.side // 2
            spectra = np.concatenate([spectra[:, :half], spectra[:, -half:]], axis=1)[..., : half + 1] / np.float32(fold**2)
        self.spectra = dict(zip((BANDS.index(b) for b in bands), spectra))
        self.origin = (fold * self.side - 1) / 2 * own  # of the grid's first sample, west and south of the centre [arcsec]
        self.template_fwhm = np.full(6, np.nan)  # [arcsec] per band; drawn by whoever makes templates
        self._turn = np.cos(visits.rotation), np.sin(visits.rotation)
        self._up = UP[self.survey]
        self._fit, self._convolved, self._templates = None, (-1, None), {}

    def _fit_spectra(self, index):
        """The static scene's spectra as a PSF fit weighs them, and as source noise does, over all visits; (n, l, m) complex64.

        Only the visits of `index` are filled, and those asked for before.
        """
        v = self.visits
        rows, east, north, common = _fit_grid(self.survey)
        if self._fit is None:
            shape = (len(v), len(rows), east.shape[1])
            scenes = {b: spectrum[rows, : east.shape[1]] * common for b, spectrum in self.spectra.items()}
            self._fit = np.empty(shape, np.complex64), np.empty(shape, np.complex64), np.zeros(len(v), bool), scenes
        flux, weight, made, scenes = self._fit
        wanted = np.zeros(len(v), bool)
        wanted[index] = True
        wanted &= ~made
        area = v.noise_area_px()
        for b in self.spectra:
            for beta in BETAS:
                for some in _blocks(np.flatnonzero(wanted & (v.beta == beta) & (v.band == b))):
                    k = self._wave_numbers(some, east, north)
                    psf = transfer(k, beta)
                    seen = psf * scenes[b]
                    flux[some] = seen * psf * area[some, None, None].astype(np.float32)
                    weight[some] = seen * transfer_of_square(k, beta)
        made |= wanted
        return flux, weight

    def _wave_numbers(self, i, east, north):
        """k of the PSFs of visits i (an array), turned to the sky: (len(i), l, m) float32."""
        v = self.visits
        column = (slice(None), None, None)
        a = np.float32(2 * np.pi) * moffat_radius(v.fwhm_arcsec[i], 1.0 * v.beta[i]).astype(np.float32)[column]
        c, s = self._turn[0][i].astype(np.float32)[column], self._turn[1][i].astype(np.float32)[column]
        e1, e2 = v.e1[i].astype(np.float32)[column], (self._up * v.e2[i]).astype(np.float32)[column]
        return _wave_number(a, e1, e2, c, s, east, north)

    def static_at(self, index, east, north):
        """What a PSF fit at given places reads of the static scene.

        Parameters
        ----------
        index : int array, shape (m,)
            Visits.
        east, north : arrays, shape (m,)
            Places [arcsec] from the system's centre.

        Returns
        -------
        flux_njy : array, shape (m,)
            PSF-fit flux.
        slope_e, slope_n, bend : arrays, shape (m,)
            Its derivatives to the east and to the north [nJy/arcsec], and its Laplacian [nJy/arcsec^2].
        pixel_njy : array, shape (m,)
            The flux in a pixel weighted by P^2 (it sets the source noise).
        """
        flux, weight = self._fit_spectra(index)
        _, fe, fn, _ = _fit_grid(self.survey)
        origin = self.origin
        fe, fn = 2 * np.pi * fe[0], 2 * np.pi * fn[:, 0]
        out = np.zeros((5, len(index)))
        for some in _blocks(np.arange(len(index))):
            phase_e = np.exp(1j * np.multiply.outer(east[some] + origin, fe)).astype(np.complex64)
            phase_n = np.exp(1j * np.multiply.outer(north[some] + origin, fn)).astype(np.complex64)
            columns = np.stack([phase_e, 1j * fe * phase_e, -fe * fe * phase_e], axis=-1).astype(np.complex64)
            sums = np.matmul(flux[index[some]], columns)  # (m, l, 3)
            out[0, some] = np.einsum("ml,ml->m", phase_n, sums[..., 0]).real
            out[1, some] = np.einsum("ml,ml->m", phase_n, sums[..., 1]).real
            out[2, some] = np.einsum("ml,ml->m", 1j * fn * phase_n, sums[..., 0]).real
            out[3, some] = np.einsum("ml,ml->m", phase_n, sums[..., 2] - (fn * fn)[None, :] * sums[..., 0]).real
            out[4, some] = np.einsum("ml,mlk,mk->m", phase_n, weight[index[some]], phase_e, optimize=True).real
        out[4] = np.maximum(out[4], 0.0)
        return tuple(out)

    def _science_scene(self, i):
        """What stamps of visit i are read from: spline coefficients of its scene, or its spectrum if aligned; one is kept."""
        if self._convolved[0] != i:
            east, north, extra = _frequencies(self.survey)
            psf = transfer(self._wave_numbers(np.array([i]), east, north)[0], self.visits.beta[i]) * extra
            self._convolved = i, self._convolve(self.visits.band[i], psf)
        return self._convolved[1]

    def _template_scene(self, b):
        if b not in self._templates:
            east, north, extra = _frequencies(self.survey)
            a = np.float32(2 * np.pi * moffat_radius(self.template_fwhm[b], TEMPLATE_BETA))
            self._templates[b] = self._convolve(b, transfer(a * np.sqrt(east * east + north * north), TEMPLATE_BETA) * extra)
        return self._templates[b]

    def _convolve(self, b, psf):
        spectrum = self.spectra[b] * psf
        return spectrum if ALIGNED[self.survey] else fft.irfft2(spectrum, s=(self.side, self.side))

    def pixel_axes(self, i):
        """East and north [arcsec] of one step along x and along y: ((e_x, e_y), (n_x, n_y))."""
        c, s = self._turn[0][i], self._turn[1][i]
        return self.visits.pixel_scale * np.array([[-c, s * self._up], [s, c * self._up]])

    def to_pixel(self, i, east, north):
        """Place in the frame of visit i's pixels, relative to the system's centre: x, y [pixel]."""
        c, s, px = float(self._turn[0][i]), float(self._turn[1][i]), self.visits.pixel_scale
        return (s * north - c * east) / px, (s * east + c * north) * self._up / px

    def to_sky(self, i, x, y):
        """The inverse of `to_pixel`: east, north [arcsec]."""
        c, s, px = float(self._turn[0][i]), float(self._turn[1][i]), self.visits.pixel_scale
        y = y * self._up
        return (s * y - c * x) * px, (s * x + c * y) * px

    def _read(self, source, i, x, y):
        """A scene at pixels of visit i; outside the grid it is zero."""
        if ALIGNED[self.survey]:
            return self._read_aligned(source, x, y)
        east, north = self.to_sky(i, x[None, :], y[:, None])
        places = np.stack([north + self.origin, east + self.origin]) / self.scale
        return map_coordinates(source, places, order=3, prefilter=False, mode="constant").astype(float)

    def _read_aligned(self, spectrum, x, y):
        """The same where pixels stand along the grid: the grid is moved onto them. Columns and rows grow west and south."""
        fe, fn, _ = _frequencies(self.survey)
        firsts, phases = [], []
        for at, f in ((y, fn), (x, fe)):
            place = self.origin / self.scale - at[-1]  # of the last pixel, the first of the grid [samples]
            first = int(np.floor(place))
            firsts.append(first)
            phases.append(np.exp((2j * np.pi * (place - first) * self.scale) * f).astype(np.complex64))
        image = fft.irfft2(spectrum * (phases[0] * phases[1]), s=(self.side, self.side))
        out = np.zeros((len(y), len(x)))
        rows, columns = (np.arange(first, first + len(at)) for first, at in zip(firsts, (y, x)))
        (r, rs), (c, cs) = ((np.flatnonzero((k >= 0) & (k < self.side)), k) for k in (rows, columns))
        out[np.ix_(r, c)] = image[np.ix_(rs[r], cs[c])]
        return out[::-1, ::-1]

    def read_scene(self, i, x, y):
        """The scene through visit i's PSF, flux per pixel at columns x and rows y, (H, W)."""
        return self._read(self._science_scene(i), i, x, y)

    def read_template(self, i, x, y):
        """The same through the PSF of the template of its band."""
        return self._read(self._template_scene(self.visits.band[i]), i, x, y)


def _blocks(index, size=64):
    """An index in parts that stay in the cache."""
    return (index[start : start + size] for start in range(0, len(index), size))


def _wave_number(a, e1, e2, c, s, east, north):
    """k = a |f| with the ellipticity's metric, for an ellipticity in a frame turned by (cos, sin) = (c, s) to the sky."""
    fx, fy = s * north - c * east, s * east + c * north
    e_sq = e1 * e1 + e2 * e2
    unit = a * a / (1 - e_sq)
    q = ((1 + e_sq + 2 * e1) * unit) * fx * fx + ((1 + e_sq - 2 * e1) * unit) * fy * fy
    q += (4 * e2 * unit) * fx * fy
    return np.sqrt(q)
