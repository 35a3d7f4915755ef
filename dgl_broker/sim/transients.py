"""Parameters of what varies and is neither supernova nor nucleus: stars, disruptions, superluminous SNe, asteroids."""

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.sim import cosmology
from dgl_broker.sim.bandpasses import NJY_OF_AB_ZERO, pivots_angstrom, planck_fnu
from dgl_broker.sim.dust import extinction_per_ebv
from dgl_broker.sim.galaxies import draw_star_magnitudes
from dgl_broker.sim.supernovae import PHASES, LightCurveTable
from dgl_broker.sim.variability import FoldedStar, MovingObject, OutburstingStar

G, R = BANDS.index("g"), BANDS.index("r")


def milky_way_dust_mag(ebv, survey):
    """Extinction (6,) [mag] of the Milky Way at the bands' pivots."""
    return ebv * extinction_per_ebv(pivots_angstrom(survey))


# --- stars


def _folded_shape(magnitudes):
    shape = np.asarray(magnitudes, float)
    return (shape - shape.mean()) / np.ptp(shape)


_PHASE = np.arange(64) / 64.0
_RR_AB = _folded_shape(np.where(_PHASE < 0.15, 1 - _PHASE / 0.15, (np.maximum(_PHASE - 0.15, 0.0) / 0.85) ** 0.7))
_SINE = _folded_shape(np.cos(2 * np.pi * _PHASE))


def _eclipses(depth_ratio, width):
    away = np.minimum(_PHASE, 1 - _PHASE)
    half = np.abs(_PHASE - 0.5)
    return _folded_shape(np.exp(-0.5 * (away / width) ** 2) + depth_ratio * np.exp(-0.5 * (half / width) ** 2) + 1e-9)


def draw_variable_star(rng, survey, dust, reference_mjd, brightest, faintest):
    """A variable star with quiescent r between two ends (counts rise by 0.15 dex a mag).

    RR Lyrae, eclipsing binaries, Miras and other slow pulsators, dwarf novae, flaring M dwarfs; equal to their share among
    variables that alerts show near the ends of the survey, assumed 0.25, 0.3, 0.1, 0.2, 0.15.

    Returns
    -------
    Variability at the centre, (from, to) active days, dict of truth
    """
    slope = 0.15
    low, high = 10 ** (slope * brightest), 10 ** (slope * faintest)
    r = float(np.log10(low + rng.uniform() * (high - low)) / slope)
    kind = rng.choice(["rr_lyrae", "eclipsing", "mira", "dwarf_nova", "flare"], p=[0.25, 0.3, 0.1, 0.2, 0.15])
    mags = draw_star_magnitudes(rng, 1)[0]
    epoch = reference_mjd + rng.uniform(-500, 500)
    always = (-200.0, 200.0)
    if kind == "rr_lyrae":
        mags = np.array([1.1, 0.2, 0.0, -0.05, -0.05, -0.05])
        amplitude = rng.uniform(0.3, 1.3) * np.array([0.9, 1.0, 0.72, 0.56, 0.5, 0.48])
        shape, period = (_RR_AB, rng.uniform(0.42, 0.75)) if rng.uniform() < 0.75 else (_SINE, rng.uniform(0.25, 0.42))
        star = FoldedStar(mags + r + dust, period, epoch, shape, amplitude)
    elif kind == "eclipsing":
        mags = mags - mags[R]
        shape = _eclipses(rng.uniform(0.1, 1.0), rng.uniform(0.02, 0.12))
        amplitude = rng.uniform(0.1, 1.0) * np.ones(6)
        star = FoldedStar(mags + r + dust, 10 ** rng.uniform(-0.6, 1.2), epoch, shape, amplitude)
    elif kind == "mira":
        mags = np.array([4.5, 2.2, 0.0, -1.6, -2.6, -3.2])
        amplitude = rng.uniform(0.5, 4.0) * np.array([1.1, 1.0, 0.85, 0.6, 0.5, 0.45])
        star = FoldedStar(mags + r + dust, rng.uniform(80, 450), epoch, _SINE, amplitude)
    elif kind == "dwarf_nova":
        mags = np.array([0.0, 0.3, 0.0, -0.1, -0.2, -0.2])
        amplitude = rng.uniform(2.0, 6.0) * np.array([1.1, 1.05, 1.0, 0.93, 0.88, 0.85])
        recurrence = 10 ** rng.uniform(1.3, 2.8)
        starts = reference_mjd + np.append(0.0, recurrence * np.arange(-3, 4)[np.arange(-3, 4) != 0])
        # Longer outbursts for larger amplitudes.
        star = OutburstingStar(mags + r + dust, starts, rng.uniform(0.5, 2.0), rng.uniform(1, 12), rng.uniform(1, 4), amplitude)
    else:
        mags = np.array([2.8, 1.5, 0.0, -1.3, -1.9, -2.1])
        amplitude = rng.uniform(0.5, 4.0) * np.array([1.0, 0.6, 0.3, 0.12, 0.08, 0.06])
        # Many flares: few visits meet one.
        starts = reference_mjd + np.sort(rng.uniform(-150, 150, 40))
        starts[0] = reference_mjd
        star = OutburstingStar(mags + r + dust, starts, 0.003, 0.004, rng.uniform(0.01, 0.08), amplitude)
    days = (-40.0, 60.0) if kind == "dwarf_nova" else always
    truth = {"variable_type": str(kind), "star_r": r}
    return star, days, truth


def draw_moving_object(rng, reference_mjd, brightest, faintest):
    """A main-belt object, unknown to the survey: 5 to 45 arcsec an hour, passing within 1.5" of the centre."""
    slope = 0.3
    low, high = 10 ** (slope * brightest), 10 ** (slope * faintest)
    r = float(np.log10(low + rng.uniform() * (high - low)) / slope)
    colours = np.array([2.0, 0.55, 0.0, -0.2, -0.25, -0.25]) + rng.normal(0, 0.05, 6)  # C to S types, Ivezic et al. 2001
    rate = rng.uniform(5.0, 45.0) * 24.0
    mover = MovingObject(r + colours, rate, rng.uniform(0, 2 * np.pi), rng.normal(0, 0.5), reference_mjd)
    return mover, {"rate_arcsec_per_hour": rate / 24.0, "moving_r": r}


# --- thermal transients


def _thermal_table(z, luminosity, temperature, peak_mag_g, survey, dust, blanketing_k):
    """A light curve from relative bolometric luminosity and temperature [K] on `PHASES`, scaled to its peak M_g.

    `blanketing_k`: below this temperature the spectrum is cut below 3000 A rest frame, as superluminous SNe are.
    """
    rest = pivots_angstrom(survey) / (1 + z)

    def fnu(wave):
        shape = planck_fnu(wave[:, None], temperature) / temperature**4 * luminosity
        cut = np.exp(-np.clip(3000.0 - wave, 0.0, 1500.0) / 700.0)[:, None]
        return np.where(temperature < blanketing_k, cut * shape, shape)

    reference = fnu(np.array([4770.0]))[0].max()
    mag = peak_mag_g + cosmology.distance_modulus(z) - 2.5 * np.log10(1 + z)
    flux = fnu(rest) / reference * NJY_OF_AB_ZERO * 10 ** (-0.4 * (mag + dust))[:, None]
    return LightCurveTable(flux, 1.0 + z)


def draw_tde(rng, z, survey, dust):
    """A tidal disruption: peak M_g -17 to -22.5 as dN/dL ~ L^-2.5, 12,000 to 40,000 K, a Gaussian rise of 7 to 20 d (one
    sigma), decline 20 to 110 d then t^-5/3 (van Velzen et al. 2021, doi:10.3847/1538-4357/abc258).

    Returns
    -------
    LightCurveTable, dict of truth
    """
    # dN/dL ~ L^-2.5 in magnitudes is 10^(0.6 M).
    low, high = 10 ** (0.6 * -22.5), 10 ** (0.6 * -17.0)
    peak = float(np.log10(low + rng.uniform() * (high - low)) / 0.6)
    kelvin = float(np.clip(10 ** rng.normal(4.35, 0.13), 12e3, 40e3))
    rise, decline = rng.uniform(7.0, 20.0), 10 ** rng.uniform(1.3, 2.05)
    early = np.exp(-0.5 * (PHASES / rise) ** 2)
    power_law = np.exp(-1.0) * (np.maximum(PHASES, 1.0) / decline) ** (-5 / 3)
    late = np.where(decline > PHASES, np.exp(-PHASES / decline), power_law)
    temperature = np.full(len(PHASES), kelvin) * (1 + 0.003 * rng.normal() * np.clip(PHASES, 0, 100))
    light = np.where(PHASES < 0, early, late)
    table = _thermal_table(z, light, np.clip(temperature, 8e3, 6e4), peak, survey, dust, 0.0)
    return table, {"tde_m_g": peak, "tde_kelvin": kelvin}


def draw_slsn(rng, z, survey, dust):
    """A superluminous supernova: M_g -21.3 +- 0.7, a Gaussian rise of 12 to 35 d (one sigma), decline 1.1 to 2 times that,
    15,000 to 6,500 K (De Cia et al. 2018, doi:10.3847/1538-4357/aab9b6; Chen et al. 2023).

    Returns
    -------
    LightCurveTable, dict of truth
    """
    peak = float(np.clip(rng.normal(-21.3, 0.7), -23.2, -19.8))
    rise = rng.uniform(12.0, 35.0)
    decline = rise * rng.uniform(1.1, 2.0)
    light = np.where(PHASES < 0, np.exp(-0.5 * (PHASES / rise) ** 2), np.exp(-PHASES / decline))
    temperature = 6500.0 + rng.uniform(6e3, 10e3) * np.exp(-np.clip(PHASES + rise, 0, None) / (1.2 * rise))
    return _thermal_table(z, light, temperature, peak, survey, dust, 2e4), {"slsn_m_g": peak}
