"""Kinds with a lens: lensed supernovae and quasars, and what else happens in or behind a lens galaxy.

All but quasars are one population: a lens system in which a lensed supernova would be seen (`reference_lens`; for
supernovae outside the images drawn with weights of its own).
"""

import numpy as np

from dgl_broker.sim.lens_population import draw_lens_system
from dgl_broker.sim.lensing import solve_images
from dgl_broker.sim.parts import (
    ALWAYS_DAYS,
    Parts,
    flash_days,
    galaxy_truth,
    nucleus_in,
    seen_peak,
    single_supernova,
    span,
    supernova_truth,
)
from dgl_broker.sim.quasars import R, draw_walk, nucleus_magnitudes
from dgl_broker.sim.selection_limits import limits
from dgl_broker.sim.variability import Explosions, Flash, Nucleus

MICROLENSING_MAG = 0.25  # scatter per image; assumed: 0.2 to 0.5 in studies of SNe behind early-type lenses


LENS_TRUTH = ("z_lens", "z_source", "sigma_v", "theta_E_arcsec", "e1", "e2", "gamma1", "gamma2")


def lens_truth(draw, system):
    """Numbers of a lens and its source."""
    out = {
        "z_lens": system.lens.z,
        "z_source": system.source.z,
        "sigma_v": system.deflector.sigma_v_km_s,
        "theta_E_arcsec": system.lens.theta_e,
        "e1": system.lens.e1,
        "e2": system.lens.e2,
        "gamma1": system.lens.gamma1,
        "gamma2": system.lens.gamma2,
    }
    out |= galaxy_truth("lens", system.deflector, draw.dust) | galaxy_truth("host", system.source, draw.dust)
    return out


def microlensing(rng, n):
    """Flux factor of each image: log-normal."""
    return 10.0 ** (-0.4 * rng.normal(0.0, MICROLENSING_MAG, n))


def lensed_supernova(draw, supernova_class, deflector=None):
    """A supernova with several images, its host's arcs and its lens; `deflector` as in `plane_chance`."""
    system = draw_lens_system(draw.rng, draw.survey, supernova_class, draw.ebv, draw.folder, deflector)
    if system is None:
        return None
    images, z = system.images, system.source.z
    table = draw.table.light_curve(system.drawn, z, draw.ebv)
    sizes = np.abs(images.magnification) * microlensing(draw.rng, len(images))
    flashes = [Flash(table, draw.reference_mjd + delay, mu) for delay, mu in zip(images.delay_days, sizes)]
    peak = seen_peak(draw, flashes, images.separation_arcsec)
    days = flash_days(draw, flashes)
    if days is None or not np.any(peak < limits(draw.survey)):
        return None
    truth = lens_truth(draw, system) | supernova_truth(draw, system.drawn, z, peak) | image_truth(images, sizes)
    places = np.stack([images.x, images.y], axis=-1)
    return Parts([system.deflector], system.lens, system.source, Explosions(places, flashes), days, truth)


def image_truth(images, sizes):
    """Numbers of a point source's images; `sizes` are |mu| with microlensing."""
    return {
        "n_images": len(images),
        "separation_arcsec": images.separation_arcsec,
        "magnification": images.total_magnification,
        "magnifications": [float(m) for m in images.magnification],
        "magnifications_observed": [float(m) for m in sizes],
        "delays_days": [float(d) for d in images.delay_days],
        "images_arcsec": [(float(x), float(y)) for x, y in zip(images.x, images.y)],
    }


def reference_lens(draw, deflector=None):
    """A lens system of the population that lensed supernovae show, with what is lensed taken away; None as ever.

    Parameters
    ----------
    deflector : None, "Ia" or "CC"
        A supernova in the lens galaxy that must be seen as well.
    """
    parts = lensed_supernova(draw, "Ia" if draw.rng.uniform() < 0.5 else "CC", deflector)
    if parts is None:
        return None
    truth = {name: value for name, value in parts.truth.items() if name in LENS_TRUTH or name[:5] in ("lens_", "host_")}
    return Parts(parts.galaxies, parts.lens, parts.source, truth=truth)


def supernova_in_lens(draw, supernova_class):
    """A supernova of the lens galaxy itself, in front of the arcs."""
    parts = reference_lens(draw, supernova_class)
    made = None if parts is None else single_supernova(draw, parts.galaxies[0], supernova_class)
    if made is None:
        return None
    parts.variability, parts.active_days, truth = made
    parts.truth |= truth
    return parts


def supernova_outside_images(draw):
    """A supernova in the lensed galaxy, but where the lens makes one image only."""
    supernova_class = "Ia" if draw.rng.uniform() < 0.5 else "CC"
    system = draw_lens_system(draw.rng, draw.survey, f"{supernova_class}_single", draw.ebv, draw.folder)
    if system is None:
        return None
    offsets = system.source.draw_offsets(draw.rng, 24) + [system.source.east, system.source.north]
    for beta_x, beta_y in offsets[np.hypot(*offsets.T) > 0.8 * system.lens.theta_e].tolist():
        images = solve_images(system.lens, beta_x, beta_y, system.source.z)
        if len(images) == 1:
            break
    else:
        return None
    place = np.array([images.x[0], images.y[0]])
    made = single_supernova(draw, system.source, supernova_class, images.total_magnification, place)
    if made is None:
        return None
    variability, days, truth = made
    truth["offset_arcsec"] = float(np.hypot(beta_x - system.source.east, beta_y - system.source.north))
    return Parts([system.deflector], system.lens, system.source, variability, days, lens_truth(draw, system) | truth)


def static_lens(draw):
    """A lens in which nothing happens but the subtraction fails."""
    parts = reference_lens(draw)
    if parts is not None:
        parts.artefact = "bad_subtraction"
    return parts


def agn_in_lens(draw):
    """An active nucleus in the lens galaxy."""
    parts = reference_lens(draw)
    made = None if parts is None else nucleus_in(draw, parts.galaxies[0])
    if made is None:
        return None
    parts.variability, truth = made
    parts.truth |= truth | {"n_images": 1, "magnification": 1.0}
    parts.points = [(*parts.variability.places[0], parts.variability.mean_mag)]
    return parts


def lensed_quasar(draw):
    """A quasar with several images, one random walk seen with delays, each image slowly microlensed."""
    system = draw_lens_system(draw.rng, draw.survey, "quasar", draw.ebv, draw.folder)
    if system is None:
        return None
    images, z = system.images, system.source.z
    mean = nucleus_magnitudes(system.drawn, z, draw.survey) + draw.dust
    first, last = span(draw)
    walk = draw_walk(draw.rng, system.drawn, z, draw.survey, (first - images.delay_days.max(), last))
    sizes = np.abs(images.magnification) * microlensing(draw.rng, len(images))
    drift = draw.rng.normal(0.0, 0.1, len(images))
    places = np.stack([images.x, images.y], axis=-1)
    quasar = Nucleus(places, mean, walk, sizes, images.delay_days, drift)
    truth = lens_truth(draw, system) | image_truth(images, sizes)
    truth |= {"quasar_m_i": system.drawn, "agn_sf_r_mag": float(walk.sf_infinity[R])}
    points = [(*place, mean - 2.5 * np.log10(mu)) for place, mu in zip(places, sizes)]
    return Parts([system.deflector], system.lens, system.source, quasar, ALWAYS_DAYS, truth, points=points)
