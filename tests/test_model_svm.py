"""The SVM in torch is scikit-learn's, value for value and class for class."""

import numpy as np
import pytest
import torch
from made_up_bundles import member_outputs
from sklearn.svm import SVC

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.model import choose_svm, fit_svm, svm
from dgl_broker.model.svm import SvmArrays


def probabilities(n, seed):
    log_prob, labels = member_outputs(n, seed)
    return np.exp(log_prob).reshape(n, 12), labels


TRAIN, TEST = probabilities(240, 0), probabilities(200, 1)


@pytest.mark.parametrize("break_ties", [True, False])
@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid"])
def test_values_and_classes_are_those_of_scikit_learn(kernel, break_ties):
    options = {"kernel": kernel, "C": 2.0, "coef0": 0.3, "degree": 4, "break_ties": break_ties}
    oracle = SVC(tol=1e-5, **options).fit(*TRAIN)
    ours = fit_svm(*TRAIN, **options)
    expected = oracle.predict(TEST[0])
    oracle.set_params(decision_function_shape="ovo", break_ties=False)
    found = ours.pairwise(torch.from_numpy(TEST[0]))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, oracle.decision_function(TEST[0]), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours.classify(found), expected)


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.7])
def test_gamma_is_scikit_learns(gamma):
    oracle = SVC(gamma=gamma, decision_function_shape="ovo").fit(*TRAIN)
    found = fit_svm(*TRAIN, gamma=gamma).pairwise(torch.from_numpy(TEST[0]))
    np.testing.assert_allclose(found, oracle.decision_function(TEST[0]), atol=1e-3)  # oracle at its own, looser, tolerance


def test_votes_without_ties_broken_go_to_the_first_class():
    """Each of classes 0, 1, 2 beats the next in a circle: two votes each at most, ties by order or by sum of values."""
    circle = torch.tensor([[0.1, -5.0, 1.0, 5.0, 1.0, 1.0]], dtype=torch.float64)  # pairs 01 02 03 12 13 23
    machine = fit_svm(*TRAIN)
    first = SvmArrays(**{**machine.__dict__, "break_ties": False})
    assert first.classify(circle).tolist() == [0]  # 0 beats 1 and 3; 1 beats 2 and 3; 2 beats 0 and 3
    assert machine.classify(circle).tolist() == [1]  # sums: class 0 -3.9, class 1 5.9, class 2 1.0


def test_large_batches_are_made_in_blocks(monkeypatch):
    machine = fit_svm(*TRAIN)
    x = torch.from_numpy(TEST[0])
    whole = machine.pairwise(x)
    sizes = []
    original = SvmArrays.kernel_matrix
    monkeypatch.setitem(svm.KERNEL_BLOCK_BYTES, "cpu", 8 * 7 * len(machine.support_vectors))
    monkeypatch.setattr(SvmArrays, "kernel_matrix", lambda self, p: sizes.append(len(p)) or original(self, p))
    np.testing.assert_allclose(machine.pairwise(x), whole, atol=1e-12)
    assert max(sizes) == 7
    assert sum(sizes) == 200


def test_no_samples_give_no_values():
    assert fit_svm(*TRAIN).pairwise(torch.zeros(0, 12)).shape == (0, 6)


def test_arrays_survive_the_file():
    machine = fit_svm(*TRAIN, kernel="poly", degree=2)
    again = SvmArrays.from_tensors(machine.tensors(), machine.meta())
    x = torch.from_numpy(TEST[0])
    assert torch.equal(again.pairwise(x), machine.pairwise(x))
    assert again.meta() == machine.meta()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kernel": "precomputed"}, ConfigError, "fusion.svm.kernel 'precomputed', expected one of linear"),
        ({"n_support": [1, 2, 3]}, ConfigError, "expected 4 counts above 0"),
        ({"n_support": [1, 2, 3, 4]}, StateError, "svm.support_vectors is float64"),
        ({"gamma": None}, ConfigError, "expected kernel, gamma"),
    ],
)
def test_a_card_that_does_not_fit_is_told(change, error, message):
    machine = fit_svm(*TRAIN)
    with pytest.raises(error, match=message):
        SvmArrays.from_tensors(machine.tensors(), {**machine.meta(), **change})


def test_arrays_that_do_not_fit_are_told():
    machine = fit_svm(*TRAIN)
    tensors = machine.tensors()
    with pytest.raises(StateError, match="no tensor svm.intercepts, expected float64 .6."):
        SvmArrays.from_tensors({k: v for k, v in tensors.items() if k != "svm.intercepts"}, machine.meta())
    with pytest.raises(StateError, match="svm.intercepts is float32"):
        SvmArrays.from_tensors({**tensors, "svm.intercepts": tensors["svm.intercepts"].float()}, machine.meta())
    with pytest.raises(StateError, match="svm.intercepts holds values that are not finite"):
        SvmArrays.from_tensors({**tensors, "svm.intercepts": tensors["svm.intercepts"] * torch.nan}, machine.meta())


def test_data_that_make_no_svm_are_told():
    x, y = TRAIN
    with pytest.raises(ConfigError, match="no sample of lensed_sn_cc"):
        fit_svm(x[y < 3], y[y < 3])
    with pytest.raises(ConfigError, match="unknown classes .7."):
        fit_svm(x, np.where(np.arange(len(y)) == 0, 7, y))
    with pytest.raises(ConfigError, match="1 values of 2880 are not finite"):
        fit_svm(np.where(np.arange(x.size).reshape(x.shape) == 5, np.nan, x), y)
    with pytest.raises(ConfigError, match="expected .N, 12. and .N,."):
        fit_svm(x[:, :11], y)
    with pytest.raises(ConfigError, match="SVM kernel 'cubic'"):
        fit_svm(x, y, kernel="cubic")


def test_choice_is_the_best_in_cross_validation_and_keeps_systems_together():
    x, y = TRAIN
    # Every sample twice: split apart, a copy would be remembered by an SVM of large C and small scale.
    x2, y2, groups = np.repeat(x, 2, axis=0), np.repeat(y, 2), np.repeat(np.arange(len(y)), 2)
    chosen, accuracy = choose_svm(x2, y2, groups=groups, kernels=("rbf", "linear"), C_values=(1e-4, 1.0))
    assert chosen["C"] == 1.0  # at 1e-4 the margin swallows everything
    assert 0.6 < accuracy < 0.99
    assert choose_svm(x2, y2, groups=groups, kernels=("rbf", "linear"), C_values=(1e-4, 1.0)) == (chosen, accuracy)
