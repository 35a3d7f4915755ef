"""The published recipe of the paper's four sets: surveys' settings, what each class is made of, cadences.

Source: the configuration files of deepskies/DeepZipper (`high_cad`, `lsst`, `full`, `des_deep`; BSD-3), of which the data sets
of DeepGraviLens bear the names. Fluxes of the recipe are electrons per second on images whose zero points are below.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from dgl_broker.scores import CLASSES
from dgl_broker.sim.sim_data import need_data_folder

SIDE, PAPER_BANDS = 45, "griz"


@dataclass(frozen=True)
class Spread:
    """A quantity per band by its 16th, 50th and 84th percentile, drawn as a two-sided Gaussian; equal ones are fixed."""

    low: tuple
    median: tuple
    high: tuple

    def draw(self, rng, shape):
        """Values of `shape` (..., 4)."""
        low, median, high = (np.array(v) for v in (self.low, self.median, self.high))
        if self.fixed:
            return np.broadcast_to(median, shape).copy()
        score = ndtri(rng.uniform(0.02, 0.98, shape))  # the recipe's tables end about there
        return median + np.where(score < 0, median - low, high - median) * score

    @property
    def fixed(self):
        """True where nothing is drawn."""
        return self.low == self.median == self.high


def _fixed(*values):
    return Spread(values, values, values)


@dataclass(frozen=True)
class Recipe:
    """One of the four sets; magnitudes AB, zero points of 1 electron per second, seeing as FWHM [arcsec]."""

    name: str
    published_name: str
    filters: str  # name of the filter curves in `bandpasses`
    pixel_arcsec: float
    exposure_s: tuple
    read_noise_e: float
    zero_point_mag: Spread
    seeing_arcsec: Spread
    sky_mag_arcsec2: Spread
    nights: int  # simulated; the published chain drops the last
    peak_days: tuple  # of unlensed maximum, uniform on the clock of the nights
    detections: int  # band-epochs at 5 sigma that a visible transient must have (physical profile)

    @property
    def steps(self):
        """Steps of a light curve, T."""
        return self.nights - 1


_DES_SEEING = Spread((0.98, 0.86, 0.78, 0.74), (1.14, 0.98, 0.88, 0.84), (1.40, 1.16, 1.02, 0.98))
_DES_SKY = Spread((21.77, 20.87, 19.62, 18.42), (22.02, 21.17, 19.88, 18.73), (22.17, 21.33, 20.18, 18.97))
_DES_ZERO = _fixed(26.58, 26.78, 26.75, 26.48)
RECIPES = {
    "desi_dot": Recipe("desi_dot", "high_cad_data", "des", 0.263, (60.0,) * 4, 7.0, _DES_ZERO, _DES_SEEING, _DES_SKY,
                       15, (-20.0, 62.0), 3),
    "lsst_wide": Recipe("lsst_wide", "lsst_data", "lsst", 0.2, (30.0,) * 4, 10.0, _fixed(28.30, 28.13, 27.79, 27.40),
                        _fixed(0.77, 0.73, 0.71, 0.69), _fixed(22.26, 21.20, 20.48, 19.60), 15, (-20.0, 200.0), 3),
    "des_wide": Recipe("des_wide", "full_data", "des", 0.263, (90.0,) * 4, 7.0, _DES_ZERO, _DES_SEEING, _DES_SKY,
                       8, (-20.0, 1876.0), 2),
    # Its published zero points are drawn per epoch, around co-added images'; the true ones are the camera's.
    "des_deep": Recipe("des_deep", "des_deep_data", "des", 0.263, (175.0, 150.0, 200.0, 400.0), 7.0, _DES_ZERO,
                       Spread((1.30, 1.18, 1.13, 1.09), (1.59, 1.42, 1.43, 1.38), (2.26, 2.00, 1.87, 1.83)), _DES_SKY,
                       15, (-20.0, 118.0), 3),
}  # fmt: skip
# 50th and 84th percentile of the zero points that the published `des_deep` draws per epoch and band, and the share of the
# tabulated weight in the upper mode.
DEEP_ZERO_POINTS = ((30.83, 30.79, 31.17, 31.46), (31.9, 31.7, 33.4, 33.7), 0.17)


@dataclass(frozen=True)
class Configuration:
    """What one of the recipe's 17 configurations shows, and its share of all systems."""

    number: int
    label: str
    share: float
    galaxy: bool = True
    lensed: bool = False  # a source behind the galaxy
    companion: bool = False  # a second foreground galaxy 1 to 4 arcsec off on each axis
    stars: int = 0
    centred_star: bool = False
    supernova: str | None = None


_NO_LENS, _LENS, _IA, _CC = CLASSES
_N = 0.249 / 9
CONFIGURATIONS = (
    Configuration(1, _LENS, 0.0625, lensed=True),
    Configuration(2, _NO_LENS, _N, companion=True),
    Configuration(3, _IA, 0.125, lensed=True, supernova="Ia"),
    Configuration(4, _CC, 0.125, lensed=True, supernova="CC"),
    Configuration(5, _NO_LENS, _N),
    Configuration(6, _LENS, 0.0625, lensed=True, companion=True),
    Configuration(7, _LENS, 0.0625, lensed=True, stars=1),
    Configuration(8, _NO_LENS, _N, companion=True, stars=1),
    Configuration(9, _IA, 0.125, lensed=True, stars=1, supernova="Ia"),
    Configuration(10, _CC, 0.125, lensed=True, stars=1, supernova="CC"),
    Configuration(11, _NO_LENS, _N, stars=1),
    Configuration(12, _LENS, 0.0625, lensed=True, companion=True, stars=1),
    Configuration(13, _NO_LENS, _N, galaxy=False),
    Configuration(14, _NO_LENS, _N, galaxy=False, stars=1, centred_star=True),
    Configuration(15, _NO_LENS, _N, galaxy=False, stars=2),
    Configuration(16, _NO_LENS, _N, supernova="Ia"),
    Configuration(17, _NO_LENS, _N, supernova="CC"),
)


def draw_configuration(rng):
    """One configuration by its share."""
    share = np.array([configuration.share for configuration in CONFIGURATIONS])
    return CONFIGURATIONS[int(rng.choice(len(share), p=share / share.sum()))]


def draw_nights(rng, name):
    """Nights (nights, 4) [day] of griz on the recipe's clock, drawn afresh with the statistics of the published cadences.

    `desi_dot` and `des_deep` are every 3 and 7 days, all bands together. `lsst_wide`: gaps of 12 +- 5 days, bands on their own.
    `des_wide`: eight nights a band over five seasons, two a season, 370 days after the clock's zero.
    """
    n = RECIPES[name].nights
    if name in ("desi_dot", "des_deep"):
        return np.repeat((3.0 if name == "desi_dot" else 7.0) * np.arange(n)[:, None], 4, axis=1)
    if name == "lsst_wide":
        gaps = np.clip(rng.normal(12.0, 5.0, (n - 1, 4)), 0.5, None)
        return np.concatenate([np.zeros((1, 4)), np.cumsum(gaps, axis=0)])
    out = np.empty((n, 4))
    centre = 365.25 * np.arange(5) + 370.0 + rng.uniform(0.0, 70.0, 5)
    for band in range(4):
        first = centre + rng.uniform(-20.0, 20.0, 5)
        slots = np.concatenate([first, first + rng.uniform(2.0, 60.0, 5)])
        out[:, band] = np.sort(rng.choice(slots, n, replace=False))
    return out


def published_nights(name, data=None):
    """Nights of all published pointings, (pointings, nights, 4), as the published chain uses them: `des_wide` in raw MJD.

    Raises
    ------
    InputUnavailable
        Without the simulator's data.
    """
    if name in ("desi_dot", "des_deep"):
        return draw_nights(None, name)[None]
    from dgl_broker.yaml_reader import read_yaml

    file = {"lsst_wide": "lsst_cadence.yaml", "des_wide": "des_cadence.yaml"}[name]
    table = read_yaml(need_data_folder(data, f"the published profile of {name}") / "cadence" / file)
    pointings = [value for key, value in table.items() if key.startswith("POINTING")]
    return np.array([np.stack([pointing[band] for band in PAPER_BANDS], axis=-1) for pointing in pointings], float)


def reference_mjd(name, data=None):
    """What must be subtracted from `published_nights` so that maxima and nights share a clock; 0 but for `des_wide`."""
    if name != "des_wide":
        return 0.0
    from dgl_broker.yaml_reader import read_yaml

    return float(read_yaml(need_data_folder(data) / "cadence" / "des_cadence.yaml")["REFERENCE_MJD"])
