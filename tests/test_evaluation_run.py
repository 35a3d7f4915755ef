"""The whole evaluation of a small bundle on made-up arrays: what stands in the report is what counting gives."""

import json

import numpy as np
import pytest
from made_up import CARD, split, table

from dgl_broker.errors import ConfigError, GuardRefused
from dgl_broker.evaluation.ablation import Changes
from dgl_broker.evaluation.compare import align, compare_reports
from dgl_broker.evaluation.goals import headline
from dgl_broker.evaluation.paper import among_lensed, compare_accuracy, evaluate_paper
from dgl_broker.evaluation.report import purity_table
from dgl_broker.evaluation.run import evaluate, plain, write_report
from dgl_broker.evaluation.scoring import Scored
from dgl_broker.evaluation.text import summary
from dgl_broker.training.controls import matched, offset_arcsec, template_control
from dgl_broker.training.make import make_bundle_from
from dgl_broker.training.refresh import refresh
from dgl_broker.training.shards import Table

PRESET = {
    "card": {**{k: CARD[k] for k in ("kind", "survey", "input", "network")}, "id": "tiny", "trained": True, "limits": []},
    "training": {"epochs": 2, "batch": 64, "learning_rate": 3e-3, "curve_rows": 100},
    "stack": {"svm_rows": 200, "svm": {"kernel": "rbf", "C": 1.0}, "min_null": 50},
}
FRACTIONS = {"train": 0.45, "validation": 0.1, "stack": 0.15, "calibration": 0.15, "null": 0.15}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    data = table(700, fractions=FRACTIONS)
    data = {name: split(data, name) for name in FRACTIONS}
    bundle = make_bundle_from(PRESET, None, folder / "tiny", device="cpu", tables=data, log=lambda line: None)
    test = table(2800, seed=9, fractions={"test": 1.0}, alerts=3)
    report, scored = evaluate(
        bundle, bundle.card, test, calibration=data["calibration"], n_draws=20, n_garbage=0, folders=["made up"]
    )
    return folder, bundle, data, test, report, scored


def test_the_report_is_json_without_nan_and_has_every_part(made, tmp_path):
    _, _, _, test, report, scored = made
    write_report(tmp_path, report, scored, test.labels)
    read = json.loads((tmp_path / "report.json").read_text())
    alerts = read["alerts"]
    parts = {
        "census",
        "by_detection",
        "by_days",
        "by_system",
        "contaminants",
        "purity",
        "confusion",
        "calibration",
        "conformal",
    }
    assert parts <= set(alerts) and {"fusions", "ablation", "goals", "bundle"} <= set(read)
    assert set(alerts["by_detection"]) == {"hard", "stream"} and len(alerts["by_detection"]["hard"]) == 10
    text = (tmp_path / "summary.txt").read_text()
    assert "hard mix" in text and "stream mix" in text and summary(read) + "\n" == text


def test_completeness_in_the_report_is_that_of_counting(made):
    _, _, _, test, report, scored = made
    row = report["alerts"]["by_detection"]["hard"][2]
    rate = row["rates"][0]
    here = test.labels["n_detections"] == 3
    hard = np.isin(test.labels["kind"], ["agn", "sn_ia_lrg", "sn_ia_in_lens", "lensed_quasar"])
    positive = test.labels["class"] >= 2
    assert row["at"] == 3 and rate["fpr"] == 1e-2 and row["n_negative"] == (here & hard).sum() == 1600
    passed = scored.log_odds >= rate["threshold"]
    assert rate["n_false"] == (passed & here & hard).sum() <= 16
    assert rate["subsets"]["all"]["n_true"] == (passed & here & positive).sum()
    # Three over 1,600: 1e-3 is below it and has no number.
    assert [r["measurable"] for r in row["rates"]] == [True, False, False]


def test_no_number_stands_where_no_object_has_that_many_detections(made):
    report = made[4]
    assert report["alerts"]["by_detection"]["hard"][6]["rates"] == [{"fpr": f, "measurable": False} for f in (1e-2, 1e-3, 1e-4)]
    goals = {g["goal"]: g for g in report["goals"]}
    assert goals["TPR at FPR 1e-2 of the hard mix at detection 7"]["met"] is None


def test_confusion_counts_objects_once(made):
    found = made[4]["alerts"]["confusion"]["3"]
    assert found["n"] == 2800 and sum(map(sum, found["counts"])) == 2800


def test_false_positive_rates_stand_for_each_kind(made):
    rows = [r for r in made[4]["alerts"]["contaminants"] if r["mix"] == "hard" and r["at"] == 3]
    assert set(rows[0]["kinds"]) == {"agn", "sn_ia_host", "sn_ia_lrg", "sn_ia_in_lens", "lensed_quasar"}
    assert all(kind["n"] == 400 for kind in rows[0]["kinds"].values())


def test_ways_to_fuse_and_single_networks_stand_side_by_side(made):
    fusions = made[4]["fusions"]
    assert set(fusions) == {"svm+lr", "lr", "svm", "mean_log_prob", "svm_votes", "lonet", "glonet", "munet"}


def test_the_headline_names_its_data_and_has_intervals(made):
    found = headline(made[4])
    assert found["data"] == ["made up"] and found["ece"] == made[4]["alerts"]["calibration"]["ece"]
    assert all("binomial" in row for row in found["tpr"]) and json.dumps(plain(found))


def test_a_bundle_compared_with_itself_differs_by_nothing(made, tmp_path):
    _, bundle, _, test, report, scored = made
    write_report(tmp_path, report, scored, test.labels)
    found = compare_reports(tmp_path, scored, test.labels, bundle.card)
    assert [row["at"] for row in found["tpr"]] == [3, 3]
    assert all(row["difference"] == 0 and row["interval"] == [0, 0] for row in found["tpr"])
    with pytest.raises(ConfigError, match="not of the same alerts"):
        align({k: v[:-1] for k, v in test.labels.items()}, {k: test.labels[k] for k in ("seed", "alert_id")})


def test_rows_are_aligned_by_alert_not_by_place(made):
    test = made[3]
    order = np.random.default_rng(0).permutation(len(test))
    other = {k: test.labels[k][order] for k in ("seed", "alert_id")}
    np.testing.assert_array_equal(other["alert_id"][align(test.labels, other)], test.labels["alert_id"])


def test_a_refresh_that_is_worse_is_refused_and_one_that_is_not_is_kept(made, tmp_path):
    folder, bundle, data, _, _, _ = made
    test = table(2800, seed=9, fractions={"test": 1.0}, alerts=3)
    spoiled = {name: t.select(np.arange(len(t))) for name, t in data.items()}
    rng = np.random.default_rng(0)
    for t in spoiled.values():  # labels drawn at random: nothing can be learnt, and what was known is lost
        order = rng.permutation(len(t))
        t.labels["class"], t.labels["kind"] = t.labels["class"][order], t.labels["kind"][order]
    preset = {**PRESET, "training": {**PRESET["training"], "learning_rate": 0.05, "epochs": 3}}
    quiet = {"preset": preset, "device": "cpu", "log": lambda line: None}
    with pytest.raises(GuardRefused, match="worse"):
        refresh(folder / "tiny", None, tmp_path / "bad", tables={**spoiled, "test": test}, **quiet)
    assert not (tmp_path / "bad").exists() and (tmp_path / "bad.rejected" / "card.json").is_file()
    kept = refresh(folder / "tiny", None, tmp_path / "bad", tables={**spoiled, "test": test}, force=True, **quiet)
    assert kept.worse and (tmp_path / "bad" / "card.json").is_file()
    quiet["preset"] = PRESET
    good = refresh(folder / "tiny", None, tmp_path / "good", tables={**data, "test": test}, **quiet)
    assert not good.worse and "not worse" in good.text()
    card = json.loads((tmp_path / "good" / "card.json").read_text())
    assert card["refreshed_from"] == bundle.sha256
    assert card["training"]["stages"].keys() == {"lonet", "munet", "glonet"}


def test_inputs_are_taken_away_and_nothing_else(made):
    _, bundle, _, test, _, _ = made
    images, curves, contexts = test.rows(np.arange(50))
    changes = Changes(bundle.card["input"]).all()
    assert changes.pop("complete") is None
    before = [a.copy() for a in (images, curves, contexts)]
    for change in changes.values():
        change(images, curves, contexts)
        assert all((a == b).all() for a, b in zip((images, curves, contexts), before))
    only = changes["image_only"](images, curves, contexts)
    assert (only[0] == images).all() and (only[1][:, :-1] == 0).all() and (only[2] == 0).all()
    assert (changes["light_curve_only"](images, curves, contexts)[0] == 0).all()
    bare = changes["no_template"](images, curves, contexts)[0]
    assert (bare[:, 0] == 0).all() and (bare[:, 1] == images[:, 1]).all()
    host = changes["no_host_facts"](images, curves, contexts)[2]
    assert (host[:, 0] == contexts[:, 0]).all() and (host[:, 1:] == 0).all()


def test_one_band_alone_keeps_its_points_in_order_with_their_own_gaps():
    features = CARD["input"]["light_curve"]["features"]
    curve = np.zeros((1, 5, len(features)), np.float32)
    for row, (age, band) in enumerate(((20, "g"), (15, "r"), (9, "g"), (0, "g")), start=1):
        for name, value in (("mask", 1), ("age", np.log1p(age) / 3), ("gap", 0.7), (f"band_{band}", 1)):
            curve[0, row, features.index(name)] = value
    out = Changes(CARD["input"]).trigger_band_only(np.zeros((1, 2, 12, 12)), curve, np.ones((1, 3), np.float32))
    assert out[1][0, :, 0].tolist() == [0, 0, 1, 1, 1] and out[1][0, :, features.index("band_r")].sum() == 0
    np.testing.assert_allclose(out[1][0, 2:, 2], [0, np.log1p(11) / 3, np.log1p(9) / 3], atol=1e-6)


def test_purity_needs_a_rate_that_the_sample_can_measure():
    roc = {"fpr": np.geomspace(1e-3, 1, 50).tolist(), "tpr": [0.6] * 50, "threshold": [0.0] * 50}
    rows = {(r["negatives_per_night"], r["budget"]): r for r in purity_table({"roc": roc}, "lsst")}
    # 1 of 1e5 negatives is a rate of 1e-5, far below what was measured; 100 of 1e4 is 1e-2.
    assert rows[100000, 1]["purity"] is None
    # 88 a year, completeness 0.6: 0.1446 a night of 100.
    assert rows[10000, 100]["purity"] == pytest.approx(0.6 * 88 / 365.25 / 100, rel=1e-3)


def paper_scored(label, rng, skill):
    logits = rng.normal(size=(len(label), 4))
    logits[np.arange(len(label)), label] += skill
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Scored(p, np.log(p[:, 2:].sum(1) / p[:, :2].sum(1)), {}, p.argmax(1))


def test_paper_sets_have_accuracy_with_its_interval_and_the_lensed_classes_apart():
    rng = np.random.default_rng(0)
    label = np.arange(8000) % 4
    found = evaluate_paper(paper_scored(label, rng, 2.0), {"class": label})
    lo, hi = found["confusion"]["accuracy_interval"]
    assert lo < found["confusion"]["accuracy"] < hi and hi - lo < 0.025
    blind = among_lensed(paper_scored(label, rng, 0.0).probabilities, label)
    assert blind["interval"][0] < 1 / 3 < blind["interval"][1] and blind["chance"] == pytest.approx(1 / 3)
    assert among_lensed(paper_scored(label, rng, 2.0).probabilities, label)["interval"][0] > 0.5


def test_accuracies_are_compared_by_systems():
    label = np.zeros(800, int)
    a = np.where(np.arange(800) < 400, 0, 1)
    b = np.where(np.arange(800) < 480, 0, 1)
    alone = compare_accuracy(label, a, b, np.arange(800), n_draws=400)
    copies = compare_accuracy(label, a, b, np.arange(800) // 8, n_draws=400)
    assert alone["difference"] == copies["difference"] == pytest.approx(0.1)
    # Eight copies of one system are one: the interval is sqrt(8) as wide.
    width = [c["interval"][1] - c["interval"][0] for c in (alone, copies)]
    assert width[1] / width[0] == pytest.approx(np.sqrt(8), rel=0.25)


def control_tables(template_tells):
    kinds = ("sn_ia_in_lens", "sn_outside_images", "lensed_sn_ia", "lensed_sn_ia", "lensed_sn_cc", "lensed_sn_cc")
    data = table(1500, fractions={"train": 0.5, "validation": 0.1, "test": 0.4}, kinds=kinds, contrast=1.0)
    rng = np.random.default_rng(1)
    for name, middle in (("z_lens", 0.5), ("z_source", 1.0), ("lens_mag", 20.0), ("source_mag", 23.0)):
        data.labels[name] = (middle + 0.2 * rng.normal(size=len(data))).astype(np.float32)
    if template_tells:
        images = data._shards[0]["images"]
        images[:, 0, 5:7, 5:7] += 3 * (data.labels["class"] == 3)[:, None, None]
    return {name: split(data, name) for name in ("train", "validation", "test")}


@pytest.mark.parametrize("tells", [False, True])
def test_the_template_control_sees_what_the_template_tells_and_nothing_else(tells, tmp_path):
    card = {**CARD, "trained": True}
    # The difference and the light curve tell these classes apart plainly (see made_up): they must not be seen.
    found = template_control(control_tables(tells), card, tmp_path, settings={"epochs": 4, "batch": 64})
    rows = found["pairs"]
    assert rows["lens against lensed_sn_ia"]["accuracy"] == pytest.approx(0.5, abs=0.12)
    if tells:
        assert rows["lens against lensed_sn_cc"]["accuracy"] > 0.8 and not rows["lens against lensed_sn_cc"]["chance_inside"]
    else:
        assert rows["lensed_sn_ia against lensed_sn_cc"]["accuracy"] == pytest.approx(0.5, abs=0.12)


def test_the_place_of_the_trigger_is_its_distance_from_the_brightest_light():
    card = {**CARD, "trained": True}
    planes = card["input"]["image"]["planes"]
    row, column = np.mgrid[:9, :9]
    places = [(4, 4), (4, 7), (2, 4), (2, 0)]
    images = np.zeros((4, len(planes), 9, 9), np.float32)
    for image, (r, c) in zip(images, places):
        image[planes.index("template")] = np.exp(-((row - r) ** 2 + (column - c) ** 2) / 4)
    rows = Table.of_arrays(images, np.zeros((4, 1, 1), np.float32), None, {"class": np.zeros(4)})
    assert offset_arcsec(rows, planes, 0.2) == pytest.approx(0.2 * np.hypot([0, 0, 2, 2], [0, 3, 0, 4]))


def test_matched_pairs_agree_within_the_calipers_and_use_each_row_once():
    rng = np.random.default_rng(2)
    labels = {"x": rng.random(300), "y": rng.random(300)}
    labels["x"][5] = np.nan
    pairs = matched(labels, np.arange(150), np.arange(150, 300), {"x": 0.05, "y": 0.1})
    assert len(pairs) > 30 and len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    assert (np.abs(labels["x"][pairs[:, 0]] - labels["x"][pairs[:, 1]]) <= 0.05).all()
    assert (np.abs(labels["y"][pairs[:, 0]] - labels["y"][pairs[:, 1]]) <= 0.1).all() and 5 not in pairs
