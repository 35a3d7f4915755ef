"""How often each kind is met in a stream: objects a year with an alert, after the shipped pre-cuts.

For supernovae in galaxies the numbers follow from the population itself (rates per volume and the chance to pass the peak
limit); for the rest from the literature or, where nothing is published, from a stated assumption. They weight the *stream*
mix of negatives, where a factor of two in one kind moves a false-positive rate by less than its interval.
"""

from dataclasses import dataclass

import numpy as np

from dgl_broker.sim.lens_population import Z_SINGLE_NODES, events_per_z, seen_share
from dgl_broker.sim.sim_data import data_folder
from dgl_broker.sim.system import CLASS_OF_KIND

STERADIAN_DEG2 = 3282.8
SKY_DEG2 = {"lsst": 18000.0, "ztf": 15000.0}  # wide-fast-deep area; ZTF's northern survey at any season
SEASON_SHARE = 0.5  # of a year in which a point is observed


@dataclass(frozen=True)
class Rate:
    """Objects a year of one kind, and where the number is from."""

    objects_per_year: float
    source: str


_MODEL = "this population's rate per volume x chance to pass the peak limit x area x half a year of season"
_LENSES = "1.2e5 lenses (Collett 2015)"
# Kinds whose number is not the population's own: (lsst, ztf, source).
_OTHERS = {
    "lensed_sn_ia": (44.0, 1.22, "Arendse et al. 2024; Goldstein et al. 2019 for ZTF"),
    "lensed_sn_cc": (44.0, 7.4, "88 of all types, Sainz de Murieta et al. 2024, less the Ia; Goldstein et al. 2019 for ZTF"),
    "lensed_quasar": (2600.0, 150.0, "Oguri & Marshall 2010 for LSST; known ones brighter than 19.5 for ZTF"),
    "sn_ia_in_lens": (400.0, 3.0, f"{_LENSES} x 0.04 Ia a century per 1e10 solar masses (Mannucci et al. 2005) x 0.4 seen"),
    "sn_cc_in_lens": (12.0, 0.1, "3 % of the Ia in lenses: core collapse in early types (Irani et al. 2022)"),
    "sn_outside_images": (60.0, 0.3, f"{_LENSES} x 0.01 a year x half outside x 0.1 seen; assumed"),
    "agn_in_lens": (1200.0, 20.0, f"{_LENSES} x 1 % active"),
    "lens_bad_subtraction": (12000.0, 50.0, f"{_LENSES}, a tenth of which leave a residual in a year; assumed"),
    "agn": (1.5e6, 1.5e5, "85 quasars a square degree to r = 22.3, 10 to 19.6 (Palanque-Delabrouille et al. 2016)"),
    "variable_star": (5.0e5, 3.0e4, "1 % of variables survive the star-galaxy cut; assumed"),
    "tde": (4000.0, 20.0, "Bricman & Gomboc 2020; van Velzen et al. 2021 for ZTF"),
    "slsn": (1.0e4, 30.0, "Villar, Nicholl & Berger 2018; Chen et al. 2023 for ZTF"),
    "moving_object": (1.0e5, 1.0e4, "unlinked after two detections half an hour apart; assumed"),
    "cosmic_ray": (1.0e4, 1.0e3, "two in one place after the reliability floor; assumed"),
    "bad_column": (5.0e4, 5.0e3, "after the reliability floor; assumed"),
    "dipole": (5.0e5, 5.0e4, "bright galaxies and stars after the reliability floor; assumed"),
}
RED_SHARE = {"Ia": 0.05, "CC": 0.003}  # in galaxies of the lens population: Mannucci et al. 2005, Irani et al. 2022
SIBLING_SHARE = 3e-4  # a second supernova within two months: Graham et al. 2022, scaled to that time


def supernovae_per_year(profile, supernova_class, data=None):
    """Unlensed supernovae of class "Ia" or "CC" a year that pass the survey's peak limit in season."""
    seen = seen_share(profile, supernova_class, False, data_folder(data))
    per_steradian = np.trapezoid(events_per_z(supernova_class, Z_SINGLE_NODES) * seen, Z_SINGLE_NODES)
    return float(per_steradian * SKY_DEG2[profile] / STERADIAN_DEG2 * SEASON_SHARE)


def stream_rates(profile, data=None):
    """Objects a year of every kind after the shipped pre-cuts.

    Parameters
    ----------
    profile : "lsst" or "ztf"
    data : path, optional
        Folder of simulator data, as in `draw_system`.

    Returns
    -------
    dict kind -> Rate
    """
    column = {"lsst": 0, "ztf": 1}[profile]
    rates = {kind: Rate(row[column], row[2]) for kind, row in _OTHERS.items()}
    total = 0.0
    for supernova_class, name in (("Ia", "ia"), ("CC", "cc")):
        number = supernovae_per_year(profile, supernova_class, data)
        red = RED_SHARE[supernova_class]
        rates[f"sn_{name}_host"] = Rate(number * (1 - red), _MODEL)
        rates[f"sn_{name}_lrg"] = Rate(number * red, f"{_MODEL}, {red:.1%} of them in luminous red galaxies")
        total += number
    rates["sibling_sne"] = Rate(total * SIBLING_SHARE, f"{SIBLING_SHARE:g} of supernovae (Graham et al. 2022)")
    return {kind: rates[kind] for kind in CLASS_OF_KIND}
