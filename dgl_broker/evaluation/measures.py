"""Measures of a classifier from scores, truths and weights; everything over objects, nothing about where they came from.

A score passes when `score >= threshold`. Weights make a mix of negatives what it is said to be; a rate that is below 3 over
the number of negatives (effective, where they are weighted) is no measurement and is given as None.
"""

from dataclasses import dataclass

import numpy as np

FPRS = (1e-2, 1e-3, 1e-4)
MEASURABLE = 3.0  # false positives expected at the least, for a rate to be printed


@dataclass(frozen=True)
class Operating:
    """A threshold and what passes it. `tpr` is None without positives, or where `measurable` is False."""

    threshold: float
    fpr: float
    tpr: float | None
    n_positive: int
    n_true: int
    n_negative: int
    n_effective: float
    n_false: int
    measurable: bool


def effective_number(weights, groups=None):
    """Negatives that a weighted mix is worth: (sum w)^2 / sum w^2 (Kish 1965); 0 for none."""
    weights = np.asarray(weights, float)
    square = float((weights**2).sum())
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0


def threshold_at_fpr(score, weight, fpr):
    """Least threshold at which the weighted share of negatives that pass is at most `fpr`.

    Parameters
    ----------
    score, weight : arrays, shape (n,)
        Of the negatives.

    Returns
    -------
    float
        -inf where all may pass. Equal scores pass together or not at all.
    """
    score, weight = np.asarray(score, float), np.asarray(weight, float)
    if len(score) == 0 or weight.sum() <= 0:
        return -np.inf
    order = np.argsort(-score, kind="stable")
    passing = np.cumsum(weight[order]) / weight.sum()
    first_out = int(np.searchsorted(passing, fpr * (1 + 1e-12), side="right"))
    if first_out == len(order):
        return -np.inf
    return float(np.nextafter(score[order[first_out]], np.inf))


def tpr_at_fpr(score, positive, fpr, weight=None, n_effective=None):
    """Completeness at a false-positive rate.

    Parameters
    ----------
    score : array, shape (n,)
    positive : array of bool, shape (n,)
    fpr : float
        Of the weighted negatives.
    weight : array, shape (n,), optional
    n_effective : float, optional
        Of the negatives; Kish's number without.

    Returns
    -------
    Operating
        Its `tpr` holds the number also where it is not `measurable`.
    """
    score, positive = np.asarray(score, float), np.asarray(positive, bool)
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, float)
    negative = ~positive & (weight > 0)
    threshold = threshold_at_fpr(score[negative], weight[negative], fpr)
    return at_threshold(score, positive, threshold, weight, fpr, n_effective)


def at_threshold(score, positive, threshold, weight=None, fpr=None, n_effective=None):
    """What passes a threshold; `measurable` says whether `fpr` (or the rate found) is at least 3 over the negatives."""
    weight = np.ones(len(score)) if weight is None else weight
    counted = weight > 0
    negative, positive = ~positive & counted, positive & counted
    passed = score >= threshold
    w_negative = weight[negative]
    n_effective = effective_number(w_negative) if n_effective is None else n_effective
    found = float(w_negative[passed[negative]].sum() / w_negative.sum()) if negative.any() else float("nan")
    w_positive = weight[positive]
    tpr = float(w_positive[passed[positive]].sum() / w_positive.sum()) if positive.any() else None
    rate = found if fpr is None else fpr
    return Operating(
        threshold=float(threshold),
        fpr=found,
        tpr=float("nan") if tpr is None else tpr,
        n_positive=int(positive.sum()),
        n_true=int((positive & passed).sum()),
        n_negative=int(negative.sum()),
        n_effective=float(n_effective),
        n_false=int((negative & passed).sum()),
        measurable=bool(n_effective > 0 and rate >= MEASURABLE / n_effective),
    )


def roc(score, positive, weight=None, n_points=200):
    """Curve of completeness against false-positive rate, at rates spread evenly in their logarithm down to 3 / n.

    Returns
    -------
    dict of lists
        `fpr`, `tpr`, `threshold`.
    """
    score, positive = np.asarray(score, float), np.asarray(positive, bool)
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, float)
    negative = ~positive & (weight > 0)
    positive = positive & (weight > 0)
    if not negative.any() or not positive.any():
        return {"fpr": [], "tpr": [], "threshold": []}
    n = effective_number(weight[negative])
    rates = np.geomspace(min(MEASURABLE / n, 1.0), 1.0, n_points)
    order = np.argsort(-score[negative], kind="stable")
    s, w = score[negative][order], weight[negative][order]
    passing = np.cumsum(w) / w.sum()
    out = np.searchsorted(passing, rates * (1 + 1e-12), side="right")
    threshold = np.where(out < len(s), np.nextafter(s[np.minimum(out, len(s) - 1)], np.inf), -np.inf)
    sorted_positive = np.sort(score[positive])
    w_positive = weight[positive][np.argsort(score[positive], kind="stable")]
    above = np.concatenate([[0.0], np.cumsum(w_positive)])
    tpr = 1 - above[np.searchsorted(sorted_positive, threshold, side="left")] / above[-1]
    return {"fpr": rates.tolist(), "tpr": tpr.tolist(), "threshold": threshold.tolist()}


def confusion(label, predicted, n_classes=4, weight=None):
    """Counts (true class, predicted class), (n_classes, n_classes); weighted where weights are given."""
    out = np.zeros((n_classes, n_classes))
    np.add.at(out, (np.asarray(label, int), np.asarray(predicted, int)), 1.0 if weight is None else weight)
    return out


def class_measures(counts):
    """Precision, recall, F1 and support of each class from a confusion matrix; None where a denominator is 0.

    Returns
    -------
    list of dict
    """
    out = []
    for c in range(len(counts)):
        true, support, claimed = counts[c, c], counts[c].sum(), counts[:, c].sum()
        precision = true / claimed if claimed else None
        recall = true / support if support else None
        both = support + claimed
        out.append(
            {"precision": precision, "recall": recall, "f1": 2 * true / both if both else None, "support": float(support)}
        )
    return out


def reliability(probability, positive, weight=None, n_bins=15):
    """Calibration in bins of equal mass.

    Parameters
    ----------
    probability : array, shape (n,)
    positive : array of bool, shape (n,)
    weight : array, shape (n,), optional

    Returns
    -------
    dict
        `bins`: list of {probability (mean), share (of positives), weight, n}; `ece`: sum over bins of weight times
        |share - probability| (Naeini et al. 2015, with the bins of equal mass of Nixon et al. 2019, arXiv:1904.01685).
    """
    probability, positive = np.asarray(probability, float), np.asarray(positive, bool)
    weight = np.ones(len(probability)) if weight is None else np.asarray(weight, float)
    keep = weight > 0
    order = np.argsort(probability[keep], kind="stable")
    p, y, w = probability[keep][order], positive[keep][order], weight[keep][order]
    middle = (np.cumsum(w) - w / 2) / w.sum()
    which = np.minimum((middle * n_bins).astype(int), n_bins - 1)
    bins, ece = [], 0.0
    for b in range(n_bins):
        pick = which == b
        if not pick.any():
            continue
        mass = w[pick].sum()
        mean, share = float((w * p)[pick].sum() / mass), float((w * y)[pick].sum() / mass)
        bins.append({"probability": mean, "share": share, "weight": float(mass / w.sum()), "n": int(pick.sum())})
        ece += mass / w.sum() * abs(share - mean)
    return {"bins": bins, "ece": float(ece)}


def purity(tpr_of_fpr, lensed_per_night, negatives_per_night, budget):
    """Purity when `budget` candidates a night are looked at.

    The false-positive rate that fills the budget solves budget = lensed * tpr(fpr) + negatives * fpr, by bisection (the right
    side grows with fpr).

    Parameters
    ----------
    tpr_of_fpr : callable
        fpr -> tpr, not falling.
    lensed_per_night, negatives_per_night : float
        Objects judged in a night.
    budget : float

    Returns
    -------
    dict
        `fpr`, `tpr`, `true_per_night`, `purity`.
    """
    lo, hi = 0.0, 1.0
    for _ in range(200):
        middle = (lo + hi) / 2
        if lensed_per_night * tpr_of_fpr(middle) + negatives_per_night * middle > budget:
            hi = middle
        else:
            lo = middle
    tpr = float(tpr_of_fpr(lo))
    true = lensed_per_night * tpr
    found = true + negatives_per_night * lo
    return {"fpr": lo, "tpr": tpr, "true_per_night": true, "purity": true / found if found > 0 else None}


def purity_at_prevalence(tpr, fpr, prevalence):
    """Share of true ones among what passes, where `prevalence` of all are true (Bayes); None where nothing passes.

    Parameters
    ----------
    tpr, fpr : float
        Share of the true ones, and of the others, that pass.
    prevalence : float
    """
    true = prevalence * tpr
    passing = true + (1.0 - prevalence) * fpr
    return true / passing if passing > 0 else None
