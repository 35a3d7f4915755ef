"""Measures on the paper's sets: one example a system, four classes, no stream."""

import numpy as np

from dgl_broker.evaluation.checks import confusion_table
from dgl_broker.evaluation.intervals import clopper_pearson, paired_bootstrap, wilson
from dgl_broker.evaluation.measures import FPRS, reliability, roc, tpr_at_fpr

PUBLISHED_ACCURACY = {"desi_dot": 0.887, "des_deep": 0.696, "des_wide": 0.877, "lsst_wide": 0.888}
"""Of DeepGraviLens, by its authors on their data (Pinciroli Vago & Fraternali 2023): other data, quoted and no target."""


def evaluate_paper(scored, labels):
    """Confusion, completeness at false-positive rates over all negatives alike, and reliability of p_lsn."""
    label = np.asarray(labels["class"]).astype(int)
    positive = label >= 2
    rates = []
    for fpr in FPRS:
        found = tpr_at_fpr(scored.log_odds, positive, fpr)
        row = {"fpr": fpr, "measurable": found.measurable}
        if found.measurable:
            row |= {"threshold": found.threshold, "tpr": found.tpr, "n_false": found.n_false}
            row["binomial"] = clopper_pearson(found.n_true, found.n_positive)
        rates.append(row)
    return {
        "confusion": confusion_table(label, scored.class_index),
        "among_lensed": among_lensed(scored.probabilities, label),
        "rates": rates,
        "roc": roc(scored.log_odds, positive),
        "calibration": reliability(scored.probabilities[:, 2:].sum(1), positive),
    }


def among_lensed(probabilities, label):
    """Accuracy among the three lensed classes alone, each weighing alike, and chance.

    With the supernova's flux set to zero these are the same systems, and it must be chance within its interval: what is above
    comes from galaxies that a class has for itself.

    Returns
    -------
    dict
        `accuracy` (mean recall), `chance`, `interval` (Wilson at the number of samples), `n`.
    """
    lensed = label >= 1
    called = probabilities[lensed, 1:].argmax(1) + 1
    right = [float((called[label[lensed] == c] == c).mean()) for c in (1, 2, 3) if (label[lensed] == c).any()]
    n = int(lensed.sum())
    if not right:
        return {"accuracy": None, "chance": None, "interval": None, "n": 0}
    accuracy = float(np.mean(right))
    return {"accuracy": accuracy, "chance": 1 / len(right), "interval": wilson(accuracy * n, n), "n": n}


def compare_accuracy(label, called_a, called_b, systems, n_draws=2000, seed=0):
    """Accuracy of b less that of a on the same rows, by a bootstrap over systems paired in both.

    Returns
    -------
    dict
        `difference`, `interval`, `share_above_0`, `n_systems`, `n`.
    """
    right_a, right_b = np.asarray(called_a) == label, np.asarray(called_b) == label
    _, system = np.unique(systems, return_inverse=True)
    n = system.max() + 1
    rows = np.bincount(system, minlength=n)
    gain_a = np.bincount(system, right_a, n)
    gain_b = np.bincount(system, right_b, n)

    def accuracy(gain):
        return lambda pick: gain[pick].sum() / rows[pick].sum()

    difference, lo, hi, share = paired_bootstrap(accuracy(gain_a), accuracy(gain_b), [np.arange(n)], n_draws, seed=seed)
    return {"difference": difference, "interval": [lo, hi], "share_above_0": share, "n_systems": int(n), "n": len(label)}
