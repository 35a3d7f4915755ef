"""Members to one score: the regression is scikit-learn's, and nothing saturates."""

import numpy as np
import pytest
import torch
from made_up_bundles import fitted_fusion, member_outputs
from sklearn.linear_model import LogisticRegression

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.model import Fusion, fit_fusion, fit_svm
from dgl_broker.model.score_table import lsn_logit

LOG_PROB, LABELS = member_outputs(400, seed=2)


def softmax(logits):
    return torch.softmax(logits, dim=1).numpy()


def test_default_is_a_regression_over_clipped_log_probabilities_and_pairwise_values():
    log_prob = LOG_PROB.copy()
    log_prob[0, 0] = [-40.0, -1e-9, -40.0, -40.0]  # below the clip of 1e-7
    fusion = fitted_fusion()
    svm = fusion.svm
    fusion = fit_fusion(log_prob, LABELS, svm=svm)
    pairwise = svm.pairwise(torch.from_numpy(np.exp(log_prob)).reshape(-1, 12))
    inputs = np.hstack([np.maximum(log_prob, np.log(1e-7)).reshape(-1, 12), pairwise.numpy()])
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    oracle = LogisticRegression(max_iter=5000, tol=1e-6).fit(inputs, LABELS)
    found = fusion.logits(torch.from_numpy(log_prob), fusion.pairwise(torch.from_numpy(log_prob)))
    np.testing.assert_allclose(softmax(found), oracle.predict_proba(inputs), atol=1e-9)


@pytest.mark.parametrize("way", ["svm+lr", "lr", "svm"])
def test_ways_differ_in_what_they_see(way):
    fusion = fitted_fusion(way)
    assert fusion.coefficients.shape == (4, {"svm+lr": 18, "lr": 12, "svm": 6}[way])
    x = torch.from_numpy(LOG_PROB)
    found = fusion.logits(x, fusion.pairwise(x)).argmax(1).numpy()
    assert (found == LABELS).mean() > 0.7


def test_mean_log_probability_is_renormalised():
    fusion = Fusion()
    found = softmax(fusion.logits(torch.from_numpy(LOG_PROB)))
    mean = np.exp(LOG_PROB.mean(1))
    np.testing.assert_allclose(found, mean / mean.sum(1, keepdims=True), rtol=1e-12)


def test_mix_is_that_of_the_weighted_split():
    labels = np.array([0, 0, 0, 1, 2, 3])
    weights = np.array([1, 1, 2, 2, 1, 1.0])
    fusion = fit_fusion(LOG_PROB[:6], labels, way="mean_log_prob", sample_weight=weights)
    np.testing.assert_allclose(fusion.class_mix, [0.5, 0.25, 0.125, 0.125])
    assert fusion.lsn_share == pytest.approx(0.25)
    balanced = fit_fusion(LOG_PROB[:6], labels, way="mean_log_prob", class_weight="balanced")
    np.testing.assert_allclose(balanced.class_mix, [0.25] * 4)
    by_hand = fit_fusion(LOG_PROB[:6], labels, way="mean_log_prob", class_weight={0: 1, 1: 3, 2: 3, 3: 3})
    np.testing.assert_allclose(by_hand.class_mix, [0.25] * 4)


def test_probabilities_are_calibrated_to_the_mix():
    """A regression with intercepts reproduces the class shares of its own data: the score equations of its likelihood."""
    fusion = fit_fusion(LOG_PROB, LABELS, way="lr")
    found = softmax(fusion.logits(torch.from_numpy(LOG_PROB)))
    np.testing.assert_allclose(found.mean(0), fusion.class_mix, atol=1e-5)


def test_pairwise_values_are_smooth_where_votes_jump():
    fusion = fitted_fusion()
    x = torch.from_numpy(LOG_PROB)
    moved = fusion.logits(x - 1e-6, fusion.pairwise(x - 1e-6)) - fusion.logits(x, fusion.pairwise(x))
    assert moved.abs().max() < 1e-4


def test_lensed_logit_does_not_saturate():
    """In float32 1 - p is 0 beyond 17; by log-sum-exp the logit is exact at any size."""
    logits = np.array([[0.0, -3.0, 200.0, -5.0], [200.0, -3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    by_hand = [200.0 - np.log(1 + np.exp(-3.0)), np.log(2.0) - 200.0, 0.0]
    np.testing.assert_allclose(lsn_logit(logits), by_hand, rtol=1e-14, atol=1e-14)


def test_fusion_survives_the_file():
    fusion = fitted_fusion(mode="paper")
    card = {"id": "x", **fusion.card()}
    again = Fusion.from_tensors(fusion.tensors(), card)
    x = torch.from_numpy(LOG_PROB)
    assert torch.equal(again.logits(x, again.pairwise(x)), fusion.logits(x, fusion.pairwise(x)))
    assert again.card() == fusion.card()
    assert again.mode == "paper"


def test_what_does_not_fit_is_told():
    fusion = fitted_fusion()
    card = {"id": "x", **fusion.card()}
    with pytest.raises(ConfigError, match="fusion.way 'vote', expected one of"):
        Fusion.from_tensors(fusion.tensors(), {**card, "fusion": {**card["fusion"], "way": "vote"}})
    with pytest.raises(ConfigError, match="fusion.mode 'papers', expected one of score, paper"):
        Fusion.from_tensors(fusion.tensors(), {**card, "fusion": {**card["fusion"], "mode": "papers"}})
    with pytest.raises(ConfigError, match="needs an SVM, and there is none"):
        Fusion.from_tensors(fusion.tensors(), {**card, "fusion": {**card["fusion"], "svm": None}})
    with pytest.raises(ConfigError, match="prior.class_mix"):
        Fusion.from_tensors(fusion.tensors(), {**card, "prior": {"class_mix": {"no_lens": 1.0}}})
    with pytest.raises(ConfigError, match="expected 4 shares above 0 that sum to 1"):
        Fusion(class_mix=(0.5, 0.5, 0.5, 0.5))
    with pytest.raises(StateError, match="fusion.coefficients is float64 .4, 18., expected float64 .4, 12."):
        Fusion.from_tensors(fusion.tensors() | {"fusion.mean": fusion.mean[:12], "fusion.scale": fusion.scale[:12]},
                            {**card, "fusion": {**card["fusion"], "way": "lr"}})  # fmt: skip
    with pytest.raises(ConfigError, match="fusion.scale holds values that are not above 0"):
        Fusion.from_tensors({**fusion.tensors(), "fusion.scale": fusion.scale * 0}, card)
    with pytest.raises(ConfigError, match="sample_weight of shape"):
        fit_fusion(LOG_PROB, LABELS, way="lr", sample_weight=np.zeros(3))
    with pytest.raises(ConfigError, match="way 'svm' needs an SVM"):
        fit_fusion(LOG_PROB, LABELS, way="svm")


def test_constant_input_does_no_harm():
    log_prob = LOG_PROB.copy()
    log_prob[:, 2] = np.log(0.25)
    fusion = fit_fusion(log_prob, LABELS, way="lr")
    assert torch.isfinite(fusion.logits(torch.from_numpy(log_prob))).all()


def test_svm_of_the_paper_is_kept_beside_the_mean():
    log_prob, labels = member_outputs(100)
    svm = fit_svm(np.exp(log_prob).reshape(-1, 12), labels)
    fusion = Fusion(svm=svm, mode="paper")
    assert fusion.pairwise(torch.from_numpy(log_prob)).shape == (100, 6)
