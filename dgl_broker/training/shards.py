"""Shards of examples on disk: plain numpy arrays that are mapped, not read, and a table of labels beside them.

A data folder holds `dataset.json` (what it was made from) and `shards/<name>/` with `images.npy` (n, C, S, S; float16
where that is safe), `light_curves.npy` (n, T, F) and `contexts.npy` (n, K) float32, `labels.npz` (one array a column) and
`counts.json` (drawn, refused and why). A shard is written under another name and renamed when it is whole, so that a
folder with its final name is complete and a run that was cut off goes on. Nothing is ever pickled.
"""

import json
import os
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np

from dgl_broker.errors import InputUnavailable, StateError

COLUMNS = {
    # column: (dtype, what a missing value is)
    "split": ("U12", ""),
    "seed": (np.int64, -1),  # the run; with `system` the name of a system
    "system": (np.int64, -1),
    "galaxy_run": (np.int64, -1),  # the run whose numbering `galaxy_id` belongs to
    "galaxy_id": (np.int64, -1),
    "object_id": ("U32", ""),
    "alert_id": (np.int64, -1),
    "class": (np.int8, -1),
    "kind": ("U24", ""),
    "campaign": ("U16", ""),
    "n_detections": (np.int32, -1),
    "days_since_first": (np.float32, np.nan),
    "mjd_tai": (np.float64, np.nan),
    "band": ("U1", ""),
    "bands_used": ("U6", ""),
    "n_epochs": (np.int32, -1),
    "valid_fraction": (np.float32, np.nan),
    "snr": (np.float32, np.nan),
    "flux_njy": (np.float32, np.nan),
    "curve_detections": (np.int32, -1),  # in the light curve; `n_detections` is what the survey states
    "stamp_snr": (np.float32, np.nan),
    "stamp_sharpness": (np.float32, np.nan),
    "reliability": (np.float32, np.nan),
    "n_images": (np.int16, -1),
    "separation_arcsec": (np.float32, np.nan),
    "magnification": (np.float32, np.nan),
    "z_lens": (np.float32, np.nan),
    "z_source": (np.float32, np.nan),
    "lens_mag": (np.float32, np.nan),  # i, behind Milky-Way dust: of the lens
    "source_mag": (np.float32, np.nan),  # of the galaxy in which it happens
    "host_mag": (np.float32, np.nan),  # of the brighter of the two
    "precut": (np.int8, -1),  # shipped pre-cuts: 1 passed, 0 failed, -1 not judged
}
STRATA = {"n_detections": "curve_detections", "n_bands": "bands_used", "flux_njy": "flux_njy", "snr": "snr"}
ARRAYS = ("images", "light_curves", "contexts")
FLOAT16_SAFE = 3.0e4  # half of the largest float16, so that no augmentation overflows either


def columns_of(rows):
    """Rows (dicts) as columns of `COLUMNS`, missing values filled, other keys dropped."""
    table = {}
    for name, (kind, missing) in COLUMNS.items():
        values = [row.get(name) for row in rows]
        table[name] = np.array([missing if v is None else v for v in values], dtype=kind)
    return table


def write_shard(folder, name, images, light_curves, contexts, labels, counts):
    """Write one shard whole, or not at all.

    Parameters
    ----------
    folder : Path
        The data folder.
    name : str
        Of the shard.
    images, light_curves, contexts : arrays of n rows, float32
    labels : dict of arrays, shape (n,)
    counts : dict
        Kept as `counts.json`.

    Raises
    ------
    StateError
        If rows do not agree, a value is not finite, or the disk does not take it.
    """
    n = len(images)
    arrays = {"images": images, "light_curves": light_curves, "contexts": contexts}
    for what, values in [*arrays.items(), *labels.items()]:
        if len(values) != n:
            raise StateError(f"shard {name}: {what} has {len(values)} rows, images have {n}")
    for what, values in arrays.items():
        if not np.isfinite(values).all():
            raise StateError(f"shard {name}: {what} has values that are not finite")
    half = n == 0 or float(np.abs(images).max()) < FLOAT16_SAFE
    arrays["images"] = images.astype(np.float16 if half else np.float32)
    final = Path(folder) / "shards" / name
    fresh = final.with_name(f".{name}.{os.getpid()}.part")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for what in ARRAYS:
            np.save(fresh / f"{what}.npy", np.ascontiguousarray(arrays[what]), allow_pickle=False)
        np.savez_compressed(fresh / "labels.npz", **labels)
        (fresh / "counts.json").write_text(json.dumps(counts, indent=1, sort_keys=True))
        shutil.rmtree(final, ignore_errors=True)
        fresh.rename(final)
    except OSError as error:
        raise StateError(f"shard {final}: cannot be written: {error}") from error


def shard_names(folder):
    """Names of the complete shards of a data folder, sorted."""
    place = Path(folder) / "shards"
    if not place.is_dir():
        return []
    return sorted(p.name for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def read_labels(folder, name):
    """Columns of one shard, by name."""
    path = Path(folder) / "shards" / name / "labels.npz"
    try:
        with np.load(path, allow_pickle=False) as held:
            return {column: held[column] for column in held.files}
    except (OSError, ValueError) as error:
        raise InputUnavailable(f"{path}: cannot be read: {error}") from error


class Table:
    """Rows of one or several data folders, mapped from disk.

    `labels` maps a column to an array over all rows; `rows(indices)` gives (images, light_curves, contexts) as float32,
    in the order asked for. `len(table)` is the number of rows. A table of arrays in memory is made by `Table.of_arrays`.
    """

    open_shards = 200  # mapped at a time: three files each, under the usual limit of 1,024

    def __init__(self, shards, labels, shard, row, info=None):
        self._shards = shards
        self._open = OrderedDict()
        self.labels = labels
        self._shard = shard
        self._row = row
        self.info = info or {}

    @classmethod
    def open(cls, folders, splits=None, where=None):
        """All rows of `folders` (one or several), or those of `splits`.

        Parameters
        ----------
        folders : path or list of paths
        splits : str or tuple of str, optional
        where : callable, optional
            Labels (dict of arrays) -> mask of the rows to take.

        Raises
        ------
        InputUnavailable
            If a folder has no shards, or two were made for different inputs.
        """
        folders = [folders] if isinstance(folders, (str, Path)) else list(folders)
        splits = (splits,) if isinstance(splits, str) else splits
        paths, parts, shard, row, info = [], [], [], [], None
        for folder in folders:
            names = shard_names(folder)
            if not names:
                raise InputUnavailable(f"{folder}: no shards of examples, expected some from `dgl-broker dataset`")
            found = read_info(folder)
            if info is not None and found.get("input") != info.get("input"):
                raise InputUnavailable(f"{folder}: made for another input than {folders[0]}")
            info = info or found
            for name in names:
                labels = read_labels(folder, name)
                keep = np.ones(len(labels["split"]), bool)
                if splits is not None:
                    keep &= np.isin(labels["split"], splits)
                if where is not None:
                    keep &= where(labels)
                if keep.any():
                    parts.append({k: v[keep] for k, v in labels.items()})
                    shard.append(np.full(int(keep.sum()), len(paths), np.int32))
                    row.append(np.flatnonzero(keep).astype(np.int64))
                    paths.append(Path(folder) / "shards" / name)
        if not parts:
            raise InputUnavailable(f"{folders[0]}: no rows in split {splits}")
        labels = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        return cls(paths, labels, np.concatenate(shard), np.concatenate(row), info)

    @classmethod
    def of_arrays(cls, images, light_curves, contexts, labels, info=None):
        """A table over arrays in memory."""
        n = len(images)
        if contexts is None:
            contexts = np.zeros((n, 0), np.float32)
        held = dict(zip(ARRAYS, (images, light_curves, contexts)))
        return cls([held], labels, np.zeros(n, np.int32), np.arange(n), info)

    @classmethod
    def joined(cls, tables):
        """The rows of several tables, one after the other."""
        offsets = np.cumsum([0, *(len(t._shards) for t in tables)])
        labels = {k: np.concatenate([t.labels[k] for t in tables]) for k in tables[0].labels}
        shard = np.concatenate([t._shard + offset for t, offset in zip(tables, offsets)])
        return cls(
            sum((t._shards for t in tables), []), labels, shard, np.concatenate([t._row for t in tables]), tables[0].info
        )

    def __len__(self):
        return len(self._row)

    def _arrays(self, number):
        held = self._shards[number]
        if isinstance(held, dict):
            return held
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        try:
            arrays = {what: np.load(held / f"{what}.npy", mmap_mode="r", allow_pickle=False) for what in ARRAYS}
        except (OSError, ValueError) as error:
            raise InputUnavailable(f"{held}: cannot be read: {error}") from error
        self._open[number] = arrays
        if len(self._open) > self.open_shards:
            self._open.popitem(last=False)
        return arrays

    @property
    def shapes(self):
        """Shape of one row of images, light curves and contexts."""
        arrays = self._arrays(int(self._shard[0]))
        return tuple(arrays[what].shape[1:] for what in ARRAYS)

    @property
    def images_are_half(self):
        """Whether all shards hold their images in half precision."""
        return all(self._arrays(int(n))["images"].dtype == np.float16 for n in np.unique(self._shard))

    def rows(self, indices, dtype=np.float32):
        """Images (n, C, S, S), light curves (n, T, F), contexts (n, K) of the rows asked for, in that order."""
        indices = np.asarray(indices, np.int64)
        out = [np.empty((len(indices), *shape), dtype) for shape in self.shapes]
        shard = self._shard[indices]
        order = np.argsort(shard, kind="stable")
        edges = np.flatnonzero(np.diff(shard[order])) + 1
        for place in np.split(order, edges) if len(order) else []:
            arrays = self._arrays(int(shard[place[0]]))
            at = self._row[indices[place]]
            for target, what in zip(out, ARRAYS):
                target[place] = arrays[what][at]
        return tuple(out)

    def strata(self, indices=None):
        """Facts that the strata of the p-values are made of, a dict for each row, as `Completeness.strata` has them.

        What is unknown (paper sets have none of them) is None.
        """
        indices = np.arange(len(self)) if indices is None else indices
        columns = {name: self.labels[column][indices].tolist() for name, column in STRATA.items()}
        columns["n_bands"] = [len(bands) or None for bands in columns["n_bands"]]
        columns["n_detections"] = [None if n < 0 else n for n in columns["n_detections"]]
        return [dict(zip(columns, values)) for values in zip(*columns.values())]

    def select(self, mask_or_indices):
        """The table of some rows: a mask (n,) or indices."""
        pick = np.asarray(mask_or_indices)
        pick = np.flatnonzero(pick) if pick.dtype == bool else pick
        labels = {k: v[pick] for k, v in self.labels.items()}
        return Table(self._shards, labels, self._shard[pick], self._row[pick], self.info)

    def batches(self, size=2048):
        """(indices, images, light_curves, contexts) over all rows, in order."""
        for start in range(0, len(self), size):
            indices = np.arange(start, min(start + size, len(self)))
            yield (indices, *self.rows(indices))


def read_info(folder):
    """What `dataset.json` of a data folder says; empty where there is none."""
    path = Path(folder) / "dataset.json"
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputUnavailable(f"{path}: cannot be read: {error}") from error
