"""What a survey's images show of a system: the static scene through each visit's PSF, point sources, noise, subtraction errors.

Point sources are Moffat profiles integrated over pixels; the static scene comes from `seen_scene`. The difference image is what
PSF matching leaves: the change of the point sources, noise, and the scene times the visit's errors of scale, registration and
kernel width.
"""

from dataclasses import dataclass

import numpy as np

from dgl_broker.sim.psf import pixel_psf
from dgl_broker.sim.seen_scene import TEMPLATE_BETA, SeenScene

EDGE_SHARE = 0.007
DETECTOR = {"lsst": (4072, 4000), "ztf": (3072, 3080)}  # columns and rows
FIELD_ARCSEC = {"lsst": 8.5, "ztf": 25.0}  # point sources farther out are not seen
PSF_REACH_PX = 36.0  # a Moffat of FWHM 4 px is there a millionth of its peak


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


class Sky(SeenScene):
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
        super().__init__(system.scene, visits)
        self.system = system
        self.flux, self.template_flux, self.offset = flux_njy, template_njy, offset_arcsec
        self.change = flux_njy - template_njy
        width, height = DETECTOR[self.survey]
        self.centre_pixel = system.rng(22).uniform((60, 60), (width - 60, height - 60), (len(visits), 2))
        if self.survey == "ztf":  # 3 of 480 real alerts have stamps cut by the detector's edge
            near = system.rng(23).uniform(size=(len(visits), 2))
            self.centre_pixel[:, 0] = np.where(near[:, 0] < EDGE_SHARE, 5 + 25 * near[:, 1], self.centre_pixel[:, 0])
        self._draw_templates()

    def _draw_templates(self):
        """Depth and seeing of each band's template: 6 to 60 visits (ZTF: 16) of a little better seeing than the median's."""
        rng = self.system.rng(21)
        ztf = self.survey == "ztf"
        n = np.full(6, 16.0) if ztf else np.exp(rng.uniform(np.log(6.0), np.log(60.0), 6))
        draw = rng.standard_normal(6)
        self.template_visits = n
        self.template_sigma = np.full(6, np.nan)
        sigma = self.visits.pixel_sigma_njy()
        for b in self.spectra:
            mine = self.visits.band == b
            self.template_fwhm[b] = 0.95 * np.median(self.visits.fwhm_arcsec[mine]) * np.exp(0.08 * draw[b])
            self.template_sigma[b] = np.median(sigma[mine]) / np.sqrt(n[b])

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
        template = self.read_template(i, x, y) + self.point_sources(i, self.template_flux[:, i], x, y, True)
        change = self.point_sources(i, self.change[:, i], x, y)
        x, y = x0 + np.arange(-2.0, width + 2.0), y0 + np.arange(-2.0, height + 2.0)
        bordered = self.read_scene(i, x, y) + self.point_sources(i, self.template_flux[:, i], x, y)
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


def _warped(noise):
    """Template noise as warping leaves it: neighbours correlated by a quarter, variance kept (both as in real stamps)."""
    out = np.pad(noise, 1, mode="wrap")
    out = 0.1326 * out[:-2] + out[1:-1] + 0.1326 * out[2:]
    out = 0.1326 * out[:, :-2] + out[:, 1:-1] + 0.1326 * out[:, 2:]
    return out / 1.03516  # (1 + 2 * 0.1326^2): the variance that the two passes give
