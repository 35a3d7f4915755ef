"""The support vector machine in float64, against scikit-learn's own prediction."""

import numpy as np
import torch

from benchmarks.report import at_least, compared
from benchmarks.timing import interleaved
from dgl_broker.model.svm import SvmArrays

TITLE = "4. SVM: pairwise values and class of 12 probabilities"
GOAL = 3.0
BATCH, SINGLE = 256, 16
KERNELS = ("rbf", "linear")  # of our bundles
N_SAMPLES = 5_000  # whose classes overlap: some thousand support vectors, as ours have


def run(options):
    """Yields a `Measure` for each kernel that our bundles use, and batch size."""
    torch.set_num_threads(1)
    for kernel in KERNELS:
        machine = _fitted(kernel, 600 if options.quick else N_SAMPLES)
        arrays = SvmArrays.from_libsvm(
            machine.support_vectors_,
            machine.dual_coef_,
            machine.intercept_,
            machine.n_support_,
            kernel=kernel,
            gamma=1.0,
            break_ties=True,
        )
        for n in (BATCH, 1):
            yield _measured(machine, arrays, n, options.rounds)


def _samples(n, seed):
    """(probabilities (n, 12), classes (n,)) of three members that are often wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(0.0, 1.0, (n, 3, 4)) + rng.normal(0.0, 1.0, (n, 1, 4))
    logits[np.arange(n), :, labels] += 1.0
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return probabilities.reshape(n, 12), labels


def _fitted(kernel, n_samples):
    from sklearn.svm import SVC

    return SVC(kernel=kernel, gamma=1.0, break_ties=True, decision_function_shape="ovr").fit(*_samples(n_samples, 1))


def _measured(machine, arrays, n, rounds):
    calls = 1 if n > 1 else SINGLE
    probabilities, _ = _samples(n * calls, 2)
    parts = np.split(probabilities, calls)
    tensors = [torch.from_numpy(part) for part in parts]

    def scikit_learn():
        for part in parts:
            machine.predict(part)

    def scikit_learn_pairs():
        machine.decision_function_shape = "ovo"
        for part in parts:
            machine.decision_function(part)
        machine.decision_function_shape = "ovr"

    def ours():
        for part in tensors:
            arrays.classify(arrays.pairwise(part))

    theirs, pairs, our = "scikit-learn: class", "scikit-learn: pairwise values", "ours: pairwise values and class"
    spent = interleaved({theirs: scikit_learn, pairs: scikit_learn_pairs, our: ours}, n * calls, rounds)
    name = "times the speed of scikit-learn's class"
    ratios = {name: (spent[theirs], spent[our]), "times the speed of its pairwise values": (spent[pairs], spent[our])}
    title = f"{machine.kernel} kernel, {len(machine.support_vectors_)} support vectors, {n} at a time"
    notes = {"agreement": _agreement(machine, arrays)}
    return compared(title, spent, ratios, {name: at_least(GOAL)} if n > 1 else {}, notes=notes)


def _agreement(machine, arrays, n=2048):
    """How far ours lies from scikit-learn's on samples of its own."""
    probabilities, _ = _samples(n, 3)
    machine.decision_function_shape = "ovo"
    expected = machine.decision_function(probabilities)
    machine.decision_function_shape = "ovr"
    found = arrays.pairwise(torch.from_numpy(probabilities))
    difference = np.abs(found.numpy() - expected).max()
    same = (arrays.classify(found).numpy() == machine.predict(probabilities)).sum()
    return f"pairwise values within {difference:.1e}, class equal for {same} of {n}"
