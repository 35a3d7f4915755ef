"""The ways to fuse, side by side: SVM alone, logistic regression alone, both; and each network alone.

All are fitted on the calibration split, as the bundle's own; the SVM is the bundle's.
"""

import numpy as np

from dgl_broker.evaluation.scoring import log_odds_of
from dgl_broker.scores import MEMBERS

WAYS = ("svm+lr", "lr", "svm", "mean_log_prob")


def fused(bundle, calibration, calibration_labels, weight, scored):
    """Log-odds and called classes by each way to fuse.

    Parameters
    ----------
    bundle : dgl_broker.model.Bundle
    calibration, scored : Scored
        Of the calibration split, and of the table judged.
    calibration_labels : array, shape (n,)
        Class indices.
    weight : array, shape (n,)
        Of the calibration rows; those of 0 are left out.

    Returns
    -------
    dict
        way -> (log_odds (N,), class_index (N,)); "svm_votes" is the SVM's class as published, with the same log-odds as "svm".
    """
    import torch

    from dgl_broker.model import fit_fusion

    def members(s):
        return np.stack([s.members[name] for name in MEMBERS], axis=1)

    use = np.asarray(weight) > 0
    out = {}
    target = torch.from_numpy(members(scored))
    for way in WAYS:
        if bundle.svm is None and "svm" in way:
            continue
        fusion = fit_fusion(
            members(calibration)[use],
            np.asarray(calibration_labels).astype(int)[use],
            svm=bundle.svm if "svm" in way else None,
            way=way,
            sample_weight=np.asarray(weight)[use] * use.sum() / np.asarray(weight)[use].sum(),
        )
        logits = fusion.logits(target, fusion.pairwise(target)).numpy()
        out[way] = log_odds_of(logits), logits.argmax(1)
    if bundle.svm is not None:
        pairwise = bundle.svm.pairwise(target.exp().flatten(1))
        out["svm_votes"] = out["svm"][0], bundle.svm.classify(pairwise).numpy()
    for name in MEMBERS:
        log_p = scored.members[name]
        out[name] = log_odds_of(log_p), log_p.argmax(1)
    return out
