"""The layout of the published data set (doi:10.5281/zenodo.7860294), read and written.

A folder holds, for group n = 1 to 4 (class n - 1), `GROUP_n_ims_T.npy` (N, 4, 45, 45) or flat (N, 8100) and `GROUP_n_lcs_T.npy`
(N, T, 4), plain arrays. Split files (`<set>_{train,validation,test}_..._T.npy`) are pickled dictionaries and are read on
request only, see `array_pickle`. Ours have `records.csv` beside them, with the galaxies of each row.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.scores import CLASSES
from dgl_broker.sim.array_pickle import load_array_file
from dgl_broker.sim.paper_recipe import PAPER_BANDS, RECIPES, SIDE

SPLITS = ("train", "validation", "test")
_FLAT = len(PAPER_BANDS) * SIDE * SIDE


@dataclass
class PaperArrays:
    """A set in memory: images (N, 4, 45, 45), light curves (N, T, 4), class index (N,), and who they are.

    `group` 1..4 and `row` name each one in its files; `galaxy_id` (N,) is None where the folder has no `records.csv`.
    """

    images: np.ndarray
    light_curves: np.ndarray
    labels: np.ndarray
    group: np.ndarray
    row: np.ndarray
    galaxy_id: np.ndarray | None = None
    records: list | None = None


class GroupWriter:
    """Writes groups piece by piece into arrays whose lengths are known, so that a set need not fit into memory."""

    def __init__(self, folder, steps, counts):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.filled = np.zeros(len(CLASSES), int)
        self.files = []
        for group, count in enumerate(counts, start=1):
            shapes = {"ims": (int(count), len(PAPER_BANDS), SIDE, SIDE), "lcs": (int(count), steps, len(PAPER_BANDS))}
            paths = {kind: self.folder / f"GROUP_{group}_{kind}_{steps}.npy" for kind in shapes}
            self.files.append({kind: _create(paths[kind], shape) for kind, shape in shapes.items()})

    def add(self, images, light_curves, labels):
        """Append examples to their groups; their rows (N,)."""
        rows = np.empty(len(labels), int)
        for label in range(len(CLASSES)):
            mine = np.flatnonzero(np.asarray(labels) == label)
            at = slice(self.filled[label], self.filled[label] + len(mine))
            self.files[label]["ims"][at], self.files[label]["lcs"][at] = images[mine], light_curves[mine]
            rows[mine] = np.arange(at.start, at.stop)
            self.filled[label] += len(mine)
        return rows

    def close(self):
        """Flush all files."""
        for pair in self.files:
            for array in pair.values():
                if isinstance(array, np.memmap):
                    array.flush()
        self.files = []


def _create(path, shape):
    if shape[0] == 0:  # an empty file cannot be mapped
        np.save(path, np.empty(shape, np.float32), allow_pickle=False)
        return np.empty(shape, np.float32)
    return np.lib.format.open_memmap(path, "w+", np.float32, shape)


def write_groups(folder, images, light_curves, labels):
    """Write a set; the rows (N,) of its examples in their groups' files.

    Parameters
    ----------
    images : array, shape (N, 4, 45, 45)
    light_curves : array, shape (N, T, 4)
    labels : array, shape (N,)
        Class index.
    """
    writer = GroupWriter(folder, np.asarray(light_curves).shape[1], np.bincount(labels, minlength=len(CLASSES)))
    rows = writer.add(np.asarray(images), np.asarray(light_curves), np.asarray(labels))
    writer.close()
    return rows


def steps_in(folder):
    """T of the groups in a folder.

    Raises
    ------
    InputUnavailable
        If there are none.
    ConfigError
        If there are several.
    """
    names = (re.fullmatch(r"GROUP_1_ims_(\d+)\.npy", path.name) for path in Path(folder).glob("GROUP_1_ims_*.npy"))
    found = {int(match[1]) for match in names if match}
    if not found:
        raise InputUnavailable(f"{folder}: no GROUP_1_ims_T.npy")
    if len(found) > 1:
        raise ConfigError(f"{folder}: light curves of {', '.join(map(str, sorted(found)))} steps, say which")
    return found.pop()


def read_groups(folder, steps=None):
    """The set in a folder as `PaperArrays`.

    Parameters
    ----------
    steps : int, optional
        T; found by the files' names where None.

    Raises
    ------
    InputUnavailable
        Naming a file that is not there.
    ConfigError
        Naming a file and its shape where it is not as published, and what is not a plain array of numbers.
    """
    folder = Path(folder)
    steps = steps_in(folder) if steps is None else steps
    images, light_curves = [], []
    for group in range(1, len(CLASSES) + 1):
        pictures = _read_plain(folder / f"GROUP_{group}_ims_{steps}.npy")
        curves = _read_plain(folder / f"GROUP_{group}_lcs_{steps}.npy")
        pictures, curves = _shaped(pictures, curves, steps, f"{folder}: GROUP_{group}")
        images.append(pictures)
        light_curves.append(curves)
    counts = [len(part) for part in images]
    labels = np.repeat(np.arange(len(CLASSES)), counts)
    row = np.concatenate([np.arange(count) for count in counts])
    records = _read_records(folder / "records.csv", labels + 1, row)
    galaxy_id = None if records is None else np.array([record["galaxy_id"] for record in records])
    return PaperArrays(np.concatenate(images), np.concatenate(light_curves), labels, labels + 1, row, galaxy_id, records)


def _read_plain(path):
    if not path.is_file():
        raise InputUnavailable(f"{path}: no such file")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ConfigError(f"{path}: not a plain array: {error}") from error
    if array.dtype.kind not in "fiu":
        raise ConfigError(f"{path}: dtype {array.dtype}, expected numbers")
    return array


def _shaped(images, light_curves, steps, name):
    """Both in the shape of `PaperArrays`, float32."""
    if images.ndim >= 2 and int(np.prod(images.shape[1:])) == _FLAT:
        images = images.reshape(len(images), len(PAPER_BANDS), SIDE, SIDE)
    if images.shape[1:] != (len(PAPER_BANDS), SIDE, SIDE):
        raise ConfigError(f"{name}: images {images.shape}, expected (N, {len(PAPER_BANDS)}, {SIDE}, {SIDE})")
    if light_curves.shape[1:] != (steps, len(PAPER_BANDS)):
        raise ConfigError(f"{name}: light curves {light_curves.shape}, expected (N, {steps}, {len(PAPER_BANDS)})")
    if len(images) != len(light_curves):
        raise ConfigError(f"{name}: {len(images)} images but {len(light_curves)} light curves")
    return images.astype(np.float32, copy=False), light_curves.astype(np.float32, copy=False)


def _read_records(path, group, row):
    """Records in the order of the arrays; None without the file.

    Raises
    ------
    ConfigError
        If the file is not about these arrays.
    """
    if not path.is_file():
        return None
    with open(path, newline="", encoding="utf-8") as file:
        by_place = {(record["group"], record["row"]): record for record in csv.DictReader(file)}
    try:
        return [by_place[str(g), str(r)] for g, r in zip(group, row)]
    except KeyError as error:
        raise ConfigError(f"{path}: no record of group and row {error.args[0]}") from error


def read_published_splits(folder, steps=None, names=None):
    """The published split, from its pickled files: dict split -> `PaperArrays` (group and row count from 0 within the split).

    Parameters
    ----------
    names : sequence of str, optional
        Names of the set as files begin; all known ones where None.

    Raises
    ------
    InputUnavailable
        If a split has no file.
    ConfigError
        If a file holds anything but arrays and containers, or not images, light curves and labels.
    """
    folder = Path(folder)
    names = names or [name for recipe in RECIPES.values() for name in (recipe.published_name, recipe.name)]
    out = {}
    for split in SPLITS:
        tail = "*" if steps is None else steps
        paths = sorted(path for name in names for path in folder.glob(f"{name}_{split}_*_{tail}.npy"))
        if not paths:
            raise InputUnavailable(f"{folder}: no split file <set>_{split}_..._T.npy of {', '.join(names)}")
        held = {}
        for path in paths:
            value = load_array_file(path)
            held |= value if isinstance(value, dict) else {path.stem: value}
        out[split] = _split_arrays(held, f"{folder}: split {split}")
    return out


def _split_arrays(held, name):
    """Images, light curves and labels among named arrays, recognised by their shapes; or one dictionary an example."""
    if held and all(isinstance(value, dict) for value in held.values()):
        keys = set.intersection(*(set(value) for value in held.values()))
        held = {key: [value[key] for value in held.values()] for key in keys}
    images = light_curves = labels = None
    for value in held.values():
        try:
            array = np.asarray(value)
        except ValueError:  # ragged lists are none of the three
            continue
        if array.dtype.kind not in "fiu" or array.ndim == 0:
            continue
        if int(np.prod(array.shape[1:])) == _FLAT:
            images = array
        elif array.ndim == 3 and array.shape[2] == len(PAPER_BANDS):
            light_curves = array
        elif array.ndim == 1 and array.dtype.kind in "iu":
            labels = array
    if images is None or light_curves is None or labels is None:
        raise ConfigError(f"{name}: {sorted(map(str, held))[:12]}, expected images, light curves and labels")
    images, light_curves = _shaped(images, light_curves, light_curves.shape[1], name)
    if len(labels) != len(images) or not np.isin(labels, np.arange(len(CLASSES))).all():
        raise ConfigError(f"{name}: {len(labels)} labels {np.unique(labels)[:8]} for {len(images)} images, expected 0 to 3")
    rows = np.arange(len(labels))
    return PaperArrays(images, light_curves, labels.astype(np.int64), labels.astype(np.int64) + 1, rows)
