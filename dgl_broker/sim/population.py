"""One sky for all classes: `draw_system` gives any system of a profile again from its seed and index alone."""

import numpy as np

from dgl_broker.errors import ConfigError
from dgl_broker.sim.dust import draw_milky_way_ebv, galactic_latitude_deg
from dgl_broker.sim.galaxies import draw_field_galaxies, draw_field_stars
from dgl_broker.sim.kinds import BUILDERS
from dgl_broker.sim.parts import Draw
from dgl_broker.sim.reference_catalogue import list_entries
from dgl_broker.sim.scene import Scene
from dgl_broker.sim.selection_limits import FIELD_HALF_ARCSEC, FIELD_LIMIT_I, PEAK_LIMIT_MAG, SURVEY_SPAN_MJD
from dgl_broker.sim.sim_data import data_folder
from dgl_broker.sim.supernovae import templates
from dgl_broker.sim.system import CLASS_OF_KIND, System
from dgl_broker.sim.transients import milky_way_dust_mag

# Streams of random numbers; the survey side uses those below 1000.
SKY_STREAM, KIND_STREAM, OBJECT_STREAM, FIELD_STREAM, CATALOGUE_STREAM = 1000, 1001, 1002, 1003, 1004
MAX_DRAWS = 20_000
DECLINATION_DEG = {"lsst": (-72.0, 12.0), "ztf": (-28.0, 85.0)}
LATITUDE_MIN_DEG = {"lsst": 18.0, "ztf": 10.0}  # the surveys' wide parts; the plane is another stream

# Mix of kinds when none is asked for: classes evenly, and within a class what is hard more often than what is easy.
KIND_WEIGHTS = {
    "lensed_sn_ia": 0.25, "lensed_sn_cc": 0.25,
    "lensed_quasar": 0.05, "sn_ia_in_lens": 0.06, "sn_cc_in_lens": 0.03, "sn_outside_images": 0.05, "agn_in_lens": 0.03,
    "lens_bad_subtraction": 0.03,
    "sn_ia_host": 0.045, "sn_cc_host": 0.035, "sn_ia_lrg": 0.045, "sn_cc_lrg": 0.02, "sibling_sne": 0.015, "agn": 0.025,
    "variable_star": 0.02, "tde": 0.01, "slsn": 0.01, "moving_object": 0.01, "cosmic_ray": 0.005, "bad_column": 0.005,
    "dipole": 0.005,
}  # fmt: skip


def _generator(seed, index, stream):
    return np.random.default_rng(np.random.SeedSequence([seed, index, stream]))


def draw_kind(seed, index):
    """The kind that a system has when none is asked for, by `KIND_WEIGHTS`."""
    kinds = list(KIND_WEIGHTS)
    chance = np.array(list(KIND_WEIGHTS.values()))
    return kinds[_generator(seed, index, KIND_STREAM).choice(len(kinds), p=chance / chance.sum())]


def _draw_position(rng, survey):
    low, high = np.sin(np.radians(DECLINATION_DEG[survey]))
    while True:
        ra, dec = float(rng.uniform(0, 360)), float(np.degrees(np.arcsin(rng.uniform(low, high))))
        latitude = float(galactic_latitude_deg(ra, dec))
        if abs(latitude) > LATITUDE_MIN_DEG[survey]:
            return ra, dec, latitude


def draw_system(profile, seed, index, kind=None, data=None):
    """One system: sky position, galaxies, what varies, and the truth about it.

    Parameters
    ----------
    profile : "lsst" or "ztf"
        Selection, bands and field of the survey.
    seed, index : int
        0 <= seed < 2^31, 0 <= index < 2^32. Position, dust and date depend on nothing else, the rest on `kind` too.
    kind : str, optional
        One of `system.KINDS`' kinds; by `KIND_WEIGHTS` where None.
    data : path, optional
        Folder of simulator data (core-collapse spectra); else `DGL_SIM_DATA`; else the analytic model. Systems of the two
        differ, and `truth["templates"]` says which it was.

    Returns
    -------
    System

    Raises
    ------
    ConfigError
        For a profile, kind, seed or index that does not exist.
    """
    if profile not in PEAK_LIMIT_MAG:
        raise ConfigError(f"profile {profile!r}, expected one of {', '.join(PEAK_LIMIT_MAG)}")
    if not (0 <= seed < 2**31 and 0 <= index < 2**32):
        raise ConfigError(f"seed {seed}, index {index}: expected 0 <= seed < 2^31 and 0 <= index < 2^32")
    kind = draw_kind(seed, index) if kind is None else kind
    if kind not in CLASS_OF_KIND:
        raise ConfigError(f"kind {kind!r}, expected one of {', '.join(CLASS_OF_KIND)}")
    folder = data_folder(data)

    rng = _generator(seed, index, SKY_STREAM)
    ra, dec, latitude = _draw_position(rng, profile)
    ebv = draw_milky_way_ebv(rng, latitude)
    dust = milky_way_dust_mag(ebv, profile)
    reference = float(rng.uniform(*SURVEY_SPAN_MJD[profile]))

    draw = Draw(_generator(seed, index, OBJECT_STREAM), profile, folder, ebv, dust, reference)
    parts, n_draws = None, 0
    while parts is None:
        n_draws += 1
        if n_draws > MAX_DRAWS:
            raise RuntimeError(f"{profile} {kind}: no system seen in {MAX_DRAWS} draws, seed {seed}, index {index}")
        parts = BUILDERS[kind](draw)
    scene = _scene(parts, _generator(seed, index, FIELD_STREAM), profile, dust, latitude)
    truth = {
        "kind": kind, "ebv_milky_way": ebv, "n_draws": n_draws, "peak_limit_mag": PEAK_LIMIT_MAG[profile],
        "templates": templates(profile, folder).source, **parts.truth,
    }  # fmt: skip
    return System(
        seed=seed,
        index=index,
        kind=kind,
        ra=ra,
        dec=dec,
        scene=scene,
        variability=parts.variability,
        reference_mjd_tai=reference,
        active_days=tuple(float(day) for day in parts.active_days),
        artefact=parts.artefact,
        catalogue=list_entries(_generator(seed, index, CATALOGUE_STREAM), scene, parts.points),
        galaxy_id=(seed << 32) | index,
        truth=truth,
    )


def _scene(parts, rng, survey, dust, latitude):
    """The parts' galaxies among chance neighbours, which are the same for every kind."""
    half, limit = FIELD_HALF_ARCSEC[survey], FIELD_LIMIT_I[survey]
    galaxies = draw_field_galaxies(rng, half, limit, survey)
    places, mags = draw_field_stars(rng, half, limit, latitude)
    if parts.stars:
        places = np.concatenate([places, [star[:2] for star in parts.stars]])
        mags = np.concatenate([mags, [star[2] for star in parts.stars]])
    return Scene([*parts.galaxies, *galaxies], dust, parts.lens, parts.source, places, mags)
