"""The rows of a table in one file an array, so that drawing them at random opens nothing and reads only what it draws.

A data set has hundreds of shards, and a batch of an epoch has rows from most of them; mapping three files a shard would
hit the limit of open files, opening them anew for each batch would cost more than the training step.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from dgl_broker.errors import StateError
from dgl_broker.training.progress import bar
from dgl_broker.training.shards import ARRAYS, Table

FEW_SHARDS = 64


def packed(table, folder, few=FEW_SHARDS):
    """The same rows in the same order from one file an array in `folder`; the table itself where it has few shards.

    Parameters
    ----------
    table : Table
    folder : path
        Made where it is not there; what a run before has packed there is used again if it is of the same rows.
    few : int
        Shards at most that are left as they are.

    Returns
    -------
    Table

    Raises
    ------
    StateError
        If the disk does not take it.
    """
    if len(np.unique(table._shard)) <= few:
        return table
    folder = Path(folder)
    name = _fingerprint(table)
    try:
        if not (folder / "packed.json").is_file() or json.loads((folder / "packed.json").read_text()) != name:
            _write(table, folder, name)
        held = {what: np.load(folder / f"{what}.npy", mmap_mode="r", allow_pickle=False) for what in ARRAYS}
    except (OSError, ValueError) as error:
        raise StateError(f"{folder}: rows cannot be packed: {error}") from error
    return Table.of_arrays(held["images"], held["light_curves"], held["contexts"], table.labels, table.info)


def _fingerprint(table):
    """What rows these are: their shards, their places in them, and when the shards were written."""
    digest = hashlib.sha256()
    for shard in table._shards:
        path = Path(shard) / "labels.npz"
        digest.update(f"{shard}\0{path.stat().st_mtime_ns}\0".encode())
    digest.update(table._shard.tobytes())
    digest.update(table._row.tobytes())
    return {"rows": len(table), "sha256": digest.hexdigest()}


def _write(table, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "packed.json").unlink(missing_ok=True)
    types = (np.float16 if table.images_are_half else np.float32, np.float32, np.float32)
    out = [
        np.lib.format.open_memmap(folder / f"{what}.npy", "w+", kind, (len(table), *shape))
        for what, kind, shape in zip(ARRAYS, types, table.shapes)
    ]
    with bar("packing", len(table), "rows") as advance:
        for indices, *arrays in table.batches(4096):
            for target, values in zip(out, arrays):
                target[indices[0] : indices[-1] + 1] = values
            advance(len(indices))
    for target in out:
        target.flush()
    # Last: a folder without it is not whole.
    (folder / "packed.json").write_text(json.dumps(name))
