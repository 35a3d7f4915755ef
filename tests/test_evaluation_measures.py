"""Measures against numbers worked out by hand or by another program (scikit-learn, scipy)."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from dgl_broker.errors import ConfigError
from dgl_broker.evaluation import mixes
from dgl_broker.evaluation.intervals import bootstrap, clopper_pearson, paired_bootstrap, poisson, wilson
from dgl_broker.evaluation.measures import (
    class_measures,
    confusion,
    effective_number,
    purity,
    purity_at_prevalence,
    reliability,
    roc,
    threshold_at_fpr,
    tpr_at_fpr,
)


def test_threshold_lets_just_the_share_pass():
    score = np.arange(100.0)
    t = threshold_at_fpr(score, np.ones(100), 0.05)
    # 5 of 100: scores 95 to 99 pass, 94 does not.
    assert 94 < t <= 95 and (score >= t).sum() == 5


def test_ties_pass_together_or_not_at_all():
    score = np.array([1.0, 1.0, 1.0, 0.0])
    assert threshold_at_fpr(score, np.ones(4), 0.5) > 1.0
    assert threshold_at_fpr(score, np.ones(4), 0.75) <= 1.0


def test_weights_make_the_rate():
    # Negatives 3 and 2 carry 0.01 and 0.99 of the mix: at a rate of 1e-2 the first passes, the second does not.
    score, weight = np.array([3.0, 2.0, 2.5]), np.array([0.01, 0.99, 1.0])
    found = tpr_at_fpr(score, np.array([False, False, True]), 0.01, weight)
    assert 2 < found.threshold <= 2.5 and found.n_false == 1 and found.tpr == 1.0 and found.fpr == pytest.approx(0.01)


def test_a_rate_below_three_over_n_is_no_measurement():
    score = np.random.default_rng(0).normal(size=400)
    positive = np.arange(400) < 100
    assert tpr_at_fpr(score, positive, 0.01).measurable  # 3 / 300
    assert not tpr_at_fpr(score, positive, 0.0099).measurable


def test_roc_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    positive = rng.random(3000) < 0.3
    score = rng.normal(size=3000) + positive
    fpr, tpr, _ = metrics.roc_curve(positive, score, drop_intermediate=False)
    for rate in (0.01, 0.1, 0.5):
        want = tpr[fpr <= rate].max()
        assert tpr_at_fpr(score, positive, rate).tpr == pytest.approx(want)
    curve = roc(score, positive)
    for rate, value in zip(curve["fpr"], curve["tpr"]):
        assert value == pytest.approx(tpr[fpr <= rate * (1 + 1e-12)].max())
    assert curve["fpr"][0] == pytest.approx(3 / (~positive).sum())


def test_effective_number_of_equal_and_of_lopsided_weights():
    assert effective_number(np.full(50, 0.2)) == pytest.approx(50)
    # (1 + 9 * 0.1)^2 / (1 + 9 * 0.01) = 3.61 / 1.09
    assert effective_number([1.0] + [0.1] * 9) == pytest.approx(3.61 / 1.09)


def test_reliability_by_hand():
    # Two bins of two: means 0.15 and 0.85, shares 0.5 and 1: ECE = 0.5 * 0.35 + 0.5 * 0.15.
    found = reliability([0.1, 0.2, 0.8, 0.9], [0, 1, 1, 1], n_bins=2)
    assert [b["share"] for b in found["bins"]] == [0.5, 1.0]
    assert found["ece"] == pytest.approx(0.25)


def test_reliability_of_true_probabilities_is_small_and_weights_count():
    rng = np.random.default_rng(2)
    p = rng.random(60000)
    y = rng.random(60000) < p
    # 15 bins of 4,000: each off by some 0.4 / sqrt(4000).
    assert reliability(p, y)["ece"] < 0.01
    twice = reliability(p[:1000], y[:1000], np.r_[np.full(500, 2.0), np.zeros(500)])
    assert twice["ece"] == pytest.approx(reliability(p[:500], y[:500])["ece"])
    assert sum(b["weight"] for b in twice["bins"]) == pytest.approx(1)


def test_confusion_and_class_measures_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    label, called = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    counts = confusion(label, called)
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(label, called))
    want = metrics.precision_recall_fscore_support(label, called)
    got = class_measures(counts)
    for c in range(4):
        values = [got[c][name] for name in ("precision", "recall", "f1", "support")]
        np.testing.assert_allclose(values, [w[c] for w in want])


def test_a_class_never_called_has_no_precision():
    got = class_measures(np.array([[2.0, 0.0], [1.0, 0.0]]))
    assert got[1]["precision"] is None and got[1]["recall"] == 0 and got[1]["f1"] == 0


def test_purity_of_the_reference_table():
    # reference/science.md: 88 lensed SNe a year, completeness 0.6, ten false positives a night: 1.4 %; one: 12.6 %.
    lensed = 88 / 365.25
    found = purity(lambda fpr: 0.6, lensed, 1e5, 10 + 0.6 * lensed)
    assert found["purity"] == pytest.approx(0.0143, abs=2e-4) and found["fpr"] == pytest.approx(1e-4)
    assert purity(lambda fpr: 0.6, lensed, 1e5, 1 + 0.6 * lensed)["purity"] == pytest.approx(0.126, abs=1e-3)


def test_clopper_pearson_of_none_in_thirty_thousand_bounds_1e_4():
    # The rule of three: 3 / n at 95 % one-sided, 3.69 / n two-sided.
    assert clopper_pearson(0, 30000)[1] == pytest.approx(3.69 / 30000, rel=1e-3)
    want = stats.binomtest(7, 50).proportion_ci(method="exact")
    assert clopper_pearson(7, 50) == pytest.approx((want.low, want.high))
    assert clopper_pearson(0, 0) == (0, 1) and clopper_pearson(5, 5)[1] == 1


def test_wilson_is_that_of_scipy():
    want = stats.binomtest(7, 50).proportion_ci(method="wilson")
    assert wilson(7, 50) == pytest.approx((want.low, want.high))


def test_bootstrap_of_a_mean_is_as_wide_as_its_standard_error():
    x = np.random.default_rng(4).normal(size=400)
    lo, hi = bootstrap(lambda i: x[i].mean(), [np.arange(400)], n_draws=2000)
    assert hi - lo == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.1)


def test_paired_bootstrap_sees_what_two_intervals_would_hide():
    rng = np.random.default_rng(5)
    hard = rng.normal(size=2000)
    a, b = (hard + 0.01 * rng.normal(size=2000) > 0), (hard + 0.02 > 0)
    diff, lo, hi, share = paired_bootstrap(lambda i: a[i].mean(), lambda i: b[i].mean(), [np.arange(2000)], n_draws=400)
    assert diff == pytest.approx(b.mean() - a.mean())
    assert hi - lo < 0.02 < 2 * 1.96 * 0.5 / np.sqrt(2000) and 0 <= share <= 1


def test_hard_mix_has_every_kind_alike_and_easy_ones_not_at_all():
    kind = np.array(["sn_ia_lrg"] * 3 + ["agn"] + ["variable_star"] * 6 + ["lensed_sn_ia"])
    positive = kind == "lensed_sn_ia"
    w = mixes.weights("hard", "lsst", kind, positive)
    np.testing.assert_allclose(w, [1 / 6] * 3 + [1 / 2] + [0] * 6 + [1])


def test_stream_mix_follows_the_rates_of_all_objects_of_a_kind():
    # Of ten AGN two are judged: they stand for two tenths of the rate; all four SNe are judged.
    rate = mixes.rates("lsst")
    kind = np.array(["agn"] * 2 + ["sn_ia_host"] * 4)
    everyone = np.array(["agn"] * 10 + ["sn_ia_host"] * 4)
    w = mixes.weights("stream", "lsst", kind, np.zeros(6, bool), everyone)
    a, s = 0.2 * rate["agn"], rate["sn_ia_host"]
    assert w[:2].sum() == pytest.approx(a / (a + s)) and w[2:].sum() == pytest.approx(s / (a + s))


def test_every_kind_of_negative_has_a_rate_with_its_source():
    from dgl_broker.sim.system import CLASS_OF_KIND

    negatives = {k for k, label in CLASS_OF_KIND.items() if label in ("no_lens", "lens")}
    for survey in ("lsst", "ztf"):
        table = mixes.sourced_rates(survey)
        assert set(table) == negatives
        assert all(entry["source"] and entry["rate"] > 0 for entry in table.values())
    assert set(mixes.tables()["hard"]) <= negatives
    assert mixes.missing_kinds("hard", "lsst", ["agn", "sn_ia_lrg"])
    with pytest.raises(ConfigError):
        mixes.rates("des")


def test_counts_have_the_exact_interval_of_poisson():
    # 95 %: k = 0 by hand (-ln 0.025), k = 10 from R's poisson.test; 84.13 %: Table 1 of Gehrels 1986 (doi:10.1086/164079).
    assert poisson(0) == (0.0, pytest.approx(-np.log(0.025)))
    assert poisson(10) == (pytest.approx(4.795389, abs=1e-6), pytest.approx(18.390356, abs=1e-6))
    lo, hi = poisson(3, level=2 * 0.8413 - 1)
    assert lo == pytest.approx(1.367, abs=2e-3) and hi == pytest.approx(5.918, abs=2e-3)


def test_purity_is_bayes_rule():
    # 1 in 1000 is true, 0.5 of these pass and 0.001 of the others: 0.0005 against 0.000999.
    assert purity_at_prevalence(0.5, 1e-3, 1e-3) == pytest.approx(0.0005 / (0.0005 + 0.000999))
    assert purity_at_prevalence(0.5, 0.0, 1e-6) == 1.0 and purity_at_prevalence(0.0, 0.0, 1e-6) is None
