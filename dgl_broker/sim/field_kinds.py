"""Kinds without a lens: supernovae in hosts and in luminous red galaxies, nuclei, stars, disruptions, artefacts."""

import numpy as np

from dgl_broker.sim import cosmology
from dgl_broker.sim.galaxies import draw_host_galaxy, draw_star_magnitudes
from dgl_broker.sim.lens_kinds import reference_lens
from dgl_broker.sim.lens_population import draw_single_z
from dgl_broker.sim.parts import (
    Parts,
    flash_days,
    galaxy_truth,
    nucleus_in,
    observed_peak,
    peak_truth,
    single_supernova,
)
from dgl_broker.sim.quasars import quasar_z_chance
from dgl_broker.sim.selection_limits import limits
from dgl_broker.sim.transients import R, draw_moving_object, draw_slsn, draw_tde, draw_variable_star
from dgl_broker.sim.variability import Explosions, Flash, Together

STAR_R = {"lsst": (15.5, 24.0), "ztf": (13.5, 20.3)}
MOVING_R = {"lsst": (17.0, 24.3), "ztf": (15.0, 20.6)}


def luminous_red_galaxy(draw, deflector=None):
    """The lens galaxy of a `reference_lens` with nothing behind it, or None."""
    parts = reference_lens(draw, deflector)
    return None if parts is None else parts.galaxies[0]


def host_galaxy(draw, supernova_class):
    """A galaxy at the redshift of an unlensed supernova that is seen."""
    return draw_host_galaxy(draw.rng, draw_single_z(draw.rng, draw.survey, supernova_class, draw.folder), draw.survey)


def unlensed_truth(draw, galaxy):
    """Numbers of the one galaxy of an unlensed system."""
    return {"z_source": galaxy.z, "sigma_v": galaxy.sigma_v_km_s} | galaxy_truth("host", galaxy, draw.dust)


def supernova_in_galaxy(draw, supernova_class, red):
    """An unlensed supernova, in a luminous red galaxy or in any host."""
    galaxy = luminous_red_galaxy(draw, supernova_class) if red else host_galaxy(draw, supernova_class)
    made = None if galaxy is None else single_supernova(draw, galaxy, supernova_class)
    if made is None:
        return None
    variability, days, truth = made
    return Parts([galaxy], variability=variability, active_days=days, truth=unlensed_truth(draw, galaxy) | truth)


def sibling_supernovae(draw):
    """Two supernovae of one galaxy within two months: what a double image looks like when it is none."""
    classes = ["Ia" if draw.rng.uniform() < 0.6 else "CC" for _ in range(2)]
    red = draw.rng.uniform() < 0.5
    galaxy = luminous_red_galaxy(draw, classes[0]) if red else host_galaxy(draw, classes[0])
    if galaxy is None:
        return None
    first = single_supernova(draw, galaxy, classes[0])
    second = single_supernova(draw, galaxy, classes[1], peak_shift_days=draw.rng.uniform(0.0, 60.0))
    if first is None or second is None:
        return None
    days = min(first[1][0], second[1][0]), max(first[1][1], second[1][1])
    truth = unlensed_truth(draw, galaxy) | first[2] | {"sn_type_2": second[2]["sn_type"], "n_images": 2}
    truth["separation_arcsec"] = float(np.hypot(*(first[0].places[0] - second[0].places[0])))
    return Parts([galaxy], variability=Together(first[0], second[0]), active_days=days, truth=truth)


def active_galaxy(draw):
    """A galaxy with an active nucleus, by volume and luminosity function."""
    z = float(np.interp(draw.rng.uniform(), *quasar_z_chance(draw.survey)))
    galaxy = draw_host_galaxy(draw.rng, z, draw.survey)
    made = nucleus_in(draw, galaxy)
    if made is None:
        return None
    nucleus, truth = made
    truth = unlensed_truth(draw, galaxy) | truth | {"n_images": 1, "magnification": 1.0}
    return Parts([galaxy], variability=nucleus, truth=truth, points=[(*nucleus.places[0], nucleus.mean_mag)])


def thermal_transient(draw, kind):
    """A tidal disruption in a nucleus, or a superluminous supernova in a dwarf."""
    make, z_max = {"tde": (draw_tde, 1.2), "slsn": (draw_slsn, 3.0)}[kind]
    z_max = z_max if draw.survey == "lsst" else 0.35 * z_max
    nodes = np.linspace(0.01, z_max, 200)
    rate = (1 + nodes) ** (-2.0 if kind == "tde" else 2.0)  # Sun et al. 2015; star formation
    chance = np.cumsum(cosmology.comoving_volume_per_z(nodes) * rate / (1 + nodes))
    for z in np.interp(draw.rng.uniform(size=40), chance / chance[-1], nodes).tolist():
        table, truth = make(draw.rng, z, draw.survey, draw.dust)
        peak = observed_peak(draw, table.peak_magnitude())
        if np.any(peak < limits(draw.survey)):
            break
    else:
        return None
    galaxy = draw_host_galaxy(draw.rng, z, draw.survey, fainter_mag=2.0 if kind == "slsn" else 0.0)
    place = np.zeros(2) if kind == "tde" else galaxy.draw_offsets(draw.rng, 1)[0]
    flash = Flash(table, draw.reference_mjd)
    truth |= peak_truth(draw, peak) | {"z_transient": z, "n_images": 1, "magnification": 1.0}
    days = flash_days(draw, [flash])
    return Parts([galaxy], variability=Explosions(place, [flash]), active_days=days, truth=unlensed_truth(draw, galaxy) | truth)


def variable_star(draw):
    """A varying star in the field."""
    star, days, truth = draw_variable_star(draw.rng, draw.survey, draw.dust, draw.reference_mjd, *STAR_R[draw.survey])
    return Parts(variability=star, active_days=days, truth=truth | {"n_images": 1}, points=[(0.0, 0.0, star.mean_mag)])


def moving_object(draw):
    """A minor planet crossing a field, a galaxy or a lens-like galaxy."""
    mover, truth = draw_moving_object(draw.rng, draw.reference_mjd, *MOVING_R[draw.survey])
    parts = backdrop(draw)
    parts.variability, parts.active_days, parts.truth = mover, (-35.0, 35.0), parts.truth | truth
    return parts


def backdrop(draw, empty=0.4, red=0.3):
    """What an artefact falls on: nothing, a luminous red galaxy, or any supernova's host."""
    toss = draw.rng.uniform()
    if toss < empty:
        return Parts()
    galaxy = None
    while galaxy is None:
        galaxy = luminous_red_galaxy(draw) if toss < empty + red else host_galaxy(draw, "Ia")
    return Parts([galaxy], truth=unlensed_truth(draw, galaxy))


def artefact(draw, name):
    """A static scene on which the survey side makes an artefact."""
    parts = backdrop(draw)
    parts.artefact = name
    return parts


def dipole(draw):
    """A bright galaxy or star whose template is misplaced."""
    if draw.rng.uniform() < 0.3:
        mags = draw_star_magnitudes(draw.rng, 1)[0]
        bright = draw.rng.uniform(16.0, 20.5) if draw.survey == "lsst" else draw.rng.uniform(13.5, 17.5)
        mags = mags + bright - mags[R]
        return Parts(stars=[(0.0, 0.0, mags)], artefact="dipole", truth={"star_r": float(bright)})
    parts = backdrop(draw, empty=0.0, red=0.6)
    parts.artefact = "dipole"
    return parts
