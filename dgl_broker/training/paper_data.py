"""The paper's sets as tables: arrays in the layout of the published data set (`dgl_broker.sim.paper_layout`), split by system.

Where a set has `records.csv` (ours have), its galaxies name the systems. Without it, samples are one system where their pixels
are the same however turned, or their light curves are: the published chain writes each event eight times. Other
galaxies in common cannot be told from noisy images.
"""

import hashlib
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, InputUnavailable, StateError
from dgl_broker.scores import CLASSES
from dgl_broker.training.shards import Table, columns_of
from dgl_broker.training.splits import split_of, unit_hash

FRACTIONS = {"train": 0.5, "validation": 0.08, "stack": 0.06, "calibration": 0.06, "null": 0.05, "test": 0.25}
TRAIN_PARTS = {"train": 0.79, "stack": 0.07, "calibration": 0.07, "null": 0.07}
PUBLISHED_SEED = 42  # data_utils.py:51-55 at 2ecf054: 70/15/15, stratified, scikit-learn's train_test_split twice


def open_paper_tables(folders, card, published_splits=False, share=1.0):
    """A table for each split of a paper set.

    Parameters
    ----------
    folders : list of paths
        Each holds the group files, or a folder of the set's name (or the authors' name for it) that does.
    card : dict
        Of the bundle to be: its steps, and its id, which begins with the set's name.
    published_splits : bool
        Take train, validation and test as the published split files have them; what is fitted after the networks then comes
        from parts of their training set. Reads pickled files, through an unpickler that admits arrays and containers only.
    share : float
        Of the training systems that are used.

    Returns
    -------
    dict of shards.Table
        `info["splits"]` says whose splits they are, `info["systems_by"]` how systems were told.

    Raises
    ------
    InputUnavailable, ConfigError
        If a file is not there, cannot be read, or does not fit.
    """
    recipe = _recipe(card["id"])
    if published_splits and len(folders) != 1:
        raise ConfigError("--published-splits: one folder, whose split files they are")
    steps = card["input"]["light_curve"]["steps"]
    parts = [_open_folder(_with_files(Path(f), recipe, steps), recipe, steps, card, published_splits) for f in folders]
    whole = Table.joined(parts) if len(parts) > 1 else parts[0]
    tables = {}
    for split in FRACTIONS:
        rows = np.asarray(whole.labels["split"]) == split
        if split == "train" and share < 1:
            names = [f"{run}/{system}" for run, system in zip(whole.labels["seed"], whole.labels["system"])]
            rows &= np.array([unit_hash("share", name) < share for name in names])
        if not rows.any():
            raise InputUnavailable(f"{folders[0]}: no sample in split {split}; more systems are needed")
        tables[split] = whole.select(rows)
    return tables


def _recipe(bundle_id):
    from dgl_broker.sim.paper_recipe import RECIPES

    for name, recipe in RECIPES.items():
        if bundle_id.startswith(name):
            return recipe
    raise ConfigError(f"bundle {bundle_id}: its id begins with none of the sets {', '.join(RECIPES)}")


def _with_files(folder, recipe, steps):
    for place in (folder, folder / recipe.published_name, folder / recipe.name):
        if (place / f"GROUP_1_ims_{steps}.npy").is_file():
            return place
    raise InputUnavailable(
        f"{folder}: no GROUP_1_ims_{steps}.npy, nor in a folder {recipe.published_name} or {recipe.name} in it"
    )


def _open_folder(place, recipe, steps, card, published_splits):
    """All usable samples of one folder, with their splits as labels."""
    from dgl_broker.sim.paper_layout import read_groups, read_published_splits

    parts = None
    if published_splits:
        try:
            parts = read_published_splits(place, steps, (recipe.published_name, recipe.name))
        except ConfigError:
            parts = None  # files of what was known of each sample, not of the samples: their order tells the split
    if parts is not None:
        names = ("images", "light_curves", "labels")
        images, curves, label = (np.concatenate([getattr(p, name) for p in parts.values()]) for name in names)
        systems, how = systems_by_contents(images, curves), "pixels and light curves"
        part = np.repeat(list(parts), [len(p.labels) for p in parts.values()])
    else:
        held = read_groups(place, steps)
        images, curves, label = held.images, held.light_curves, held.labels
        if held.galaxy_id is None:
            systems, how = systems_by_contents(images, curves), "pixels and light curves"
        else:
            systems, how = np.array([_number(str(g).encode()) for g in held.galaxy_id]), "records"
        part = _published_parts(place, recipe, steps, label) if published_splits else None
    if part is None:
        split = np.array([split_of(f"paper {recipe.name}", s, FRACTIONS) for s in systems.tolist()])
    else:
        # Their rows are not split by system; ours behind the networks are, and never leave their training set.
        split = part.astype("U12")
        for i in np.flatnonzero(part == "train"):
            split[i] = split_of(f"paper {recipe.name} train", int(systems[i]), TRAIN_PARTS)
    return _table(images, curves, label, systems, split, recipe, card, how, published_splits)


def _table(images, curves, label, systems, split, recipe, card, how, published_splits):
    from dgl_broker.paper_example import batch_from_arrays

    batch, usable = batch_from_arrays(images, curves, card)
    run = int(unit_hash("paper", recipe.name) * 2**31)
    labels = columns_of(
        [
            {
                "split": split[i],
                "seed": run,
                "system": int(systems[i]),
                "object_id": str(i),
                "alert_id": i,
                "class": int(label[i]),
                "kind": CLASSES[label[i]],
                "campaign": "paper",
            }
            for i in range(len(label))
        ]
    )
    info = {"input": card["input"], "systems_by": how, "splits": "published" if published_splits else "by system"}
    return Table.of_arrays(batch.images, batch.light_curves, batch.contexts, labels, info).select(usable)


def _number(key):
    """A number of 62 bits from bytes."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 2


def systems_by_contents(images, curves):
    """Number of the system of each sample, as far as its contents tell.

    Parameters
    ----------
    images : array, shape (N, 4, S, S)
    curves : array, shape (N, T, 4)

    Returns
    -------
    array, shape (N,), int64
        Equal where images agree up to turns and mirrors, or light curves agree; chained. It depends on contents, not on order.
    """
    parent = {}

    def root(key):
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    keys = []
    for image, curve in zip(images, curves):
        # Pixels in ascending order, band by band, are the same however an image is turned or mirrored.
        pixels = np.sort(np.asarray(image, np.float32).reshape(len(image), -1), axis=1)
        a = b"i" + hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
        b = b"c" + hashlib.blake2b(np.ascontiguousarray(curve, np.float32).tobytes(), digest_size=16).digest()
        low, high = sorted((root(a), root(b)))
        parent[high] = low
        keys.append(a)
    return np.array([_number(root(key)) for key in keys], np.int64)


def _published_parts(place, recipe, steps, label):
    """Part (train, validation, test) of each sample, where the split files hold only what was known of the samples.

    The split is scikit-learn's with a fixed seed over the groups one after the other; the files must be as long as it says.

    Raises
    ------
    StateError
        If they are not: the groups are of another data set.
    """
    from sklearn.model_selection import train_test_split

    from dgl_broker.sim.array_pickle import load_array_file

    train, rest = train_test_split(np.arange(len(label)), test_size=1 - 0.70, stratify=label, random_state=PUBLISHED_SEED)
    validation, test = train_test_split(rest, test_size=0.5, stratify=label[rest], random_state=PUBLISHED_SEED)
    out = np.empty(len(label), "U12")
    for part, rows in (("train", train), ("validation", validation), ("test", test)):
        names = (recipe.published_name, recipe.name)
        for file in sorted(path for name in names for path in place.glob(f"{name}_{part}_*_{steps}.npy")):
            n = len(load_array_file(file))
            if n != len(rows):
                raise StateError(f"{file}: {n} samples, the split {part} of these groups has {len(rows)}: another data set")
        out[rows] = part
    return out
