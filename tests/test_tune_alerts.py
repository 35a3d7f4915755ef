"""Alerts of score tables: each once, with labels, nights, objects, and the scores of every bundle."""

import json

import numpy as np
import pytest
from tune_tables import BUNDLE, OTHER, columns, write_labels, write_table

from dgl_broker.archive.score_columns import columns_of_records, read_score_columns
from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.tune.alerts import LENSED_CC, LENSED_IA, NEGATIVE, is_wanted, read_alerts
from dgl_broker.tune.precuts import Judge
from dgl_broker.tune.ranked import Ranked


@pytest.fixture
def made():
    return columns(n_real=60, n_lensed=4, n_negative=3)


def test_columns_come_back_with_exact_ids_and_nulls(tmp_path, made):
    made["log_odds"][3] = np.nan
    made["alert_id"][5] = 2**62 + 1
    read = read_score_columns(write_table(tmp_path / "s.parquet", made), is_wanted)
    assert read.numbers["alert_id"][5] == 2**62 + 1 and np.isnan(read.numbers["log_odds"][3])
    assert read.words["object_id"].text().tolist() == made["object_id"].tolist()
    assert read.words["reason"].text().tolist() == [""] * len(made["alert_id"])
    assert np.array_equal(read.numbers["fact.is_positive"], made["fact.is_positive"].astype(float))


def test_a_folder_of_nights_is_one_table_and_columns_that_a_file_lacks_are_null(tmp_path, made):
    half = {k: v[:30] for k, v in made.items()}
    rest = {k: v[30:] for k, v in made.items() if k != "fact.reliability"}
    for name, part in (("night=2025-11-21", half), ("night=2025-11-22", rest)):
        (tmp_path / "s" / name).mkdir(parents=True)
        write_table(tmp_path / "s" / name / "part.parquet", part)
    read = read_score_columns(tmp_path / "s", is_wanted)
    assert read.n == len(made["alert_id"]) and np.isnan(read.numbers["fact.reliability"][30:]).all()


def test_what_is_no_table_of_scores_is_told(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputUnavailable, match="cannot be read"):
        read_score_columns(tmp_path / "x.parquet", is_wanted)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputUnavailable, match="no .parquet file"):
        read_score_columns(tmp_path / "empty", is_wanted)


def test_labels_and_marks_say_what_is_real_lensed_or_negative(tmp_path, made):
    alerts = read_alerts([write_table(tmp_path / "s.parquet", made)], write_labels(tmp_path / "l.csv", made))
    group = made["group"]
    assert np.array_equal(alerts.stream, group != 1)  # known negatives are of the stream as well
    assert np.array_equal(alerts.class_ == NEGATIVE, group == 2)
    assert set(alerts.class_[group == 1]) == {LENSED_IA, LENSED_CC}
    assert alerts.kind.one(int(np.flatnonzero(group == 2)[0])) == "agn"


def test_what_a_replay_injected_is_labelled_from_beside_its_table_and_its_share_from_its_manifest(tmp_path, made):
    path = write_table(tmp_path / "s.parquet", made)
    lensed = next(o for g, o in zip(made["group"], made["object_id"]) if g == 1)
    (tmp_path / "s.injected.csv").write_text(f"survey,object_id,class,source\nztf,{lensed},lensed_sn_ia,injected\n")
    for shard in (0, 1):
        manifest = {"settings": {"sample": 0.5}}
        (tmp_path / f"s.shard-{shard}-of-4.manifest.json").write_text(json.dumps(manifest))
    alerts = read_alerts([path])
    assert set(alerts.class_[made["object_id"] == lensed]) == {LENSED_IA}
    assert alerts.sampled == pytest.approx(0.25)  # two of four shards of a sample of a half
    assert read_alerts([path], sampled=0.1).sampled == 0.1


def test_tables_of_different_shares_are_refused_without_a_word_on_which(tmp_path, made):
    paths = [write_table(tmp_path / f"{n}.parquet", made) for n in "ab"]
    for n, share in (("a", 0.5), ("b", 0.1)):
        (tmp_path / f"{n}.manifest.json").write_text(json.dumps({"settings": {"sample": share}}))
    with pytest.raises(ConfigError, match="--sampled"):
        read_alerts(paths)
    with pytest.raises(ConfigError, match="expected a share"):
        read_alerts(paths, sampled=0.0)


def test_an_alert_in_two_tables_is_one_alert_with_the_scores_of_both(tmp_path, made):
    other = {**made, "bundle_sha256": np.full(len(made["alert_id"]), OTHER), "log_odds": made["log_odds"] + 1.0}
    order = np.random.default_rng(0).permutation(len(made["alert_id"]))
    other = {k: v[order][:40] for k, v in other.items()}
    alerts = read_alerts([write_table(tmp_path / "a.parquet", made), write_table(tmp_path / "b.parquet", other)])
    assert len(alerts) == len(made["alert_id"]) and len(set(alerts.alert_id.tolist())) == len(alerts)
    ours, theirs = alerts.bundles[BUNDLE], alerts.bundles[OTHER]
    assert theirs.judged.sum() == 40
    both = theirs.judged
    assert np.allclose(theirs.scores["log_odds"][both], ours.scores["log_odds"][both] + 1.0)
    assert np.isnan(theirs.scores["log_odds"][~both]).all()


def test_a_shadow_is_a_bundle_of_its_own_and_its_refusals_count_as_judged(tmp_path, made):
    n = len(made["alert_id"])
    scores = np.where(np.arange(n) % 2 == 0, made["log_odds"] - 1.0, np.nan)
    shaded = {
        **made,
        "shadow_bundle_sha256": np.full(n, OTHER),
        "shadow_bundle_id": np.full(n, "fresh"),
        "shadow_log_odds": scores,
    }
    alerts = read_alerts([write_table(tmp_path / "s.parquet", shaded)])
    shadow = alerts.bundles[OTHER]
    assert (shadow.id, shadow.shadow, alerts.bundles[BUNDLE].shadow) == ("fresh", True, False)
    assert shadow.judged.all() and np.isfinite(shadow.scores["log_odds"]).sum() == (n + 1) // 2


def test_objects_of_one_name_in_two_surveys_are_two_and_an_alert_without_one_is_its_own(tmp_path, made):
    part = {k: v[:4].copy() for k, v in made.items()}
    part["survey"] = np.array(["ztf", "lsst", "ztf", "ztf"])
    part["object_id"] = np.array(["7", "7", None, None], dtype=object)
    alerts = read_alerts([write_table(tmp_path / "s.parquet", part)])
    assert len(set(alerts.object.tolist())) == 4
    assert alerts.object_name[alerts.object[2]] == f"alert {part['alert_id'][2]}"


def test_nights_are_those_of_the_survey(tmp_path, made):
    part = {k: v[:3].copy() for k, v in made.items()}
    part["survey"] = np.array(["lsst", "lsst", "ztf"])
    # MJD 61095.0 UTC is 2026-02-24 (astropy); 23:30 and 09:00 UTC the next day are one night in Chile.
    part["mjd_tai"] = np.array([61095 + 23.5 / 24, 61096 + 9 / 24, 61096 + 9 / 24]) + 37 / 86400
    alerts = read_alerts([write_table(tmp_path / "s.parquet", part)])
    assert [alerts.nights[i] for i in alerts.night] == ["2026-02-24", "2026-02-24", "2026-02-25"]


def test_no_time_is_no_night(tmp_path, made):
    made["mjd_tai"][0] = np.nan
    alerts = read_alerts([write_table(tmp_path / "s.parquet", made)])
    assert alerts.night[0] == -1 and (alerts.night[1:] >= 0).all()


def test_published_records_are_a_table_too():
    from fake_scorer import alert, scores

    from dgl_broker.alert import Message
    from dgl_broker.outputs import score_record
    from dgl_broker.scores import Outcome, Verdict

    verdict = Verdict("bright", 4, False, (("reliability", 0.1), ("log_odds", 1.5)))
    records = [
        score_record(Outcome("scored", Message(b"", "t", 0, n), alert=alert(n), scores=scores(float(n)), verdicts=(verdict,)))
        for n in range(5)
    ]
    read = columns_of_records(records, "kafka:t", is_wanted)
    assert read.numbers["log_odds"].tolist() == [0, 1, 2, 3, 4] and json.loads(read.metadata["filters"]) == [
        {"name": "bright", "version": 4}
    ]
    alerts = read_alerts([read])
    assert len(alerts) == 5 and alerts.tables[0].path.name == "kafka:t"
    assert not Judge(alerts).is_ungated  # what pre-cuts refused is not published


def test_order_of_a_score_and_its_bins(tmp_path, made):
    alerts = read_alerts([write_table(tmp_path / "s.parquet", made)])
    ranked = Ranked(alerts, alerts.bundles[BUNDLE].scores["log_odds"])
    assert (np.diff(ranked.score) <= 0).all() and ranked.n_above(float(ranked.score[4])) >= 5
    inside = (ranked.score >= ranked.edges[0]) & (ranked.score < ranked.edges[-1])
    assert np.array_equal(ranked.bins[inside], np.searchsorted(ranked.edges, ranked.score[inside], side="right") - 1)
    logit = Ranked(alerts, alerts.bundles[BUNDLE].scores["p_lsn"], "p_lsn")
    assert logit.edges[0] > 0 and logit.edges[-1] < 1 and logit.is_probability and (np.diff(logit.edges) > 0).all()


def test_labels_lie_on_columns_as_they_do_on_each_alert(tmp_path, made):
    from dgl_broker.evaluation.labels import read_labels

    made["survey"] = np.where(np.arange(len(made["alert_id"])) % 5 == 0, "lsst", "ztf")
    ids, objects = made["alert_id"], made["object_id"]
    rows = [
        f"ztf,,{objects[0]},agn,eye",
        f",,{objects[0]},lensed_sn_ia,eye",
        f",,{objects[1]},bogus,TNS",
        f",,{objects[60]},lensed_sn_cc,injected",
    ]
    rows += [
        f"ztf,{ids[61]},,lensed_sn,injected",
        f",{ids[2]},,sn_ia,simulated",
        f"lsst,{ids[2]},,lens,eye",
        f",{ids[0]},,no_lens,eye",
    ]
    path = tmp_path / "l.csv"
    path.write_text("survey,alert_id,object_id,class,source\n" + "\n".join(rows) + "\n")
    alerts = read_alerts([write_table(tmp_path / "s.parquet", made)], path)
    plain = read_labels(path).of(made["survey"], ids, objects)
    assert [alerts.kind.one(n) or "" for n in range(len(alerts))] == plain.kind.tolist()
    assert np.array_equal(alerts.positive, plain.positive) and np.array_equal(alerts.class_ == NEGATIVE, plain.negative)
    assert np.array_equal(~alerts.stream, plain.simulated | made["injected"])
