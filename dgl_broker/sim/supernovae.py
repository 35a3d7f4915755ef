"""Supernovae: spectral time series, luminosity functions, and fluxes through any survey's filters from one table.

SN Ia: Hsiao et al. (2007) as shipped in sncosmo (`hsiao-subsampled`), stretch and colour, Tripp (1998) relation. Core
collapse: the 43 series of Kessler et al. (2010) where simulator data are given, else `analytic_seds`; luminosities of
Richardson et al. (2014, arXiv 1403.5755). Every series is normalised to its own B maximum, continued beyond its ends in
wavelength by black bodies and in time by radioactive decline, and integrated once through the filters at 80 redshifts.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtr, ndtri

from dgl_broker.alert import BANDS
from dgl_broker.sim import cosmology
from dgl_broker.sim.analytic_seds import analytic_seds
from dgl_broker.sim.bandpasses import NJY_OF_AB_ZERO, Bandpass, bandpasses, pivots_angstrom, planck_fnu
from dgl_broker.sim.dust import extinction_per_ebv
from dgl_broker.sim.sim_data import load_kessler_seds

WAVE = np.arange(1000.0, 25000.0, 20.0)  # rest frame [A]
PHASE_STEP = 2.0
PHASES = np.arange(-60.0, 160.1, PHASE_STEP)  # rest-frame days from the B maximum
Z_NODES = np.expm1(np.linspace(0.0, np.log1p(4.0), 81))
LN_STEP = np.log1p(Z_NODES[1])
B_VEGA_TO_AB = -0.09  # AB minus Vega magnitude in Bessell B, Blanton & Roweis 2007
TAIL_MAG_PER_DAY = 0.0098  # full trapping of cobalt-56 decay
B_PIVOT_ANGSTROM = 4400.0

# Peak M_B (Vega) and scatter, Richardson et al. 2014, corrected for host extinction.
LUMINOSITY = {
    "IIP": (-16.75, 0.98), "IIL": (-17.98, 0.86), "IIN": (-18.53, 1.36), "Ib": (-17.45, 1.12), "Ic": (-17.66, 1.18),
}  # fmt: skip
LUMINOSITY_CUT = (-1.6, 2.5)  # in standard deviations: IIP -18.3, Ib -19.2, Ic -19.5, IIN -20.7 at the bright end
# Shares of core-collapse types: SIMGEN_INCLUDE_NON1A.INPUT of Kessler et al. 2010.
TYPE_SHARES = {"IIP": 0.59, "IIL": 0.08, "IIN": 0.04, "Ib": 0.14, "Ic": 0.15}
ALPHA, BETA, SCATTER = 0.14, 3.1, 0.10  # Betoule et al. 2014: stretch and colour slopes; intrinsic scatter [mag]
MEAN_M_B_IA = -19.25  # at x1 = c = 0, for H0 = 70
CC_DUST_SCALE = 0.1  # mean E(B-V) of core-collapse hosts [mag], exponential, after Hatano, Branch & Deaton 1998


@dataclass(frozen=True)
class Explosion:
    """What one supernova is, wherever and whenever it goes off: rest-frame parameters."""

    template: int
    sn_type: str
    name: str
    absolute_b: float  # Vega, at maximum, before host dust (Ia: colour included)
    stretch: float
    colour: float
    ebv_host: float


class Templates:
    """All series through one survey's filters.

    `flux` (template, z node, band, phase), float32: f_nu over that of AB magnitude 0 at 10 pc, for M_B = 0 at maximum;
    multiply by 10^(-0.4 (M_B + distance modulus)). `peak` (template, z node, band) is its greatest value in time, `energy`
    (template,) the integral over optical wavelengths and 110 days at equal M_B, arbitrary unit.
    """

    def __init__(self, survey, folder=None):
        series = [("hsiao", "Ia", 1.0, *_hsiao())]
        series += load_kessler_seds(folder) if folder else analytic_seds()
        self.source = "kessler2010" if folder else "analytic"
        self.survey = survey
        self.names = [s[0] for s in series]
        self.types = np.array([s[1] for s in series])
        weight = np.array([s[2] for s in series])
        share = np.array([TYPE_SHARES.get(kind, 0.0) for kind in self.types])
        total = {kind: weight[self.types == kind].sum() for kind in set(self.types)}
        self.core_collapse_chance = share * weight / np.array([total[kind] for kind in self.types])
        self.core_collapse_chance /= self.core_collapse_chance.sum()
        curves = {**bandpasses("lsst"), **bandpasses(survey)}
        weights = np.array([[curves[band].weights(WAVE, z) for band in BANDS] for z in Z_NODES])
        shape = (len(Z_NODES), len(BANDS), len(PHASES))
        rest = np.stack([_on_grid(kind, *arrays) for _, kind, _, *arrays in series])
        # What the published chain divides each series by; black-body tails and late decline are not part of it.
        self.energy = rest[:, np.abs(PHASES - 25.0) <= 55.0][:, :, (WAVE > 2500.0) & (WAVE < 9500.0)].sum(axis=(1, 2))
        flat = weights.reshape(-1, len(WAVE)).astype(np.float32)
        self.flux = np.stack([(flat @ one.T.astype(np.float32)).reshape(shape) for one in rest])
        self.peak = self.flux.max(axis=3)
        self._law = extinction_per_ebv(pivots_angstrom(survey) / (1.0 + Z_NODES)[:, None])
        self._law_b = extinction_per_ebv(B_PIVOT_ANGSTROM)

    def draw(self, rng, supernova_class, n):
        """`n` explosions of class "Ia" or "CC" as arrays: template, absolute_b, stretch, colour, ebv_host, each (n,)."""
        if supernova_class == "Ia":
            x1 = _two_sided(rng, n, 0.97, 1.47, 0.22, -3.0, 3.0)  # Scolnic & Kessler 2016, all surveys
            colour = _two_sided(rng, n, -0.054, 0.043, 0.101, -0.3, 0.4)
            absolute = MEAN_M_B_IA - ALPHA * (x1 + 0.0) + BETA * colour + rng.normal(0, SCATTER, n)
            stretch = 0.98 + 0.091 * x1 + 0.003 * x1**2 - 0.00075 * x1**3  # Guy et al. 2007
            return np.zeros(n, int), absolute, stretch, colour, np.zeros(n)
        template = rng.choice(len(self.types), n, p=self.core_collapse_chance)
        mean, scatter = np.array([LUMINOSITY[kind] for kind in self.types[template]]).T
        # A Gaussian's bright end, volume-weighted, would make half of a survey's supernovae core collapses.
        absolute = mean + scatter * ndtri(rng.uniform(*ndtr(LUMINOSITY_CUT), n))
        ebv = np.minimum(rng.exponential(CC_DUST_SCALE, n), 0.8)
        return template, absolute, rng.uniform(0.9, 1.1, n), np.zeros(n), ebv

    def peak_magnitudes(self, drawn, z, ebv_milky_way=0.0):
        """Unlensed peak magnitudes (n, 6) of explosions `drawn` (arrays) at redshifts z (n,); missing bands are 99."""
        template, absolute, _, colour, ebv_host = drawn
        place = np.clip(np.log1p(z) / LN_STEP, 0, len(Z_NODES) - 1.001)
        low = place.astype(int)
        part = (place - low)[:, None]
        ratio = self.peak[template, low] * (1 - part) + self.peak[template, low + 1] * part
        dust = self.dust_mag(z, colour, ebv_host, ebv_milky_way)
        mag = (absolute + B_VEGA_TO_AB + cosmology.distance_modulus(z))[:, None]
        mag = mag - 2.5 * np.log10(np.maximum(ratio, 1e-20)) + dust
        missing = [band not in bandpasses(self.survey) for band in BANDS]
        return np.where(missing, 99.0, mag)

    def dust_mag(self, z, colour, ebv_host, ebv_milky_way):
        """Magnitudes (n, 6) by which colour and dust dim each band; taken at the pivot wavelengths."""
        place = np.clip(np.log1p(np.atleast_1d(z)) / LN_STEP, 0, len(Z_NODES) - 1.001)
        low = place.astype(int)
        part = (place - low)[:, None]
        law = self._law[low] * (1 - part) + self._law[low + 1] * part
        tilt = np.atleast_1d(colour)[:, None] * (law - self._law_b)
        return tilt + np.atleast_1d(ebv_host)[:, None] * law + ebv_milky_way * self._law[0]

    def explosion(self, drawn, k):
        """The k-th of `draw`'s explosions."""
        template, absolute, stretch, colour, ebv_host = (a[k] for a in drawn)
        return Explosion(int(template), str(self.types[template]), self.names[template], float(absolute), float(stretch),
                         float(colour), float(ebv_host))  # fmt: skip

    def light_curve(self, explosion, z, ebv_milky_way):
        """`LightCurveTable` of an explosion at redshift z behind Milky-Way dust."""
        place = min(np.log1p(z) / LN_STEP, len(Z_NODES) - 1.001)
        low = int(place)
        flux = self.flux[explosion.template]
        ratio = flux[low] * (1 - (place - low)) + flux[low + 1] * (place - low)
        mag = explosion.absolute_b + B_VEGA_TO_AB + cosmology.distance_modulus(z)
        mag = mag + self.dust_mag(z, explosion.colour, explosion.ebv_host, ebv_milky_way)[0]
        return LightCurveTable(ratio * (NJY_OF_AB_ZERO * 10 ** (-0.4 * mag))[:, None], explosion.stretch * (1.0 + z))


@dataclass(frozen=True)
class LightCurveTable:
    """Flux [nJy] (6 bands, phases) against days from B maximum in the observer's frame, `stretch` days a phase unit."""

    flux: np.ndarray
    stretch: float

    def at(self, days, band):
        """Flux [nJy] at `days` after maximum in bands of index `band`; broadcast together."""
        phase = np.asarray(days, float) / self.stretch
        place = np.clip((phase - PHASES[0]) / PHASE_STEP, 0.0, len(PHASES) - 1.001)
        low = place.astype(int)
        part = place - low
        value = self.flux[band, low] * (1 - part) + self.flux[band, low + 1] * part
        late = np.maximum(phase - PHASES[-1], 0.0)
        return np.where(phase < PHASES[0], 0.0, value * 10.0 ** (-0.4 * TAIL_MAG_PER_DAY * late))

    def peak_magnitude(self):
        """Greatest brightness per band, (6,) AB magnitudes."""
        return -2.5 * np.log10(np.maximum(self.flux.max(axis=1), 1e-12) / NJY_OF_AB_ZERO)

    def bright_days(self, limit_njy):
        """First and last day (observer's frame, from maximum) with any band above its limit (6,); None where never."""
        bright = np.flatnonzero(np.any(self.flux > limit_njy[:, None], axis=0))
        if len(bright) == 0:
            return None
        return PHASES[bright[0]] * self.stretch, PHASES[bright[-1]] * self.stretch


@cache
def templates(survey, folder=None):
    """`Templates` of a survey, built once a process (a second or two)."""
    return Templates(survey, folder)


def _two_sided(rng, n, mode, below, above, low, high):
    """Asymmetric Gaussian: standard deviations `below` and `above` its mode, cut to [low, high]."""
    side = np.where(rng.uniform(size=n) < below / (below + above), -below, above)
    return np.clip(mode + side * np.abs(rng.standard_normal(n)), low, high)


def _hsiao():
    import sncosmo

    source = sncosmo.get_source("hsiao-subsampled")
    phase = np.arange(-20.0, 85.1, 1.0)
    return phase, WAVE, np.maximum(source.flux(phase, WAVE), 0.0)


@cache
def _bessell_b():
    import sncosmo

    band = sncosmo.get_bandpass("bessellb")
    return Bandpass(np.asarray(band.wave, float), np.asarray(band.trans, float))


def _on_grid(kind, phase, wave, flux):
    """A series on (PHASES, WAVE): shifted to its B maximum, continued in wavelength and time, M_B = 0 at 10 pc."""
    flux = np.maximum(flux, 0.0)
    full = np.stack([np.interp(WAVE, wave, row) for row in flux])
    _extend_wavelengths(kind, full, phase, wave[0], wave[-1])
    weights = _bessell_b().weights(WAVE, 0.0)
    blue = full @ weights
    peak = phase[int(np.argmax(blue))]
    full /= blue.max()
    grid = PHASES + peak
    place = np.clip(np.searchsorted(phase, grid) - 1, 0, len(phase) - 2)
    part = np.clip((grid - phase[place]) / (phase[place + 1] - phase[place]), 0.0, 1.0)[:, None]
    out = full[place] * (1 - part) + full[place + 1] * part
    # Before its first epoch a series is too faint to matter, but falls smoothly to nothing.
    out *= np.clip(1.0 - (phase[0] - grid) / 4.0, 0.0, 1.0)[:, None]
    over = np.clip(grid - phase[-1], 0.0, None)
    decline = TAIL_MAG_PER_DAY * over
    if kind == "IIP":  # the series end on the plateau; it drops by two magnitudes near 95 days (Anderson et al. 2014)
        drop = 2.0 / (1.0 + np.exp(-(PHASES - 95.0) / 4.0))
        decline = decline + np.where(over > 0, drop - 2.0 / (1.0 + np.exp(-(phase[-1] - peak - 95.0) / 4.0)), 0.0)
    return out * 10.0 ** (-0.4 * np.maximum(decline, 0.0))[:, None]


def _extend_wavelengths(kind, full, phase, first, last):
    """Black-body tails, scaled to the mean of the outermost 200 A, in place; hotter before maximum than after."""
    if last - first > 2e4:
        return
    hot, cool = {"Ib": (9000.0, 5500.0), "Ic": (9000.0, 5500.0)}.get(kind, (14000.0, 6000.0))
    temperature = cool + (hot - cool) / (1.0 + np.exp((phase - 2.0) / 8.0))
    body = planck_fnu(WAVE[None, :], temperature[:, None]) / WAVE**2  # f_lambda shape
    wave = WAVE
    blue, red = (wave >= first) & (wave < first + 200.0), (wave <= last) & (wave > last - 200.0)
    for outside, edge in ((wave < first, blue), (wave > last, red)):
        scale = full[:, edge].sum(axis=1) / body[:, edge].sum(axis=1)
        full[:, outside] = scale[:, None] * body[:, outside]
