"""Which rows an epoch shows, and how they come to the device.

The chance of a row is the share of its class, times that of its kind within the class, divided by the rows of that kind (and,
by a power, by those of its object), so that hard contaminants are seen often however rare they are in the stream.
"""

import queue
import threading

import numpy as np
import torch

from dgl_broker.errors import ConfigError
from dgl_broker.scores import CLASSES


def row_chances(labels, class_share=None, kind_weight=None, object_power=0.0):
    """Chance of each row to be shown.

    Parameters
    ----------
    labels : dict of arrays, shape (n,)
        With `class` (index into `CLASSES`), `kind`, `seed`, `object_id`.
    class_share : dict, optional
        Share by class name, 1 for each without; classes without rows give theirs to the others.
    kind_weight : dict, optional
        Weight of a kind against the others of its class, 1 without. With `None` for the whole dict, rows of a
        class count alike, whatever their kind.
    object_power : float
        0: each row of a kind alike; 1: each object alike, however many alerts it has.

    Returns
    -------
    array, shape (n,), float64, sum 1

    Raises
    ------
    ConfigError
        If a class or kind is unknown, or all shares are 0.
    """
    share = dict.fromkeys(CLASSES, 1.0) | (class_share or {})
    unknown = sorted(set(share) - set(CLASSES))
    if unknown:
        raise ConfigError(f"class_share: {', '.join(unknown)} unknown, expected some of {', '.join(CLASSES)}")
    label = np.asarray(labels["class"]).astype(np.int64)
    n = len(label)
    own = np.ones(n)
    if object_power:
        names = np.char.add(np.asarray(labels["seed"]).astype(str), np.char.add("/", np.asarray(labels["object_id"])))
        _, inverse, count = np.unique(names, return_inverse=True, return_counts=True)
        own = count[inverse].astype(float) ** -object_power
    out = np.zeros(n)
    for c, name in enumerate(CLASSES):
        in_class = label == c
        if not in_class.any() or share[name] <= 0:
            continue
        if kind_weight is None:
            out[in_class] = share[name] * own[in_class] / own[in_class].sum()
            continue
        kinds = np.asarray(labels["kind"])
        present = np.unique(kinds[in_class])
        weight = {k: float(kind_weight.get(str(k), 1.0)) for k in present}
        total = sum(weight.values())
        for kind in present:
            pick = in_class & (kinds == kind)
            out[pick] = share[name] * weight[kind] / max(total, 1e-300) * own[pick] / own[pick].sum()
    if not out.sum() > 0:
        raise ConfigError("class_share and kind_weight leave no row to train on")
    return out / out.sum()


def draw_rows(chances, n, rng):
    """`n` rows by systematic sampling: each row comes floor or ceil of n times its chance; in random order.

    With equal chances and n the number of rows it is a permutation.
    """
    order = rng.permutation(len(chances))
    edges = np.cumsum(chances[order])
    places = (np.arange(n) + rng.random()) / n * edges[-1]
    rows = order[np.minimum(np.searchsorted(edges, places, side="right"), len(order) - 1)]
    return rng.permutation(rows)


class RowsOnDevice:
    """A table's rows as tensors on the device: gathered there if all of it fits, else read ahead by a thread.

    Parameters
    ----------
    table : shards.Table
    device : torch.device
    keep : bool or None
        Hold all rows on the device (float16 images). None: on CUDA, where it takes at most half of the free memory.
    """

    def __init__(self, table, device, keep=None):
        self.table, self.device = table, torch.device(device)
        values = len(table) * sum(int(np.prod(shape)) for shape in table.shapes)
        if keep is None:
            keep = self.device.type == "cuda" and values * 4 < torch.cuda.mem_get_info(self.device)[0] / 2
        self.held = self._load() if keep else None

    def _load(self):
        image, curve, context = self.table.shapes
        n = len(self.table)
        held = (
            torch.empty((n, *image), dtype=torch.float16, device=self.device),
            torch.empty((n, *curve), dtype=torch.float32, device=self.device),
            torch.empty((n, *context), dtype=torch.float32, device=self.device),
        )
        for indices, *arrays in self.table.batches(4096):
            for target, values in zip(held, arrays):
                target[int(indices[0]) : int(indices[-1]) + 1] = torch.from_numpy(values).to(self.device, target.dtype)
        return held

    def batches(self, rows, size):
        """(rows, images, light_curves, contexts) for slices of `rows`; tensors float32 on the device."""
        slices = [rows[i : i + size] for i in range(0, len(rows), size)]
        if self.held is not None:
            for part in slices:
                at = torch.from_numpy(np.ascontiguousarray(part)).to(self.device)
                yield part, *(values[at].float() for values in self.held)
            return
        ready, stop = queue.Queue(maxsize=4), threading.Event()

        def put(item):
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.2)
                    return
                except queue.Full:
                    continue

        def read():
            try:
                for part in slices:
                    if stop.is_set():
                        return
                    arrays = [torch.from_numpy(a) for a in self.table.rows(part)]
                    if self.device.type == "cuda":
                        arrays = [a.pin_memory() for a in arrays]
                    put((part, arrays))
                put(None)
            except BaseException as error:  # given to the reader of the queue, which raises it
                put(error)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                part, arrays = item
                yield part, *(a.to(self.device, non_blocking=True) for a in arrays)
        finally:
            stop.set()
            thread.join()
