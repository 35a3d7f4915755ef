"""The visits of a system: times, bands, depths, seeing, orientation, and how well each is subtracted."""

from dataclasses import dataclass, fields

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.photometry import AB_ZERO_POINT_NJY
from dgl_broker.sim.cadence import MODELS, YEAR_DAYS, cadence
from dgl_broker.sim.psf import BETAS, sky_limited_ratio

PIXEL_SCALE = {"lsst": 0.2, "ztf": 1.012}  # arcsec; Rubin's camera, and ZTF's mean plate scale (Bellm et al. 2019)
EXPOSURE_S = {"lsst": 30.0, "ztf": 30.0}
PIXEL_AREA = (
    1.34  # what pixels of side 1 add to a Moffat profile's noise-equivalent area [pixel^2]; 1.31 to 1.43 at FWHM 3 to 6 px
)
# Median FWHM and lognormal scatter. LSST: zenith FWHM_eff .92 .87 .83 .80 .78 .76" (SMTN-002) as profile FWHM
# (.822 FWHM_eff + .052, LSE-40), 5 % more for mean airmass; the scatter reaches the 1" seen in the early alerts.
# ZTF: `sciinpseeing` of the forced photometry in real packets, 2.4 px in the median, 1.95 to 2.95 at 16 and 84 %.
SEEING = {
    "lsst": dict(zip(BANDS, (0.85, 0.81, 0.77, 0.745, 0.73, 0.71))),
    "ztf": {"g": 2.4, "r": 2.25, "i": 2.15},
}
SEEING_SCATTER = {"lsst": 0.20, "ztf": 0.19}
SEEING_LIMITS = {"lsst": (0.5, 1.9), "ztf": (1.3, 4.0)}
DEPTH_CORRELATION = 0.6  # of seeing with depth: depth falls with 2.5 log10 FWHM, the rest is sky and clouds (assumed)
# Magnitude of 1 electron a second. LSST: SMTN-002. ZTF: 26.3, 26.35, 25.7 of counts in 30 s (real packets), 6.2 e/count.
ELECTRON_ZERO_POINT = {
    "lsst": dict(zip(BANDS, (26.52, 28.51, 28.36, 28.17, 27.78, 26.82))),
    "ztf": {"g": 24.6, "r": 24.65, "i": 24.0},
}
# How much larger the errors are that a survey states than those of the pixels. ZTF's limiting magnitudes and `sigmapsf` are:
# in real packets the noise of the difference stamp times the PSF's noise area is 0.5 to 0.65 of both.
STATED_ERROR = {"lsst": 1.0, "ztf": 1.7}
MARGIN_DAYS = 40.0  # visits before the active days: precovery photometry and upper limits reach 30 days back


@dataclass
class Visits:
    """Visits of one system, all arrays of shape (n,) sorted by time.

    `band` indexes `BANDS`; `depth_mag` is the 5-sigma point-source depth; `fwhm_arcsec`, `beta`, `e1`, `e2` describe the
    Moffat PSF (ellipticity in the pixel frame); `rotation` turns the pixel axes [rad]; `visit` and `detector` are the survey's
    numbers. `scale_error`, `shift_e`, `shift_n` [arcsec] and `width_error` say what the subtraction gets wrong.
    """

    survey: str
    mjd_tai: np.ndarray
    band: np.ndarray
    depth_mag: np.ndarray
    fwhm_arcsec: np.ndarray
    beta: np.ndarray
    e1: np.ndarray
    e2: np.ndarray
    rotation: np.ndarray
    visit: np.ndarray
    detector: np.ndarray
    scale_error: np.ndarray
    shift_e: np.ndarray
    shift_n: np.ndarray
    width_error: np.ndarray

    def __len__(self):
        return len(self.mjd_tai)

    def take(self, index):
        """Those visits alone."""
        arrays = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "survey"}
        return Visits(survey=self.survey, **arrays)

    @property
    def pixel_scale(self):
        """Pixel side [arcsec]."""
        return PIXEL_SCALE[self.survey]

    def noise_area_px(self):
        """Noise-equivalent area of each visit's PSF [pixel^2]."""
        ratio = np.array([sky_limited_ratio(b) for b in BETAS])[np.searchsorted(BETAS, self.beta)]
        return (ratio * self.fwhm_arcsec / self.pixel_scale) ** 2 + PIXEL_AREA

    def flux_sigma_njy(self):
        """Error of a PSF flux on blank sky [nJy]: a fifth of the flux at the depth, less where the survey overstates it."""
        return 0.2 / STATED_ERROR[self.survey] * 10.0 ** (0.4 * (AB_ZERO_POINT_NJY - self.depth_mag))

    def pixel_sigma_njy(self):
        """Sky noise of a pixel [nJy]: sigma_F^2 = sigma_pixel^2 times the noise-equivalent area."""
        return self.flux_sigma_njy() / np.sqrt(self.noise_area_px())

    def njy_per_electron(self):
        """Variance of source light per its flux in a pixel [nJy]: nJy of one electron in the exposure."""
        table = ELECTRON_ZERO_POINT[self.survey]
        zero = np.array([table.get(b, np.nan) for b in BANDS])[self.band]
        return 10.0 ** (0.4 * (AB_ZERO_POINT_NJY - zero)) / EXPOSURE_S[self.survey]


def _seeing(survey, band, depth, rng):
    """FWHM per visit: lognormal about the band's median, smaller where the visit is deep for its band."""
    medians = np.array([SEEING[survey].get(b, np.nan) for b in BANDS])
    deep = np.zeros(len(band))
    for b in np.unique(band):
        knots = MODELS[survey].depth[BANDS[b]]
        deep[band == b] = np.clip((depth[band == b] - knots[3]) / (0.5 * (knots[4] - knots[2])), -2.5, 2.5)
    normal = -DEPTH_CORRELATION * deep + np.sqrt(1 - DEPTH_CORRELATION**2) * rng.standard_normal(len(band))
    return np.clip(medians[band] * np.exp(SEEING_SCATTER[survey] * normal), *SEEING_LIMITS[survey])


def _visit_numbers(survey, mjd, rng):
    """Visit and detector numbers: YYYYMMDDnnnnn and 0..188 for LSST, night with fraction and readout channel for ZTF."""
    if survey == "ztf":
        night = np.floor(mjd - 57754.0).astype(np.int64)  # ZTF counts nights from 2017-01-01
        return night * 1_000_000 + np.floor((mjd % 1.0) * 1e6).astype(np.int64), np.full(
            len(mjd), rng.integers(0, 64), np.int64
        )
    day = np.datetime64("1858-11-17") + np.floor(mjd - 0.5).astype("timedelta64[D]")
    text = np.char.replace(day.astype(str), "-", "").astype(np.int64) if len(mjd) else np.zeros(0, np.int64)
    sequence = np.floor(((mjd - 0.5) % 1.0) * 86400.0 / 36.0).astype(np.int64)
    return text * 100_000 + sequence, rng.integers(0, 189, len(mjd))


def observe_visits(survey, mjd_tai, band, depth_mag, rng):
    """Visits of given times, bands and depths, everything else drawn.

    Parameters
    ----------
    mjd_tai, band, depth_mag : arrays, shape (n,)
        Mid-exposure time, band as index into `BANDS`, 5-sigma depth [mag].
    """
    n = len(mjd_tai)
    visit, detector = _visit_numbers(survey, mjd_tai, rng)
    px = PIXEL_SCALE[survey]
    angle = rng.uniform(0, 2 * np.pi, n)
    e = np.minimum(rng.rayleigh(0.04, n), 0.2)
    return Visits(
        survey=survey,
        mjd_tai=np.asarray(mjd_tai, float),
        band=np.asarray(band, int),
        depth_mag=np.asarray(depth_mag, float),
        fwhm_arcsec=_seeing(survey, band, depth_mag, rng),
        beta=np.array(BETAS)[rng.choice(3, n, p=(0.2, 0.5, 0.3))],
        e1=e * np.cos(angle),
        e2=e * np.sin(angle),
        rotation=rng.uniform(0, 2 * np.pi, n) if survey == "lsst" else np.zeros(n),
        visit=visit,
        detector=detector,
        scale_error=rng.standard_t(4, n) * 0.007,
        shift_e=rng.normal(0.0, 0.035, n) * px,
        shift_n=rng.normal(0.0, 0.035, n) * px,
        width_error=rng.normal(0.0, 0.01, n),
    )


def draw_visits(system, survey, folder=None):
    """All visits of a system's active days and the 40 days before.

    A reference time outside the survey is met by the survey shifted by years, to the nearest day: seasons and hours stay.

    Parameters
    ----------
    folder : path, optional
        Folder of simulator data; else `DGL_SIM_DATA`; else the built-in cadence model.
    """
    rng = system.rng(11)
    mjd, band, depth = cadence(survey, system.ra, system.dec, rng, folder)
    model = MODELS[survey]
    wanted = system.reference_mjd_tai
    room = min(500.0, 0.25 * YEAR_DAYS * model.years)
    lo, hi = model.start_mjd + room, model.start_mjd + YEAR_DAYS * model.years - room
    years = np.ceil((lo - wanted) / YEAR_DAYS) if wanted < lo else -np.ceil((wanted - hi) / YEAR_DAYS) if wanted > hi else 0.0
    mjd = mjd - np.round(years * YEAR_DAYS) + 0.5 * EXPOSURE_S[survey] / 86400.0
    first, last = wanted + system.active_days[0] - MARGIN_DAYS, wanted + system.active_days[1]
    inside = (mjd >= first) & (mjd <= last)
    return observe_visits(survey, mjd[inside], band[inside], depth[inside], rng)
