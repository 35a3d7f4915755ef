"""What varies, as `system.Variability`: one class per way of varying, fluxes in nJy for any visits.

All take the Milky Way's dust as magnitudes per band, `dust_mag` (6,), and keep their sources' places relative to the
system's centre. A stochastic source lives on a fixed grid of days, so that it is the same whatever visits are asked for.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from dgl_broker.photometry import flux_from_mag
from dgl_broker.sim.supernovae import LightCurveTable


class Fixed:
    """Base of sources that stay where they are: `places` (n_sources, 2) east and north [arcsec]."""

    def __init__(self, places):
        self.places = np.atleast_2d(np.asarray(places, float))

    @property
    def n_sources(self):
        """Number of point sources."""
        return len(self.places)

    def offsets_arcsec(self, mjd_tai):
        """Places at each visit, (n_sources, n, 2) east and north [arcsec]."""
        return np.repeat(self.places[:, None, :], len(mjd_tai), axis=1)


class Nothing:
    """Nothing varies: the static scene is all there is."""

    n_sources = 0

    def flux_njy(self, mjd_tai, band):
        """An empty array, (0, n)."""
        return np.zeros((0, len(mjd_tai)))

    def offsets_arcsec(self, mjd_tai):
        """An empty array, (0, n, 2)."""
        return np.zeros((0, len(mjd_tai), 2))


@dataclass(frozen=True)
class Flash:
    """One image of one explosion: its light curve, when its maximum arrives [MJD TAI] and how much it is magnified."""

    table: LightCurveTable
    peak_mjd: float
    magnification: float = 1.0


class Explosions(Fixed):
    """Supernovae and other transients: each source one `Flash`; images of one explosion share its table."""

    def __init__(self, places, flashes):
        super().__init__(places)
        self.flashes = list(flashes)

    def flux_njy(self, mjd_tai, band):
        """Flux (n_sources, n) [nJy]; an image that arrives later shows an earlier phase."""
        mjd_tai, band = np.asarray(mjd_tai, float), np.asarray(band, int)
        rows = [flash.magnification * flash.table.at(mjd_tai - flash.peak_mjd, band) for flash in self.flashes]
        return np.array(rows).reshape(len(self.flashes), len(mjd_tai))


class RandomWalk:
    """A damped random walk in magnitude on a daily grid, one driver for all bands (Kelly et al. 2009).

    Parameters
    ----------
    rng : Generator
    first_mjd, last_mjd : float
        Span of the grid; outside of it the end values hold.
    tau_days : float
        Damping time in the observer's frame.
    sf_infinity : (6,) array
        Asymptotic structure function per band [mag]: sqrt(2) times the standard deviation.
    """

    def __init__(self, rng, first_mjd, last_mjd, tau_days, sf_infinity):
        n = int(np.ceil(last_mjd - first_mjd)) + 1
        self.first_mjd = first_mjd
        self.sf_infinity = np.asarray(sf_infinity, float)
        memory = np.exp(-1.0 / tau_days)
        kicks = rng.standard_normal(n) * np.sqrt(1.0 - memory**2)
        kicks[0] = rng.standard_normal()
        self.walk = lfilter([1.0], [1.0, -memory], kicks)

    def magnitude(self, mjd_tai, band):
        """Magnitude offset at times and bands that broadcast together."""
        place = np.clip(np.asarray(mjd_tai) - self.first_mjd, 0.0, len(self.walk) - 1.001)
        low = place.astype(int)
        value = self.walk[low] * (1 - (place - low)) + self.walk[low + 1] * (place - low)
        return value * self.sf_infinity[band] / np.sqrt(2.0)


class Nucleus(Fixed):
    """An active nucleus or a quasar's images: mean magnitudes, one random walk seen with each image's delay.

    `mean_mag` (6,) is the unmagnified mean; `magnification`, `delay_days` (n_sources,); `drift_mag_per_year`
    (n_sources,) is slow microlensing of each image.
    """

    def __init__(self, places, mean_mag, walk, magnification=(1.0,), delay_days=(0.0,), drift_mag_per_year=(0.0,)):
        super().__init__(places)
        self.mean_mag = np.asarray(mean_mag, float)
        self.walk = walk
        self.magnification = np.asarray(magnification, float)
        self.delay_days = np.asarray(delay_days, float)
        self.drift = np.asarray(drift_mag_per_year, float)

    def flux_njy(self, mjd_tai, band):
        """Flux (n_sources, n) [nJy], the mean included."""
        mjd_tai, band = np.asarray(mjd_tai, float), np.asarray(band, int)
        times = mjd_tai[None, :] - self.delay_days[:, None]
        years = (mjd_tai - self.walk.first_mjd - 0.5 * len(self.walk.walk)) / 365.25
        mag = self.mean_mag[band] + self.walk.magnitude(times, band[None, :]) + self.drift[:, None] * years
        return self.magnification[:, None] * flux_from_mag(mag, 0.0)[0]


class FoldedStar(Fixed):
    """A periodic star: a light curve of phase in magnitudes, scaled per band. Its mean is part of the flux."""

    def __init__(self, mean_mag, period_days, epoch_mjd, shape, amplitude):
        super().__init__((0.0, 0.0))
        self.mean_mag, self.amplitude = np.asarray(mean_mag, float), np.asarray(amplitude, float)
        self.period_days, self.epoch_mjd = period_days, epoch_mjd
        self.shape = np.asarray(shape, float)  # magnitudes on an even grid of phase, peak to peak 1, mean 0

    def flux_njy(self, mjd_tai, band):
        """Flux (1, n) [nJy]."""
        phase = (np.asarray(mjd_tai, float) - self.epoch_mjd) / self.period_days % 1.0
        grid = np.linspace(0.0, 1.0, len(self.shape) + 1)
        swing = np.interp(phase, grid, np.append(self.shape, self.shape[0]))
        mag = self.mean_mag[band] + self.amplitude[band] * swing
        return flux_from_mag(mag, 0.0)[0][None, :]


class OutburstingStar(Fixed):
    """A star with outbursts: linear rise in magnitude, plateau, exponential or linear decline; quiescence included."""

    def __init__(self, mean_mag, starts_mjd, rise_days, plateau_days, decline_days, amplitude):
        super().__init__((0.0, 0.0))
        self.mean_mag, self.amplitude = np.asarray(mean_mag, float), np.asarray(amplitude, float)
        self.starts_mjd = np.asarray(starts_mjd, float)
        self.rise_days, self.plateau_days, self.decline_days = rise_days, plateau_days, decline_days

    def flux_njy(self, mjd_tai, band):
        """Flux (1, n) [nJy]; the strongest outburst at each time counts."""
        since = np.asarray(mjd_tai, float)[None, :] - self.starts_mjd[:, None]
        end = self.rise_days + self.plateau_days
        level = np.where(since < self.rise_days, since / self.rise_days, 1.0)
        level = np.where(since > end, np.exp(-np.maximum(since - end, 0.0) / self.decline_days), level)
        level = np.where(since < 0, 0.0, level).max(axis=0)
        mag = self.mean_mag[band] - self.amplitude[band] * level
        return flux_from_mag(mag, 0.0)[0][None, :]


class MovingObject:
    """A solar-system object that crosses the centre at the visit nearest to `reference_mjd`, within 30 days of it.

    Which visit that is follows from the visits given, so ask for flux and places with the same ones.
    """

    n_sources = 1

    def __init__(self, mag, rate_arcsec_per_day, angle, miss_arcsec, reference_mjd, stamp_arcsec=60.0):
        self.mag = np.asarray(mag, float)
        self.rate = np.array([np.cos(angle), np.sin(angle)]) * rate_arcsec_per_day
        self.miss = np.array([-np.sin(angle), np.cos(angle)]) * miss_arcsec
        self.reference_mjd, self.stamp_arcsec = reference_mjd, stamp_arcsec

    def offsets_arcsec(self, mjd_tai):
        """Places (1, n, 2) east and north [arcsec]; far outside any stamp when it does not pass."""
        mjd_tai = np.asarray(mjd_tai, float)
        if len(mjd_tai) == 0:
            return np.zeros((1, 0, 2))
        nearest = mjd_tai[np.argmin(np.abs(mjd_tai - self.reference_mjd))]
        if abs(nearest - self.reference_mjd) > 30.0:
            return np.full((1, len(mjd_tai), 2), 1e6)
        return (self.miss + (mjd_tai - nearest)[:, None] * self.rate)[None]

    def flux_njy(self, mjd_tai, band):
        """Flux (1, n) [nJy], zero while it is not near the stamp."""
        near = np.hypot(*self.offsets_arcsec(mjd_tai)[0].T) < self.stamp_arcsec
        return np.where(near, flux_from_mag(self.mag[np.asarray(band, int)], 0.0)[0], 0.0)[None, :]


class Together:
    """Several variabilities as one, sources in order."""

    def __init__(self, *parts):
        self.parts = parts

    @property
    def n_sources(self):
        """Number of point sources of all parts."""
        return sum(part.n_sources for part in self.parts)

    def flux_njy(self, mjd_tai, band):
        """Flux (n_sources, n) [nJy]."""
        return np.concatenate([part.flux_njy(mjd_tai, band) for part in self.parts])

    def offsets_arcsec(self, mjd_tai):
        """Places (n_sources, n, 2)."""
        return np.concatenate([part.offsets_arcsec(mjd_tai) for part in self.parts])
