"""What a criterion may speak of: the standard facts of `dgl_broker.surveys.FACTS`, and facts derived from them here.

For each a kind and a range, so that a threshold in the wrong unit is an error when the filter is read and not a night without
candidates. Derived facts are worked out only when a criterion in force asks for one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.selection.known_lenses import known_lenses
from dgl_broker.surveys.facts import FACTS

HUBBLE_DISTANCE_MPC = 299792.458 / 70.0  # H0 = 70 km/s/Mpc
OMEGA_M = 0.3  # flat LCDM, as in the paper's simulations
REDSHIFTS = (1e-3, 5.0)  # below, peculiar motion; above, no galaxy of a survey's catalogue
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)

_ANY = (-math.inf, math.inf)
# Ranges by unit, and by name where the unit does not say; all else is a number without a range.
RANGE_OF_UNIT = {"arcsec": (0.0, 648000.0), "mag": (-40.0, 50.0), "d": (0.0, 1e5), "MJD TAI": (0.0, 1e6), "nJy": _ANY}
RANGE_OF_FACT = {
    "ra": (0.0, 360.0),
    "dec": (-90.0, 90.0),
    "galactic_latitude_deg": (-90.0, 90.0),
    "galactic_longitude_deg": (0.0, 360.0),
    "ecliptic_latitude_deg": (-90.0, 90.0),
    "reliability": (0.0, 1.0),
    "extendedness": (0.0, 1.0),
    "star_score": (0.0, 1.0),
    "host_redshift": (0.0, 20.0),
    "snr": (0.0, math.inf),
    "n_detections": (0.0, math.inf),
    "n_bad_pixels": (0.0, 25.0),
    "rows_dropped": (0.0, math.inf),
    **{f"ps1_{n}_star_score": (0.0, 1.0) for n in (1, 2, 3)},
}
CHOICES = {"survey": ("ztf", "lsst"), "band": tuple(BANDS), "programid": (1, 2, 3)}


@dataclass(frozen=True)
class Derived:
    """A fact made from others: what it needs, its unit, what it says, and the function from facts to value or None."""

    needs: tuple[str, ...]
    unit: str
    doc: str
    value: Callable


def distance_modulus(redshift):
    """Distance modulus [mag] in flat LCDM, H0 = 70 km/s/Mpc, Omega_m = 0.3; NaN outside 0.001 <= z <= 5.

    Hogg 1999, arXiv:astro-ph/9905116, eqs. 14 to 16, 21 and 25, by Gauss-Legendre quadrature with 24 nodes: good to 1e-9 mag.
    """
    z = float(redshift)
    if not REDSHIFTS[0] <= z <= REDSHIFTS[1]:
        return math.nan
    at = 1.0 + 0.5 * z * (_NODES + 1.0)
    comoving = 0.5 * z * float(_WEIGHTS @ (1.0 / np.sqrt(OMEGA_M * at**3 + 1.0 - OMEGA_M)))
    return 5.0 * math.log10((1.0 + z) * comoving * HUBBLE_DISTANCE_MPC) + 25.0


def _absolute_magnitude(facts):
    brightest, trigger = facts.get("brightest_magnitude"), facts.get("magnitude")
    if brightest is None and facts.get("is_positive") is not False:
        brightest = trigger
    redshift = facts.get("host_redshift")
    if brightest is None or redshift is None:
        return None
    return float(brightest) - distance_modulus(redshift)


def _separation_from(kind):
    def separation(facts):
        ra, dec = facts.get("ra"), facts.get("dec")
        return None if ra is None or dec is None else known_lenses(kind).nearest(ra, dec)[0]

    return separation


DERIVED = {
    "absolute_magnitude": Derived(
        ("host_redshift", "brightest_magnitude", "magnitude", "is_positive"),
        "mag",
        "brightest difference magnitude so far, at the distance of host_redshift (flat LCDM, H0 70 km/s/Mpc, Omega_m 0.3); "
        "no K correction, no extinction",
        _absolute_magnitude,
    ),
    "known_lens_separation_arcsec": Derived(
        ("ra", "dec"),
        "arcsec",
        "separation of the nearest known lens of galaxy or group scale, from lenscat's table",
        _separation_from("galaxy"),
    ),
    "known_cluster_lens_separation_arcsec": Derived(
        ("ra", "dec"),
        "arcsec",
        "separation of the centre of the nearest known lensing cluster, from lenscat's table",
        _separation_from("cluster"),
    ),
}

ALL_FACTS = {**FACTS, **{name: (derived.unit, derived.doc) for name, derived in DERIVED.items()}}


def kind_of(fact):
    """`bool`, `text` or `number`: what values the fact has."""
    unit = ALL_FACTS[fact][0]
    return unit if unit in ("bool", "text") else "number"


def range_of(fact):
    """(lowest, highest) number that a criterion on this fact may sensibly name."""
    return RANGE_OF_FACT.get(fact) or RANGE_OF_UNIT.get(ALL_FACTS[fact][0], _ANY)


def prepare(facts):
    """Loads what derived facts need, so that a missing table of lenses stops the start and not the first alert.

    Raises
    ------
    InputUnavailable, ConfigError
        If the table of known lenses is missing or broken.
    """
    if "known_lens_separation_arcsec" in facts:
        known_lenses("galaxy")
    if "known_cluster_lens_separation_arcsec" in facts:
        known_lenses("cluster")
