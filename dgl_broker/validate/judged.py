"""A table of scores as a validator sees it: each alert once, what became of it, whether it passed, and what is known of it."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dgl_broker.archive.places import beside
from dgl_broker.archive.score_columns import read_score_columns
from dgl_broker.errors import ConfigError
from dgl_broker.evaluation.objects import Judged
from dgl_broker.tune.alerts import LENSED, LENSED_CC, LENSED_IA, NEGATIVE, UNKNOWN_CLASS, Alerts, read_alerts

MORE = ("status", "reason", "stratum", "verdicts", "p_value", "spread", "judged_by", "prevalence", "message_id")
# First numbers of the bins of detections, as the operator's page has them: 1, 2, 3 to 4, 5 to 9, 10 and more.
DETECTIONS = (1, 2, 3, 5, 10)
DETECTION_NAMES = ("1", "2", "3 to 4", "5 to 9", "10 and more")
SCORE = "log_odds"


@dataclass(frozen=True, eq=False)
class JudgedTable:
    """Alerts of one table with one bundle's scores; arrays of shape (n,).

    Attributes
    ----------
    alerts : dgl_broker.tune.alerts.Alerts
    bundle : dgl_broker.tune.alerts.BundleScores
        The one in force: of those that scored, the one with the most.
    score : array
        Log-odds, NaN where there is none.
    status, reason, stratum : arrays of str
        "" where null.
    passed : array of bool
        By any filter.
    verdicts : tuple of (str, int)
        Filters and versions that judged, in order.
    passed_by : dict
        (filter, version) to array of bool.
    n_repeated : int
        Rows left out, since their alert stands in the table before them.
    judged_by : Counter
        By which verdicts, as `dgl_broker.archive.verdicts` says.
    manifest : dict or None
        That of the replay, where it lies beside the table.
    """

    path: Path
    alerts: Alerts
    bundle: object
    score: np.ndarray
    status: np.ndarray
    reason: np.ndarray
    stratum: np.ndarray
    p_value: np.ndarray
    spread: np.ndarray
    cuts: dict
    passed: np.ndarray
    verdicts: tuple
    passed_by: dict
    n_repeated: int
    judged_by: Counter
    prevalence: float
    manifest: dict | None

    def __len__(self):
        return len(self.alerts)

    @cached_property
    def n_detections(self):
        """Detections of the object as the survey counts them, NaN where the table does not say."""
        found = self.alerts.facts.get("n_detections")
        return np.full(len(self), np.nan) if found is None else found

    @cached_property
    def days_since_first(self):
        """Days from the object's first detection, NaN where the table does not say."""
        found = self.alerts.facts.get("days_since_first")
        return np.full(len(self), np.nan) if found is None else found

    @cached_property
    def groups(self):
        """Name to mask: real alerts of which nothing is known, and those of which something is."""
        a = self.alerts
        positive = a.class_ >= LENSED
        return {
            "live": a.stream & (a.class_ == UNKNOWN_CLASS),
            "injected": a.injected & positive,
            "known lensed supernovae": a.stream & positive,
            "known negatives": a.class_ == NEGATIVE,
        }

    def detection_bins(self):
        """Name of each bin of detections to the mask of its alerts."""
        edges = [*DETECTIONS, np.inf]
        n = self.n_detections
        with np.errstate(invalid="ignore"):
            return {name: (n >= lo) & (n < hi) for name, lo, hi in zip(DETECTION_NAMES, edges, edges[1:])}

    def strata(self):
        """Name of each stratum of the null to the mask of its alerts."""
        return {str(s): self.stratum == s for s in np.unique(self.stratum) if s}

    def objects(self, mask):
        """Objects that have an alert in `mask`: `Units`, each with its best alert there."""
        rows = np.flatnonzero(mask)
        score = np.where(np.isfinite(self.score[rows]), self.score[rows], -np.inf)
        order = np.lexsort((self.alerts.alert_id[rows], -score, self.alerts.object[rows]))
        rows, score = rows[order], score[order]
        _, first = np.unique(self.alerts.object[rows], return_index=True)
        passed = np.logical_or.reduceat(self.passed[rows], first) if len(rows) else np.zeros(0, bool)
        return Units(self, rows[first], score[first], passed)


@dataclass(frozen=True, eq=False)
class Units:
    """Objects, each judged by its best alert among some: `row` (n,) of it, its `score`, and whether any of them `passed`."""

    table: JudgedTable
    row: np.ndarray
    score: np.ndarray
    passed: np.ndarray

    def __len__(self):
        return len(self.row)

    @property
    def class_(self):
        """Class codes of `dgl_broker.tune.alerts`."""
        return self.table.alerts.class_[self.row]

    @property
    def stream(self):
        """Real ones."""
        return self.table.alerts.stream[self.row]

    def select(self, mask):
        """Some of them."""
        return Units(self.table, self.row[mask], self.score[mask], self.passed[mask])

    def against(self, negative):
        """`Judged` of the lensed supernovae and of the negatives in the mask `negative`, for the measures of an evaluation."""
        positive = self.class_ >= LENSED
        keep = positive | negative
        kinds = np.array([self.table.alerts.kind.one(row) or "stream" for row in self.row[keep]], dtype=object)
        label = np.select([self.class_ == LENSED_IA, self.class_ == LENSED_CC, positive], [2, 3, 2], 0)
        return Judged(
            row=self.row[keep],
            score=self.score[keep],
            positive=positive[keep],
            kind=kinds.astype(str),
            label=label[keep],
            enters=np.ones(int(keep.sum()), bool),
        )


def read_judged(path, labels=None):
    """A table of scores, a file or a folder of them.

    Parameters
    ----------
    path : path
    labels : path, optional
        `labels.csv`; what was injected is read from beside the table.

    Raises
    ------
    InputUnavailable, ConfigError
        If it cannot be read, holds no alert, or no score.
    """
    path = Path(path)
    alerts = read_alerts([path], labels)
    more = read_score_columns(path, lambda name: name in MORE or name.startswith("cut."))
    if not alerts.bundles:
        raise ConfigError(f"{path}: {len(alerts)} alerts and not one score")
    in_force = [b for b in alerts.bundles.values() if not b.shadow] or list(alerts.bundles.values())
    bundle = max(in_force, key=lambda b: int(np.isfinite(b.scores.get(SCORE, np.nan)).sum()))
    rows = alerts.row
    passed_by = _passed(more, rows)
    passed = np.zeros(len(alerts), bool)
    for mask in passed_by.values():
        passed |= mask
    prevalence = more.numbers.get("prevalence", np.array([np.nan]))
    known = prevalence[np.isfinite(prevalence)]
    judged_by = more.words.get("judged_by")
    return JudgedTable(
        path=path,
        alerts=alerts,
        bundle=bundle,
        score=bundle.scores[SCORE],
        status=_text(more, "status", rows),
        reason=_text(more, "reason", rows),
        stratum=_text(more, "stratum", rows),
        p_value=_number(more, "p_value", rows),
        spread=_number(more, "spread", rows),
        cuts={name.removeprefix("cut."): more.numbers[name][rows] for name in sorted(more.numbers) if name.startswith("cut.")},
        passed=passed,
        verdicts=tuple(sorted(passed_by)),
        passed_by=passed_by,
        n_repeated=more.n - len(alerts),
        judged_by=Counter(judged_by.text(rows).tolist() if judged_by is not None else ()),
        prevalence=float(known[0]) if len(known) else 1e-6,
        manifest=_manifest(path),
    )


def _text(columns, name, rows):
    found = columns.words.get(name)
    return np.full(len(rows), "") if found is None else found.text(rows)


def _number(columns, name, rows):
    found = columns.numbers.get(name)
    return np.full(len(rows), np.nan) if found is None else found[rows]


def _passed(columns, rows):
    """(filter, version) to whether each alert passed it."""
    words = columns.words.get("verdicts")
    if words is None:
        return {}
    said = [json.loads(word) if word else [] for word in words.words]
    keys = sorted({(v["filter"], int(v["version"])) for verdicts in said for v in verdicts})
    out = {}
    for key in keys:
        yes = np.array([any((v["filter"], int(v["version"])) == key and v["passed"] for v in s) for s in said] + [False])
        out[key] = yes[words.code][rows]
    return out


def _manifest(path):
    try:
        return json.loads(beside(path, "manifest.json")[0].read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
