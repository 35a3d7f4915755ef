"""Which lenses and sources there are: redshifts, velocity dispersions, geometry, and who lies behind whom.

Rate of lensing per unit of everything = velocity-dispersion function of early-type galaxies (Choi, Park & Vogeley 2007:
alpha 2.32, beta 2.67, sigma* 161 km/s, constant comoving density) x comoving volume x cross-section (theta_E^2) x rate of
transients at the source's redshift, times the chance that the transient is seen (`selection_limits`). All kinds of one
survey share this population: what a kind adds is its own transient's selection, which is physics.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from dgl_broker.sim import cosmology
from dgl_broker.sim.galaxies import Galaxy, draw_host_galaxy, draw_lens_galaxy
from dgl_broker.sim.lensing import Images, Lens, draw_source_position
from dgl_broker.sim.quasars import draw_m_i, needed_quasar, number_density
from dgl_broker.sim.selection_limits import multiple_survival, needed_magnification, single_survival
from dgl_broker.sim.supernovae import templates

VDF_ALPHA, VDF_BETA, VDF_SIGMA_STAR = 2.32, 2.67, 161.0
SIGMA_RANGE_KM_S = (100.0, 400.0)
THETA_E_MIN_ARCSEC = 0.08  # below it images differ by less than any survey or delay shows
SHEAR_SCATTER = 0.05
Z_LENS_NODES = np.linspace(0.02, 1.6, 80)
Z_SOURCE_NODES = np.linspace(0.04, 3.6, 120)
Z_SINGLE_NODES = np.expm1(np.linspace(np.log1p(0.004), np.log1p(2.5), 160))
CHOICES = 64  # explosions among which the seen one is picked
MEAN_DRAWS = 400  # explosions per redshift for the mean chance to be seen

_SIGMA = np.linspace(*SIGMA_RANGE_KM_S, 601)
_SIGMA_CHANCE = np.cumsum(_SIGMA ** (VDF_ALPHA - 1 + 4) * np.exp(-((_SIGMA / VDF_SIGMA_STAR) ** VDF_BETA)))
_SIGMA_CHANCE /= _SIGMA_CHANCE[-1]


def supernova_rate(supernova_class, z):
    """Comoving rate per year and Mpc^3: Ia after Hounsell et al. (2018), core collapse 0.0068 per solar mass of the star
    formation of Madau & Dickinson (2014)."""
    z = np.asarray(z, float)
    if supernova_class == "Ia":
        return np.where(z < 1.0, 2.5e-5 * (1 + z) ** 1.5, 9.7e-5 * (1 + z) ** -0.5)
    return 0.0068 * 0.015 * (1 + z) ** 2.7 / (1 + ((1 + z) / 2.9) ** 5.6)


def events_per_z(supernova_class, z):
    """Observed events per unit redshift and steradian and year."""
    return supernova_rate(supernova_class, z) / (1 + z) * cosmology.comoving_volume_per_z(z)


@cache
def seen_share(survey, supernova_class, lensed, folder):
    """Mean chance that a transient of this class at each of `Z_SOURCE_NODES` (lensed) or `Z_SINGLE_NODES` is seen."""
    nodes = Z_SOURCE_NODES if lensed else Z_SINGLE_NODES
    table = templates(survey, folder)
    rng = np.random.default_rng(20261122)  # the grid is part of the model, the same for every seed
    drawn = table.draw(rng, supernova_class, MEAN_DRAWS)
    survival = multiple_survival if lensed else single_survival
    share = [survival(needed_magnification(table.peak_magnitudes(drawn, np.full(MEAN_DRAWS, z), 0.05), survey)).mean()
             for z in nodes]  # fmt: skip
    return np.array(share)


@cache
def single_z_chance(survey, supernova_class, folder):
    """Cumulative chance over `Z_SINGLE_NODES` of unlensed supernovae that are seen."""
    weight = events_per_z(supernova_class, Z_SINGLE_NODES) * seen_share(survey, supernova_class, False, folder)
    return _cumulative(weight, Z_SINGLE_NODES)


def _cumulative(weight, nodes):
    steps = 0.5 * (weight[1:] + weight[:-1]) * np.diff(nodes)
    total = np.concatenate([[0.0], np.cumsum(steps)])
    return total / total[-1]


def draw_single_z(rng, survey, supernova_class, folder):
    """Redshift of an unlensed supernova that is seen."""
    return float(np.interp(rng.uniform(), single_z_chance(survey, supernova_class, folder), Z_SINGLE_NODES))


@cache
def plane_chance(survey, source, deflector, folder):
    """Cumulative chance over the flattened grid (`Z_LENS_NODES`, `Z_SOURCE_NODES`).

    Parameters
    ----------
    source : "Ia", "CC" (lensed and seen), "Ia_single", "CC_single" (seen though singly imaged) or "quasar"
    deflector : None, or "Ia" or "CC": a supernova in the lens galaxy that is seen as well
    """
    z_l, z_s = Z_LENS_NODES[:, None], Z_SOURCE_NODES[None, :]
    ratio = cosmology.angular_distance_between_mpc(z_l, z_s) / cosmology.angular_distance_mpc(z_s)
    weight = cosmology.comoving_volume_per_z(z_l) * ratio**2 * _source_weight(survey, source, folder)[None, :]
    if deflector is not None:
        seen = np.interp(Z_LENS_NODES, Z_SINGLE_NODES, seen_share(survey, deflector, False, folder))
        weight = weight * seen[:, None]
    total = np.cumsum(weight.ravel())
    return total / total[-1]


def _source_weight(survey, source, folder):
    if source == "quasar":
        rng = np.random.default_rng(20261122)
        seen = [multiple_survival(needed_quasar(draw_m_i(rng, z, MEAN_DRAWS), z, survey)).mean() for z in Z_SOURCE_NODES]
        count = np.array([number_density(z) for z in Z_SOURCE_NODES]) * cosmology.comoving_volume_per_z(Z_SOURCE_NODES)
        return count * np.array(seen) * (Z_SOURCE_NODES > 0.25)
    supernova_class, *single = source.split("_")
    events = events_per_z(supernova_class, Z_SOURCE_NODES)
    if single:
        share = np.interp(Z_SOURCE_NODES, Z_SINGLE_NODES, seen_share(survey, supernova_class, False, folder))
        return events * share
    return events * seen_share(survey, supernova_class, True, folder)


@dataclass(frozen=True)
class LensSystem:
    """One lens galaxy, the galaxy behind it, and a transient's place in the source plane that is multiply imaged."""

    deflector: Galaxy
    lens: Lens
    source: Galaxy  # at its place in the source plane
    images: Images
    drawn: object  # an `Explosion`, a quasar's M_i, or None
    needed: float


def pick_explosion(rng, table, survey, supernova_class, z, ebv, survival):
    """An explosion at z with its chance to be seen as weight, and the magnification it needs; None if none can be."""
    drawn = table.draw(rng, supernova_class, CHOICES)
    needed = needed_magnification(table.peak_magnitudes(drawn, np.full(CHOICES, z), ebv), survey)
    chance = np.cumsum(survival(needed))
    if chance[-1] <= 0.0:
        return None
    k = int(np.searchsorted(chance, rng.uniform() * chance[-1], side="right"))
    return table.explosion(drawn, k), float(needed[k])


def draw_lens(rng, survey, source, deflector, folder):
    """Redshifts, lens galaxy and its mass, without anything behind: (Galaxy, Lens, z_source), or None where too small."""
    cell = int(np.searchsorted(plane_chance(survey, source, deflector, folder), rng.uniform(), side="right"))
    row, column = divmod(cell, len(Z_SOURCE_NODES))
    z_l = Z_LENS_NODES[row] + (rng.uniform() - 0.5) * (Z_LENS_NODES[1] - Z_LENS_NODES[0])
    z_s = Z_SOURCE_NODES[column] + (rng.uniform() - 0.5) * (Z_SOURCE_NODES[1] - Z_SOURCE_NODES[0])
    sigma = float(np.interp(rng.uniform(), _SIGMA_CHANCE, _SIGMA))
    theta_e = float(cosmology.einstein_radius_arcsec(sigma, z_l, z_s))
    if theta_e < THETA_E_MIN_ARCSEC:
        return None
    galaxy = draw_lens_galaxy(rng, float(z_l), sigma, survey)
    # Mass is rounder than light and nearly aligned with it (SLACS: Koopmans et al. 2006).
    e1, e2 = 0.8 * galaxy.e1 + rng.normal(0, 0.05), 0.8 * galaxy.e2 + rng.normal(0, 0.05)
    size = np.hypot(e1, e2)
    if size > 0.35:
        e1, e2 = e1 * 0.35 / size, e2 * 0.35 / size
    lens = Lens(theta_e, float(e1), float(e2), *(float(g) for g in rng.normal(0, SHEAR_SCATTER, 2)), float(z_l))
    return galaxy, lens, float(z_s)


def draw_lens_system(rng, survey, source, ebv, folder, deflector=None):
    """A lens and, multiply imaged behind it, a place that follows a galaxy's light; None where the draw must be repeated.

    The place is uniform in the multiply imaged part of the source plane with the magnification that the transient needs,
    and the galaxy lies around it, so that lenses, their sources and what explodes in them are one population.
    """
    base = draw_lens(rng, survey, source, deflector, folder)
    if base is None:
        return None
    deflector_galaxy, lens, z_s = base
    if source == "quasar":
        absolute = draw_m_i(rng, z_s, CHOICES)
        needed = needed_quasar(absolute, z_s, survey)
        chance = np.cumsum(multiple_survival(needed))
        k = int(np.searchsorted(chance, rng.uniform() * chance[-1], side="right"))
        drawn, needed = float(absolute[k]), float(needed[k])
    elif source.endswith("_single"):
        drawn, needed = None, 0.0
    else:
        picked = pick_explosion(rng, templates(survey, folder), survey, source, z_s, ebv, multiple_survival)
        if picked is None:
            return None
        drawn, needed = picked
    place = draw_source_position(rng, lens, z_s, needed)
    if place is None:
        return None
    beta_x, beta_y, images = place
    host = draw_host_galaxy(rng, z_s, survey)
    east, north = (0.0, 0.0) if source == "quasar" else host.draw_offsets(rng, 1)[0]
    return LensSystem(deflector_galaxy, lens, host.at(beta_x - east, beta_y - north), images, drawn, needed)
