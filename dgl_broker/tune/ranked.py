"""Alerts in order of one score, best first: what passes a threshold is then the beginning, and is counted in milliseconds."""

from functools import cached_property

import numpy as np

from dgl_broker.selection.filter_files import SCORE_RANGES
from dgl_broker.tune.alerts import LENSED, NEGATIVE

DETECTIONS = (1, 2, 3, 5, 10)  # first numbers of the bins: 1, 2, 3 to 4, 5 to 9, 10 and more
DETECTION_NAMES = ("1", "2", "3–4", "5–9", "10+")
BINS = 160
PROBABILITY_EDGE = 1e-12
CUSHION = 0.02  # share of a scale's width left free at its ends


class Objects:
    """Objects of some of the alerts, and their scored alerts in order of the score.

    Parameters
    ----------
    alerts : Alerts
    chosen : array of bool, shape (n,)
        Whose objects: all of them count, scored or not.
    rows : array of int
        Alerts with a score, best first.

    Attributes
    ----------
    n : int
        Objects.
    alerts, owner : arrays of int
        Rows of all their alerts, and the object of each.
    place, object : arrays of int
        Where in the order their scored alerts stand, and the object of each.
    """

    def __init__(self, alerts, chosen, rows):
        self.alerts = np.flatnonzero(chosen)
        names, self.owner = np.unique(alerts.object[self.alerts], return_inverse=True)
        self.n = len(names)
        into = np.full(len(alerts), -1, np.int64)
        into[self.alerts] = self.owner
        self.place = np.flatnonzero(chosen[rows])
        self.object = into[rows[self.place]]

    def passing(self, passing):
        """Places among its scored alerts of those that pass; `passing` (m,) says it of the first m alerts in the order."""
        mine = np.searchsorted(self.place, len(passing))
        return np.flatnonzero(passing[self.place[:mine]])

    def owners(self, entries):
        """Which objects have one of these of its scored alerts, shape (n,) bool."""
        out = np.zeros(self.n, bool)
        out[self.object[entries]] = True
        return out

    def found(self, passing):
        """Which objects have an alert that passes, shape (n,) bool; `passing` as above."""
        return self.owners(self.passing(passing))

    def best(self, accepted, score):
        """Best score of each object among its accepted alerts, -inf where there is none; arrays in the order."""
        kept = accepted[self.place]
        out = np.full(self.n, -np.inf)
        # Of repeated indices the last write stays: from the worst to the best.
        out[self.object[kept][::-1]] = score[self.place[kept]][::-1]
        return out


class Ranked:
    """One score of one bundle over all alerts, best first; alerts without it are left out.

    Attributes
    ----------
    rows : array of int, shape (m,)
        Of the alerts.
    score : array of float, shape (m,)
        Not rising.
    """

    def __init__(self, alerts, score, name="log_odds"):
        known = np.flatnonzero(np.isfinite(score))
        self.alerts = alerts
        self.is_probability = SCORE_RANGES[name] == (0.0, 1.0)
        self.rows = known[np.argsort(-score[known], kind="stable")].astype(np.int32)
        self.score = score[self.rows]
        self._falling = -self.score
        self.stream = alerts.stream[self.rows]
        self.night = alerts.night[self.rows]
        self.positives = Objects(alerts, alerts.positive, self.rows)
        self.negatives = Objects(alerts, alerts.class_ == NEGATIVE, self.rows)
        self.class_of = _of_objects(alerts, self.positives)
        self._bins_of_detections()
        self._visits()

    def __len__(self):
        return len(self.rows)

    def _visits(self):
        """An object in a night is one thing to look at: its number, and the night of each such number."""
        alerts, rows = self.alerts, self.rows
        pair = alerts.object[rows].astype(np.int64) * (len(alerts.nights) + 1) + (self.night + 1)
        known, self.visit = np.unique(pair, return_inverse=True)
        self.visit = self.visit.astype(np.int32)
        self.visit_night = (known % (len(alerts.nights) + 1) - 1).astype(np.int32)

    def _bins_of_detections(self):
        """Of the lensed objects: the bin of each scored alert, and which have an alert in a bin, scored or not."""
        column = self.alerts.facts.get("n_detections")
        self.knows_detections = column is not None and bool(np.isfinite(column).any())
        if self.knows_detections:
            objects = self.positives
            # What is not known lies before the first bin.
            bins = np.searchsorted(DETECTIONS, np.nan_to_num(column[objects.alerts], nan=0.0), side="right") - 1
            self.has_detections = np.zeros((len(DETECTIONS), objects.n), bool)
            self.has_detections[bins[bins >= 0], objects.owner[bins >= 0]] = True
            self.detections = bins[np.searchsorted(objects.alerts, self.rows[objects.place])]

    def n_above(self, threshold):
        """How many scores are at least `threshold`."""
        return int(np.searchsorted(self._falling, -threshold, side="right"))

    @cached_property
    def edges(self):
        """Edges of the bins in which the score is drawn, rising; what lies below belongs to the first bin.

        All but the lowest thousandth with some air; probabilities by their logit, since they crowd at both ends.
        """
        if not len(self):
            ends = np.array([-1.0, 1.0])
        else:
            ends = self.score[[int(0.999 * (len(self) - 1)), 0]].astype(float)
            if self.is_probability:
                ends = np.clip(ends, PROBABILITY_EDGE, 1.0 - PROBABILITY_EDGE)
                ends = np.log(ends / (1.0 - ends))
        air = CUSHION * max(ends[1] - ends[0], 1e-6)
        edges = np.linspace(ends[0] - air, ends[1] + air, BINS + 1)
        return 1.0 / (1.0 + np.exp(-edges)) if self.is_probability else edges

    @cached_property
    def bins(self):
        """Bin of each alert in the order."""
        first = [self.n_above(edge) for edge in self.edges[1:-1]]  # scores from the edge upwards
        sizes = np.diff([0, *first[::-1], len(self)])
        return np.repeat(np.arange(BINS, dtype=np.int16)[::-1], sizes)


def _of_objects(alerts, objects):
    """Class code of each object: the most that any of its labels says."""
    out = np.full(objects.n, LENSED, np.int8)
    np.maximum.at(out, objects.owner, alerts.class_[objects.alerts])
    return out
