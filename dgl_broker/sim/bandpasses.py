"""Filter curves of the surveys as arrays, and AB photometry of spectra through them.

LSST: speclite's `lsst2023-*` (total throughputs, BSD-3). DECam griz of the paper sets: speclite's `decam2014-*`. ZTF has
no curve there: g, r and i are trapezoids with half-power points and mean wavelengths after Bellm et al. (2019,
doi:10.1088/1538-3873/aaecbe) and Dekany et al. (2020), 4087-5522, 5600-7316 and 7027-8883 A, with soft edges.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.photometry import AB_ZERO_POINT_NJY

SURVEY_BANDS = {"lsst": "ugrizy", "ztf": "gri", "des": "griz"}
C_ANGSTROM_S = 2.99792458e18
AB_FNU_CGS = 3631e-23  # erg/s/cm2/Hz of AB magnitude 0, Oke & Gunn 1983
NJY_OF_AB_ZERO = 10.0 ** (0.4 * AB_ZERO_POINT_NJY)

_ZTF_HALF_POWER = {"g": (4087.0, 5522.0, 60.0), "r": (5600.0, 7316.0, 50.0), "i": (7027.0, 8883.0, 60.0)}


@dataclass(frozen=True)
class Bandpass:
    """One filter: response to photons on a wavelength grid [A], and its pivot wavelength [A]."""

    wave: np.ndarray
    response: np.ndarray

    @property
    def pivot_angstrom(self):
        """sqrt(int T lambda dlambda / int T / lambda dlambda): what turns f_nu to f_lambda exactly."""
        above = np.trapezoid(self.response * self.wave, self.wave)
        below = np.trapezoid(self.response / self.wave, self.wave)
        return float(np.sqrt(above / below))

    def weights(self, wave, z):
        """Weights w so that w @ f_lambda(rest) is f_nu / f_nu(AB 0) of that spectrum at redshift z, distance unchanged.

        Parameters
        ----------
        wave : array, shape (m,)
            Rest wavelengths of the spectrum [A], evenly spaced.
        z : float
            Redshift; the spectrum is f_lambda at the source's own distance of 10 pc [erg/s/cm2/A].
        """
        observed = wave * (1.0 + z)
        response = np.interp(observed, self.wave, self.response, left=0.0, right=0.0)
        norm = AB_FNU_CGS * C_ANGSTROM_S * np.trapezoid(self.response / self.wave, self.wave)
        # f_lambda is diluted by 1 + z; d(lambda_obs) brings it back.
        return response * observed * np.gradient(wave) / norm


def _soft_trapezoid(low, high, width):
    wave = np.arange(low - 6 * width, high + 6 * width, 10.0)
    return Bandpass(wave, 1.0 / (1.0 + np.exp(-(wave - low) / width * 2)) / (1.0 + np.exp((wave - high) / width * 2)))


@cache
def bandpasses(survey):
    """Filter curves of "lsst", "ztf" or "des" as a dict band -> Bandpass."""
    if survey == "ztf":
        return {band: _soft_trapezoid(*edges) for band, edges in _ZTF_HALF_POWER.items()}
    from speclite.filters import load_filter

    group = {"lsst": "lsst2023", "des": "decam2014"}[survey]
    curves = {}
    for band in SURVEY_BANDS[survey]:
        curve = load_filter(f"{group}-{band}")
        curves[band] = Bandpass(np.asarray(curve.wavelength, float), np.asarray(curve.response, float))
    return curves


@cache
def pivots_angstrom(survey):
    """Pivot wavelength [A] of each of `BANDS` in `survey`; bands that it lacks take LSST's."""
    own = bandpasses(survey)
    other = bandpasses("lsst")
    return np.array([own.get(band, other.get(band)).pivot_angstrom for band in BANDS])


def planck_fnu(wave_angstrom, temperature_k):
    """Planck's B_nu up to a factor that does not depend on temperature or wavelength; broadcast."""
    wave = np.asarray(wave_angstrom, float)
    x = np.clip(1.43877688e8 / (wave * np.asarray(temperature_k, float)), None, 600.0)
    return (1e4 / wave) ** 3 / np.expm1(x)
