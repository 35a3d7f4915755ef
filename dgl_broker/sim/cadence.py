"""When, in which band and how deep a survey looks at a point: its own table where given, else a model with its statistics.

Tables: `cadence/visits_rubin.npz` (Rubin baseline v3.0) and `visits_ztf.npz` (real pointings) in the folder of simulator data:
for 400 points `ra_deg`, `dec_deg`, and visits `mjd`, `band`, `five_sigma_depth_mag` between `offset`s. The model's numbers
below were measured on these tables (wide survey: 600 to 1200 Rubin visits, 300 to 3000 ZTF visits a point).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.sim.sim_data import data_folder

YEAR_DAYS = 365.25
DEPTH_SHARES = (0.0, 0.01, 0.05, 0.16, 0.5, 0.84, 0.95, 0.99, 1.0)  # of the depths listed per band, whose ends are +-0.2 mag


@dataclass(frozen=True)
class CadenceModel:
    """Statistics of a survey's cadence.

    `patterns` maps the bands of one night in order of time to its share of nights; `depth` holds 5-sigma depths at
    `DEPTH_SHARES` without its ends [mag]; `night_correlation` is that of depths within a night; `pair_minutes` the
    quartiles between a night's visits; `nights_a_year` and the season's length give the gaps, drawn as a gamma of shape
    `gap_shape` and at least one night.
    """

    file: str
    start_mjd: float
    years: float
    nights_a_year: float
    season_days: tuple
    gap_shape: float
    pair_minutes: tuple
    night_correlation: float
    patterns: dict
    depth: dict
    table_visits: tuple  # points with fewer or more visits than this are not used: Galactic rim, deep drilling fields


MODELS = {
    "lsst": CadenceModel(
        file="visits_rubin.npz",
        start_mjd=60218.0,
        years=10.0,
        nights_a_year=39.8,
        season_days=(139.0, 179.0, 208.0),
        gap_shape=0.8,
        pair_minutes=(13.5, 33.5, 34.8),
        night_correlation=0.79,
        patterns={
            "ri": 0.119, "iz": 0.098, "yy": 0.093, "zy": 0.075, "gr": 0.062, "z": 0.055, "r": 0.054, "i": 0.034, "zi": 0.033,
            "ur": 0.029, "ug": 0.028, "ir": 0.028, "y": 0.021, "rrii": 0.020, "g": 0.016, "yyyy": 0.016, "iizz": 0.015,
            "yz": 0.013, "ru": 0.012, "zzyy": 0.012, "rg": 0.011, "ggrr": 0.010, "u": 0.009, "rr": 0.007, "zz": 0.006,
            "zzii": 0.005, "ii": 0.005, "uurr": 0.005, "uugg": 0.005, "iirr": 0.004, "grr": 0.004, "izz": 0.004,
            "rii": 0.004, "zii": 0.003, "gu": 0.003,
        },
        depth={
            "u": (22.59, 22.94, 23.22, 23.56, 23.86, 24.03, 24.21), "g": (23.31, 23.67, 23.98, 24.39, 24.73, 24.91, 25.05),
            "r": (22.32, 23.04, 23.49, 23.96, 24.31, 24.48, 24.61), "i": (21.97, 22.43, 22.89, 23.37, 23.75, 23.93, 24.08),
            "z": (21.59, 22.05, 22.37, 22.77, 23.08, 23.25, 23.40), "y": (20.97, 21.32, 21.60, 21.97, 22.25, 22.40, 22.54),
        },
        table_visits=(150, 1500),
    ),
    "ztf": CadenceModel(
        file="visits_ztf.npz",
        start_mjd=58288.0,
        years=4.2,
        nights_a_year=101.0,
        season_days=(120.0, 217.0, 273.0),
        gap_shape=1.2,
        pair_minutes=(5.6, 28.1, 61.9),
        night_correlation=0.74,
        patterns={
            "rg": 0.178, "gr": 0.162, "r": 0.136, "g": 0.133, "i": 0.059, "rrrrr": 0.025, "rr": 0.023, "rrgg": 0.021,
            "ggrr": 0.018, "gg": 0.016, "rrrr": 0.015, "rrg": 0.009, "rrr": 0.008, "grr": 0.008, "ggr": 0.008, "irg": 0.007,
            "rgg": 0.007, "igr": 0.007, "rig": 0.007, "rgi": 0.007, "gir": 0.007, "gri": 0.006, "ir": 0.006, "ri": 0.005,
            "gi": 0.005, "ig": 0.005,
        },
        depth={
            "g": (17.75, 19.22, 20.00, 20.95, 21.61, 21.85, 22.05), "r": (17.01, 18.80, 19.82, 20.70, 21.32, 21.59, 21.78),
            "i": (17.52, 19.19, 19.97, 20.56, 20.97, 21.19, 21.44),
        },
        table_visits=(100, 3000),
    ),
}  # fmt: skip


@lru_cache(maxsize=4)
def _read_table(path):
    with np.load(path, allow_pickle=False) as table:
        return {name: table[name] for name in table.files}


def _nearest_point(table, ra, dec, lo, hi):
    count = np.diff(table["offset"])
    ra0, dec0 = np.deg2rad(ra), np.deg2rad(dec)
    ras, decs = np.deg2rad(table["ra_deg"]), np.deg2rad(table["dec_deg"])
    cosine = np.sin(dec0) * np.sin(decs) + np.cos(dec0) * np.cos(decs) * np.cos(ras - ra0)
    cosine[(count < lo) | (count > hi)] = -2.0
    return int(np.argmax(cosine))


def table_visits(survey, ra, dec, folder):
    """Visits of the table's point nearest to a position that belongs to the wide survey.

    Returns
    -------
    mjd, band, depth_mag : arrays, shape (n,)
        Sorted by time; `band` indexes `BANDS`.
    """
    model = MODELS[survey]
    table = _read_table(str(folder / "cadence" / model.file))
    point = _nearest_point(table, ra, dec, *model.table_visits)
    inside = slice(table["offset"][point], table["offset"][point + 1])
    mjd = table["mjd"][inside]
    order = np.argsort(mjd, kind="stable")
    band = np.array([BANDS.index(b) for b in table["band"][inside][order].astype(str)], int)
    return mjd[order], band, table["five_sigma_depth_mag"][inside][order].astype(float)


def _season_centres(model, ra, rng):
    """Times when the point culminates at midnight (MJD), scattered as the tables' season centres are (-12 +- 28 days)."""
    sun_at_start = (280.46 + (model.start_mjd - 51544.5) * 360.0 / 365.2422) % 360.0
    first = model.start_mjd + ((ra - 180.0 - sun_at_start) % 360.0) * 365.2422 / 360.0 - YEAR_DAYS
    centres = first + YEAR_DAYS * np.arange(int(model.years) + 3)
    return centres + rng.normal(-12.0, 28.0)


def _depths(model, bands, night, rng):
    """5-sigma depths with the bands' own distributions, correlated within a night (normal copula)."""
    shared = rng.standard_normal(int(night.max()) + 1)[night]
    rho = model.night_correlation
    normal = np.sqrt(rho) * shared + np.sqrt(1 - rho) * rng.standard_normal(len(night))
    from scipy.special import ndtr

    share = ndtr(normal)
    depth = np.empty(len(night))
    for band, knots in model.depth.items():
        mine = bands == BANDS.index(band)
        depth[mine] = np.interp(share[mine], DEPTH_SHARES, (knots[0] - 0.2, *knots, knots[-1] + 0.1))
    return depth


def model_visits(survey, ra, rng):
    """Visits of one point by the model.

    Returns
    -------
    mjd, band, depth_mag : arrays, shape (n,)
        Sorted by time; `band` indexes `BANDS`.
    """
    model = MODELS[survey]
    mean_gap = np.interp(0.5, (0.0, 0.5, 1.0), model.season_days) / model.nights_a_year
    nights = []
    for centre in _season_centres(model, ra, rng):
        length = np.interp(rng.uniform(), (0.1, 0.5, 0.9), model.season_days)
        n = int(2 * length / mean_gap) + 5
        gaps = np.maximum(1.0, np.round(rng.gamma(model.gap_shape, mean_gap / model.gap_shape, n)))
        at = centre - 0.5 * length + np.cumsum(gaps)
        nights.append(np.floor(at[at < centre + 0.5 * length]))
    nights = np.concatenate(nights)
    nights = np.unique(nights[(nights >= model.start_mjd) & (nights < model.start_mjd + YEAR_DAYS * model.years)])
    names = list(model.patterns)
    shares = np.array([model.patterns[name] for name in names])
    drawn = [names[i] for i in rng.choice(len(names), len(nights), p=shares / shares.sum())]
    night = np.repeat(np.arange(len(nights)), [len(p) for p in drawn])
    bands = np.array([BANDS.index(b) for b in "".join(drawn)], int)
    step = np.interp(rng.uniform(size=len(night)), (0.25, 0.5, 0.75), model.pair_minutes) / 1440.0
    since = np.cumsum(step)
    first = np.concatenate([[True], np.diff(night) > 0])
    since -= np.maximum.accumulate(np.where(first, since, 0.0))
    hour = 0.05 + 0.25 * rng.uniform(size=len(nights))[night]
    mjd = nights[night] + hour + since
    return mjd, bands, _depths(model, bands, night, rng)


def cadence(survey, ra, dec, rng, folder=None):
    """Visits of a point: from the survey's table where a folder of simulator data is given, else from the model.

    Returns
    -------
    mjd, band, depth_mag : arrays, shape (n,)
    """
    folder = data_folder(folder)
    if folder is not None:
        return table_visits(survey, ra, dec, folder)
    return model_visits(survey, ra, rng)
