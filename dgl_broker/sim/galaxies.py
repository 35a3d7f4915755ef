"""Galaxies and stars, drawn afresh: a Gaussian copula fitted to the pooled DES tables, and its extension in redshift.

The fit (`galaxy_fit.py`) pools the 16 tables of the published recipe and is stored in `galaxy_model.json`, so that a draw
is the same with and without the tables. What goes beyond them, since they end at i = 20.4 (lenses) and 23 (sources):

- each drawn galaxy is matched to a mix of an early and a late spectrum, whose nodes are fitted to the tables' colours
  (early) or set by hand (late, after the shape of irregular galaxies in Coleman, Wu & Weedman 1980), and moved to its
  new redshift with its colour residuals;
- a lens galaxy's luminosity follows from its velocity dispersion, since in the tables the two are unrelated: the joint
  Gaussian of Bernardi et al. (2003, doi:10.1086/367794; M_r -21.15 +- 0.84, log sigma 2.20 +- 0.107, correlation -0.78),
  of which the mean of M at given sigma is taken, flatter than sigma^4;
- a supernova's host has a Schechter luminosity weighted by light (Blanton et al. 2003: M*_r = -21.2, alpha = -1.05,
  brightening by 0.9 mag per unit redshift up to z = 2);
- radii scale as L^0.6 (early) and L^0.25 (1 + z)^-0.75 (late; van der Wel et al. 2014, doi:10.1088/0004-637X/788/1/28);
- half of the lens galaxies keep their table's Sersic index (DES fits: median 1.1), half are de Vaucouleurs-like.
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
from scipy.special import gammaincinv, ndtr

from dgl_broker.alert import BANDS
from dgl_broker.sim import cosmology
from dgl_broker.sim.bandpasses import bandpasses

# Bernardi et al. 2003, r*: means, standard deviations and correlation of M_r and log10 sigma of early-type galaxies.
MEAN_M_R, SCATTER_M_R, MEAN_LOG_SIGMA, SCATTER_LOG_SIGMA, CORRELATION = -21.15, 0.84, 2.20, 0.107, -0.78
PASSIVE_MAG_PER_Z = 0.85  # Bernardi et al. 2003
SCHECHTER_M_R, SCHECHTER_ALPHA, EVOLUTION_MAG_PER_Z = -21.2, -1.05, 0.9
GALAXY_Z_MAX = 6.0
COLOUR_RESIDUAL_MAX = 0.35  # mag; beyond it the table's photometry, not the galaxy, is odd


@dataclass
class Galaxy:
    """One galaxy as seen: offsets (east, north) [arcsec], AB magnitudes in ugrizy without Milky-Way dust.

    `radius_arcsec` is the half-light radius of the intermediate (product-averaged) axis, `e1`, `e2` are lenstronomy's
    (1 - q) / (1 + q) times cos and sin of twice the position angle from east to north.
    """

    z: float
    magnitudes: np.ndarray
    radius_arcsec: float
    sersic_n: float
    e1: float
    e2: float
    sigma_v_km_s: float = np.nan
    east: float = 0.0
    north: float = 0.0
    early: float = 0.0
    absolute_r: float = np.nan

    def at(self, east, north):
        """The same galaxy elsewhere."""
        return replace(self, east=float(east), north=float(north))

    def draw_offsets(self, rng, n):
        """Places of `n` events that follow its light, (n, 2) east and north [arcsec] from the galaxy's centre."""
        k = sersic_b(self.sersic_n)
        # Cut at 99 % of the light: a Sersic profile of index 4 would throw one event in a hundred far outside.
        radius = self.radius_arcsec * (gammaincinv(2 * self.sersic_n, rng.uniform(0, 0.99, n)) / k) ** self.sersic_n
        phi = rng.uniform(0, 2 * np.pi, n)
        axis_ratio, angle = axis_ratio_and_angle(self.e1, self.e2)
        u, v = radius * np.cos(phi) / np.sqrt(axis_ratio), radius * np.sin(phi) * np.sqrt(axis_ratio)
        return np.stack([u * np.cos(angle) - v * np.sin(angle), u * np.sin(angle) + v * np.cos(angle)], axis=-1)


def sersic_b(n):
    """b_n with half of the light inside R_e: the inverse incomplete gamma function itself."""
    return gammaincinv(2.0 * np.asarray(n, float), 0.5)


def axis_ratio_and_angle(e1, e2):
    """Axis ratio q and position angle [rad, from east to north] of (e1, e2)."""
    e = min(float(np.hypot(e1, e2)), 0.95)
    return (1 - e) / (1 + e), 0.5 * float(np.arctan2(e2, e1))


class Copula:
    """Gaussian copula: marginals as quantiles on an even grid of probability, and the correlation of normal scores."""

    def __init__(self, model):
        self.variables = model["variables"]
        self.quantiles = np.asarray(model["quantiles"], float)
        self.probabilities = np.linspace(0.0, 1.0, self.quantiles.shape[1])
        self.factor = np.linalg.cholesky(np.asarray(model["correlation"], float))

    def draw(self, rng, n):
        """`n` draws as a dict variable -> array (n,)."""
        scores = rng.standard_normal((n, len(self.variables))) @ self.factor.T
        chance = ndtr(scores)
        return {name: np.interp(chance[:, i], self.probabilities, self.quantiles[i]) for i, name in enumerate(self.variables)}


@cache
def galaxy_model():
    """The fitted numbers that ship with the package, as a dict; source and date in its "source"."""
    return json.loads(files("dgl_broker.sim").joinpath("galaxy_model.json").read_text(encoding="utf-8"))


@cache
def copula(population):
    """The fitted copula of "lens", "source" or "star"."""
    return Copula(galaxy_model()[population])


class GalaxySpectra:
    """Magnitudes of the early and the late spectrum against redshift, in the bands of one survey."""

    def __init__(self, survey):
        model = galaxy_model()["spectra"]
        wave = np.arange(900.0, 30000.0, 20.0)
        nodes = np.log(model["nodes_angstrom"])
        spectra = [np.exp(np.interp(np.log(wave), nodes, np.log(model[kind]))) for kind in ("early", "late")]
        curves = {**bandpasses("lsst"), **bandpasses(survey)}
        self.z = np.expm1(np.linspace(0.0, np.log1p(GALAXY_Z_MAX), 141))
        weights = np.array([[curves[band].weights(wave, z) for band in BANDS] for z in self.z])
        # Floor: nothing is exactly dark, and a logarithm follows.
        self.flux = np.maximum(np.einsum("zbw,kw->kzb", weights, np.array(spectra)), 1e-30)
        reference = bandpasses("des")["r"].weights(wave, 0.0)
        self.reference = np.array([reference @ spectrum for spectrum in spectra])

    def magnitudes(self, late_share, z):
        """Magnitudes relative to the rest-frame r magnitude, without distance; late_share, z (n,) -> (n, 6)."""
        late_share, z = np.atleast_1d(late_share), np.atleast_1d(z)
        place = np.clip(np.log1p(z) / (np.log1p(self.z[1])), 0, len(self.z) - 1.001)
        low = place.astype(int)
        part = (place - low)[:, None]
        flux = self.flux[:, low] * (1 - part) + self.flux[:, low + 1] * part
        mixed = (1 - late_share)[:, None] * flux[0] + late_share[:, None] * flux[1]
        reference = (1 - late_share) * self.reference[0] + late_share * self.reference[1]
        return -2.5 * np.log10(mixed / reference[:, None])


@cache
def spectra(survey):
    """`GalaxySpectra` of a survey, built once."""
    return GalaxySpectra(survey)


LATE_SHARES = np.linspace(0.0, 1.0, 11)
GRIZ = [BANDS.index(band) for band in "griz"]


def intrinsic(rows):
    """What a table galaxy is wherever it stands: late share, absolute r, colour residuals, radius.

    Parameters
    ----------
    rows : dict
        From `Copula.draw` of "lens" or "source".

    Returns
    -------
    late_share (n,), absolute_r (n,), residual (n, 6) [mag], radius_kpc (n,)
    """
    z = np.maximum(rows["z"], 0.02)
    mags = table_magnitudes(rows)
    grid = spectra("des")
    shapes = np.stack([grid.magnitudes(np.full(len(z), share), z)[:, GRIZ] for share in LATE_SHARES])
    residual = mags[None] - shapes
    level = residual.mean(axis=2)
    best = np.argmin(residual.var(axis=2), axis=0)
    pick = np.arange(len(z))
    left = np.clip(residual[best, pick] - level[best, pick, None], -COLOUR_RESIDUAL_MAX, COLOUR_RESIDUAL_MAX)
    full = left[:, [0, 0, 1, 2, 3, 3]]  # u follows g, y follows z
    absolute = level[best, pick] - cosmology.distance_modulus(z)
    return LATE_SHARES[best], absolute, full, np.exp(rows["ln_radius"]) * cosmology.kpc_per_arcsec(z)


def table_magnitudes(rows):
    """griz magnitudes (n, 4) of copula rows, which hold i and three colours."""
    i = rows["i"]
    r = i + rows["r-i"]
    return np.stack([r + rows["g-r"], r, i, i - rows["i-z"]], axis=-1)


def _ellipticity(rows, k):
    e1, e2 = float(rows["e1"][k]), float(rows["e2"][k])
    size = np.hypot(e1, e2)
    return (e1, e2) if size < 0.5 else (e1 * 0.5 / size, e2 * 0.5 / size)


def draw_lens_galaxy(rng, z, sigma_v_km_s, survey):
    """One massive early-type galaxy of given redshift and velocity dispersion: a lens, or a luminous red galaxy."""
    rows = copula("lens").draw(rng, 1)
    _, absolute, residual, radius_kpc = intrinsic(rows)
    score = (np.log10(sigma_v_km_s) - MEAN_LOG_SIGMA) / SCATTER_LOG_SIGMA
    at_sigma = CORRELATION * score + np.sqrt(1 - CORRELATION**2) * rng.standard_normal()
    new_absolute = MEAN_M_R + SCATTER_M_R * at_sigma - PASSIVE_MAG_PER_Z * min(z, 1.5)
    late_share = abs(rng.normal(0, 0.02))
    mags = new_absolute + cosmology.distance_modulus(z) + spectra(survey).magnitudes(late_share, z)[0] + residual[0]
    brighter = np.clip(-0.4 * (new_absolute - absolute[0]), -1.5, 1.5)
    radius = np.clip(radius_kpc[0] * 10.0 ** (0.6 * brighter), 1.0, 40.0) / cosmology.kpc_per_arcsec(z)
    n = float(rows["n"][0]) if rng.uniform() < 0.5 else float(np.clip(rng.normal(4.0, 0.8), 2.0, 6.0))
    e1, e2 = _ellipticity(rows, 0)
    return Galaxy(z, mags, float(np.clip(radius, 0.15, 12.0)), float(np.clip(n, 0.5, 6.0)), e1, e2,
                  sigma_v_km_s=float(sigma_v_km_s), early=1.0, absolute_r=float(new_absolute))  # fmt: skip


def draw_host_galaxy(rng, z, survey, fainter_mag=0.0):
    """One galaxy that hosts a transient at `z`: luminosity weighted by light, colour, shape and size from the tables.

    `fainter_mag` shifts the characteristic luminosity, for events that prefer dwarfs.
    """
    absolute = float(_schechter_by_light(rng, z, 1)[0]) + fainter_mag
    return _galaxies_at(rng, np.array([z]), np.array([absolute]), survey)[0]


def _schechter_by_light(rng, z, n):
    """Absolute r of hosts: Schechter times L, so L/L* is Gamma(alpha + 2); cut at 0.003 L*."""
    characteristic = SCHECHTER_M_R - EVOLUTION_MAG_PER_Z * np.minimum(z, 2.0)
    return characteristic - 2.5 * np.log10(np.maximum(rng.gamma(SCHECHTER_ALPHA + 2.0, 1.0, n), 3e-3))


def _galaxies_at(rng, z, absolute, survey):
    n = len(z)
    rows = copula("source").draw(rng, n)
    late_share, old_absolute, residual, radius_kpc = intrinsic(rows)
    # Beyond the tables' redshifts and below their luminosities galaxies form stars: bluer ends of the same family.
    late_share = np.clip(late_share + rng.uniform(0, 0.25, n) * (absolute - old_absolute).clip(0, 3), 0.0, 1.0)
    late_share = np.where(z > 1.0, np.maximum(late_share, rng.uniform(0.4, 1.0, n)), late_share)
    mags = absolute[:, None] + cosmology.distance_modulus(z)[:, None] + spectra(survey).magnitudes(late_share, z)
    mags = mags + residual
    brighter = np.clip(-0.4 * (absolute - old_absolute), -3.0, 1.5)
    growth = ((1 + z) / (1 + np.maximum(rows["z"], 0.02))) ** -0.75
    radius = np.clip(radius_kpc * 10.0 ** (0.25 * brighter) * growth, 0.5, 14.0) / cosmology.kpc_per_arcsec(z)
    out = []
    for k in range(n):
        e1, e2 = _ellipticity(rows, k)
        out.append(Galaxy(float(z[k]), mags[k], float(np.clip(radius[k], 0.05, 20.0)),
                          float(np.clip(rows["n"][k], 0.5, 4.5)), e1, e2, early=float(1 - late_share[k]),
                          absolute_r=float(absolute[k])))  # fmt: skip
    return out


# Counts of field galaxies and stars, brighter than a limit in i: log10 N / arcmin^2 is linear in magnitude to 0.1 dex
# (galaxies: Capak et al. 2007, 0.37 dex a mag, 10 at i = 22.5; stars: |b| = 45 deg, Besancon-like, 0.15 dex a mag).
GALAXY_COUNT_AT_22P5, GALAXY_SLOPE = 10.0, 0.37
STAR_COUNT_AT_21, STAR_SLOPE = 2.2, 0.15


def draw_field_galaxies(rng, radius_arcsec, limit_mag, survey, inner_arcsec=0.0):
    """Chance galaxies within a square of half-side `radius_arcsec`, brighter than `limit_mag` in i; Poisson number."""
    area = (2 * radius_arcsec / 60.0) ** 2
    n = rng.poisson(area * GALAXY_COUNT_AT_22P5 * 10 ** (GALAXY_SLOPE * (limit_mag - 22.5)))
    mag = limit_mag + np.log10(1 - rng.uniform(0, 1, n)) / GALAXY_SLOPE
    place = rng.uniform(-radius_arcsec, radius_arcsec, (n, 2))
    keep = (mag > 15.0) & (np.hypot(*place.T) > inner_arcsec)
    if not keep.any():
        return []
    mag, place = mag[keep], place[keep]
    # Median redshift by magnitude, 0.09 at 17 to 0.9 at 24.5, with scatter.
    z = np.clip(0.09 * 10 ** (0.134 * (mag - 17.0)) * np.exp(rng.normal(0, 0.35, len(mag))), 0.02, 3.5)
    galaxies = _galaxies_at(rng, z, np.full(len(mag), -20.5), survey)
    out = []
    for galaxy, target, (east, north) in zip(galaxies, mag, place):
        shift = target - galaxy.magnitudes[BANDS.index("i")]
        galaxy = replace(galaxy, magnitudes=galaxy.magnitudes + shift, absolute_r=galaxy.absolute_r + shift)
        # Same surface-brightness family: a brighter galaxy at the same redshift is larger.
        galaxy.radius_arcsec = float(np.clip(galaxy.radius_arcsec * 10 ** (-0.1 * shift), 0.05, 20.0))
        out.append(galaxy.at(east, north))
    return out


def draw_star_magnitudes(rng, n):
    """ugrizy magnitudes (n, 6) of field stars from the star tables' copula; u and y by the stellar locus (Ivezic+ 2007)."""
    rows = copula("star").draw(rng, n)
    griz = table_magnitudes(rows)
    u = griz[:, 0] + np.clip(0.5 + 1.8 * (rows["g-r"] - 0.2), 0.6, 2.6)
    y = griz[:, 3] - 0.4 * rows["i-z"]
    return np.column_stack([u, griz, y])


def draw_field_stars(rng, radius_arcsec, limit_mag, latitude_deg):
    """Chance stars in the same square: offsets (n, 2) and magnitudes (n, 6); more of them towards the Galactic plane."""
    area = (2 * radius_arcsec / 60.0) ** 2
    crowding = np.clip(1.0 / np.sin(np.radians(max(abs(latitude_deg), 8.0))) / np.sqrt(2.0), 0.7, 5.0)
    n = rng.poisson(area * STAR_COUNT_AT_21 * crowding * 10 ** (STAR_SLOPE * (limit_mag - 21.0)))
    if n == 0:
        return np.empty((0, 2)), np.empty((0, 6))
    mags = draw_star_magnitudes(rng, n)
    target = np.maximum(limit_mag + np.log10(1 - rng.uniform(0, 1, n)) / STAR_SLOPE, 13.5)
    mags = mags + (target - mags[:, BANDS.index("i")])[:, None]
    return rng.uniform(-radius_arcsec, radius_arcsec, (n, 2)), mags
