"""Two bundles on the same rows: differences with their uncertainty, paired, so that what is hard for both cancels."""

from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.evaluation.intervals import paired_bootstrap
from dgl_broker.evaluation.measures import threshold_at_fpr
from dgl_broker.evaluation.objects import Objects
from dgl_broker.evaluation.operating import in_mix
from dgl_broker.evaluation.paper import compare_accuracy

POINTS = (("hard", 1e-2, 7), ("stream", 1e-3, 7), ("stream", 1e-4, 7), ("hard", 1e-2, 3), ("stream", 1e-3, 3))


def load_scores(folder):
    """Columns of a report's `scores.npz`; InputUnavailable where there are none."""
    path = Path(folder) / "scores.npz"
    try:
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError) as error:
        raise InputUnavailable(f"{path}: cannot be read: {error}") from error


def align(labels, other):
    """Rows of `other` in the order of `labels`, both by (seed, alert id).

    Raises
    ------
    ConfigError
        If the two do not hold the same alerts.
    """
    mine = list(zip(np.asarray(labels["seed"]).tolist(), np.asarray(labels["alert_id"]).tolist()))
    place = {key: i for i, key in enumerate(zip(other["seed"].tolist(), other["alert_id"].tolist()))}
    if len(place) != len(mine) or any(key not in place for key in mine):
        raise ConfigError(f"compare: {len(mine)} rows here, {len(place)} there, and not of the same alerts")
    return np.array([place[key] for key in mine], np.int64)


def tpr_difference(objects, before, after, survey, mix, fpr, at, n_draws=300, seed=0):
    """Completeness of `after` less that of `before` at one working point, by a paired bootstrap over objects within kinds.

    Parameters
    ----------
    objects : Objects
    before, after : arrays, shape (n,)
        Scores of the rows.

    Returns
    -------
    dict or None
        `difference`, `interval`, `share_above_0`, `before`, `after`; None where nothing can be measured.
    """
    judged, weight = in_mix(mix, survey, objects, objects.at_detection(at))
    positive = judged.positive
    if not positive.any() or positive.all():
        return None

    def tpr(score):
        def of(pick):
            p = positive[pick]
            threshold = threshold_at_fpr(score[pick][~p], weight[pick][~p], fpr)
            return float((score[pick][p] >= threshold).mean())

        return of

    old, new = tpr(before[judged.row]), tpr(after[judged.row])
    strata = [np.flatnonzero(judged.kind == kind) for kind in np.unique(judged.kind)]
    difference, lo, hi, share = paired_bootstrap(old, new, strata, n_draws, seed=seed)
    everyone = np.arange(len(judged))
    return {
        "difference": difference,
        "interval": [lo, hi],
        "share_above_0": share,
        "before": old(everyone),
        "after": new(everyone),
    }


def compare_reports(folder, scored, labels, card):
    """This bundle less the one whose report lies in `folder`, on the same test rows.

    Returns
    -------
    dict
        `other`: the folder; for paper sets `accuracy` (paired over systems), for alert bundles a row for each of `POINTS`.
    """
    other = load_scores(folder)
    order = align(labels, other)
    if card["kind"] == "paper":
        systems = np.char.add(
            np.asarray(labels["seed"]).astype(str), np.char.add("/", np.asarray(labels["system"]).astype(str))
        )
        label = np.asarray(labels["class"]).astype(int)
        return {
            "other": str(folder),
            "accuracy": compare_accuracy(label, other["class_index"][order], scored.class_index, systems),
        }
    objects = Objects(labels, scored.log_odds)
    rows = []
    for mix, fpr, at in POINTS:
        found = tpr_difference(objects, other["log_odds"][order], scored.log_odds, card["survey"], mix, fpr, at)
        if found:
            rows.append({"mix": mix, "fpr": fpr, "at": at, **found})
    return {"other": str(folder), "tpr": rows}
