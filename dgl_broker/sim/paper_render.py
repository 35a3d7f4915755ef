"""Epochs of a paper-set system as images with noise, and the published preprocessing that turns them into two arrays.

A Gaussian PSF is separable: a static scene is convolved by two matrix products an epoch and band, and a point source is the
outer product of two differences of error functions, which integrates it over pixels.
"""

import numpy as np
from scipy.special import erf

from dgl_broker.paper_example import scale_jointly
from dgl_broker.sim.paper_recipe import SIDE

PAD = 9  # pixels of static scene kept around the image: light there is blurred into it
APERTURE_PX = 15.0
_CENTRE = (SIDE - 1) // 2
_ROW, _COLUMN = np.mgrid[:SIDE, :SIDE]
INSIDE = np.hypot(_ROW - _CENTRE, _COLUMN - _CENTRE) <= APERTURE_PX  # 709 pixels
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def blur(static, sigma_px):
    """A padded static scene (B, S, S), S = 45 + 2 x 9, under the PSF of each epoch and band, (T, B, 45, 45) float32.

    Parameters
    ----------
    static : array, shape (B, S, S)
    sigma_px : array, shape (T, B)
        Where all epochs agree, each band is blurred once.
    """
    if np.all(sigma_px == sigma_px[0]):
        return np.broadcast_to(_blur(static, sigma_px[:1]), (len(sigma_px), len(static), SIDE, SIDE))
    return _blur(static, sigma_px)


def _blur(static, sigma_px):
    distance = (np.arange(static.shape[-1])[None, :] - PAD - np.arange(SIDE)[:, None]).astype(np.float32)
    kernel = np.exp(-0.5 * (distance / sigma_px[..., None, None].astype(np.float32)) ** 2)
    kernel /= np.float32(np.sqrt(2 * np.pi)) * sigma_px[..., None, None].astype(np.float32)
    return kernel @ static.astype(np.float32) @ kernel.transpose(0, 1, 3, 2)


def point_sources(x_px, y_px, flux, sigma_px):
    """Point sources integrated over pixels, (T, B, 45, 45) float32.

    Parameters
    ----------
    x_px, y_px : arrays, shape (K,)
        Column and row relative to the middle pixel.
    flux : array, shape (K, T, B)
    sigma_px : array, shape (T, B)
    """
    edges = np.arange(SIDE + 1) - 0.5 * SIDE
    scale = 1.0 / (np.sqrt(2.0) * sigma_px)

    def share(place):
        cumulative = erf((edges[None, None, None, :] - place[:, None, None, None]) * scale[None, :, :, None])
        return 0.5 * np.diff(cumulative, axis=-1)

    along_x, along_y = share(np.asarray(x_px, float)), share(np.asarray(y_px, float))
    rows = np.moveaxis(along_y * flux[..., None], 0, -1).astype(np.float32)
    columns = np.moveaxis(along_x, 0, -2).astype(np.float32)
    return rows @ columns


def sky_sigma(sky_counts_s_arcsec2, pixel_arcsec, read_noise_e, exposure_s):
    """Noise of an empty pixel [e/s] from sky and read-out in one exposure; all broadcast."""
    variance = read_noise_e**2 + exposure_s * sky_counts_s_arcsec2 * pixel_arcsec**2
    return np.sqrt(variance) / exposure_s


def add_noise(rng, images, sigma_sky, exposure_s):
    """Images (T, B, 45, 45) [e/s] with Gaussian noise of sky (T, B) and of the sources' own photons (exposures (B,) [s])."""
    variance = sigma_sky[..., None, None].astype(np.float32) ** 2
    photons = np.abs(images) / np.asarray(exposure_s, np.float32)[None, :, None, None]
    return images + rng.standard_normal(images.shape, np.float32) * np.sqrt(photons + variance)


def preprocess(images):
    """The published preprocessing (`process.py` of DeepZipper): one image and one light curve from all epochs.

    The image is the mean over epochs. A light curve is, per epoch and band, the sum within 15 pixels of the middle one less
    the median outside times the number inside: lens, host and supernova together, no template. Both are scaled to 0..1 over
    all their bands (and epochs) at once.

    Parameters
    ----------
    images : array, shape (T, B, 45, 45)

    Returns
    -------
    image (B, 45, 45), light_curve (T, B) : float32
    usable : bool
        False where either is constant or not finite; it is zero then.
    """
    images = np.asarray(images, np.float32)
    light_curve = aperture_light_curve(images)
    image, image_good = scale_jointly(images.mean(axis=0)[None])
    curve, curve_good = scale_jointly(light_curve[None])
    return image[0], curve[0], bool(image_good[0] and curve_good[0])


def aperture_light_curve(images):
    """Background-subtracted aperture sums (T, B), before scaling."""
    flat = images.reshape(*images.shape[:2], SIDE * SIDE)
    inside = INSIDE.ravel()
    with np.errstate(invalid="ignore"):  # of infinite pixels; `preprocess` refuses what comes of them
        background = np.median(flat[..., ~inside], axis=-1)
        return flat[..., inside].sum(axis=-1, dtype=np.float64) - background * np.count_nonzero(inside)
