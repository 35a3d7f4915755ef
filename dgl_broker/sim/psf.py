"""Moffat point-spread functions of half-integer index, whose transforms are closed forms: pixels, transfer functions, overlaps.

A Moffat profile (1 + r^2/a^2)^-beta describes the PSFs stored in real LSST template stamps with beta 2.3 to 3.7, median 3.4
(fitted to the PSFIMAGE planes of v9 and v10 alerts). Its transform is k^(beta-1) K_(beta-1)(k) with k = 2 pi a f, which for
beta = 2.5, 3.5, 4.5 is a polynomial times exp(-k).
"""

from functools import lru_cache

import numpy as np
from scipy.special import gamma, j0, kv

BETAS = (2.5, 3.5, 4.5)
_POLYNOMIAL = {2.5: (1.0, 1.0), 3.5: (1.0, 1.0, 1 / 3), 4.5: (1.0, 1.0, 2 / 5, 1 / 15)}  # in k, so that the value at 0 is 1


def moffat_radius(fwhm, beta):
    """Scale radius a of a Moffat profile, in the unit of `fwhm`."""
    return 0.5 * fwhm / np.sqrt(2.0 ** (1.0 / beta) - 1.0)


@lru_cache(maxsize=64)
def sky_limited_ratio(beta):
    """sqrt(noise-equivalent area) / FWHM of a round Moffat profile without pixels: area = int P^2 d2x inverted."""
    a = moffat_radius(1.0, beta)
    return float(np.sqrt(np.pi * a**2 * (2 * beta - 1) / (beta - 1) ** 2))


def transfer(k, beta):
    """Transform of a unit-flux Moffat profile at k = 2 pi a f; any shape, same dtype."""
    coefficients = _POLYNOMIAL[beta]
    value = np.full_like(k, coefficients[-1])
    for c in coefficients[-2::-1]:
        value *= k
        value += c
    value *= np.exp(-k)
    return value


def pixel_psf(dx, dy, fwhm_px, beta, e1=0.0, e2=0.0):
    """Unit-flux Moffat profile integrated over square pixels, to second order: P + lap P / 24 (3e-3 of the peak at FWHM 3 px).

    Parameters
    ----------
    dx, dy : arrays, shape (W,) and (H,)
        Pixel centres along x and y relative to the source [pixel].
    fwhm_px : float
        FWHM [pixel] of the round profile of the same area.
    e1, e2 : float
        Ellipticity: axis ratio (1 - e) / (1 + e) along half the angle of (e1, e2).

    Returns
    -------
    array, shape (H, W), float64
    """
    a = moffat_radius(fwhm_px, beta)
    e_sq = e1 * e1 + e2 * e2
    unit = 1.0 / (a * a * (1 - e_sq))
    q = (((1 + e_sq - 2 * e1) * unit) * dx * dx)[None, :] + (1.0 + ((1 + e_sq + 2 * e1) * unit) * dy * dy)[:, None]
    if e2:
        q += ((-4 * e2 * unit) * dy)[:, None] * dx[None, :]
    inverse = np.reciprocal(q)
    profile = inverse * inverse
    if beta > 3.0:
        profile *= inverse
    if beta > 4.0:
        profile *= inverse
    profile *= np.sqrt(inverse)
    # lap P / P = (4 beta / a^2) [(beta + 1) (q - 1) / q^2 - 1 / q], for the round profile.
    bend = (beta + 1) - (beta + 1) * inverse - 1.0
    bend *= inverse
    bend *= beta / (6.0 * a * a)
    bend += 1.0
    profile *= bend
    profile *= (beta - 1.0) / (np.pi * a * a)
    return profile


@lru_cache(maxsize=64)
def _overlap_table(beta):
    """Autocorrelation of a round Moffat profile, normalised to 1 at 0, against distance in FWHM."""
    k = np.linspace(0.0, 40.0, 4001)
    weight = transfer(k, beta) ** 2 * k
    distance = np.linspace(0.0, 8.0, 801)
    a = moffat_radius(1.0, beta)
    value = np.trapezoid(weight * j0(np.outer(distance / a, k)), k, axis=1)
    return distance, value / value[0]


def overlap(distance_fwhm, beta):
    """What a PSF fit reads of a unit source at a distance: sum P(x) P(x - d) / sum P^2, for a round PSF.

    It is the correlation of PSF-flux noise between two positions as well. `distance_fwhm` of any shape, in FWHM.
    """
    table = _overlap_table(beta)
    return np.interp(distance_fwhm, *table, right=0.0)


@lru_cache(maxsize=64)
def _square_transfer_table(beta):
    k = np.linspace(0.0, 40.0, 2001)
    order = 2 * beta - 1
    value = np.ones_like(k)
    value[1:] = 2.0 ** (1 - order) / gamma(order) * k[1:] ** order * kv(order, k[1:])
    return value.astype(np.float32)


def transfer_of_square(k, beta):
    """Transform, 1 at k = 0, of the squared profile (a Moffat of index 2 beta): it weighs source noise in PSF fits.

    Looked up at the nearest of steps of 0.02 in k, good to 0.5 %.
    """
    table = _square_transfer_table(beta)
    return table[np.minimum((50.0 * k + 0.5).astype(np.int32), len(table) - 1)]
