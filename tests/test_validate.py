"""A validation on tables made by hand, whose numbers can be counted on fingers; and on a real replay, as pages."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from dgl_broker.archive.sinks import table_schema
from dgl_broker.cli import main
from dgl_broker.tune.packets import Packets
from dgl_broker.validate.against import against, matched
from dgl_broker.validate.judged import read_judged
from dgl_broker.validate.measured import (
    distributions,
    nightly_mean,
    nights,
    passing,
    precut_costs,
    refusals,
    steadiness,
    tracks,
)
from dgl_broker.validate.report import make_report

DATA = Path(__file__).parent / "data" / "alerts"
SHA, OTHER_SHA = "ab" * 32, "cd" * 32
NIGHT = 61000.25  # 06:00 UTC of 2025-11-21, over Palomar


def row(alert_id, object_id, score, *, night=0, k=1, passed=None, status="scored", reason=None, stratum="few", **more):
    """A row of a ZTF table; `passed` by a threshold of 3 where nothing is said."""
    passed = (score is not None and score >= 3.0) if passed is None else passed
    failed = [] if passed else [{"criterion": "log_odds", "value": score}]
    verdicts = [{"filter": "f", "version": 2, "passed": passed, "failed": failed}] if status == "scored" else []
    return {
        "survey": "ztf", "alert_id": alert_id, "object_id": object_id, "mjd_tai": NIGHT + night, "ra": 1.0, "dec": 2.0,
        "band": "g", "status": status, "reason": reason, "log_odds": score, "stratum": stratum if status == "scored" else None,
        "verdicts": json.dumps(verdicts), "bundle_id": "made_up", "bundle_sha256": SHA, "prevalence": 1e-6,
        "message_id": f"{alert_id:032x}", "judged_by": "now", "injected": False, "fact.n_detections": float(k), **more,
    }  # fmt: skip


def write(path, rows, cuts=()):
    schema = table_schema([f"{c}" for c in cuts]).append(pa.field("fact.n_detections", pa.float64()))
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def write_labels(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["survey", "object_id", "class", "source"])
        writer.writerows(rows)
    return path


def test_an_alert_that_stands_twice_counts_once_and_is_told(tmp_path):
    rows = [row(1, "A", 4.0), row(2, "B", 1.0), row(1, "A", 4.0)]
    table = read_judged(write(tmp_path / "s.parquet", rows))
    report, _, _ = make_report(table, Packets([tmp_path / "s.parquet"]))
    assert (report["about"]["alerts"], report["about"]["repeated"]) == (2, 1)
    assert report["about"]["status"] == {"scored": 2}


@pytest.fixture
def made(tmp_path):
    """Two nights: 4 injected supernovae of which 3 pass, 5 known negatives of which 1 passes, 20 others of which 4 pass."""
    rows, n = [], iter(range(1, 1000))
    for i, score in enumerate((5.0, 4.0, 3.5, 1.0)):
        kind = {"injected": True, "source": "injected:1"}
        rows.append(row(next(n), f"SN{i}", score, k=1, **kind))
        rows.append(row(next(n), f"SN{i}", score - 1.0, k=2, night=1, **kind))
    for i, score in enumerate((3.2, 2.0, 1.0, 0.0, -1.0)):
        rows.append(row(next(n), f"AGN{i}", score, k=7))
    for i in range(20):
        rows.append(row(next(n), f"OBJ{i}", 6.0 - i, night=i % 2, k=3))
    rows.append(row(next(n), "SN4", None, status="refused", reason="no_cutouts", injected=True, source="injected:2"))
    rows.append(row(next(n), "OBJ0", None, status="refused", reason="precut.reliability"))
    labels = [("ztf", f"SN{i}", "lensed_sn_ia" if i < 2 else "lensed_sn_cc", "injected") for i in range(5)]
    labels += [("ztf", f"AGN{i}", "agn", "a catalogue") for i in range(5)]
    return read_judged(write(tmp_path / "s.parquet", rows), write_labels(tmp_path / "labels.csv", labels)), tmp_path


def test_groups_and_distributions_are_counted(made):
    table, _ = made
    assert {name: int(mask.sum()) for name, mask in table.groups.items()} == {
        "live": 21, "injected": 9, "known lensed supernovae": 0, "known negatives": 5,
    }  # fmt: skip
    found = distributions(table)
    assert found["n"] == {"live": 20, "injected": 8, "known lensed supernovae": 0, "known negatives": 5}
    assert {name: sum(c) for name, c in found["counts"].items()} == found["n"] and len(found["edges"]) == 61


def test_completeness_and_false_positives_are_over_objects(made):
    table, _ = made
    found = passing(table.objects(np.ones(len(table), bool)), [1e-6])
    # SN0, SN1 and SN2 pass at one of their alerts; SN3 is too low, and SN4 has nothing but a refusal.
    assert (found["completeness"]["all"]["k"], found["completeness"]["all"]["n"]) == (3, 5)
    assert (found["completeness"]["lensed SN Ia"]["k"], found["completeness"]["lensed SN CC"]["n"]) == (2, 3)
    # Clopper & Pearson's interval of 3 of 5: their own table of 95 % limits has 0.147 and 0.947.
    assert found["completeness"]["all"]["interval"] == pytest.approx([0.147, 0.947], abs=1e-3)
    assert (found["fpr_known"]["k"], found["fpr_known"]["n"]) == (1, 5)
    assert (found["fpr_stream"]["k"], found["fpr_stream"]["n"]) == (4, 20)
    assert (found["injected"]["n"], found["known"]["n"]) == (5, 0)
    # Bayes by hand: 1e-6 * 0.6 / (1e-6 * 0.6 + (1 - 1e-6) * 0.2).
    assert found["purity"]["1e-06"]["value"] == pytest.approx(6e-7 / (6e-7 + 0.2 * (1 - 1e-6)), rel=1e-9)
    lo, hi = found["purity"]["1e-06"]["interval"]
    assert lo < found["purity"]["1e-06"]["value"] < hi
    assert (found["labelled_candidates"]["k"], found["labelled_candidates"]["n"]) == (0, 1)


def test_below_three_false_positives_purity_is_only_bounded(made):
    table, _ = made
    units = table.objects(np.ones(len(table), bool))
    few = units.select(~(units.stream & units.passed & (units.class_ == 0)))
    found = passing(few, [1e-3])["purity"]["0.001"]
    assert found["value"] is None and 0 < found["at_least"] < 1


def test_bins_of_detections_and_strata_have_their_own_objects(made):
    table, _ = made
    bins = {name: passing(table.objects(mask), []) for name, mask in table.detection_bins().items() if mask.any()}
    assert set(bins) == {"1", "2", "3 to 4", "5 to 9"}
    assert (bins["1"]["completeness"]["all"]["k"], bins["1"]["completeness"]["all"]["n"]) == (3, 5)
    # At the second detection each scores one less: 4.0, 3.0 pass (3.0 is at the threshold), 2.5 and 0.0 do not.
    assert (bins["2"]["completeness"]["all"]["k"], bins["2"]["completeness"]["all"]["n"]) == (2, 4)
    assert bins["5 to 9"]["fpr_known"]["n"] == 5 and bins["3 to 4"]["fpr_stream"]["n"] == 20
    assert set(table.strata()) == {"few"}


def test_nights_count_real_objects_with_poissons_interval(made):
    table, _ = made
    found = nights(table)
    assert [n["night"] for n in found] == ["2025-11-21", "2025-11-22"]
    # Live objects at 6, 5, 4, 3 by turns in both nights, and the known negative at 3.2 in the first.
    assert [(n["candidates"], n["candidate_alerts"]) for n in found] == [(3, 3), (2, 2)]
    # Garwood's exact limits of a count of 3 are 0.619 and 8.77 (tables of the Poisson distribution).
    assert found[0]["interval"] == pytest.approx([0.619, 8.77], abs=5e-3)
    assert nightly_mean(table, found)["mean"] == 2.5


def test_refusals_say_what_they_cost(made):
    table, _ = made
    found = {r["reason"]: r for r in refusals(table)}
    assert (found["no_cutouts"]["lost"]["k"], found["no_cutouts"]["lost"]["n"]) == (1, 5)
    assert (found["precut.reliability"]["stream"], found["precut.reliability"]["lost"]["k"]) == (1, 0)


def test_what_each_precut_alone_would_cost_and_save(tmp_path):
    rows = [row(n, f"SN{n}", 4.0, injected=True, **{"cut.f.snr": n > 1}) for n in range(1, 5)]
    rows += [row(10 + n, f"OBJ{n}", 0.0, **{"cut.f.snr": None if n == 0 else n > 5}) for n in range(10)]
    labels = write_labels(tmp_path / "l.csv", [("ztf", f"SN{n}", "lensed_sn_ia", "injected") for n in range(1, 5)])
    (found,) = precut_costs(read_judged(write(tmp_path / "s.parquet", rows, ["f.snr"]), labels))
    assert (found["criterion"], found["lost"]["k"], found["lost"]["n"]) == ("f.snr", 1, 4)
    assert (found["stopped"]["k"], found["stopped"]["n"], found["unknown"]) == (5, 10, 1)


def test_tracks_and_steadiness_follow_an_object(made):
    table, _ = made
    found = {t["object"]: t for t in tracks(table)}
    assert found["SN0"]["score"] == [5.0, 4.0] and found["SN0"]["passed"] == [True, True] and found["SN0"]["days"] == [0, 1]
    steady = steadiness(table, 3.0)["injected"]
    assert steady["n"] == 4 and steady["median_change"] == 1.0
    # SN2 falls from 3.5 to 2.5: one crossing among the four objects with two alerts, and one of the three that ever passed.
    assert steady["flips_per_object"] == pytest.approx(1 / 4) and steady["lost"] == pytest.approx(1 / 3)


def test_the_best_are_real_one_an_object(made):
    table, folder = made
    report, candidates, _ = make_report(table, Packets([folder / "s.parquet"]), n_best=5)
    assert [c.object for c in candidates] == ["OBJ0", "OBJ1", "OBJ2", "AGN0", "OBJ3"]
    assert [c.known for c in candidates] == [None, None, None, "known agn", None]
    assert [b["rank"] for b in report["best"]] == [1, 2, 3, 4, 5]
    assert all("kept" in c.alert for c in candidates)  # no packets here, and the card says so


# Against another table


def pair(tmp_path, change):
    """The same alerts in two tables: scores of the second by `change`."""
    rng = np.random.default_rng(4)
    scores = rng.normal(0, 2, 300)
    one = [row(n, f"O{n // 2}", float(s)) for n, s in enumerate(scores)]
    two = [row(n, f"O{n // 2}", float(change(n, s))) | {"bundle_sha256": OTHER_SHA} for n, s in enumerate(scores)]
    after = read_judged(write(tmp_path / "after.parquet", one[:290]))
    return after, read_judged(write(tmp_path / "before.parquet", two[10:])), scores


def test_a_table_against_itself_moves_nothing(tmp_path):
    after, before, _ = pair(tmp_path, lambda n, s: s)
    found = against(after, before)
    assert found["alerts"] == {"both": 280, "only_after": 10, "only_before": 10}
    assert found["scores"]["equal"]["k"] == 280 and found["scores"]["largest"] == 0.0
    assert found["entering"]["objects"] == found["leaving"]["objects"] == 0 and found["status"] == []
    assert found["ranks"]["shared"] == {"10": 10, "50": 50, "100": 100}
    assert all(r["rank"] == r["other_rank"] for r in found["ranks"]["listed"])
    assert found["drift"]["alerts"]["ks_p"] > 0.9 and found["completeness"] is None


def test_what_enters_and_what_leaves_is_named(tmp_path):
    def change(n, s):
        return {50: 9.0, 61: -9.0}.get(n, s)

    after, before, scores = pair(tmp_path, change)
    here, there = matched(after, before)
    assert (after.alerts.alert_id[here] == before.alerts.alert_id[there]).all()
    found = against(after, before)
    leaving = {r["object"]: r for r in found["leaving"]["listed"]}
    enters = {r["object"] for r in found["entering"]["listed"]}
    expected = {"O25"} if scores[50] < 3 and scores[51] < 3 else set()
    assert set(leaving) == expected and enters == ({"O30"} if max(scores[60], scores[61]) >= 3 > scores[60] else set())
    if expected:
        assert leaving["O25"]["score"] == 9.0 and leaving["O25"]["other_score"] == pytest.approx(scores[50])
    assert found["scores"]["equal"]["k"] == 278


def test_a_shift_is_found_by_the_tests_that_are_named(tmp_path):
    after, before, scores = pair(tmp_path, lambda n, s: s - 1.5)
    found = against(after, before)
    assert found["scores"]["mean"] == pytest.approx(1.5) and found["scores"]["rank_correlation"] == pytest.approx(1.0)
    # By scipy on the numbers themselves.
    expected = stats.ks_2samp(scores[:290], scores[10:] - 1.5, method="asymp")
    assert found["drift"]["alerts"]["ks"] == pytest.approx(expected.statistic)
    assert found["drift"]["alerts"]["ks_p"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert found["drift"]["objects"]["n_after"] == 145


def test_a_status_that_changed_is_counted(tmp_path):
    rows = [row(n, f"O{n}", float(n)) for n in range(6)]
    refused = [row(n, f"O{n}", None, status="refused", reason="stamp_snr") if n < 2 else rows[n] for n in range(6)]
    found = against(read_judged(write(tmp_path / "a.parquet", refused)), read_judged(write(tmp_path / "b.parquet", rows)))
    assert found["status"] == [{"before": "scored", "after": "refused: stamp_snr", "alerts": 2}]
    assert (found["drift"]["refused"]["after"]["k"], found["drift"]["refused"]["before"]["k"]) == (2, 0)


# Pages


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The repository's real ZTF alerts with three injections, replayed by the shipped bundle and filter, and validated."""
    folder = tmp_path_factory.mktemp("real")
    args = ["replay", str(DATA), "--survey", "ztf", "--filters", "lensed_sn_ztf", "--inject", "3", "--quiet", "--keep-packets",
            "all", "--ungated"]  # fmt: skip
    assert main([*args, "--out", str(folder / "s.parquet")]) == 0
    code = main(["validate", str(folder / "s.parquet"), "--against", str(folder / "s.parquet"), "--out", str(folder / "rep")])
    assert code == 0
    return folder


def test_pages_open_from_disk_and_load_nothing(real):
    for name in ("index.html", "candidates.html"):
        page = (real / "rep" / name).read_text()
        links = re.findall(r'(?:src|href)="([^"]*)"', page)
        assert all(link.startswith(("#", "data:", "index.html", "candidates.html")) for link in links)
        assert "<script" not in page and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    index = (real / "rep" / "index.html").read_text()
    anchors = set(re.findall(r'href="candidates.html#([^"]+)"', index))
    assert anchors and all(f'id="{a}"' in (real / "rep" / "candidates.html").read_text() for a in anchors)


def test_the_report_says_what_the_table_says(real):
    report = json.loads((real / "rep" / "report.json").read_text())
    rows = pq.read_table(real / "s.parquet").to_pylist()
    assert report["about"]["alerts"] == len(rows) and report["about"]["groups"]["injected"]["objects"] >= 3
    assert report["overall"]["completeness"]["all"]["n"] == report["about"]["groups"]["injected"]["objects"]
    assert sum(n["alerts"] for n in report["nights"]) == sum(not row["injected"] for row in rows)
    refused = [row for row in rows if row["status"] == "refused"]
    assert sum(r["alerts"] for r in report["refusals"]) == len(refused)
    assert report["thresholds"][0]["filter"] == "lensed_sn_ztf" and not report["about"]["missing_filters"]
    assert {p["criterion"].split(".")[0] for p in report["precuts"]} == {"lensed_sn_ztf"}
    assert report["against"]["scores"]["largest"] == 0.0
    best = report["best"][0]
    assert isinstance(best["alert_id"], str) and best["packet"] == "shown"
    real_scored = [row for row in rows if not row["injected"] and row["log_odds"] is not None]
    assert best["alert_id"] == str(max(real_scored, key=lambda row: row["log_odds"])["alert_id"])
    tracked = pq.read_table(real / "rep" / "tracks.parquet").to_pylist()
    counts = {}
    for r in rows:
        counts[r["object_id"]] = counts.get(r["object_id"], 0) + 1
    assert len(tracked) == sum(n for n in counts.values() if n > 1)


def test_candidates_show_stamps_light_curve_and_why(real):
    page = (real / "rep" / "candidates.html").read_text()
    for word in ("Template", "Difference", "light curve", "Why it", "criteria met", "LoNet"):
        assert word.lower() in page.lower()


def test_what_cannot_be_validated_is_told(tmp_path, capsys):
    assert main(["validate", str(tmp_path / "none.parquet"), "--out", str(tmp_path / "r")]) == 3
    rows = [row(1, "A", None, status="refused", reason="no_cutouts")]
    write(tmp_path / "s.parquet", rows)
    assert main(["validate", str(tmp_path / "s.parquet"), "--out", str(tmp_path / "r")]) == 2
    assert "not one score" in capsys.readouterr().err
    write(tmp_path / "s.parquet", [row(1, "A", 1.0)])
    assert main(["validate", str(tmp_path / "s.parquet"), "--out", str(tmp_path / "r"), "--against", "kafka:topic"]) == 2
    assert "--config" in capsys.readouterr().err
    assert main(["validate", str(tmp_path / "s.parquet"), "--out", str(tmp_path / "r"), "--best", "0"]) == 2


def test_a_table_without_anything_known_still_has_its_report(tmp_path):
    write(tmp_path / "s.parquet", [row(n, f"O{n}", n - 5.0, night=n) for n in range(8)])
    assert main(["validate", str(tmp_path / "s.parquet"), "--out", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "index.html").read_text()
    assert "completeness is not measured" in page
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["at_rates"] == {} and report["about"]["missing_filters"] == ["f version 2"]
