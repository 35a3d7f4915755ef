"""The paper's four sets as arrays: `desi_dot`, `lsst_wide`, `des_wide`, `des_deep`, in two profiles.

`physical` (default): right noise, |mu|, delays and luminosities, one population for all classes, multiply imaged supernovae
that are seen. `published`: as the published chain, with its known defects, for comparison only. Every system follows from
the set's name, the profile, the seed and its index alone.
"""

import csv
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.scores import CLASSES
from dgl_broker.sim.paper_layout import GroupWriter
from dgl_broker.sim.paper_physical import PhysicalSystem
from dgl_broker.sim.paper_published import Defects, PublishedSystem, published_folder
from dgl_broker.sim.paper_recipe import RECIPES
from dgl_broker.sim.paper_scene import observe
from dgl_broker.sim.pool import one_thread
from dgl_broker.sim.sim_data import data_fingerprint, data_folder

PROFILES = ("physical", "published")
PER_SHARD = 250
COPIES = 8
RECORD_COLUMNS = (
    "group", "row", "system", "label", "configuration", "z_lens", "z_source", "theta_E_arcsec", "sigma_v", "n_images",
    "separation_arcsec", "magnification", "sn_type", "sn_template", "peak_day", "n_detections", "lens_mag_i", "n_draws",
    "pointing", "table", "table_row", "galaxy_id", "copy",
)  # fmt: skip


def draw_paper_system(name, seed, index, profile="physical", sn_off=False, select=None, defects=None, data=None):
    """One system as (image (4, 45, 45), light_curve (T, 4), label, record), scaled as published.

    Parameters are those of `simulate_set`.
    """
    recipe = _recipe(name, profile)
    code = list(RECIPES).index(name), PROFILES.index(profile)
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, *code]))
    if profile == "physical":
        select = not sn_off if select is None else select
        system, extra = PhysicalSystem(rng, recipe, data_folder(data), sn_off, select), None
        galaxy_id = f"{seed}:{index}"
    else:
        system = PublishedSystem(rng, recipe, published_folder(data), seed, sn_off, defects or Defects())
        extra = system.extra_counts
        shared = "table" in system.record
        galaxy_id = f"table{system.record['table']}:{system.record['row']}" if shared else f"{seed}:{index}"
        system.record["table_row"] = system.record.pop("row", None)
    image, light_curve, usable = observe(rng, system.scene, system.observing, profile == "physical", extra)
    if not usable:
        raise StateError(f"{name} {profile}, seed {seed}, index {index}: the image or light curve is constant or not finite")
    return image, light_curve, system.label, system.record | {"system": index, "galaxy_id": galaxy_id, "copy": 0}


def _recipe(name, profile):
    if name not in RECIPES:
        raise ConfigError(f"paper set {name!r}, expected one of {', '.join(RECIPES)}")
    if profile not in PROFILES:
        raise ConfigError(f"profile {profile!r} of a paper set, expected one of {', '.join(PROFILES)}")
    return RECIPES[name]


def simulate_set(name, n, seed, profile="physical", sn_off=False, select=None, defects=None, data=None, first=0):
    """`n` examples of a set.

    Parameters
    ----------
    name : "desi_dot", "lsst_wide", "des_wide" or "des_deep"
    n, seed, first : int
        Examples, seed of the run, and index of the first one: (n=10, first=0) is the first half of (n=20, first=0).
    profile : "physical" or "published"
    sn_off : bool
        Supernovae have no flux: the classes with a lens must then be at chance (physical profile).
    select : bool, optional
        Physical profile: systems must have as many band-epochs at 5 sigma as their recipe says, those without a supernova of
        their own by one that is taken away. Default: unless `sn_off`.
    defects : Defects, optional
        Published profile: switches; default all on but `copies`.
    data : path, optional
        Folder of simulator data; the published profile needs it.

    Returns
    -------
    images : array, shape (n, 4, 45, 45), float32
    light_curves : array, shape (n, T, 4), float32
    labels : array, shape (n,), int64
        Index into `dgl_broker.scores.CLASSES`.
    records : list of dict
        Numbers of each; equal `galaxy_id` means the same galaxies.

    Raises
    ------
    ConfigError, InputUnavailable
        For a name or profile that does not exist; for the published profile without its data.
    """
    recipe = _recipe(name, profile)
    images = np.empty((n, 4, 45, 45), np.float32)
    light_curves = np.empty((n, recipe.steps, 4), np.float32)
    labels, records = np.empty(n, np.int64), []
    copies = COPIES if profile == "published" and defects is not None and defects.copies else 1
    drawn = (-1, None)
    for k in range(n):
        index, copy = divmod(first + k, copies)
        if index != drawn[0]:
            drawn = index, draw_paper_system(name, seed, index, profile, sn_off, select, defects, data)
        image, light_curves[k], labels[k], record = drawn[1]
        turned = np.rot90(image, copy % 4, axes=(1, 2))
        images[k] = turned[:, :, ::-1] if copy >= 4 else turned
        records.append(record | {"copy": copy})
    return images, light_curves, labels, records


def write_paper_set(name, n, seed, out, recipe="physical", workers=None, progress=None, sn_off=False, data=None):
    """Simulate a set into a folder in the published layout, on all cores; finished shards are kept, so run it again to resume.

    `GROUP_1..4_ims_T.npy` and `GROUP_1..4_lcs_T.npy`, `records.csv` (group and row of each system, and its numbers) and
    `simulate.json` (what was asked).

    Parameters
    ----------
    recipe : "physical" or "published"
        The profile.
    progress : callable, optional
        Called with the number of systems finished.

    Returns
    -------
    int
        0, the exit code.

    Raises
    ------
    ConfigError
        If the folder was begun with other arguments.
    """
    steps = _recipe(name, recipe).steps
    folder = data_folder(data) if recipe == "physical" else published_folder(data)
    out = Path(out)
    plan = {"set": name, "n": n, "seed": seed, "profile": recipe, "sn_off": sn_off, "data": data_fingerprint(folder),
            "per_shard": PER_SHARD}  # fmt: skip
    shards = out / "shards"
    out.mkdir(parents=True, exist_ok=True)
    _agree(out / "simulate.json", plan)
    if (out / "records.csv").exists():  # written last
        (progress or (lambda systems: None))(n)
        return 0
    shards.mkdir(exist_ok=True)
    numbers = range(-(-n // PER_SHARD))
    todo = [k for k in numbers if not (shards / f"{k:05d}.npz").exists()]
    tell = progress or (lambda systems: None)
    if len(todo) < len(numbers):
        tell(sum(min(PER_SHARD, n - k * PER_SHARD) for k in numbers if k not in set(todo)))
    workers = min(workers or os.cpu_count() or 1, max(len(todo), 1))
    data_path = None if folder is None else str(folder)
    if workers == 1:
        for k in todo:
            tell(_write_shard(plan, k, str(shards), data_path))
    else:
        with one_thread(), ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_write_shard, plan, k, str(shards), data_path) for k in todo]
            for future in as_completed(futures):
                tell(future.result())
    _join(out, shards, numbers, steps)
    return 0


def _agree(path, plan):
    """Write what is asked, or check that the folder was begun with the same."""
    if not path.exists():
        path.write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StateError(f"{path}: not JSON: {error}") from error
    for key, value in plan.items():
        if before.get(key) != value:
            raise ConfigError(f"{path.parent} was begun with {key} {before.get(key)!r}, now {value!r}: take another folder")


def _write_shard(plan, number, folder, data):
    """One shard under its final name, so that a name means a finished one; the number of systems in it."""
    first = number * plan["per_shard"]
    n = min(plan["per_shard"], plan["n"] - first)
    images, light_curves, labels, records = simulate_set(
        plan["set"], n, plan["seed"], plan["profile"], plan["sn_off"], data=data, first=first
    )
    final = Path(folder) / f"{number:05d}.npz"
    fresh = final.with_suffix(".new")
    with open(fresh, "wb") as file:
        np.savez(file, images=images, light_curves=light_curves, labels=labels, records=np.array(json.dumps(records)))
    os.replace(fresh, final)
    return n


def _join(out, shards, numbers, steps):
    """The published layout from all shards, which are removed once it stands."""
    files = [shards / f"{k:05d}.npz" for k in numbers]
    counts = np.zeros(len(CLASSES), int)
    for file in files:
        with np.load(file, allow_pickle=False) as shard:
            counts += np.bincount(shard["labels"], minlength=len(CLASSES))
    writer = GroupWriter(out, steps, counts)
    with open(out / "records.new", "w", newline="", encoding="utf-8") as text:
        table = csv.DictWriter(text, RECORD_COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        for file in files:
            with np.load(file, allow_pickle=False) as shard:
                labels = shard["labels"]
                rows = writer.add(shard["images"], shard["light_curves"], labels)
                for record, label, row in zip(json.loads(str(shard["records"])), labels, rows):
                    table.writerow(record | {"group": int(label) + 1, "row": int(row)})
    writer.close()
    os.replace(out / "records.new", out / "records.csv")
    shutil.rmtree(shards)
