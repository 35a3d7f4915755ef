"""Where optional simulator data lie: `DGL_SIM_DATA`, or a folder given by the caller; None where there is none.

Nothing in that folder is needed: without it core-collapse spectra come from the analytic model and galaxies from the
fitted numbers in `galaxy_model.json`.
"""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from dgl_broker.errors import InputUnavailable

ENVIRONMENT = "DGL_SIM_DATA"
DRAWN_FROM = (
    "SIMGEN_INCLUDE_NON1A.INPUT", "core_collapse_seds.npz", "cadence/visits_rubin.npz", "cadence/visits_ztf.npz",
)  # fmt: skip


def data_folder(data=None):
    """The data folder as a Path, from `data` or from the environment; None where neither is given.

    Raises
    ------
    InputUnavailable
        If one is given that does not exist or lacks a file: a typing error must not silently change the population.
    """
    given = data or os.environ.get(ENVIRONMENT) or None
    if given is None:
        return None
    folder = Path(given)
    if not folder.is_dir():
        raise InputUnavailable(f"{folder}: no such folder of simulator data (from the caller or {ENVIRONMENT})")
    missing = _missing(folder)
    if missing:
        raise InputUnavailable(f"{folder}: simulator data without {', '.join(missing)} (from the caller or {ENVIRONMENT})")
    return folder


@lru_cache(maxsize=8)
def _missing(folder):
    return [name for name in DRAWN_FROM if not (folder / name).is_file()]


def data_fingerprint(data=None):
    """A dozen hexadecimal digits of what systems are drawn from in the data folder; None where there is none."""
    folder = data_folder(data)
    return None if folder is None else _fingerprint(folder)


@lru_cache(maxsize=8)
def _fingerprint(folder):
    digest = hashlib.sha256()
    for name in DRAWN_FROM:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:12]


def need_data_folder(data=None, what="this"):
    """As `data_folder`, for work that cannot be done without.

    Raises
    ------
    InputUnavailable
        If no folder is given.
    """
    folder = data_folder(data)
    if folder is None:
        raise InputUnavailable(f"{what} needs the simulator's data: set {ENVIRONMENT} to their folder")
    return folder


def load_kessler_seds(folder):
    """The 43 core-collapse SEDs of Kessler et al. (2010) as a list of (name, type, weight, phase, wave, flux).

    Returns
    -------
    list of tuples
        `type` is one of IIP, IIL, IIN, Ib, Ic; `weight` is that of SIMGEN_INCLUDE_NON1A.INPUT; flux (n_phase, n_wave)
        is f_lambda with arbitrary amplitude.
    """
    types = {}
    for line in (folder / "SIMGEN_INCLUDE_NON1A.INPUT").read_text().splitlines():
        if line.startswith("NON1A:"):
            fields = line.split()
            types[fields[7]] = ({"Ibc": "Ic"}.get(fields[6], fields[6]), float(fields[2]))
    out = []
    with np.load(folder / "core_collapse_seds.npz", allow_pickle=False) as seds:
        for name in sorted({key.split("/")[0] for key in seds.files}):
            kind, weight = types[name]
            arrays = (seds[f"{name}/{key}"].astype(float) for key in ("phase_day", "wave_angstrom", "flux"))
            out.append((name, kind, weight, *arrays))
    return out


def load_galaxy_table(path):
    """One `full_config_N.txt` as a dict of columns, the `CONFIGURATION_N-` prefix dropped."""
    with open(path, encoding="utf-8") as file:
        names = [name.split("-", 1)[-1] for name in file.readline().split()]
        rows = np.array([[float(x) for x in line.split()] for line in file if line.strip()])
    return dict(zip(names, rows.T, strict=True))
