"""The desk: proposals, guards, activation, the way back, pre-cuts and what tables cannot say of them, and carrying over."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tune_tables import BUNDLE, OTHER, columns, write_all, write_filter, write_labels, write_table

from dgl_broker.errors import ConfigError, GuardRefused
from dgl_broker.selection import FilterSet, load_filter
from dgl_broker.selection.audit import StaleVersion, log_path, read_log
from dgl_broker.selection.criteria import write_criteria
from dgl_broker.selection.status import WorkerStatus
from dgl_broker.tune.alerts import read_alerts
from dgl_broker.tune.carry import carry, write_carried
from dgl_broker.tune.desk import Desk, Proposal
from dgl_broker.tune.filter_file import FilterFile
from dgl_broker.tune.running import bundle_on_disk, running_bundles


@pytest.fixture
def all_of_it(tmp_path):
    """(desk, its filter's file) over a made-up night."""
    table, labels, path, _ = write_all(tmp_path, n_real=400, n_lensed=40, n_negative=20)
    return Desk([FilterFile(path)], read_alerts([table], labels)), path


def test_a_proposal_becomes_the_filter_in_force_and_says_where_its_number_came_from(all_of_it):
    desk, path = all_of_it
    running = FilterSet([load_filter(path)])
    new, arrival = desk.activate(Proposal("bright", operating_point=("completeness", 0.5)), 1, "ana", "more of them")
    assert (new.version, load_filter(path)) == (2, new) and new.threshold != 3.0
    point = new.operating_point
    assert point.metric == "completeness" and point.value >= 0.5 and point.lo < point.value < point.hi
    assert "scores.parquet: 5 nights 2025-11-21 to 2025-11-25" in point.data and "40 lensed objects" in point.data
    assert [c.why for c in new.require] == ["the stream's own limit", "", ""]  # reasons stay
    (change,) = running.refresh()
    assert change.to_version == 2 and running.filters[0].threshold == new.threshold
    assert arrival.complete and "no worker runs this filter now" in str(arrival)
    (entry,) = read_log(log_path(path))[0]
    assert (entry["who"], entry["why"], entry["from"]["version"], entry["to"]["version"]) == ("ana", "more of them", 1, 2)


def test_a_stale_version_is_refused_before_anything_else(all_of_it):
    desk, path = all_of_it
    desk.activate(Proposal("bright", threshold=2.5), 1, "ana", "first")
    with pytest.raises(StaleVersion, match="version 2 is in force, the change was made for version 1"):
        desk.activate(Proposal("bright", threshold=-9.0), 1, "bo", "second")
    assert load_filter(path).version == 2


def test_the_guard_refuses_with_every_reason(tmp_path):
    table, labels, _, _ = write_all(tmp_path, n_real=400, n_lensed=40, n_negative=20)
    path = write_filter(tmp_path / "strict", floor=1.0, budget=0)
    desk = Desk([FilterFile(path)], read_alerts([table], labels))
    with pytest.raises(GuardRefused) as refused:
        desk.activate(Proposal("bright", threshold=0.0), 1, "ana", "too many")
    assert len(refused.value.reasons) == 2 and load_filter(path).version == 1
    assert "max_candidates_per_night 0" in refused.value.reasons[0] and "completeness_floor 1" in refused.value.reasons[1]
    preview = desk.preview(Proposal("bright", threshold=0.0))
    assert preview["refused"] == list(refused.value.reasons)
    assert [(c["name"], c["ok"]) for c in preview["guard"]] == [
        ("nightly budget", False),
        ("completeness", False),
        ("bundle", True),
    ]
    assert read_log(log_path(path)) == ([], [])


def test_scores_of_another_bundle_than_the_filters_are_refused_with_the_way_out(tmp_path):
    made = columns(n_real=100, n_lensed=5, n_negative=0)
    made["bundle_sha256"] = np.full(len(made["alert_id"]), OTHER)
    path = write_filter(tmp_path / "f", floor="null", budget="null")
    desk = Desk([FilterFile(path)], read_alerts([write_table(tmp_path / "s.parquet", made)]))
    with pytest.raises(GuardRefused, match="tune carry"):
        desk.activate(Proposal("bright", threshold=1.0), 1, "ana", "a refreshed bundle")
    untuned = write_filter(tmp_path / "g", floor="null", budget="null", bundle="null")
    desk = Desk([FilterFile(untuned)], desk.alerts)
    assert desk.activate(Proposal("bright", threshold=1.0), 1, "ana", "first tuning")[0].bundle_sha256 == OTHER


def test_a_running_worker_of_another_bundle_refuses_as_well(all_of_it):
    desk, path = all_of_it
    WorkerStatus(path.parent / "status", "w", OTHER).write([load_filter(path)], {})
    file = desk.file("bright")
    assert running_bundles(file) == [OTHER] and running_bundles(file, BUNDLE) == [OTHER]
    with pytest.raises(GuardRefused, match=f"the bundle in use is {OTHER}"):
        desk.activate(Proposal("bright", threshold=2.0), 1, "ana", "x")


def test_activation_waits_for_the_workers_and_names_those_that_lag(all_of_it):
    desk, path = all_of_it
    lagging = WorkerStatus(path.parent / "status", "slow", BUNDLE)
    lagging.write([load_filter(path)], {})
    new, arrival = desk.activate(Proposal("bright", threshold=2.5), 1, "ana", "x", wait_s=0.3)
    assert not arrival.complete and arrival.lagging[0].startswith("slow: version 1 since") and arrival.seconds >= 0.3
    lagging.write([new], {})
    assert desk.file("bright").arrival().complete


def test_shipped_filters_are_not_changed_in_place(tmp_path):
    made = columns(n_real=50, n_lensed=0, n_negative=0)
    desk = Desk([FilterFile("lensed_sn_ztf")], read_alerts([write_table(tmp_path / "s.parquet", made)]))
    why = desk.preview(Proposal("lensed_sn_ztf", threshold=5.0))["refused"]
    assert any("ships with the package" in reason for reason in why)
    with pytest.raises(GuardRefused, match="ships with the package"):
        desk.roll_back("lensed_sn_ztf", 1, 1, "ana", "x")


def test_nothing_new_is_not_activated(all_of_it):
    desk, _ = all_of_it
    with pytest.raises(GuardRefused, match="says this already"):
        desk.activate(Proposal("bright"), 1, "ana", "x")


def test_roll_back_is_open_where_the_guards_of_rate_would_close_it(tmp_path):
    table, labels, _, _ = write_all(tmp_path, n_real=400, n_lensed=40, n_negative=20)
    path = write_filter(tmp_path / "f", threshold=-5.0, budget=0, floor=0.1)
    desk = Desk([FilterFile(path)], read_alerts([table], labels))
    good, _ = desk.activate(Proposal("bright", operating_point=("candidates_per_night", 0)), 1, "ana", "too many")
    assert good.version == 2
    back, _ = desk.roll_back("bright", 1, 2, "bo", "it lost a known one")
    assert (back.version, back.threshold) == (3, -5.0)
    changes, _ = desk.file("bright").history()
    assert [(c["version"], c["action"]) for c in changes] == [(3, "roll_back to 1"), (2, "activate")]
    assert changes[0]["changes"] == [f"threshold {good.threshold:.10g} → -5"]
    with pytest.raises(StaleVersion):
        desk.roll_back("bright", 1, 2, "bo", "again")
    with pytest.raises(ConfigError, match="no version 9 in the audit log"):
        desk.roll_back("bright", 9, 3, "bo", "again")


def test_pre_cuts_are_moved_as_a_filters_file_has_them(all_of_it):
    desk, path = all_of_it
    require = write_criteria(load_filter(path).require)
    require["reliability"]["min"] = 0.6
    del require["is_positive"]
    preview = desk.preview(Proposal("bright", threshold=3.0, require=require))
    by_hand = desk.alerts.facts
    accepted = (by_hand["reliability"] >= 0.6) & (np.abs(by_hand["galactic_latitude_deg"]) >= 7)
    scores = desk.alerts.bundles[BUNDLE].scores["log_odds"]
    assert preview["proposed"]["stream"]["passing"] == int((accepted & desk.alerts.stream & (scores >= 3.0)).sum())
    assert [c["criterion"] for c in preview["precuts"]] == ["survey", "reliability", "off_the_plane"]
    new, _ = desk.activate(Proposal("bright", threshold=3.0, require=require), 1, "ana", "stricter")
    assert write_criteria(new.require)["reliability"] == {"min": 0.6, "unknown": "pass", "why": "the stream's own limit"}
    assert desk.file("bright").history()[0][0]["changes"] == [
        "reliability: at least 0.2; unknown passes → at least 0.6; unknown passes",
        "is_positive taken out (yes; unknown passes)",
    ]
    with pytest.raises(ConfigError, match="require.reliability.min 65, expected 0 to 1"):
        desk.preview(Proposal("bright", require={"reliability": {"min": 65}}))
    with pytest.raises(ConfigError, match="both|one of them"):
        desk.preview(Proposal("bright", threshold=1.0, operating_point=("fpr", 0.1)))


def gated(made, filters=(("bright", 1),)):
    """The same alerts as a replay that kept the pre-cuts leaves them: refused ones without scores, no facts."""
    stopped = made["fact.reliability"] < 0.2
    plane = ~stopped & (np.abs(made["fact.galactic_latitude_deg"]) < 7)
    negative = ~stopped & ~plane & ~made["fact.is_positive"]
    made = {k: v for k, v in made.items() if not k.startswith("fact.") or k == "fact.n_detections"}
    refused = stopped | plane | negative
    reason = np.select([stopped, plane, negative], ["precut.reliability", "precut.off_the_plane", "precut.is_positive"], "")
    made["status"] = np.where(refused, "refused", "scored")
    made["reason"] = np.where(refused, reason, None)
    made["log_odds"] = np.where(refused, np.nan, made["log_odds"])
    verdict = json.dumps([{"filter": "bright", "version": 1, "passed": True, "failed": []}], separators=(",", ":"))
    made["verdicts"] = np.where(refused, "[]", verdict)
    return made


def test_a_gated_table_counts_the_same_but_its_pre_cuts_stand(tmp_path):
    made = columns(n_real=400, n_lensed=40, n_negative=20)
    path, labels = write_filter(tmp_path / "f"), write_labels(tmp_path / "l.csv", made)
    open_, closed = (
        Desk([FilterFile(path)], read_alerts([write_table(tmp_path / f"{n}.parquet", t)], labels))
        for n, t in (("open", made), ("closed", gated(made)))
    )
    a, b = (desk.preview(Proposal("bright", threshold=0.0)) for desk in (open_, closed))
    assert a["proposed"]["candidates"] == b["proposed"]["candidates"]
    assert a["proposed"]["completeness"]["found"] == b["proposed"]["completeness"]["found"]
    assert not closed.judge.is_ungated and open_.judge.is_ungated and b["missing"] == []
    require = write_criteria(load_filter(path).require)
    require["reliability"]["min"] = 0.1
    with pytest.raises(ConfigError, match="pre-cuts can be changed on an ungated replay only"):
        closed.preview(Proposal("bright", require=require))
    # The threshold can be moved and put into force all the same.
    assert closed.activate(Proposal("bright", threshold=3.5), 1, "ana", "x")[0].version == 2


def test_a_table_that_was_judged_by_other_pre_cuts_says_so_and_is_refused(tmp_path):
    made = gated(columns(n_real=200, n_lensed=20, n_negative=0))
    path = write_filter(tmp_path / "f")
    path.write_text(path.read_text().replace("version: 1", "version: 4").replace("min: 0.2", "min: 0.3"))
    desk = Desk([FilterFile(path)], read_alerts([write_table(tmp_path / "s.parquet", made)]))
    preview = desk.preview(Proposal("bright", threshold=3.5))
    assert "s.parquet does not say which alerts meet reliability" in " ".join(preview["refused"])
    assert preview["guard"][-1]["name"] == "tables" and preview["guard"][-1]["ok"] is False


def test_the_cuts_that_a_table_recorded_are_used_where_it_has_no_facts(tmp_path):
    made = columns(n_real=200, n_lensed=0, n_negative=0)
    recorded = {k: v for k, v in made.items() if not k.startswith("fact.")}
    recorded["cut.bright.reliability"] = made["fact.reliability"] >= 0.2
    recorded["cut.bright.off_the_plane"] = np.abs(made["fact.galactic_latitude_deg"]) >= 7
    recorded["cut.bright.is_positive"] = made["fact.is_positive"]
    path = write_filter(tmp_path / "f")
    a, b = (
        Desk([FilterFile(path)], read_alerts([write_table(tmp_path / f"{n}.parquet", t)])).preview(
            Proposal("bright", threshold=-3)
        )
        for n, t in (("facts", made), ("cuts", recorded))
    )
    assert a["proposed"]["candidates"] == b["proposed"]["candidates"] and b["missing"] == []


@pytest.fixture
def two_bundles(tmp_path):
    """A desk over a table with a shadow whose log-odds are others, in nearly the same order."""
    made = columns(n_real=3000, n_lensed=80, n_negative=0)
    rng = np.random.default_rng(5)
    n = len(made["alert_id"])
    made |= {
        "shadow_bundle_sha256": np.full(n, OTHER),
        "shadow_bundle_id": np.full(n, "fresh"),
        "shadow_log_odds": 2.0 * made["log_odds"] - 1.0 + rng.normal(0, 0.5, n),
    }
    table, labels = write_table(tmp_path / "s.parquet", made), write_labels(tmp_path / "l.csv", made)
    path = write_filter(tmp_path / "f", threshold=0.5)
    return Desk([FilterFile(path)], read_alerts([table], labels)), path


@pytest.mark.parametrize("by", ["candidates_per_night", "completeness", "fpr"])
def test_a_filter_is_carried_to_another_bundle_at_the_same_operating_point(two_bundles, by):
    desk, path = two_bundles
    carried = carry(desk, "bright", "fresh", by)
    assert carried.metric == by and carried.new.bundle_sha256 == OTHER and carried.refused == []
    before, after = carried.before, carried.after
    if by == "completeness":
        assert after["completeness"]["value"] >= before["completeness"]["value"]
        assert after["completeness"]["found"] - before["completeness"]["found"] <= 1
    else:
        assert 0 <= before["stream"]["passing"] - after["stream"]["passing"] <= 1
    # Twice the log-odds less one: 0.5 becomes about 0.
    assert abs(carried.new.threshold) < 1.0 and carried.n_alerts == len(desk.alerts)
    new, where = write_carried(desk, carried, "ana", "the autumn's bundle")
    assert where == path.with_name(f"bright.{OTHER[:8]}.yaml") and load_filter(where) == new
    assert (new.version, load_filter(path).version) == (2, 1)  # the old one stays in force
    entries, _ = read_log(log_path(path))
    assert entries[-1]["action"] == f"carry from version 1 of bundle {BUNDLE[:8]}" and entries[-1]["who"] == "ana"
    running = FilterSet([new])
    running.check_bundle(OTHER)


def test_carrying_needs_scores_of_both_over_the_same_alerts(two_bundles, tmp_path):
    desk, path = two_bundles
    with pytest.raises(ConfigError, match="is the one that it is tuned for"):
        carry(desk, "bright", BUNDLE)
    with pytest.raises(ConfigError, match="bundle 'nowhere', expected one of"):
        carry(desk, "bright", "nowhere")
    alone = columns(n_real=50, n_lensed=0, n_negative=0)
    apart = {
        **alone,
        "alert_id": alone["alert_id"] + 10**6,
        "bundle_sha256": np.full(50, OTHER),
        "bundle_id": np.full(50, "fresh"),
    }
    tables = [write_table(tmp_path / "a.parquet", alone), write_table(tmp_path / "b.parquet", apart)]
    with pytest.raises(ConfigError, match="no alert has been judged by both bundles"):
        carry(Desk([FilterFile(path)], read_alerts(tables)), "bright", "fresh")
    few = two_bundles[0]
    high = write_filter(tmp_path / "high", threshold=6.5)
    with pytest.raises(ConfigError, match="real alerts pass, too few to keep"):
        carry(Desk([FilterFile(high)], few.alerts), "bright", "fresh", "candidates_per_night")
    assert carry(Desk([FilterFile(high)], few.alerts), "bright", "fresh").metric == "completeness"
    with pytest.raises(ConfigError, match="no scores of the bundle abababab"):
        carry(Desk([FilterFile(path)], read_alerts(tables[1:])), "bright", "fresh")


def test_a_guard_stands_before_a_carried_filter_too(two_bundles, tmp_path):
    desk, _ = two_bundles
    strict = write_filter(tmp_path / "strict", threshold=0.5, budget=1, floor=0.1)
    desk = Desk([FilterFile(strict)], desk.alerts)
    carried = carry(desk, "bright", OTHER[:6])
    assert "max_candidates_per_night 1" in carried.refused[0]
    with pytest.raises(GuardRefused):
        write_carried(desk, carried, "ana", "x")
    assert not list(strict.parent.glob("bright.*.yaml"))


def test_the_in_force_side_is_judged_on_its_own_bundles_scores(two_bundles):
    desk, _ = two_bundles
    preview = desk.preview(Proposal("bright", bundle="fresh", threshold=0.0))
    assert preview["bundle"]["id"] == "fresh" and any("tune carry" in why for why in preview["refused"])
    own = desk.preview(Proposal("bright"))
    assert preview["in_force"]["candidates"] == own["in_force"]["candidates"]


def test_a_bundle_on_disk_is_known_by_its_card():
    assert bundle_on_disk("default", "ztf") == ("ztf", load_filter("lensed_sn_ztf").bundle_sha256)


def test_two_filters_of_one_name_are_refused(tmp_path):
    paths = [write_filter(tmp_path / n) for n in "ab"]
    with pytest.raises(ConfigError, match="name 'bright' in"):
        Desk([FilterFile(p) for p in paths])
    with pytest.raises(ConfigError, match="filter 'dark', expected one of bright"):
        Desk([FilterFile(paths[0])]).file("dark")


def test_a_file_that_was_edited_by_hand_is_seen(all_of_it):
    desk, path = all_of_it
    assert desk.file("bright").in_force.threshold == 3.0
    path.write_text(path.read_text().replace("version: 1", "version: 2").replace("threshold: 3.0", "threshold: 2.75"))
    assert desk.file("bright").in_force.threshold == 2.75 and desk.preview(Proposal("bright"))["in_force"]["version"] == 2
    assert replace(desk.file("bright").version(2), version=1).name == "bright" and desk.file("bright").version(1) is None
