"""Fit of the galaxy model to the pooled tables: `python -m dgl_broker.sim.galaxy_fit` rewrites `galaxy_model.json`.

The tables' classes are dropped: lens galaxies of all configurations are one population, sources another, stars a third.
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import norm, rankdata

from dgl_broker.sim.bandpasses import bandpasses
from dgl_broker.sim.sim_data import load_galaxy_table, need_data_folder

N_QUANTILES = 33
NODES = [912, 1216, 1600, 2000, 2400, 2800, 3200, 3600, 3900, 4100, 4500, 5000, 5500, 6200, 7000, 8000, 9000, 10500,
         12500, 16000, 22000]  # fmt: skip
EARLY_START = [0.002, 0.01, 0.015, 0.02, 0.03, 0.07, 0.14, 0.27, 0.38, 0.62, 0.80, 0.93, 1, 1.0, 0.97, 0.92, 0.85, 0.74,
               0.60, 0.40, 0.18]  # fmt: skip
LATE = [0.3, 1.8, 2.6, 2.3, 1.9, 1.65, 1.4, 1.25, 1.3, 1.5, 1.3, 1.12, 1, 0.82, 0.68, 0.56, 0.47, 0.37, 0.28, 0.18,
        0.08]  # fmt: skip
LIGHT, MASS = "LIGHT_PROFILE_1-", "MASS_PROFILE_1-"


def pooled_tables(folder):
    """Distinct lens galaxies, sources and stars of all tables: dict population -> dict variable -> array."""
    pools = {"lens": [], "source": [], "star": []}
    for path in sorted((Path(folder) / "galaxies").glob("full_config_*.txt")):
        table = load_galaxy_table(path)
        if f"PLANE_1-OBJECT_1-{MASS}sigma_v" in table:
            pools["lens"].append(_galaxy_columns(table, "PLANE_1-OBJECT_1-", with_mass=True))
            pools["source"].append(_galaxy_columns(table, "PLANE_2-OBJECT_1-"))
        for number in "234":
            star = f"PLANE_1-OBJECT_{number}-magnitude-"
            if star + "g" in table:
                pools["star"].append(_magnitudes(table, star))
    out = {}
    for population, parts in pools.items():
        names = list(parts[0])
        rows = np.unique(np.concatenate([np.column_stack([part[name] for name in names]) for part in parts]), axis=0)
        good = np.all(np.isfinite(rows), axis=1)
        for name in ("g-r", "r-i", "i-z"):
            # Missing photometry is 99 or a colour of several magnitudes.
            good &= np.abs(rows[:, names.index(name)] - 1.0) < 3.0
        out[population] = dict(zip(names, rows[good].T))
    return out


def _magnitudes(table, prefix):
    g, r, i, z = (table[prefix + band] for band in "griz")
    return {"i": i, "g-r": g - r, "r-i": r - i, "i-z": i - z}


def _galaxy_columns(table, prefix, with_mass=False):
    columns = {"z": table[prefix + "REDSHIFT"], **_magnitudes(table, prefix + LIGHT + "magnitude-")}
    columns["ln_radius"] = np.log(table[prefix + LIGHT + "R_sersic-r"])
    columns["n"] = table[prefix + LIGHT + "n_sersic-r"]
    columns["e1"], columns["e2"] = table[prefix + LIGHT + "e1"], table[prefix + LIGHT + "e2"]
    if with_mass:
        columns["ln_sigma_v"] = np.log(table[prefix + MASS + "sigma_v"])
    return columns


def fit_copula(columns):
    """Quantiles on an even grid and the correlation of normal scores of columns (n,), as lists of rounded numbers."""
    names = list(columns)
    values = np.column_stack([columns[name] for name in names])
    quantiles = np.quantile(values, np.linspace(0, 1, N_QUANTILES), axis=0).T
    # The outermost per mille are fit failures in these tables: the ends are the 0.2 and 99.8 percentiles.
    quantiles[:, 0], quantiles[:, -1] = np.quantile(values, [0.002, 0.998], axis=0)
    scores = norm.ppf(np.apply_along_axis(rankdata, 0, values) / (len(values) + 1))
    correlation = np.corrcoef(scores.T)
    return {
        "variables": names,
        "n_objects": len(values),
        "quantiles": np.round(quantiles, 4).tolist(),
        "correlation": np.round(correlation, 3).tolist(),
    }


def fit_early_spectrum(lens):
    """Nodes of the early-type spectrum from the lens galaxies' median colours in bins of redshift."""
    wave = np.arange(900.0, 24000.0, 20.0)
    curves = bandpasses("des")
    bins = []
    for low in np.arange(0.10, 0.75, 0.05):
        inside = (lens["z"] >= low) & (lens["z"] < low + 0.05)
        if inside.sum() >= 8:
            colours = [np.median(lens[name][inside]) for name in ("g-r", "r-i", "i-z")]
            weights = np.array([curves[band].weights(wave, np.median(lens["z"][inside])) for band in "griz"])
            bins.append((weights, np.array(colours)))
    start = np.log(EARLY_START)

    def residuals(log_flux):
        spectrum = np.exp(np.interp(np.log(wave), np.log(NODES), log_flux))
        colours = [(-np.diff(-2.5 * np.log10(weights @ spectrum)) - target) / 0.03 for weights, target in bins]
        return np.concatenate([*colours, (log_flux - start) / 0.25])

    fitted = least_squares(residuals, start).x
    return np.round(np.exp(fitted - fitted[NODES.index(5500)]), 4).tolist()


def fit_galaxy_model(folder):
    """All numbers of `galaxy_model.json` from the tables in `folder`."""
    pools = pooled_tables(folder)
    return {
        "source": "Gaussian copulas of the 16 parameter tables of deepskies/DeepZipper (Simulations/user_dists, BSD-3; "
        "galaxies of the Dark Energy Survey), pooled over configurations; galaxy_fit.py",
        "spectra": {"nodes_angstrom": NODES, "early": fit_early_spectrum(pools["lens"]), "late": LATE},
        **{population: fit_copula(columns) for population, columns in pools.items()},
    }


if __name__ == "__main__":
    model = fit_galaxy_model(need_data_folder(what="the fit of the galaxy model"))
    text = json.dumps(model, indent=None, separators=(",", ":")).replace("],[", "],\n[").replace('},"', '},\n"')
    Path(__file__).with_name("galaxy_model.json").write_text(text + "\n", encoding="utf-8")
