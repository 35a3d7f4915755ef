"""How each kind of `system.KINDS` is made: galaxies, what varies, when, and what is true. One function a family of kinds.

Each takes a `Draw` and gives `Parts`, or None where the draw failed its selection and must be repeated with fresh numbers:
galaxies and transient are rejected together, so that the population above the limit keeps its shape.
"""

from dataclasses import dataclass, field

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.sim import cosmology
from dgl_broker.sim.galaxies import Galaxy, draw_host_galaxy, draw_star_magnitudes
from dgl_broker.sim.lens_population import draw_lens, draw_lens_system, draw_single_z, pick_explosion
from dgl_broker.sim.lensing import Lens, solve_images
from dgl_broker.sim.selection_limits import limits, single_survival
from dgl_broker.sim.supernovae import templates
from dgl_broker.sim.transients import R, draw_agn, draw_moving_object, draw_slsn, draw_tde, draw_variable_star, draw_walk
from dgl_broker.sim.transients import nucleus_magnitudes as quasar_magnitudes
from dgl_broker.sim.variability import Explosions, Flash, Nothing, Nucleus, Together

MICROLENSING_MAG = 0.25  # scatter per image; assumed, between 0.2 and 0.5 in studies of SNe at theta_E of SLACS lenses
ALWAYS_DAYS = (-250.0, 250.0)
UNRESOLVED_ARCSEC = {"lsst": 0.8, "ztf": 2.0}
FORCED_DEPTH = 0.3  # share of the limiting flux down to which forced photometry still says something
AGN_MAG = {"lsst": (16.0, 22.5), "ztf": (14.0, 19.5)}  # nucleus in r: variations of 0.2 mag must be detected
STAR_R = {"lsst": (15.5, 24.0), "ztf": (13.5, 20.3)}
MOVING_R = {"lsst": (17.0, 24.3), "ztf": (15.0, 20.6)}


@dataclass
class Draw:
    """One attempt's surroundings: the generator, survey, data folder, Milky-Way dust and reference time."""

    rng: np.random.Generator
    survey: str
    folder: object
    ebv: float
    dust: np.ndarray  # (6,) mag
    reference_mjd: float

    @property
    def table(self):
        """The survey's supernova templates."""
        return templates(self.survey, self.folder)

    @property
    def limit_njy(self):
        """Peak limit (6,) as flux; infinite where a band is not observed."""
        return 10.0 ** (0.4 * (31.4 - limits(self.survey)))


@dataclass
class Parts:
    """What a kind is made of. `points` are lasting point sources for the catalogue: (east, north, magnitudes (6,))."""

    galaxies: list[Galaxy] = field(default_factory=list)
    lens: Lens | None = None
    source: Galaxy | None = None
    variability: object = field(default_factory=Nothing)
    active_days: tuple = ALWAYS_DAYS
    truth: dict = field(default_factory=dict)
    artefact: str | None = None
    points: list = field(default_factory=list)
    stars: list = field(default_factory=list)  # (east, north, magnitudes (6,)) in the static scene


def galaxy_truth(prefix, galaxy, dust):
    """griz magnitudes behind Milky-Way dust, radius and index of a galaxy, for the record."""
    mags = galaxy.magnitudes + dust
    numbers = {f"{prefix}_mag_{band}": float(mags[BANDS.index(band)]) for band in "griz"}
    return {**numbers, f"{prefix}_radius_arcsec": galaxy.radius_arcsec, f"{prefix}_sersic_n": galaxy.sersic_n}


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


def supernova_truth(explosion, z, peak_mag):
    """Numbers of one supernova; `peak_mag` (6,) as seen, magnified."""
    best = int(np.argmin(peak_mag))
    return {
        "sn_type": explosion.sn_type,
        "sn_template": explosion.name,
        "sn_absolute_b": explosion.absolute_b,
        "z_transient": z,
        "peak_mag": float(peak_mag[best]),
        "peak_band": BANDS[best],
    }


def observed_peak(draw, peak_mag):
    """Peak magnitudes (6,) with those in bands that the survey lacks at 99."""
    return np.where(np.isfinite(limits(draw.survey)), peak_mag, 99.0)


def flash_days(draw, flashes):
    """Days from the reference time in which any of the flashes is near or above the limit; None where never."""
    spans = []
    for flash in flashes:
        days = flash.table.bright_days(FORCED_DEPTH * draw.limit_njy / flash.magnification)
        if days is not None:
            spans.append((days[0] + flash.peak_mjd - draw.reference_mjd, days[1] + flash.peak_mjd - draw.reference_mjd))
    if not spans:
        return None
    return min(s[0] for s in spans) - 3.0, max(s[1] for s in spans) + 5.0


def seen_peak(draw, flashes, separation_arcsec):
    """Peak magnitudes (6,) of the brightest image, or of all together where they are not resolved."""
    if separation_arcsec > UNRESOLVED_ARCSEC[draw.survey]:
        best = max(flash.magnification for flash in flashes)
        return observed_peak(draw, flashes[0].table.peak_magnitude() - 2.5 * np.log10(best))
    days = np.arange(-30.0, 61.0, 5.0) * flashes[0].table.stretch / 2.0
    times = np.unique(np.concatenate([days + flash.peak_mjd for flash in flashes]))
    band = np.arange(6)[:, None]
    total = sum(flash.magnification * flash.table.at(times[None, :] - flash.peak_mjd, band) for flash in flashes)
    return observed_peak(draw, 31.4 - 2.5 * np.log10(np.maximum(total.max(axis=1), 1e-6)))


# --- lensed


def microlensing(rng, n):
    """Flux factor of each image: log-normal."""
    return 10.0 ** (-0.4 * rng.normal(0.0, MICROLENSING_MAG, n))


def lensed_supernova(draw, supernova_class):
    """A supernova with several images, its host's arcs and its lens."""
    system = draw_lens_system(draw.rng, draw.survey, supernova_class, draw.ebv, draw.folder)
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
    truth = lens_truth(draw, system) | supernova_truth(system.drawn, z, peak) | image_truth(images, sizes)
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
    """A lens system of the population that lensed supernovae show: with an Ia or a core collapse, by toss."""
    source = "Ia" if draw.rng.uniform() < 0.5 else "CC"
    return draw_lens_system(draw.rng, draw.survey, source, draw.ebv, draw.folder, deflector)


def single_supernova(draw, galaxy, supernova_class, magnification=1.0, place=None, peak_shift_days=0.0):
    """A supernova that follows a galaxy's light, bright enough to be seen; (Explosions, days, truth) or None."""
    picked = pick_explosion(draw.rng, draw.table, draw.survey, supernova_class, galaxy.z, draw.ebv,
                            lambda needed: single_survival(needed / magnification))  # fmt: skip
    if picked is None:
        return None
    explosion = picked[0]
    table = draw.table.light_curve(explosion, galaxy.z, draw.ebv)
    flash = Flash(table, draw.reference_mjd + peak_shift_days, magnification)
    days = flash_days(draw, [flash])
    if days is None:
        return None
    if place is None:
        place = galaxy.draw_offsets(draw.rng, 1)[0] + [galaxy.east, galaxy.north]
    peak = observed_peak(draw, table.peak_magnitude() - 2.5 * np.log10(magnification))
    truth = supernova_truth(explosion, galaxy.z, peak)
    truth["offset_arcsec"] = float(np.hypot(place[0] - galaxy.east, place[1] - galaxy.north))
    return Explosions(place, [flash]), days, truth | {"n_images": 1, "magnification": magnification}


def supernova_in_lens(draw, supernova_class):
    """A supernova of the lens galaxy itself, in front of the arcs."""
    system = reference_lens(draw, supernova_class)
    if system is None:
        return None
    made = single_supernova(draw, system.deflector, supernova_class)
    if made is None:
        return None
    variability, days, truth = made
    return Parts([system.deflector], system.lens, system.source, variability, days, lens_truth(draw, system) | truth)


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
    system = reference_lens(draw)
    if system is None:
        return None
    return Parts([system.deflector], system.lens, system.source, truth=lens_truth(draw, system), artefact="bad_subtraction")


def span(draw):
    """First and last MJD of a stochastic source's grid."""
    return draw.reference_mjd - 900.0, draw.reference_mjd + 900.0


def nucleus_in(draw, galaxy):
    """An active nucleus in a galaxy, within the survey's limits; (Nucleus, truth) or None."""
    shape = quasar_magnitudes(0.0, galaxy.z, draw.survey)[R]
    brightest, faintest = (limit - shape for limit in AGN_MAG[draw.survey])
    brightest, faintest = max(brightest, -26.5), min(faintest, -17.5)
    if brightest >= faintest:
        return None
    place = (galaxy.east, galaxy.north)
    return draw_agn(draw.rng, place, galaxy.z, draw.survey, draw.dust, span(draw), brightest, faintest)


def agn_in_lens(draw):
    """An active nucleus in the lens galaxy."""
    system = reference_lens(draw)
    made = None if system is None else nucleus_in(draw, system.deflector)
    if made is None:
        return None
    nucleus, truth = made
    truth = lens_truth(draw, system) | truth | {"n_images": 1, "magnification": 1.0}
    points = [(*nucleus.places[0], nucleus.mean_mag)]
    return Parts([system.deflector], system.lens, system.source, nucleus, ALWAYS_DAYS, truth, points=points)


def lensed_quasar(draw):
    """A quasar with several images, one random walk seen with delays, each image slowly microlensed."""
    system = draw_lens_system(draw.rng, draw.survey, "quasar", draw.ebv, draw.folder)
    if system is None:
        return None
    images, z = system.images, system.source.z
    mean = quasar_magnitudes(system.drawn, z, draw.survey) + draw.dust
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


# --- not lensed


def luminous_red_galaxy(draw, deflector=None):
    """A galaxy of the lens population with nothing behind it, or None."""
    source = "Ia" if draw.rng.uniform() < 0.5 else "CC"
    base = draw_lens(draw.rng, draw.survey, source, deflector, draw.folder)
    return None if base is None else base[0]


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
    """A galaxy with an active nucleus; redshifts by volume and quasar density, (1 + z)^3, up to 2.5."""
    z_max = 2.5 if draw.survey == "lsst" else 1.2
    nodes = np.linspace(0.01, z_max, 200)
    weight = cosmology.comoving_volume_per_z(nodes) * (1 + nodes) ** 3
    # Of a population with dN/dM ~ 10^(0.4 M) the share above a flux limit goes as flux to the power -1 .. 0.
    shape = np.array([quasar_magnitudes(0.0, z, draw.survey)[R] for z in nodes])
    faintest = np.clip(AGN_MAG[draw.survey][1] - shape, -26.5, -17.5)
    chance = np.cumsum(weight * (10 ** (0.4 * (faintest + 17.5)) - 10 ** (0.4 * -9.0)))
    galaxy = draw_host_galaxy(draw.rng, float(np.interp(draw.rng.uniform(), chance / chance[-1], nodes)), draw.survey)
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
    best = int(np.argmin(peak))
    truth |= {"z_transient": z, "peak_mag": float(peak[best]), "peak_band": BANDS[best], "n_images": 1, "magnification": 1.0}
    days = flash_days(draw, [flash])
    return Parts([galaxy], variability=Explosions(place, [flash]), active_days=days, truth=unlensed_truth(draw, galaxy) | truth)


def variable_star(draw):
    """A varying star in the field."""
    star, days, truth, _ = draw_variable_star(draw.rng, draw.survey, draw.dust, draw.reference_mjd, *STAR_R[draw.survey])
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


BUILDERS = {
    "lensed_sn_ia": lambda draw: lensed_supernova(draw, "Ia"),
    "lensed_sn_cc": lambda draw: lensed_supernova(draw, "CC"),
    "lensed_quasar": lensed_quasar,
    "sn_ia_in_lens": lambda draw: supernova_in_lens(draw, "Ia"),
    "sn_cc_in_lens": lambda draw: supernova_in_lens(draw, "CC"),
    "sn_outside_images": supernova_outside_images,
    "agn_in_lens": agn_in_lens,
    "lens_bad_subtraction": static_lens,
    "sn_ia_host": lambda draw: supernova_in_galaxy(draw, "Ia", red=False),
    "sn_cc_host": lambda draw: supernova_in_galaxy(draw, "CC", red=False),
    "sn_ia_lrg": lambda draw: supernova_in_galaxy(draw, "Ia", red=True),
    "sn_cc_lrg": lambda draw: supernova_in_galaxy(draw, "CC", red=True),
    "sibling_sne": sibling_supernovae,
    "agn": active_galaxy,
    "variable_star": variable_star,
    "tde": lambda draw: thermal_transient(draw, "tde"),
    "slsn": lambda draw: thermal_transient(draw, "slsn"),
    "moving_object": moving_object,
    "cosmic_ray": lambda draw: artefact(draw, "cosmic_ray"),
    "bad_column": lambda draw: artefact(draw, "bad_column"),
    "dipole": dipole,
}
