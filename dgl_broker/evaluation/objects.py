"""Objects, the unit of every measure: which alert of each is judged, and which objects make one system.

An object is judged at its k-th detection and enters k only if it has one; or by days since its first detection, at its latest
alert until then. A system (the images of one lens are objects of their own) passes where any of its objects does.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Judged:
    """One row of the table for each object or system judged, with what is known of it.

    `row` (n,) are rows of the table; `score` (n,); `positive` (n,) lensed supernovae; `kind` (n,); `label` (n,) class index;
    `enters` (n,) False where the shipped pre-cuts refuse the alert.
    """

    row: np.ndarray
    score: np.ndarray
    positive: np.ndarray
    kind: np.ndarray
    label: np.ndarray
    enters: np.ndarray

    def __len__(self):
        return len(self.row)

    def select(self, mask):
        """Some of them."""
        return Judged(**{name: value[mask] for name, value in vars(self).items()})


class Objects:
    """The objects behind a table's rows.

    Parameters
    ----------
    labels : dict of arrays, shape (n,)
        Columns as in `training.shards.COLUMNS`.
    score : array, shape (n,)
    """

    def __init__(self, labels, score):
        self.labels, self.score = labels, np.asarray(score, float)
        seed = np.asarray(labels["seed"]).astype(str)
        self.name, self.object = np.unique(
            np.char.add(seed, np.char.add("/", np.asarray(labels["object_id"]))), return_inverse=True
        )
        _, self.system = np.unique(
            np.char.add(seed, np.char.add("/", np.asarray(labels["system"]).astype(str))), return_inverse=True
        )
        label = np.asarray(labels["class"]).astype(int)
        self.positive, self.label = label >= 2, label
        self.kind = np.asarray(labels["kind"])
        _, first = np.unique(self.object, return_index=True)
        self.kind_of_object = self.kind[first]
        self.positive_object = self.positive[first]
        passed = np.zeros(len(self.name), bool)
        passed[self.object[np.asarray(labels["precut"]) != 0]] = True
        self.passes_once = passed

    @property
    def negative_kinds(self):
        """Kind of every negative object that passes the pre-cuts at least once, whether or not it is judged."""
        return self.kind_of_object[~self.positive_object & self.passes_once]

    @property
    def negative_system_kinds(self):
        """Kind of every negative system of which an object passes the pre-cuts at least once."""
        rows = np.flatnonzero(~self.positive & self.passes_once[self.object])
        _, first = np.unique(self.system[rows], return_index=True)
        return self.kind[rows[first]]

    def judged(self, rows):
        """`Judged` of these rows of the table."""
        rows = np.asarray(rows, np.int64)
        return Judged(
            row=rows,
            score=self.score[rows],
            positive=self.positive[rows],
            kind=self.kind[rows],
            label=self.label[rows],
            enters=np.asarray(self.labels["precut"])[rows] != 0,
        )

    def at_detection(self, k):
        """Each object at its k-th detection."""
        rows = np.flatnonzero(np.asarray(self.labels["n_detections"]) == k)
        _, first = np.unique(self.object[rows], return_index=True)
        return self.judged(rows[first])

    def at_days(self, days):
        """Each object at its latest alert within `days` of its first detection."""
        since = np.asarray(self.labels["days_since_first"], float)
        rows = np.flatnonzero(since <= days)
        order = rows[np.lexsort((-since[rows], self.object[rows]))]
        _, first = np.unique(self.object[order], return_index=True)
        return self.judged(order[first])

    def once(self, pick):
        """One alert of each object, the one for which `pick` (n,) is least."""
        order = np.lexsort((pick, self.object))
        _, first = np.unique(self.object[order], return_index=True)
        return self.judged(order[first])

    def systems(self, judged):
        """The systems of the judged objects, each with the row of its object that scores highest."""
        order = np.lexsort((-judged.score, self.system[judged.row]))
        _, first = np.unique(self.system[judged.row][order], return_index=True)
        return judged.select(order[first])


SUBSETS = {
    # name: (columns needed, mask of the positives)
    "all": lambda c: np.ones(len(c["class"]), bool),
    "lensed_sn_ia": lambda c: c["class"] == 2,
    "lensed_sn_cc": lambda c: c["class"] == 3,
    "separation_above_0.5": lambda c: c["separation_arcsec"] > 0.5,
    "separation_above_1.0": lambda c: c["separation_arcsec"] > 1.0,
    "separation_to_0.5": lambda c: c["separation_arcsec"] <= 0.5,
    "doubles": lambda c: c["n_images"] == 2,
    "quads": lambda c: c["n_images"] >= 4,
    "host_brighter_19.5": lambda c: c["host_mag"] < 19.5,
    "host_19.5_to_21": lambda c: (c["host_mag"] >= 19.5) & (c["host_mag"] < 21),
    "host_fainter_21": lambda c: c["host_mag"] >= 21,
}
"""Parts of the lensed supernovae: by class, greatest separation of images [arcsec], images, host's i magnitude."""


def subset_masks(labels, rows, positive):
    """name -> mask over the judged, positives of the subset only."""
    columns = {name: np.asarray(labels[name])[rows] for name in ("class", "separation_arcsec", "n_images", "host_mag")}
    with np.errstate(invalid="ignore"):
        return {name: mask(columns) & positive for name, mask in SUBSETS.items()}
