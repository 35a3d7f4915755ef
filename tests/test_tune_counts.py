"""What passes a threshold, counted in order of the score, against the plain count of every alert."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tune_tables import BUNDLE, columns, write_all, write_labels, write_table

from dgl_broker.errors import ConfigError
from dgl_broker.selection import load_filter, parse_criteria
from dgl_broker.selection.guard import Replayed
from dgl_broker.tune.alerts import LENSED_IA, read_alerts
from dgl_broker.tune.cards import nearest
from dgl_broker.tune.changes import changes
from dgl_broker.tune.costs import precut_costs, refusals
from dgl_broker.tune.counts import Selected
from dgl_broker.tune.curves import curves
from dgl_broker.tune.night import night_objects
from dgl_broker.tune.points import threshold_of
from dgl_broker.tune.precuts import Judge
from dgl_broker.tune.ranked import Ranked
from dgl_broker.tune.references import Injections, Reference

THRESHOLDS = st.floats(-12.0, 12.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(alerts, the filter, alerts in order with its pre-cuts)."""
    table, labels, path, made = write_all(tmp_path_factory.mktemp("made"), n_real=800, n_lensed=60, n_negative=40)
    alerts, filter_ = read_alerts([table], labels), load_filter(path)
    ranked = Ranked(alerts, alerts.bundles[BUNDLE].scores["log_odds"])
    return alerts, filter_, Selected(ranked, Judge(alerts).judge(filter_))


def passes(alerts, filter_, threshold, without=None):
    """Which alerts pass, one by one, as the running filter would judge them."""
    out = np.zeros(len(alerts), bool)
    for row in range(len(alerts)):
        facts = {name: column[row] for name, column in alerts.facts.items()}
        facts = {k: (v if isinstance(v, str) else None if v != v else float(v)) for k, v in facts.items()}
        if facts.get("is_positive") is not None:
            facts["is_positive"] = bool(facts["is_positive"])
        met = {name: m for name, m in filter_.precut(facts).met if name != without}
        out[row] = all(m is not False for m in met.values())
    return out & (alerts.bundles[BUNDLE].scores["log_odds"] >= threshold)


@settings(max_examples=15, deadline=None)
@given(threshold=THRESHOLDS)
def test_counts_are_those_of_the_guards_own_arrays(made, threshold):
    alerts, _, selected = made
    score, ok = alerts.bundles[BUNDLE].scores["log_odds"], selected.precuts.accepted
    nights = np.array(alerts.nights)[alerts.night]
    plain = Replayed(score[alerts.stream], ok[alerts.stream], nights[alerts.stream])
    names, counts = plain.candidates_per_night(threshold)
    ours = Reference(selected).candidates_per_night(threshold)
    assert list(ours[0]) == list(names) and list(ours[1]) == list(counts)
    injected = alerts.positive
    plain = Replayed(score[injected], ok[injected], alerts.object[injected])
    assert Injections(selected).completeness(threshold) == plain.completeness(threshold)


@settings(max_examples=5, deadline=None)
@given(threshold=THRESHOLDS)
def test_what_passes_is_what_the_running_filter_would_pass(made, threshold):
    alerts, filter_, selected = made
    expected = passes(alerts, filter_, threshold)
    assert sorted(selected.passing_rows(threshold).tolist()) == np.flatnonzero(expected).tolist()


def test_candidates_have_poissons_interval_for_as_many_things_as_they_are_worth(tmp_path):
    # One night; six alerts of one object and three of three others: (6+1+1+1)^2 / (36+1+1+1) = 81/39 independent things.
    made = columns(n_real=9, n_lensed=0, n_negative=0, nights=1)
    made["object_id"] = np.array(["a"] * 6 + ["b", "c", "d"])
    made["log_odds"][:] = 5.0
    for fact in ("reliability", "galactic_latitude_deg", "is_positive"):
        made[f"fact.{fact}"] = np.ones(9) if fact != "galactic_latitude_deg" else np.full(9, 50.0)
    alerts = read_alerts([write_table(tmp_path / "s.parquet", made)], sampled=0.5)
    ranked = Ranked(alerts, alerts.bundles[BUNDLE].scores["log_odds"])
    found = Selected(ranked, Judge(alerts).judge(load_filter(write_all(tmp_path)[2]))).candidates(4.0)
    worth = 81 / 39
    assert (found["mean"], found["worst"], found["objects_mean"], found["total"]) == (18.0, 18.0, 8.0, 9)
    assert found["lo"] == pytest.approx(stats.chi2.ppf(0.025, 2 * worth) / 2 * 9 / worth / 0.5)
    assert found["hi"] == pytest.approx(stats.chi2.ppf(0.975, 2 * (worth + 1)) / 2 * 9 / worth / 0.5)
    # None: at most 3.7 events at 97.5 %, so at most 3.7 in this one night of a sample of a half.
    nothing = Selected(ranked, Judge(alerts).judge(load_filter(tmp_path / "filters" / "bright.yaml"))).candidates(9.0)
    assert (nothing["mean"], nothing["lo"]) == (0.0, 0.0) and nothing["hi"] == pytest.approx(-np.log(0.025) / 0.5)


def test_completeness_by_class_and_detections_counts_objects(made):
    alerts, filter_, selected = made
    threshold = 3.0
    ok = passes(alerts, filter_, threshold)
    found = selected.completeness(threshold)
    assert (found["n"], found["found"]) == (60, len(set(alerts.object[ok & alerts.positive].tolist())))
    rows = {row["class"]: row for row in found["rows"]}
    ia = alerts.class_ == LENSED_IA
    assert rows["lensed SN Ia"]["n"] == len(set(alerts.object[ia].tolist()))
    # Alerts of a lensed object are its 1st, 5th and 9th detection, so the bins 1 and 5 to 9 have them.
    assert found["bins"] == ["1", "2", "3–4", "5–9", "10+"]
    first = alerts.facts["n_detections"] == 1
    by_hand = len(set(alerts.object[ok & ia & first].tolist()))
    assert [c["n"] for c in rows["lensed SN Ia"]["by_detections"]] == [
        rows["lensed SN Ia"]["n"],
        0,
        0,
        rows["lensed SN Ia"]["n"],
        0,
    ]
    assert rows["lensed SN Ia"]["by_detections"][0]["found"] == by_hand


def test_negatives_stream_and_purity(made):
    alerts, filter_, selected = made
    ok = passes(alerts, filter_, 1.0)
    negatives = selected.negatives(1.0)
    assert negatives["n"] == 40 and negatives["passing"] == len(set(alerts.object[ok & (alerts.class_ == 1)].tolist()))
    assert [k["kind"] for k in negatives["kinds"]] == ["agn"] and negatives["kinds"][0]["passing"] == negatives["passing"]
    real = int((ok & alerts.stream).sum())
    assert selected.stream(1.0)["passing"] == real
    tpr, fpr = (ok & alerts.positive).sum() / alerts.positive.sum(), real / alerts.stream.sum()
    purity = selected.purity(1.0, 1e-3)
    assert purity["value"] == pytest.approx(1e-3 * tpr / (1e-3 * tpr + 0.999 * fpr))
    assert purity["lo"] < purity["value"] < purity["hi"]
    none = selected.purity(9.0, 1e-3)
    assert none["value"] is None and none["hi"] == 1.0 and none["lo"] >= 0.0


def test_each_pre_cut_costs_what_passes_without_it_alone(made):
    alerts, filter_, selected = made
    costs = {c["criterion"]: c for c in precut_costs(selected, 1.0)}
    assert list(costs) == [c.name for c in filter_.criteria]
    with_all = passes(alerts, filter_, 1.0)
    found = set(alerts.object[with_all & alerts.positive].tolist())
    nights = len(set(alerts.night[alerts.stream].tolist()))
    for name, cost in costs.items():
        without = passes(alerts, filter_, 1.0, without=name)
        assert cost["lost"] == len(set(alerts.object[without & alerts.positive].tolist()) - found)
        assert cost["saved_per_night"] == pytest.approx((without & ~with_all & alerts.stream).sum() / nights)
    assert costs["reliability"]["lost"] > 0 and costs["survey"]["saved_per_night"] == 0.0


def test_objects_that_never_got_a_score_are_told_with_their_reason(tmp_path):
    made = columns(n_real=50, n_lensed=4, n_negative=0)
    lost = made["object_id"] == made["object_id"][50]
    made["log_odds"][lost] = np.nan
    made["status"] = np.where(lost, "refused", "scored")
    made["reason"] = np.where(lost, "no_cutouts", None)
    alerts = read_alerts([write_table(tmp_path / "s.parquet", made)], write_labels(tmp_path / "l.csv", made))
    ranked = Ranked(alerts, alerts.bundles[BUNDLE].scores["log_odds"])
    selected = Selected(ranked, Judge(alerts).judge(load_filter(write_all(tmp_path)[2])))
    assert refusals(selected) == [{"reason": "no_cutouts", "lost": 1}]
    assert selected.completeness(-50.0)["n"] == 4 and selected.completeness(-50.0)["found"] <= 3


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.02, 0.6))
def test_completeness_is_reached_with_the_highest_threshold(made, share):
    selected = made[2]
    threshold, _ = threshold_of(selected, "completeness", share)
    assert selected.completeness(threshold)["value"] >= share
    best = np.sort(selected.ranked.positives.best(selected.ok, selected.ranked.score))[::-1]
    needed = best[max(1, int(np.ceil(share * len(best) - 1e-9))) - 1]
    assert threshold <= needed and needed - threshold < 0.1


@settings(max_examples=20, deadline=None)
@given(limit=st.integers(0, 200))
def test_a_nightly_number_is_kept_in_the_worst_night_and_hardly_undercut(made, limit):
    selected = made[2]
    threshold, of = threshold_of(selected, "candidates_per_night", limit)
    assert selected.candidates(threshold)["worst"] <= limit and of == "5 nights"
    if selected.candidates(-100.0)["worst"] > limit:
        assert (
            selected.candidates(threshold - 0.1)["worst"] >= min(limit, 1)
            and selected.candidates(threshold - 3.0)["worst"] > limit
        )


def test_a_false_positive_rate_is_taken_where_it_can_be_shown(made):
    selected = made[2]
    threshold, of = threshold_of(selected, "fpr", 0.1)  # 4 of 40 known negatives: enough for 3
    assert of == "40 known negatives" and selected.negatives(threshold)["passing"] <= 4
    threshold, of = threshold_of(selected, "fpr", 0.01)  # not of 40 negatives, but of 920 real alerts
    assert of == "920 real alerts, taken for negatives" and selected.stream(threshold)["share"] <= 0.01
    with pytest.raises(ConfigError, match=r"can show none below 0.0033 \(3/n\)"):
        threshold_of(selected, "fpr", 1e-4)


@pytest.mark.parametrize(
    ("metric", "value", "says"),
    [
        ("completeness", 1.0, "at most 0.[0-9]+ can be reached, pre-cuts and refusals take the others"),
        ("completeness", 1.5, "expected 0 to 1"),
        ("fpr", float("nan"), "expected 0 to 1"),
        ("candidates_per_night", -1, "expected 0 or more"),
        ("accuracy", 0.9, "expected one of completeness, fpr, candidates_per_night"),
    ],
)
def test_operating_points_that_cannot_be_are_refused(made, metric, value, says):
    with pytest.raises(ConfigError, match=says):
        threshold_of(made[2], metric, value)


def test_thresholds_have_few_decimals(made):
    threshold, _ = threshold_of(made[2], "candidates_per_night", 5)
    assert len(f"{threshold:.12g}".partition(".")[2]) <= 4


def test_curves_are_the_counts_at_their_edges(made):
    selected = made[2]
    drawn = curves(selected)
    for at in (0, 40, 80, 120, 155):
        edge = drawn["edges"][at]
        counted = selected.candidates(edge)
        if at:
            assert drawn["mean"][at] == pytest.approx(counted["mean"]) and drawn["worst"][at] == counted["worst"]
            assert drawn["completeness"][at] == pytest.approx(selected.completeness(edge)["value"])
    assert sum(drawn["live"]) == int((selected.ok & selected.ranked.stream).sum())
    assert drawn["mean"] == sorted(drawn["mean"], reverse=True) and drawn["completeness"][-1] == 0.0


def test_changes_name_who_comes_and_who_goes(made):
    alerts, filter_, selected = made
    before, after = passes(alerts, filter_, 3.0), passes(alerts, filter_, 2.0)
    found = changes(selected, 3.0, selected, 2.0)
    assert found["entering"]["alerts"] == int((after & ~before & alerts.stream).sum())
    assert found["leaving"]["alerts"] == 0 and found["staying"] == int((before & alerts.stream).sum())
    new = set(alerts.object[after].tolist()) - set(alerts.object[before].tolist())
    assert {int(alerts.object[row]) for row in found["entering"]["rows"]} <= new
    assert len({int(alerts.object[row]) for row in found["entering"]["rows"]}) == min(25, len(new))
    back = changes(selected, 2.0, selected, 3.0)
    assert back["leaving"]["alerts"] == found["entering"]["alerts"] and back["entering"]["alerts"] == 0


def test_the_nearest_stand_just_above_and_just_below_the_line(made):
    alerts, filter_, selected = made
    score = alerts.bundles[BUNDLE].scores["log_odds"]
    above, below = nearest(selected, 2.0)
    ok = selected.precuts.accepted & np.isfinite(score)
    assert score[above].tolist() == sorted(score[ok & (score >= 2.0)])[:12][::-1]
    assert score[below].tolist() == sorted(score[ok & (score < 2.0)])[::-1][:12]
    assert len(nearest(selected, 100.0)[0]) == 0 and len(nearest(selected, -100.0)[1]) == 0


def test_a_night_has_its_own_objects(made):
    alerts, filter_, selected = made
    night, mine = alerts.nights[2], (alerts.night == 2) & alerts.stream
    old, new = (set(alerts.object[passes(alerts, filter_, t) & mine].tolist()) for t in (-3.0, -5.0))
    found, n = night_objects(selected, -3.0, selected, -5.0, night)
    by_change = {
        word: {int(alerts.object[row]) for row, _, change in found if change == word} for word in ("new", "kept", "gone")
    }
    assert n == len(found) == len(new) and by_change == {"new": new - old, "kept": old & new, "gone": set()}
    assert sum(count for _, count, _ in found) == int((passes(alerts, filter_, -5.0) & mine).sum())
    found, n = night_objects(selected, -5.0, selected, -3.0, night)
    assert {int(alerts.object[row]) for row, _, change in found if change == "gone"} == new - old and n == len(new)
    with pytest.raises(ConfigError, match="night '1999-01-01', expected one of"):
        night_objects(selected, 0.0, selected, 0.0, "1999-01-01")


def test_an_injection_is_judged_without_the_criterion_that_keeps_injections_out(tmp_path):
    made = columns(n_real=30, n_lensed=5, n_negative=0)
    made["fact.is_injected"] = made["injected"]
    alerts = read_alerts([write_table(tmp_path / "s.parquet", made)], write_labels(tmp_path / "l.csv", made))
    path = write_all(tmp_path)[2]
    filter_ = load_filter(path)
    from dataclasses import replace

    filter_ = replace(filter_, require=parse_criteria({"is_injected": {"equals": False}}))
    assert Judge(alerts).judge(filter_).accepted.all()
