"""PSF photometry of all visits of a system at once, without their images.

A PSF fit at a place reads each point source through the PSF's overlap with itself, the subtraction's errors on the static
scene, and noise. The images of a visit, where they are made, are conditioned on these numbers (`sim.stamps`), so that a flux in
a packet is what its stamp gives.
"""

from dataclasses import dataclass

import numpy as np

from dgl_broker.sim.observe import FIELD_ARCSEC
from dgl_broker.sim.psf import BETAS, overlap, sky_limited_ratio


def point_noise(beta):
    """Flux per pixel of a unit point source as its own fit weighs it, times the noise-equivalent area: 4/3 for a Gaussian."""
    return (2 * beta - 1) ** 2 / ((3 * beta - 1) * (beta - 1))


@dataclass
class Photometry:
    """PSF fluxes at m places, all arrays (m,) in nJy.

    `flux` is of the difference, `science` of the visit image, `template` of the PSF-matched template; `variable` is the part of
    `flux` that is change of the point sources, `static` what a perfect template holds there, `deep` the template's noise.
    """

    flux: np.ndarray
    error: np.ndarray
    science: np.ndarray
    science_error: np.ndarray
    template: np.ndarray
    template_error: np.ndarray
    variable: np.ndarray
    static: np.ndarray
    deep: np.ndarray


class Measurer:
    """Fluxes of one system's visits at any place.

    Parameters
    ----------
    sky : Sky
    rng : Generator
        Noise is drawn once, here: per visit and point source, correlated between sources as PSF overlap makes it. A place takes
        the noise of the nearest source as far as it overlaps.
    """

    def __init__(self, sky, rng):
        self.sky, v = sky, sky.visits
        n_sources, n = sky.flux.shape
        ratio = np.array([sky_limited_ratio(b) for b in BETAS])[np.searchsorted(BETAS, v.beta)]
        self.effective_fwhm = ratio * v.fwhm_arcsec * 2.355 / np.sqrt(4 * np.pi)  # of the Gaussian of equal noise area
        self.area = v.noise_area_px()
        self.sky_error = v.flux_sigma_njy()
        self.gain = v.njy_per_electron()
        self.template_ratio = np.zeros(n)  # template's pixel sigma over the visit's
        pixel = v.pixel_sigma_njy()
        if n:
            self.template_ratio = sky.template_sigma[v.band] / pixel
        self.in_field = np.hypot(sky.offset[..., 0], sky.offset[..., 1]) < FIELD_ARCSEC[v.survey]
        anchors = max(n_sources, 1)
        self.anchor = np.zeros((anchors, n, 2)) if n_sources == 0 else np.where(self.in_field[..., None], sky.offset, 0.0)
        unit = rng.standard_normal((n, anchors, 2))
        self.extra = unit[..., 1]
        if anchors > 1:
            distance = np.linalg.norm(self.anchor[:, None] - self.anchor[None], axis=-1)
            correlation = self._overlap(distance.transpose(2, 0, 1), np.arange(n)[:, None, None])
            # Sources on one place have equal noise; the small diagonal keeps the factorisation regular.
            correlation = 0.9999 * correlation + 0.0001 * np.eye(anchors)
            self.unit = np.einsum("nij,nj->ni", np.linalg.cholesky(correlation), unit[..., 0])
        else:
            self.unit = unit[..., 0]
        self.template_unit = rng.standard_normal(n)

    def _overlap(self, distance, visit):
        """PSF overlap at distances [arcsec] in visits (broadcast together)."""
        v = self.sky.visits
        scaled = distance / v.fwhm_arcsec[visit]
        beta = np.broadcast_to(v.beta[visit], scaled.shape)
        out = np.empty(scaled.shape)
        for b in BETAS:
            mine = beta == b
            out[mine] = overlap(scaled[mine], b)
        return out

    def noise(self, visit, east, north):
        """Noise at places, in units of the error, (m,)."""
        anchor = self.anchor[:, visit]
        distance = np.hypot(anchor[..., 0] - east, anchor[..., 1] - north)
        nearest = np.argmin(distance, axis=0)
        m = np.arange(len(visit))
        rho = self._overlap(distance[nearest, m], visit)
        return rho * self.unit[visit, nearest] + np.sqrt(1 - rho**2) * self.extra[visit, nearest]

    def variable(self, flux, visit, east, north):
        """What a PSF fit at places reads of point sources with fluxes (S, n); (m,)."""
        sky = self.sky
        if not len(flux):
            return np.zeros(len(visit))
        at = sky.offset[:, visit]
        distance = np.hypot(at[..., 0] - east, at[..., 1] - north)
        rho = np.where(self.in_field[:, visit], self._overlap(distance, np.broadcast_to(visit, distance.shape)), 0.0)
        return np.sum(rho * flux[:, visit], axis=0)

    def at(self, visit, east, north, noise=True):
        """PSF photometry at places.

        Parameters
        ----------
        visit : int array, shape (m,)
        east, north : arrays, shape (m,)
            Places [arcsec] from the system's centre.

        Returns
        -------
        Photometry
        """
        sky, v = self.sky, self.sky.visits
        static, slope_e, slope_n, bend, in_pixel = sky.static_at(visit, east, north)
        change = self.variable(sky.change, visit, east, north)
        standing = self.variable(sky.template_flux, visit, east, north)
        sigma_sq = (v.fwhm_arcsec[visit] / 2.355) ** 2
        residual = v.width_error[visit] * sigma_sq * bend - v.scale_error[visit] * (static + standing)
        residual -= v.shift_e[visit] * slope_e + v.shift_n[visit] * slope_n
        light = in_pixel + point_noise(v.beta[visit]) * np.maximum(change + standing, 0.0) / self.area[visit]
        source = light * self.gain[visit] * self.area[visit]
        science_error = np.sqrt(self.sky_error[visit] ** 2 + source)
        template_error = self.template_ratio[visit] * self.sky_error[visit]
        error = np.hypot(science_error, template_error)
        if noise:
            unit = self.noise(visit, east, north)
            # Of the difference's noise z sigma, the template's share; what is left of its own noise is independent of z.
            deep = (science_error * self.template_unit[visit] - template_error * unit) * template_error / error
        else:
            unit = deep = np.zeros(len(visit))
        flux = change + residual + unit * error
        matched = static + standing - residual + deep
        return Photometry(
            flux=flux,
            error=error,
            science=flux + matched,
            science_error=science_error,
            template=matched,
            template_error=template_error,
            variable=change,
            static=static + standing,
            deep=deep,
        )
