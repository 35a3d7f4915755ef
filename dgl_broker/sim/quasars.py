"""Active nuclei: luminosity function, spectra, variability as a damped random walk, and which of them a survey sees vary.

Luminosity function: Croom et al. (2004, doi:10.1111/j.1365-2966.2004.07619.x), double power law with slopes -3.31 and
-1.09 and a break that brightens as k1 = 1.39, k2 = -0.29 from -21.6 at z = 0; past its turn at z = 2.4 the break stays
and density falls tenfold per unit of 1.6 in z (Richards et al. 2006).
"""

from functools import cache

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.sim import cosmology
from dgl_broker.sim.bandpasses import pivots_angstrom
from dgl_broker.sim.dust import extinction_per_ebv
from dgl_broker.sim.variability import Nucleus, RandomWalk

R = BANDS.index("r")
M_I_RANGE = (-29.5, -17.5)
SLOPE_BRIGHT, SLOPE_FAINT, M_STAR_NOW, K1, K2, Z_TURN = -3.31, -1.09, -21.6, 1.39, -0.29, 2.4
SPECTRAL_SLOPE = -0.44  # f_nu ~ nu^slope, Vanden Berk et al. 2001
LYMAN_ALPHA_ANGSTROM = 1216.0
TOTAL_R_LIMIT = {"lsst": 22.3, "ztf": 19.6}  # so that variations of 0.1 to 0.3 mag are detected
TOTAL_R_BRIGHTEST = {"lsst": 16.0, "ztf": 13.5}  # saturation
_GRID = np.linspace(*M_I_RANGE, 361)


def m_i_star(z):
    """Break of the luminosity function."""
    z = np.minimum(z, Z_TURN)
    return M_STAR_NOW - 2.5 * (K1 * z + K2 * z * z)


def _function(z):
    """Luminosity function on `_GRID`, arbitrary unit that does not depend on z."""
    offset = _GRID - m_i_star(z)
    shape = 1.0 / (10 ** (0.4 * (SLOPE_BRIGHT + 1) * offset) + 10 ** (0.4 * (SLOPE_FAINT + 1) * offset))
    return shape * 10.0 ** (-max(z - Z_TURN, 0.0) / 1.6)


def number_density(z, brightest=M_I_RANGE[0], faintest=M_I_RANGE[1]):
    """Comoving density between two absolute magnitudes, arbitrary unit."""
    inside = (brightest <= _GRID) & (faintest >= _GRID)
    return float(_function(z)[inside].sum())


def draw_m_i(rng, z, n, brightest=M_I_RANGE[0], faintest=M_I_RANGE[1]):
    """`n` absolute i magnitudes (K-corrected to z = 2) at redshift z between two ends."""
    chance = np.cumsum(np.where((brightest <= _GRID) & (faintest >= _GRID), _function(z), 0.0))
    return np.interp(rng.uniform(size=n), chance / chance[-1], _GRID)


def nucleus_magnitudes(absolute_i, z, survey):
    """Mean magnitudes (6,) of a nucleus of M_i(z = 2) at redshift z; M_i(z = 0) is 0.596 fainter (Richards et al. 2006)."""
    wave = pivots_angstrom(survey)
    observed_i = absolute_i + 0.596 + cosmology.distance_modulus(z) - 2.5 * (1 + SPECTRAL_SLOPE) * np.log10(1 + z)
    mag = observed_i + 2.5 * SPECTRAL_SLOPE * np.log10(7481.0 / wave)
    # The Lyman-alpha forest takes the blue bands at high redshift.
    forest = wave / (1 + z) < LYMAN_ALPHA_ANGSTROM
    return mag + np.where(forest, 0.5 + 0.5 * max(z - 2.0, 0.0), 0.0)


def needed_quasar(absolute_i, z, survey):
    """Magnification that lifts quasars of M_i (n,) to the survey's limit in total r."""
    total_r = absolute_i + nucleus_magnitudes(0.0, z, survey)[R]
    return 10 ** (0.4 * (total_r - TOTAL_R_LIMIT[survey]))


def seen_range(z, survey):
    """Brightest and faintest M_i whose variations a survey sees at z; empty (first above second) where none are."""
    shape = nucleus_magnitudes(0.0, z, survey)[R]
    return max(TOTAL_R_BRIGHTEST[survey] - shape, M_I_RANGE[0]), min(TOTAL_R_LIMIT[survey] - shape, M_I_RANGE[1])


@cache
def quasar_z_chance(survey):
    """(cumulative chance, redshifts) of nuclei whose variations a survey sees."""
    nodes = np.linspace(0.01, 4.0, 200)
    density = [number_density(z, *seen_range(z, survey)) for z in nodes]
    chance = np.cumsum(cosmology.comoving_volume_per_z(nodes) * np.array(density))
    return chance / chance[-1], nodes


def draw_walk(rng, absolute_i, z, survey, span):
    """A damped random walk after MacLeod et al. (2010, doi:10.1088/0004-637X/721/2/1014), eq. 7 and its coefficients.

    log f = A + B log(lambda_rest / 4000 A) + C (M_i + 23) + D log(M_BH / 1e9): for SF_inf [mag] -0.51, -0.479, 0.131,
    0.18; for tau [rest days] 2.4, 0.17, 0.03, 0.21; black-hole masses as their eq. for the mean at M_i, 0.3 dex scatter.
    """
    log_mass = 2.0 - 0.27 * absolute_i + rng.normal(0.0, 0.3)
    rest = pivots_angstrom(survey) / (1 + z)
    log_sf = -0.51 - 0.479 * np.log10(rest / 4000.0) + 0.131 * (absolute_i + 23) + 0.18 * (log_mass - 9)
    log_tau = 2.4 + 0.17 * np.log10(rest[R] / 4000.0) + 0.03 * (absolute_i + 23) + 0.21 * (log_mass - 9)
    scatter = rng.normal(0.0, 0.12), rng.normal(0.0, 0.3)
    tau = float(np.clip(10 ** (log_tau + scatter[1]) * (1 + z), 5.0, 3000.0))
    return RandomWalk(rng, *span, tau, np.clip(10 ** (log_sf + scatter[0]), 0.03, 1.0))


def draw_agn(rng, galaxy, survey, dust, span):
    """A nucleus in the middle of a galaxy, among those that the survey sees vary; None where its redshift allows none.

    Returns
    -------
    Nucleus, dict of truth
    """
    brightest, faintest = seen_range(galaxy.z, survey)
    if brightest >= faintest:
        return None
    absolute = float(draw_m_i(rng, galaxy.z, 1, brightest, faintest)[0])
    # Nuclei of types 1.5 to 1.9 are seen through their own galaxy's dust.
    reddening = min(rng.exponential(0.05), 0.5) * extinction_per_ebv(pivots_angstrom(survey) / (1 + galaxy.z))
    mags = nucleus_magnitudes(absolute, galaxy.z, survey) + reddening + dust
    walk = draw_walk(rng, absolute, galaxy.z, survey, span)
    return Nucleus((galaxy.east, galaxy.north), mags, walk), {"agn_m_i": absolute, "agn_sf_r_mag": float(walk.sf_infinity[R])}
