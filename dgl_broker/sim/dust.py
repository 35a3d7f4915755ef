"""Extinction by dust: Cardelli, Clayton & Mathis (1989, doi:10.1086/167900), and how much of it the Milky Way has."""

import numpy as np

R_V = 3.1  # mean of the diffuse Milky Way


def extinction_per_ebv(wave_angstrom):
    """A(lambda) / E(B-V) of the CCM89 law at R_V = 3.1, for 900 A to 10 um; held constant beyond.

    Parameters
    ----------
    wave_angstrom : array
        Vacuum wavelength in the frame of the dust [A].
    """
    x = np.clip(1e4 / np.asarray(wave_angstrom, float), 0.1, 11.0)
    y = x - 1.82
    infrared_a, infrared_b = 0.574 * x**1.61, -0.527 * x**1.61
    optical_a = np.polynomial.polynomial.polyval(y, [1.0, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.77530, 0.32999])
    optical_b = np.polynomial.polynomial.polyval(y, [0.0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.30260, -2.09002])
    bump = np.clip(x - 5.9, 0.0, None)
    bump_a, bump_b = -0.04473 * bump**2 - 0.009779 * bump**3, 0.2130 * bump**2 + 0.1207 * bump**3
    ultraviolet_a = 1.752 - 0.316 * x - 0.104 / ((x - 4.67) ** 2 + 0.341) + bump_a
    ultraviolet_b = -3.090 + 1.825 * x + 1.206 / ((x - 4.62) ** 2 + 0.263) + bump_b
    far = np.clip(x, 8.0, None) - 8.0
    far_a = -1.073 - 0.628 * far + 0.137 * far**2 - 0.070 * far**3
    far_b = 13.670 + 4.257 * far - 0.420 * far**2 + 0.374 * far**3
    regions = [x < 1.1, x < 3.3, x < 8.0]
    a = np.select(regions, [infrared_a, optical_a, ultraviolet_a], far_a)
    b = np.select(regions, [infrared_b, optical_b, ultraviolet_b], far_b)
    return R_V * (a + b / R_V)


def draw_milky_way_ebv(rng, galactic_latitude_deg):
    """E(B-V) of the Milky Way [mag]: a plane-parallel layer, 0.024 / sin|b|, with 0.18 dex of patchiness, at most 1.

    The layer is a fit by eye to the mean of the dust maps (Schlegel+ 1998, Schlafly & Finkbeiner 2011: 0.02 to 0.03 at
    the poles); the survey's own sky is patchier, and nothing depends on a source's true line of sight.
    """
    slab = 0.024 / np.sin(np.radians(np.maximum(abs(galactic_latitude_deg), 5.0)))
    return float(min(slab * 10.0 ** rng.normal(0.0, 0.18), 1.0))


def galactic_latitude_deg(ra_deg, dec_deg):
    """Galactic latitude [deg] of an ICRS position; the pole is at 192.8595, +27.1283 (Hipparcos catalogue, vol. 1)."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    pole_ra, pole_dec = np.radians(192.85948), np.radians(27.12825)
    sine = np.sin(dec) * np.sin(pole_dec) + np.cos(dec) * np.cos(pole_dec) * np.cos(ra - pole_ra)
    return np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))
