"""Fitting the SVM and the fusion; the only place of the model that needs scikit-learn, so scoring starts without it."""

import numpy as np
import torch

from dgl_broker.errors import ConfigError
from dgl_broker.model.fusion import N_INPUTS, Fusion, fusion_inputs
from dgl_broker.model.svm import KERNELS, N_FEATURES, SvmArrays
from dgl_broker.scores import CLASSES

PUBLISHED_C = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # grid of the published SVM, run_svm_ensemble.py
SVM_TOLERANCE = 1e-5  # as published


def fit_svm(probabilities, labels, kernel="rbf", C=1.0, gamma="scale", coef0=0.0, degree=3, class_weight=None, break_ties=True):
    """An SVM over the members' class probabilities.

    Parameters
    ----------
    probabilities : array, shape (N, 12)
        Probabilities of LoNet, GloNet, MuNet, four classes each, on systems that the networks never saw.
    labels : array, shape (N,)
        Class indices 0 to 3; every class must be there.
    kernel : {"linear", "poly", "rbf", "sigmoid"}
    C, gamma, coef0, degree, class_weight, break_ties
        As in `sklearn.svm.SVC`; `break_ties` as published.

    Returns
    -------
    SvmArrays

    Raises
    ------
    ConfigError
        Unknown kernel, wrong shape, a class that is missing, values that are not finite.
    """
    from sklearn.svm import SVC

    if kernel not in KERNELS:
        raise ConfigError(f"SVM kernel {kernel!r}, expected one of {', '.join(KERNELS)}")
    probabilities, labels = _checked(probabilities, labels, (N_FEATURES,))
    machine = SVC(
        kernel=kernel,
        C=C,
        gamma=gamma,
        coef0=coef0,
        degree=degree,
        class_weight=class_weight,
        break_ties=break_ties,
        tol=SVM_TOLERANCE,
    ).fit(probabilities, labels)
    # scikit-learn keeps the number behind gamma="scale" private; its formula is 1 / (features x variance).
    numbers = {"scale": 1.0 / (N_FEATURES * probabilities.var()), "auto": 1.0 / N_FEATURES}
    return SvmArrays.from_libsvm(
        machine.support_vectors_,
        machine.dual_coef_,
        machine.intercept_,
        machine.n_support_,
        kernel=kernel,
        gamma=float(numbers.get(gamma, gamma)),
        coef0=float(coef0),
        degree=int(degree),
        C=float(C),
        break_ties=bool(break_ties),
    )


def choose_svm(probabilities, labels, groups=None, kernels=KERNELS, C_values=PUBLISHED_C, folds=3, max_samples=3000, seed=0):
    """Kernel and C with the best accuracy in cross-validation, as arguments for `fit_svm`, and that accuracy.

    Published: the same grid, but chosen on the data that also stopped the networks' training; here folds of the SVM's own
    data decide. At most `max_samples` samples, drawn with `seed`, are used. `groups` (N,) keeps samples of one system in
    one fold. Of equal accuracies the first in the order of `C_values`, then `kernels`, is kept.

    Returns
    -------
    arguments : dict with `kernel` and `C`
    accuracy : float
    """
    from sklearn.model_selection import StratifiedGroupKFold

    probabilities, labels = _checked(probabilities, labels, (N_FEATURES,))
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(labels))[:max_samples])
    probabilities, labels, groups = probabilities[drawn], labels[drawn], groups[drawn]
    smallest = min(len(np.unique(groups[labels == c])) for c in range(len(CLASSES)))
    if smallest < folds:
        raise ConfigError(f"a class has {smallest} systems for the SVM, expected at least {folds}")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    splits = list(splitter.split(probabilities, labels, groups))
    best, best_right = None, -1
    for C in C_values:
        for kernel in kernels:
            right = 0
            for train, test in splits:
                machine = fit_svm(probabilities[train], labels[train], kernel=kernel, C=C)
                found = machine.classify(machine.pairwise(torch.from_numpy(probabilities[test])))
                right += int((found.numpy() == labels[test]).sum())
            if right > best_right:
                best, best_right = {"kernel": kernel, "C": C}, right
    return best, best_right / len(labels)


def fit_fusion(log_prob, labels, svm=None, way="svm+lr", sample_weight=None, class_weight=None, C=1.0, mode="score"):
    """Multinomial logistic regression of the class over the members' outputs, on the calibration split.

    Parameters
    ----------
    log_prob : array or tensor, shape (N, 3, 4)
        Members' log-probabilities.
    labels : array, shape (N,)
        Class indices 0 to 3.
    svm : SvmArrays
        Needed by the ways "svm+lr" and "svm" and by mode "paper"; fitted on another split.
    way : {"svm+lr", "lr", "svm", "mean_log_prob"}
    sample_weight : array, shape (N,), optional
    class_weight : "balanced" or dict of class index to weight, optional
        Multiplies `sample_weight`. The weighted shares of the classes become `class_mix`.
    C : float
        Inverse strength of the quadratic penalty on the standardised coefficients.

    Returns
    -------
    Fusion
    """
    log_prob = torch.as_tensor(log_prob)
    _checked(log_prob, labels, (3, len(CLASSES)))
    labels = np.asarray(labels).astype(np.int64)
    weights = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, float)
    if weights.shape != labels.shape or not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ConfigError(f"sample_weight of shape {weights.shape}, expected {labels.shape}, finite and above 0")
    if class_weight is not None:
        sums = np.bincount(labels, weights)
        factors = sums.sum() / (len(CLASSES) * sums) if class_weight == "balanced" else [class_weight[c] for c in range(4)]
        weights = weights * np.asarray(factors)[labels]
    mix = np.bincount(labels, weights) / weights.sum()
    mix = tuple(float(share) for share in mix)
    if way not in N_INPUTS:
        return Fusion(way, mix, svm, mode=mode)
    if svm is None and "svm" in way:
        raise ConfigError(f"fusion way {way!r} needs an SVM, and there is none")

    from sklearn.linear_model import LogisticRegression

    pairwise = None if svm is None else svm.pairwise(log_prob.double().exp().flatten(1))
    inputs = fusion_inputs(way, log_prob, pairwise).numpy()
    mean, scale = inputs.mean(0), inputs.std(0)
    scale[scale < 1e-12] = 1.0  # a constant input carries nothing; dividing by its spread would be 0 / 0
    model = LogisticRegression(C=C, max_iter=5000, tol=1e-6).fit((inputs - mean) / scale, labels, sample_weight=weights)
    arrays = {"mean": mean, "scale": scale, "coefficients": model.coef_, "intercepts": model.intercept_}
    arrays = {name: torch.from_numpy(np.ascontiguousarray(a, np.float64)) for name, a in arrays.items()}
    return Fusion(way, mix, svm, mode=mode, **arrays)


def _checked(values, labels, tail):
    """Values (N, *tail) as float64 and labels (N,) as int64, both whole, or ConfigError."""
    values, labels = np.asarray(values, np.float64), np.asarray(labels)
    if values.ndim != len(tail) + 1 or values.shape[1:] != tail or labels.shape != values.shape[:1]:
        wanted = ", ".join(map(str, ("N", *tail)))
        raise ConfigError(f"values {values.shape} with labels {labels.shape}, expected ({wanted}) and (N,)")
    if not np.isfinite(values).all():
        raise ConfigError(f"{int((~np.isfinite(values)).sum())} values of {values.size} are not finite")
    missing = [name for i, name in enumerate(CLASSES) if not (labels == i).any()]
    unknown = sorted(set(np.unique(labels).tolist()) - set(range(len(CLASSES))))
    if missing or unknown:
        raise ConfigError(f"labels: no sample of {', '.join(missing) or 'none'}, unknown classes {unknown}, expected 0 to 3")
    return values, labels.astype(np.int64)
