"""Small systems for tests of the survey side: Gaussian galaxies, point sources with a simple rise and fall, no population."""

import numpy as np
from scipy.special import erf

from dgl_broker.sim.system import CatalogueEntry, System

PEAK_MJD = 61000.0


class Galaxies:
    """Round Gaussian galaxies: (east, north, flux_njy, sigma_arcsec) each, the same in all bands, integrated over pixels."""

    def __init__(self, *galaxies):
        self.galaxies = galaxies

    def image_njy(self, bands, side, pixel_scale_arcsec):
        at = (np.arange(side) - (side - 1) / 2) * pixel_scale_arcsec
        half = pixel_scale_arcsec / 2
        image = np.zeros((side, side))
        for east, north, flux, sigma in self.galaxies:
            column, row = (
                0.5 * (erf((at - c + half) / sigma / 2**0.5) - erf((at - c - half) / sigma / 2**0.5)) for c in (east, north)
            )
            image += flux * np.outer(row, column)
        return np.repeat(image[None], len(bands), axis=0).astype(np.float32)


class Bursts:
    """Point sources at fixed offsets that rise as a Gaussian (8 d) and fall exponentially (30 d) from their peaks."""

    def __init__(self, places, peaks_njy, delays_days=None):
        self.places = np.array(places, float).reshape(-1, 2)
        self.n_sources = len(self.places)
        self.peaks = np.broadcast_to(peaks_njy, self.n_sources)
        self.delays = np.zeros(self.n_sources) if delays_days is None else np.array(delays_days, float)

    def flux_njy(self, mjd_tai, band):
        since = np.asarray(mjd_tai)[None] - PEAK_MJD - self.delays[:, None]
        shape = np.where(since < 0, np.exp(-0.5 * (since / 8.0) ** 2), np.exp(-np.maximum(since, 0) / 30.0))
        return self.peaks[:, None] * shape

    def offsets_arcsec(self, mjd_tai):
        return np.repeat(self.places[:, None], len(mjd_tai), axis=1)


class Steady(Bursts):
    """Point sources of constant flux (so none is left in a difference), or, from `PEAK_MJD` on, of `after_njy`."""

    def __init__(self, places, flux_njy, after_njy=None):
        super().__init__(places, flux_njy)
        self.after = self.peaks if after_njy is None else np.broadcast_to(after_njy, self.n_sources)

    def flux_njy(self, mjd_tai, band):
        return np.where(np.asarray(mjd_tai)[None] < PEAK_MJD, self.peaks[:, None], self.after[:, None]).astype(float)


def system(places=((0.8, 0.3),), peaks_njy=8000.0, galaxies=((0.0, 0.0, 60000.0, 0.5),), index=0, seed=1, **changes):
    """A system at ra 150, dec -30 that peaks on MJD 61000."""
    values = {
        "kind": "sn_ia_host",
        "ra": 150.0,
        "dec": -30.0,
        "scene": Galaxies(*galaxies),
        "variability": Bursts(places, peaks_njy, changes.pop("delays_days", None)),
        "reference_mjd_tai": PEAK_MJD,
        "active_days": (-40.0, 150.0),
        "catalogue": [CatalogueEntry(0.0, 0.0, 0.02, {"g": 20.4, "r": 19.3, "i": 18.9, "z": 18.6})],
        "truth": {"n_images": 1, "z_source": 0.3},
        **changes,
    }
    return System(seed=seed, index=index, **values)
