"""What a survey's images show of a system: the static scene through each visit's PSF, point sources, noise, subtraction errors.

The static scene is rendered once per band on a grid of the sky, transformed once, and for each visit multiplied by the PSF's
transfer function; stamps are read off with cubic splines at the visit's rotated pixels (the spline's prefilter is part of the
transfer function). Point sources are Moffat profiles integrated over pixels. The difference image is what PSF matching leaves:
the change of the point sources, noise, and the scene times the visit's errors of scale, registration and kernel width.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates

from dgl_broker.alert import BANDS
from dgl_broker.sim.psf import BETAS, moffat_radius, pixel_psf, transfer, transfer_of_square
from dgl_broker.sim.visits import PIXEL_SCALE

# side and scale [arcsec] of the sky grid, and the side that is rendered (the rest is empty sky)
GRID = {"lsst": (96, 0.2, 96), "ztf": (160, 0.506, 64)}
FIT_SIDE = {"lsst": 48, "ztf": 56}  # frequencies kept for photometry of the static scene: a PSF squared passes no more
# Rows of the detector grow north at rotation 0, or south: columns and rows of real ZTF alerts of one image against their places
# give -1.013" of declination a row, and neighbours stand there in the stamps.
UP = {"lsst": 1.0, "ztf": -1.0}
EDGE_SHARE = 0.007
DETECTOR = {"lsst": (4072, 4000), "ztf": (3072, 3080)}  # columns and rows
FIELD_ARCSEC = {"lsst": 8.5, "ztf": 25.0}  # point sources farther out are not seen
PSF_REACH_PX = 36.0  # a Moffat of FWHM 4 px is there a millionth of its peak
TEMPLATE_BETA = 3.5


@lru_cache(maxsize=4)
def _frequencies(survey):
    """East and north frequencies [1/arcsec] of the half-plane transform, and its spline prefilter with pixel response."""
    side, scale, _ = GRID[survey]
    north = np.fft.fftfreq(side).astype(np.float32)[:, None]
    east = np.fft.rfftfreq(side).astype(np.float32)[None, :]
    spline = (2 + np.cos(2 * np.pi * north)) * (2 + np.cos(2 * np.pi * east)) / 9.0
    ratio = PIXEL_SCALE[survey] / scale
    pixel = np.sinc(north * ratio) * np.sinc(east * ratio) / (np.sinc(north) * np.sinc(east))
    return east / np.float32(scale), north / np.float32(scale), (pixel * ratio**2 / spline).astype(np.float32)


@lru_cache(maxsize=4)
def _fit_grid(survey):
    """Frequencies of photometry, without the Nyquist ones: rows, east (1, m), north (l, 1) [1/arcsec], and a common factor.

    The factor is the response of pixels in image and fit over that of the scene's own, and 2 for the half-plane left out.
    """
    side, scale, _ = GRID[survey]
    half = FIT_SIDE[survey] // 2
    rows = np.r_[0:half, side - half + 1 : side]
    east, north, _ = _frequencies(survey)
    east, north = east[:, :half], north[rows]
    px = PIXEL_SCALE[survey]
    pixel = np.sinc(north * px) * np.sinc(east * px)
    common = pixel * pixel / (np.sinc(north * scale) * np.sinc(east * scale)) * (px / scale) ** 2 / side**2
    common[:, 1:] *= 2.0
    return rows, east, north, common.astype(np.float32)


@dataclass
class Patch:
    """The images of one visit around one or more detections, on its pixel grid, (H, W) each; nJy, and nJy^2 for variances.

    The centre of pixel (0, 0) lies at (`x0`, `y0`) of the frame whose origin is the system's centre, in pixels. `noise` is
    what the difference contains of it, and `deep_noise` the template's share in that, with its sign turned.
    """

    science: np.ndarray
    template: np.ndarray
    difference: np.ndarray
    science_variance: np.ndarray
    template_variance: np.ndarray
    difference_variance: np.ndarray
    noise: np.ndarray
    deep_noise: np.ndarray
    x0: float
    y0: float

    @property
    def x(self):
        """Columns of the pixel centres."""
        return self.x0 + np.arange(self.science.shape[1])

    @property
    def y(self):
        """Rows of the pixel centres."""
        return self.y0 + np.arange(self.science.shape[0])


class Sky:
    """A system as one survey sees it.

    Parameters
    ----------
    system : System
    visits : Visits
    flux_njy, template_njy : arrays, shape (S, n)
        Flux of each point source in each visit and its share in the template of that visit's band [nJy].
    offset_arcsec : array, shape (S, n, 2)
        East and north of each source [arcsec].
    """

    def __init__(self, system, visits, flux_njy, template_njy, offset_arcsec):
        self.system, self.visits, self.survey = system, visits, visits.survey
        self.flux, self.template_flux, self.offset = flux_njy, template_njy, offset_arcsec
        self.change = flux_njy - template_njy
        side, scale, rendered = GRID[self.survey]
        self.side, self.scale = side, scale
        self.bands = "".join(BANDS[b] for b in np.unique(visits.band))
        images = system.scene.image_njy(self.bands, rendered, scale) if self.bands else np.zeros((0, rendered, rendered))
        pad = (side - rendered) // 2
        images = np.pad(np.asarray(images, np.float32), ((0, 0), (pad, pad), (pad, pad)))
        self.spectra = dict(zip((BANDS.index(b) for b in self.bands), fft.rfft2(images)))
        width, height = DETECTOR[self.survey]
        self.centre_pixel = system.rng(22).uniform((60, 60), (width - 60, height - 60), (len(visits), 2))
        if self.survey == "ztf":  # 3 of 480 real alerts have stamps cut by the detector's edge
            near = system.rng(23).uniform(size=(len(visits), 2))
            self.centre_pixel[:, 0] = np.where(near[:, 0] < EDGE_SHARE, 5 + 25 * near[:, 1], self.centre_pixel[:, 0])
        self._draw_templates()
        self._fit = None
        self._turn = np.cos(visits.rotation), np.sin(visits.rotation)
        self._up = UP[self.survey]
        self._convolved, self._templates = (-1, None), {}

    def _draw_templates(self):
        """Depth and seeing of each band's template: 6 to 60 visits (ZTF: 16) of a little better seeing than the median's."""
        rng = self.system.rng(21)
        ztf = self.survey == "ztf"
        n = np.full(6, 16.0) if ztf else np.exp(rng.uniform(np.log(6.0), np.log(60.0), 6))
        draw = rng.standard_normal(6)
        self.template_visits = n
        self.template_fwhm, self.template_sigma = np.full(6, np.nan), np.full(6, np.nan)
        sigma = self.visits.pixel_sigma_njy()
        for b in self.spectra:
            mine = self.visits.band == b
            self.template_fwhm[b] = 0.95 * np.median(self.visits.fwhm_arcsec[mine]) * np.exp(0.08 * draw[b])
            self.template_sigma[b] = np.median(sigma[mine]) / np.sqrt(n[b])

    def _fit_spectra(self):
        """Per visit, the static scene's spectrum as a PSF fit weighs it, and as source noise weighs it; (n, l, m) complex64."""
        if self._fit is None:
            v, survey = self.visits, self.survey
            rows, east, north, common = _fit_grid(survey)
            shape = (len(v), len(rows), east.shape[1])
            flux, weight = np.empty(shape, np.complex64), np.empty(shape, np.complex64)
            scenes = {b: spectrum[rows, : east.shape[1]] * common for b, spectrum in self.spectra.items()}
            k = self._wave_numbers(np.arange(len(v)), east, north)
            area = v.noise_area_px().astype(np.float32)
            for beta in BETAS:
                for b in self.spectra:
                    mine = np.flatnonzero((v.beta == beta) & (v.band == b))
                    if len(mine):
                        psf = transfer(k[mine], beta)
                        seen = psf * scenes[b]
                        flux[mine] = seen * psf * area[mine, None, None]
                        weight[mine] = seen * transfer_of_square(k[mine], beta)
            self._fit = flux, weight
        return self._fit

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
        flux, weight = self._fit_spectra()
        _, fe, fn, _ = _fit_grid(self.survey)
        origin = (self.side - 1) / 2 * self.scale
        fe, fn = 2 * np.pi * fe[0], 2 * np.pi * fn[:, 0]
        out = np.zeros((5, len(index)))
        for start in range(0, len(index), 256):  # in blocks that stay in the cache
            some = slice(start, start + 256)
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
        """Spline coefficients of the static scene through visit i's PSF, flux per pixel of the visit; the last one is kept."""
        if self._convolved[0] != i:
            v = self.visits
            east, north, extra = _frequencies(self.survey)
            psf = transfer(self._wave_numbers(np.array([i]), east, north)[0], v.beta[i]) * extra
            self._convolved = i, fft.irfft2(self.spectra[v.band[i]] * psf, s=(self.side, self.side))
        return self._convolved[1]

    def _template_scene(self, b):
        if b not in self._templates:
            east, north, extra = _frequencies(self.survey)
            a = np.float32(2 * np.pi * moffat_radius(self.template_fwhm[b], TEMPLATE_BETA))
            psf = transfer(a * np.sqrt(east * east + north * north), TEMPLATE_BETA) * extra
            self._templates[b] = fft.irfft2(self.spectra[b] * psf, s=(self.side, self.side))
        return self._templates[b]

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

    def point_sources(self, i, flux, x, y, template=False):
        """Image of all point sources of visit i with given fluxes, at pixel columns x and rows y; (H, W)."""
        v, px = self.visits, self.visits.pixel_scale
        if template:
            b = v.band[i]
            shape = self.template_fwhm[b] / px, TEMPLATE_BETA, 0.0, 0.0
        else:
            shape = v.fwhm_arcsec[i] / px, v.beta[i], v.e1[i], v.e2[i]
        image = np.zeros((len(y), len(x)))
        for j in np.flatnonzero(flux):
            sx, sy = self.to_pixel(i, *self.offset[j, i])
            columns, rows = (slice(*np.searchsorted(at, (s - PSF_REACH_PX, s + PSF_REACH_PX))) for at, s in ((x, sx), (y, sy)))
            if len(x[columns]) and len(y[rows]):
                image[rows, columns] += flux[j] * pixel_psf(x[columns] - sx, y[rows] - sy, *shape)
        return image

    def psf(self, i, x, y):
        """The visit's PSF at columns x and rows y relative to the source, unit flux."""
        v = self.visits
        return pixel_psf(x, y, v.fwhm_arcsec[i] / v.pixel_scale, v.beta[i], v.e1[i], v.e2[i])

    def template_psf(self, b):
        """PSF of a band's template as its stamp holds it: unit sum, odd side of about 9.6 FWHM (33 to 77 px in real ones)."""
        fwhm = self.template_fwhm[b] / self.visits.pixel_scale
        half = int(np.clip(round(4.8 * fwhm), 16, 38))
        at = np.arange(-half, half + 1, dtype=float)
        psf = pixel_psf(at, at, fwhm, TEMPLATE_BETA)
        return psf / psf.sum()

    def _read(self, coefficients, i, x, y):
        """A scene at pixels of visit i; outside the grid it is zero."""
        if self.survey == "ztf":
            image = self._read_aligned(coefficients, x, y)
            if image is not None:
                return image
        east, north = self.to_sky(i, x[None, :], y[:, None])
        centre = (self.side - 1) / 2
        places = np.stack([north / self.scale + centre, east / self.scale + centre])
        return map_coordinates(coefficients, places, order=3, prefilter=False, mode="constant").astype(float)

    def _read_aligned(self, coefficients, x, y):
        """The same where pixels are two samples apart and along the grid: four taps a side; None if it leaves the grid.

        Columns and rows grow west and south, so both run backwards over the grid.
        """
        centre, step = (self.side - 1) / 2, round(self.visits.pixel_scale / self.scale)
        image = coefficients
        for axis, at in ((0, y), (1, x)):
            last = centre - step * at[-1]  # the lowest sample that is read
            low = int(np.floor(last))
            if low < 1 or low + step * (len(at) - 1) + 2 >= self.side:
                return None
            taps = []
            for tap, weight in zip((-1, 0, 1, 2), _cubic_weights(last - low)):
                part = slice(low + tap, low + tap + step * (len(at) - 1) + 1, step)
                taps.append(np.float32(weight) * (image[part] if axis == 0 else image[:, part]))
            image = np.flip(sum(taps[1:], taps[0]), axis=axis)
        return image.astype(float)

    def render(self, i, x0, y0, width, height, rng, artefact=None, scale_error=None, shift=None, width_error=None):
        """The images of visit i on `width` x `height` pixels from (x0, y0), a Patch.

        Parameters
        ----------
        rng : Generator
            For the noise.
        artefact : array, shape (height, width), optional
            Light that only this visit has and no PSF spread (a cosmic ray, a bad column) [nJy].
        scale_error, shift, width_error : optional
            The subtraction's errors instead of the visit's own: fraction, (east, north) in arcsec, fraction.
        """
        v = self.visits
        b = v.band[i]
        x, y = x0 + np.arange(width, dtype=float), y0 + np.arange(height, dtype=float)
        template = self._read(self._template_scene(b), i, x, y) + self.point_sources(i, self.template_flux[:, i], x, y, True)
        change = self.point_sources(i, self.change[:, i], x, y)
        x, y = x0 + np.arange(-2.0, width + 2.0), y0 + np.arange(-2.0, height + 2.0)
        bordered = self._read(self._science_scene(i), i, x, y) + self.point_sources(i, self.template_flux[:, i], x, y)
        standing = bordered[2:-2, 2:-2]
        shift = (v.shift_e[i], v.shift_n[i]) if shift is None else shift
        scale_error = v.scale_error[i] if scale_error is None else scale_error
        width_error = v.width_error[i] if width_error is None else width_error
        residual = self._residual(bordered, i, shift, scale_error, width_error)
        science = standing + change
        if artefact is not None:
            science = science + artefact
            change = change + artefact
        gain = v.njy_per_electron()[i]
        variance = v.pixel_sigma_njy()[i] ** 2 + gain * np.maximum(science, 0.0)
        template_variance = self.template_sigma[b] ** 2 + gain / self.template_visits[b] * np.maximum(template, 0.0)
        noise = rng.standard_normal((2, height, width), dtype=np.float32)
        own = noise[0] * np.sqrt(variance)
        deep = noise[1] * np.sqrt(template_variance)
        return Patch(
            science=science + own,
            template=template + _warped(deep),
            difference=change + residual + own - deep,
            science_variance=variance,
            template_variance=template_variance,
            difference_variance=variance + template_variance,
            noise=own - deep,
            deep_noise=deep,
            x0=x0,
            y0=y0,
        )

    def _residual(self, image, i, shift, scale_error, width_error):
        """What the subtraction leaves of a standing image: -(scale) I - shift . grad I + (width) sigma^2 lap I.

        A kernel too wide by a fraction w is a variance too large by 2 w sigma^2, and half of that times the Laplacian is added.
        `image` has a border of two pixels more than the result.
        """
        middle = image[2:-2, 2:-2]
        dx, dy = self.to_pixel(i, *shift)
        sigma_sq = (self.visits.fwhm_arcsec[i] / self.visits.pixel_scale / 2.355) ** 2
        out = -scale_error * middle
        for step, axis in ((dx, 1), (dy, 0)):
            one, two = (_neighbours(image, axis, n) for n in (1, 2))
            out -= (step / 12.0) * (8.0 * (one[1] - one[0]) - (two[1] - two[0]))  # fourth order
            out += (width_error * sigma_sq) * (one[0] + one[1] - 2.0 * middle)
        return out


def _neighbours(image, axis, n):
    """The image moved by -n and +n pixels along an axis, its border of two pixels cut."""
    cut, size = slice(2, -2), image.shape[axis]
    before, after = slice(2 - n, size - 2 - n), slice(2 + n, size - 2 + n)
    return (image[cut, before], image[cut, after]) if axis else (image[before, cut], image[after, cut])


def _wave_number(a, e1, e2, c, s, east, north):
    """k = a |f| with the ellipticity's metric, for an ellipticity in a frame turned by (cos, sin) = (c, s) to the sky."""
    fx, fy = s * north - c * east, s * east + c * north
    e_sq = e1 * e1 + e2 * e2
    unit = a * a / (1 - e_sq)
    q = ((1 + e_sq + 2 * e1) * unit) * fx * fx + ((1 + e_sq - 2 * e1) * unit) * fy * fy
    q += (4 * e2 * unit) * fx * fy
    return np.sqrt(q)


def _cubic_weights(t):
    """Weights of a cubic B-spline's four coefficients at a fraction t between the middle two."""
    u = 1.0 - t
    return u**3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (4 - 6 * u**2 + 3 * u**3) / 6, t**3 / 6


def _warped(noise):
    """Template noise as warping leaves it: neighbours correlated by a quarter, variance kept (both as in real stamps)."""
    out = np.pad(noise, 1, mode="wrap")
    out = 0.1326 * out[:-2] + out[1:-1] + 0.1326 * out[2:]
    out = 0.1326 * out[:, :-2] + out[:, 1:-1] + 0.1326 * out[:, 2:]
    return out / 1.03516  # (1 + 2 * 0.1326^2): the variance that the two passes give
