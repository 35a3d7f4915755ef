"""Objects as the unit: who is judged where, told by hand on a table of a few rows."""

import numpy as np
import pytest
from made_up import labels

from dgl_broker.evaluation import checks, mixes
from dgl_broker.evaluation.objects import Objects, subset_masks
from dgl_broker.evaluation.operating import bootstrap_tpr, false_positives, in_mix, tpr_table
from dgl_broker.evaluation.scoring import Scored


def table_of(rows):
    """Label columns from (object, system, class, kind, k, days, precut)."""
    names = ("object_id", "system", "class", "kind", "n_detections", "days_since_first", "precut")
    columns = {n: np.array(v) for n, v in zip(names, zip(*rows))}
    n = len(rows)
    filled = {"seed": np.ones(n, int), "alert_id": np.arange(n), "separation_arcsec": np.full(n, np.nan),
              "n_images": np.ones(n, int), "host_mag": np.full(n, 20.0)}  # fmt: skip
    return {**filled, **columns}


ROWS = [
    ("a", 1, 2, "lensed_sn_ia", 1, 0.0, 1),
    ("a", 1, 2, "lensed_sn_ia", 2, 4.0, 1),
    ("a", 1, 2, "lensed_sn_ia", 3, 9.0, 1),
    ("b", 1, 2, "lensed_sn_ia", 1, 0.0, 1),
    ("b", 1, 2, "lensed_sn_ia", 2, 6.0, 1),
    ("c", 2, 0, "agn", 1, 0.0, 0),
    ("c", 2, 0, "agn", 2, 2.0, 1),
    ("d", 3, 1, "sn_ia_in_lens", 1, 0.0, 1),
]
SCORE = np.array([0.1, 3.0, 4.0, 0.5, 1.0, 0.2, 2.0, 0.3])


def test_an_object_enters_k_only_if_it_has_a_kth_detection():
    objects = Objects(table_of(ROWS), SCORE)
    assert sorted(objects.at_detection(1).row.tolist()) == [0, 3, 5, 7]
    assert sorted(objects.at_detection(2).row.tolist()) == [1, 4, 6]
    assert objects.at_detection(3).row.tolist() == [2] and len(objects.at_detection(4)) == 0


def test_by_days_each_object_is_judged_at_its_latest_alert_until_then():
    objects = Objects(table_of(ROWS), SCORE)
    assert sorted(objects.at_days(5).row.tolist()) == [1, 3, 6, 7]
    assert sorted(objects.at_days(100).row.tolist()) == [2, 4, 6, 7]


def test_images_of_one_lens_are_one_system_with_the_best_of_its_scores():
    objects = Objects(table_of(ROWS), SCORE)
    systems = objects.systems(objects.at_detection(2))
    assert sorted(systems.row.tolist()) == [1, 6]


def test_a_system_does_not_pass_by_an_object_that_the_pre_cuts_refuse():
    rows = [list(r) for r in ROWS]
    rows[1][-1] = 0  # the better image's second alert fails the pre-cuts
    objects = Objects(table_of(rows), SCORE)
    judged, weight = in_mix("stream", "lsst", objects, objects.at_detection(2), unit="systems")
    assert sorted(judged.row.tolist()) == [4, 6] and weight.tolist() == [1, 1]


def test_the_same_object_number_in_two_runs_is_two_objects():
    table = table_of(ROWS)
    table["seed"] = np.array([1, 1, 1, 2, 2, 1, 1, 1])
    table["object_id"] = np.array(["a", "a", "a", "a", "a", "c", "c", "d"])
    assert len(Objects(table, SCORE).at_detection(1)) == 4


def test_stream_leaves_out_what_the_pre_cuts_refuse_and_hard_does_not():
    objects = Objects(table_of(ROWS), SCORE)
    judged, weight = in_mix("stream", "lsst", objects, objects.at_detection(1))
    assert sorted(judged.row.tolist()) == [0, 3, 7] and weight[judged.row == 7] == pytest.approx(1)
    judged, weight = in_mix("hard", "lsst", objects, objects.at_detection(1))
    assert sorted(judged.row.tolist()) == [0, 3, 5, 7]
    assert weight[~judged.positive].tolist() == [0.5, 0.5]


def made(n_objects=1400, shift=2.0):
    columns = labels(n_objects, alerts=1)
    rng = np.random.default_rng(0)
    positive = columns["class"] >= 2
    score = rng.normal(size=len(positive)) + shift * positive
    return columns, score, positive


def test_tpr_table_agrees_with_counting():
    columns, score, positive = made()
    objects = Objects(columns, score)
    judged, weight = in_mix("hard", "lsst", objects, objects.at_detection(1))
    masks = subset_masks(columns, judged.row, judged.positive)
    found = tpr_table(judged, weight, masks, (1e-1, 1e-2, 1e-4), n_draws=50)
    row = found["rates"][0]
    # sn_ia_lrg, sn_ia_in_lens, lensed_quasar, agn: 200 each of 1,400; sn_ia_host is not in the mix.
    assert found["n_negative"] == 800 and found["n_positive"] == 400 and found["n_effective"] == pytest.approx(800)
    negative = np.sort(score[~positive & (columns["kind"] != "sn_ia_host")])[::-1]
    assert row["n_false"] == 80 and negative[80] < row["threshold"] <= negative[79]
    want = (score[positive] >= row["threshold"]).mean()
    assert row["subsets"]["all"]["tpr"] == pytest.approx(want)
    ia, cc = row["subsets"]["lensed_sn_ia"], row["subsets"]["lensed_sn_cc"]
    assert ia["n_true"] + cc["n_true"] == row["subsets"]["all"]["n_true"] and ia["n"] + cc["n"] == 400
    lo, hi = row["subsets"]["all"]["bootstrap"]
    assert lo < want < hi
    assert found["rates"][2] == {"fpr": 1e-4, "measurable": False}


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    # Normal scores: at a rate of 0.1 the threshold is 1.2816, completeness of a shift of 2 is 1 - Phi(1.2816 - 2) = 0.7638.
    inside = 0
    for i in range(60):
        rng = np.random.default_rng(i)
        columns, _, positive = made(420)
        objects = Objects(columns, rng.normal(size=len(positive)) + 2 * positive)
        judged, weight = in_mix("hard", "lsst", objects, objects.at_detection(1))
        lo, hi = bootstrap_tpr(judged, weight, {"all": judged.positive}, [0.1], 100, seed=i)[0.1, "all"]
        inside += lo <= 0.7638 <= hi
    # 95 % of 60 is 57; below 50 has a chance of some 1e-4.
    assert inside >= 50


def test_bootstrap_knows_ties():
    columns, score, _ = made(280)
    objects = Objects(columns, np.zeros(len(score)))
    judged, weight = in_mix("hard", "lsst", objects, objects.at_detection(1))
    assert bootstrap_tpr(judged, weight, {"all": judged.positive}, [0.1], 20)[0.1, "all"] == [0.0, 0.0]


def test_false_positives_are_counted_by_kind_and_few_are_no_rate():
    columns, score, _ = made()
    objects = Objects(columns, score)
    judged = objects.at_detection(1)
    found = false_positives(judged, np.sort(score[columns["kind"] == "agn"])[-2])
    assert found["agn"]["n_false"] == 2 and found["agn"]["rate"] is None and found["agn"]["n"] == 200
    assert "lensed_sn_ia" not in found
    assert false_positives(judged, -9.0)["agn"]["rate"] == 1.0


def scored(columns, score, p_value=None, stratum=None):
    p = 1 / (1 + np.exp(-score))
    probabilities = np.stack([(1 - p) / 2, (1 - p) / 2, p / 2, p / 2], 1)
    floor = None if p_value is None else np.full(len(score), 1e-3)
    return Scored(probabilities, score, {}, probabilities.argmax(1), None, p_value, floor, stratum)


def test_calibration_of_true_probabilities_and_of_boasting_ones():
    rng = np.random.default_rng(1)
    columns = labels(7000, alerts=1)
    n = len(columns["class"])
    mix = {str(k): 1 / 7 for k in np.unique(columns["kind"])}
    # p is the true chance in a mix of 2 positive kinds of 7: score drawn, class given by it through the labels' order.
    positive = columns["class"] >= 2
    score = rng.normal(size=n) + 2 * positive - 1
    prior = np.log(2 / 5)
    right = scored(columns, 2 * score + prior)  # log ratio of N(1, 1) to N(-1, 1) is 2 x
    objects = Objects(columns, score)
    assert checks.calibration(objects, right, mix)["ece"] < 0.02
    assert checks.calibration(objects, scored(columns, 6 * score), mix)["ece"] > 0.04


def test_conformal_coverage_of_uniform_p_values():
    rng = np.random.default_rng(2)
    columns = labels(5000, alerts=2)
    n = len(columns["class"])
    strata = np.where(columns["n_detections"] == 1, "n_detections<2", "n_detections>=2").astype(object)
    score = rng.normal(size=n)
    objects = Objects(columns, score)
    negatives = np.flatnonzero(columns["class"] < 2)
    found = checks.conformal(objects, scored(columns, score, rng.random(n), strata), negatives, np.ones(len(negatives)))
    assert [row["stratum"] for row in found] == ["all", "n_detections<2", "n_detections>=2"]
    for row in found[1:]:
        assert row["n"] == len(np.unique(objects.object[negatives]))
        for level in checks.LEVELS:
            lo, hi = row["levels"][str(level)]["interval"]
            assert lo - 0.005 <= level <= hi + 0.005


def test_stability_counts_crossings_and_what_is_lost():
    objects = Objects(table_of(ROWS), SCORE)
    found = checks.stability(objects, 2.5)
    # a: 0.1, 3, 4 crosses once and stays; b: never. Steps of class Ia: 2.9, 1, 0.5.
    assert found["lensed_sn_ia"]["n"] == 3 and found["lensed_sn_ia"]["median_change"] == pytest.approx(1.0)
    assert found["lensed_sn_ia"]["flips_per_object"] == pytest.approx(0.5) and found["lensed_sn_ia"]["lost"] == 0
    assert found["no_lens"]["median_change"] == pytest.approx(1.8) and found["no_lens"]["lost"] is None


def test_subsets_hold_positives_only_and_unknown_is_in_none():
    columns = table_of(ROWS)
    columns["separation_arcsec"] = np.array([0.7, 0.7, 0.7, 1.2, 1.2, 2.0, 2.0, np.nan])
    rows = np.arange(8)
    masks = subset_masks(columns, rows, columns["class"] >= 2)
    assert masks["separation_above_0.5"].sum() == 5 and masks["separation_above_1.0"].sum() == 2
    assert masks["doubles"].sum() == 0 and masks["host_19.5_to_21"].sum() == 5


def test_confusion_has_shares_and_intervals():
    found = checks.confusion_table(np.array([0, 0, 1, 3]), np.array([0, 1, 1, 3]))
    assert found["accuracy"] == 0.75 and found["counts"][0] == [1, 1, 0, 0]
    assert found["share"][2] == [None] * 4 and found["share"][0][0] == 0.5
    assert found["accuracy_interval"][0] < 0.75 < found["accuracy_interval"][1]


def test_mix_without_any_hard_kind_has_no_weight():
    w = mixes.weights("hard", "lsst", np.array(["variable_star"]), np.array([False]))
    assert w.tolist() == [0.0]
