"""Checks of what a bundle claims beside its ranking: probabilities, p-values, steadiness of an object's score."""

import hashlib

import numpy as np

from dgl_broker.evaluation.intervals import clopper_pearson, wilson
from dgl_broker.evaluation.measures import class_measures, confusion, reliability
from dgl_broker.scores import CLASSES

LEVELS = (0.1, 0.05, 0.01, 0.001)


def id_hash(ids):
    """A number in [0, 1) from each id, the same everywhere."""
    return np.array([int.from_bytes(hashlib.blake2b(str(i).encode(), digest_size=8).digest(), "big") / 2**64 for i in ids])


def weights_of_card(kind, contaminants):
    """Weight of each object such that kinds have the shares that a card's prior names; 0 for kinds it does not name."""
    names, count = np.unique(kind, return_counts=True)
    each = {str(name): contaminants.get(str(name), 0.0) / n for name, n in zip(names, count)}
    weight = np.array([each[str(k)] for k in kind])
    return weight / weight.sum() if weight.sum() > 0 else weight


def calibration(objects, scored, contaminants, n_bins=15):
    """Reliability of `p_lsn` over one alert of each object (drawn by hash of its id), in the mix that the card names.

    Returns
    -------
    dict
        As `measures.reliability`, and `mix`, `n`, `lsn_share`.
    """
    judged = objects.once(id_hash(objects.labels["alert_id"]))
    weight = weights_of_card(judged.kind, contaminants)
    p_lsn = scored.probabilities[judged.row, 2:].sum(1)
    found = reliability(p_lsn, judged.positive, weight, n_bins)
    share = float((weight * judged.positive).sum())
    return {**found, "n": len(judged), "lsn_share": share, "mix": contaminants}


def conformal(objects, scored, judged_rows, weight):
    """Share of negatives with a p-value at or below each level, by stratum; at most the level if the null holds.

    Parameters
    ----------
    objects : Objects
    scored : Scored
        With p-values.
    judged_rows : array of int
        Rows of negatives, of which one for each object and stratum is counted, by hash of the alert's id.
    weight : array, shape (n,)
        Of each of these rows, to make the mix of the null.

    Returns
    -------
    list of dict
        `stratum`, `n`, `n_effective`, `floor`, and per level `share` with its Wilson interval at the effective number.
    """
    if scored.p_value is None:
        return []
    rows = np.asarray(judged_rows)
    order = np.argsort(id_hash(objects.labels["alert_id"][rows]), kind="stable")
    key = np.array([f"{s}\x1f{o}" for s, o in zip(scored.stratum[rows][order], objects.object[rows][order])])
    _, first = np.unique(key, return_index=True)
    rows, w = rows[order][first], np.asarray(weight)[order][first]
    out = []
    for stratum in ["all", *sorted(set(scored.stratum[rows].tolist()) - {"all"})]:
        pick = np.ones(len(rows), bool) if stratum == "all" else scored.stratum[rows] == stratum
        pick &= w > 0
        if not pick.any():
            continue
        p, mass = scored.p_value[rows][pick], w[pick] / w[pick].sum()
        n_effective = 1 / float((mass**2).sum())
        levels = {}
        for level in LEVELS:
            share = float(mass[p <= level].sum())
            levels[str(level)] = {"share": share, "interval": wilson(share * n_effective, n_effective)}
        row = {"stratum": stratum, "n": int(pick.sum()), "n_effective": round(n_effective, 1), "levels": levels}
        out.append({**row, "floor": float(scored.p_value_floor[rows][pick].min())})
    return out


def stability(objects, threshold, first=1, last=10):
    """How an object's score moves from one detection to the next, among objects with more than one.

    Returns
    -------
    dict
        By class: `n` steps, `median_change` and `p90_change` of |log-odds| from k to k + 1, `flips_per_object` (crossings
        of the threshold), `lost`: share of objects that passed once and do not pass at their last judged detection.
    """
    k = np.asarray(objects.labels["n_detections"])
    rows = np.flatnonzero((k >= first) & (k <= last))
    rows = rows[np.lexsort((k[rows], objects.object[rows]))]
    same = np.diff(objects.object[rows]) == 0
    steps = same & (np.diff(k[rows]) == 1)
    change = np.abs(np.diff(objects.score[rows]))
    passed = objects.score[rows] >= threshold
    flip = same & (passed[1:] != passed[:-1])
    out = {}
    for c, name in enumerate(CLASSES):
        mine = objects.label[rows] == c
        ids = objects.object[rows][mine]
        if len(ids) == 0:
            continue
        step = steps & mine[1:]
        starts = np.unique(ids, return_index=True)[1]
        ever = np.logical_or.reduceat(passed[mine], starts)
        ends = np.append(starts[1:], len(ids)) - 1
        n = len(starts)
        lost = ever & ~passed[mine][ends]
        out[name] = {
            "n": int(step.sum()),
            "median_change": float(np.median(change[step])) if step.any() else None,
            "p90_change": float(np.percentile(change[step], 90)) if step.any() else None,
            "flips_per_object": float((flip & mine[1:]).sum() / n),
            "lost": float(lost.sum() / ever.sum()) if ever.any() else None,
            "lost_interval": clopper_pearson(int(lost.sum()), int(ever.sum())),
        }
    return out


def confusion_table(label, called):
    """Confusion of classes over objects: counts, shares with Wilson intervals, precision, recall, F1, support, accuracy."""
    counts = confusion(label, called)
    support = counts.sum(1)
    right = int(np.trace(counts))
    return {
        "classes": list(CLASSES),
        "counts": counts.astype(int).tolist(),
        "share": [[c / s if s else None for c in row] for row, s in zip(counts.tolist(), support)],
        "interval": [[wilson(c, s) for c in row] for row, s in zip(counts.tolist(), support)],
        "by_class": class_measures(counts),
        "accuracy": right / len(label) if len(label) else None,
        "accuracy_interval": clopper_pearson(right, len(label)),
        "n": len(label),
    }
