"""Completeness at false-positive rates, with intervals, for the objects judged at one moment in one mix of negatives."""

import numpy as np

from dgl_broker.evaluation import mixes
from dgl_broker.evaluation.intervals import clopper_pearson
from dgl_broker.evaluation.measures import FPRS, MEASURABLE, at_threshold, effective_number, roc, threshold_at_fpr


def in_mix(mix, survey, objects, judged, unit="objects"):
    """The judged objects, or the systems they belong to, that enter a mix, with their weights.

    In `stream` an object enters when the shipped pre-cuts pass it, positives as well; in `hard` they play no part.

    Returns
    -------
    judged : Judged
    weight : array
        Negatives sum to 1; kinds outside the mix are gone.
    """
    if mix == "stream":
        judged = judged.select(judged.enters)
    everyone = objects.negative_kinds
    if unit == "systems":
        judged, everyone = objects.systems(judged), objects.negative_system_kinds
    weight = mixes.weights(mix, survey, judged.kind, judged.positive, everyone)
    keep = weight > 0
    return judged.select(keep), weight[keep]


def tpr_table(judged, weight, subsets, fprs=FPRS, n_draws=300, seed=0, curve=False):
    """Completeness of each subset at each rate.

    Parameters
    ----------
    judged : Judged
    weight : array, shape (n,)
        As `in_mix` gives it.
    subsets : dict of masks, shape (n,)
        Of positives.
    fprs : tuple of float
    n_draws : int
        Of the bootstrap over objects, kinds kept at their numbers; 0 leaves it out.

    Returns
    -------
    dict
        `n_positive`, `n_negative`, `n_effective`, `rates`: a row for each rate with `threshold`, `n_false`, and per subset `n`,
        `n_true`, `tpr`, `binomial` (Clopper-Pearson at that threshold) and `bootstrap` (threshold drawn anew as well).
        A rate below 3 / n_effective has nothing but `measurable: false`.
    """
    negative = ~judged.positive
    n_effective = effective_number(weight[negative])
    out = {
        "n_positive": int(judged.positive.sum()),
        "n_negative": int(negative.sum()),
        "n_effective": round(n_effective, 1),
        "least_rate": MEASURABLE / n_effective if n_effective else None,
        "rates": [],
    }
    measurable = [fpr for fpr in fprs if n_effective > 0 and fpr >= MEASURABLE / n_effective]
    drawn = bootstrap_tpr(judged, weight, subsets, measurable, n_draws, seed) if n_draws and measurable else {}
    for fpr in fprs:
        if fpr not in measurable:
            out["rates"].append({"fpr": fpr, "measurable": False})
            continue
        threshold = threshold_at_fpr(judged.score[negative], weight[negative], fpr)
        found = at_threshold(judged.score, judged.positive, threshold, weight, fpr, n_effective)
        row = {"fpr": fpr, "measurable": True, "threshold": finite(threshold), "found": found.fpr, "n_false": found.n_false}
        row["subsets"] = {}
        for name, mask in subsets.items():
            n, k = int(mask.sum()), int((mask & (judged.score >= threshold)).sum())
            row["subsets"][name] = {"n": n, "n_true": k, "tpr": k / n if n else None, "binomial": clopper_pearson(k, n)}
            if (fpr, name) in drawn:
                row["subsets"][name]["bootstrap"] = drawn[fpr, name]
        out["rates"].append(row)
    if curve:
        out["roc"] = roc(judged.score, judged.positive, weight)
    return out


def finite(value):
    """A number as JSON can hold it: None for one that is not finite."""
    return float(value) if np.isfinite(value) else None


def bootstrap_tpr(judged, weight, subsets, fprs, n_draws, seed=0, level=0.95):
    """Percentile intervals of completeness by (fpr, subset), threshold and completeness both drawn anew.

    Objects are drawn with replacement within their kind: shares of the kinds are the mix's, not the sample's. Scores are sorted
    once; a draw is a count for each object.
    """
    order = np.argsort(-judged.score, kind="stable")
    score, w = judged.score[order], weight[order]
    negative = ~judged.positive[order]
    masks = {name: mask[order] for name, mask in subsets.items()}
    groups = [np.flatnonzero(judged.kind[order] == kind) for kind in np.unique(judged.kind)]
    # First place of each run of equal scores: what passes a threshold just above a score lies before it.
    run = np.searchsorted(-score, -score, side="left")
    rates = {(fpr, name): [] for fpr in fprs for name in subsets}
    for stream in np.random.SeedSequence(seed).spawn(n_draws):
        rng = np.random.default_rng(stream)
        count = np.zeros(len(score))
        for group in groups:
            count[group] = np.bincount(rng.integers(0, len(group), len(group)), minlength=len(group))
        passing = np.cumsum(np.where(negative, w * count, 0.0))
        cut = {}
        for fpr in fprs:
            out = int(np.searchsorted(passing, fpr * (1 + 1e-12) * passing[-1], side="right"))
            cut[fpr] = len(score) if out >= len(score) else int(run[out])
        for name, mask in masks.items():
            true = np.concatenate([[0.0], np.cumsum(np.where(mask, count, 0.0))])
            if true[-1] > 0:
                for fpr in fprs:
                    rates[fpr, name].append(true[cut[fpr]] / true[-1])
    tail = 50 * (1 - level)
    return {key: [float(v) for v in np.percentile(x, [tail, 100 - tail])] for key, x in rates.items() if x}


def false_positives(judged, threshold):
    """How many of each kind of negative pass a threshold, whatever the mix.

    Returns
    -------
    dict
        kind -> `n`, `n_false`, `rate` (None where it is below 3 / n), `interval` (Clopper-Pearson).
    """
    out = {}
    for kind in np.unique(judged.kind[~judged.positive]):
        pick = (judged.kind == kind) & ~judged.positive
        n, k = int(pick.sum()), int((pick & (judged.score >= threshold)).sum())
        rate = k / n if k >= MEASURABLE else None
        out[str(kind)] = {"n": n, "n_false": k, "rate": rate, "interval": clopper_pearson(k, n)}
    return out
