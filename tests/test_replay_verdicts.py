"""A replay judged by the filters of then: those that live records name, else those that the audit log had in force."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import flow
from simulated import OWN_SCHEMAS, packets

from dgl_broker.archive.verdicts import live_verdicts
from dgl_broker.cli import main
from dgl_broker.selection import read_filter
from dgl_broker.selection.audit import activate

UNIX_DAY_MJD = 40587  # MJD of 1970-01-01


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """An archive of 20 alerts, a tiny bundle, and a filter with a log: version 4 passed all, 5 none, 6 those above a middle."""
    folder = tmp_path_factory.mktemp("night")
    (folder / "in").mkdir()
    for n, (value, _) in enumerate(packets("lsst", 20)):
        (folder / "in" / f"{n:02d}.avro").write_bytes(value)
    bundle = flow.tiny_bundle(folder / "bundle", "lsst", 0.2)
    path = flow.filter_file(folder / "f.yaml", "lsst", {"is_positive": {"equals": True}}, 600.0, bundle.sha256)
    rows = replay(folder, folder / "all.parquet", "--verdicts", "now")
    scored = sorted((row for row in rows if row["status"] == "scored"), key=lambda row: row["mjd_tai"])
    assert len(scored) > 6
    seconds = [(row["mjd_tai"] - UNIX_DAY_MJD) * 86400 for row in scored]
    middle = sorted(row["log_odds"] for row in scored)[len(scored) // 2]
    at = (seconds[0] - 3600, 0.5 * (seconds[2] + seconds[3]), 0.5 * (seconds[-3] + seconds[-2]))
    for threshold, when in zip((-600.0, 600.0, middle), at):
        before = read_filter(path)
        activate(path, replace(before, threshold=threshold), "a test", "to see", before.version, clock=lambda when=when: when)
    assert read_filter(path).version == 6
    return folder, scored, middle, at


def replay(folder, out, *args, code=0):
    found = main(["replay", str(folder / "in"), "--survey", "lsst", "--schemas", str(OWN_SCHEMAS), "--bundle",
                  str(folder / "bundle"), "--out", str(out), "--quiet",
                  *([] if "/" in str(args[1]) else ["--filters", str(folder / "f.yaml")]), *map(str, args)])  # fmt: skip
    assert found == code
    return pq.read_table(out).to_pylist() if code == 0 else None


def verdict(row):
    (found,) = json.loads(row["verdicts"])
    return found["version"], found["passed"]


def test_today_is_the_default_and_said(night, tmp_path):
    folder, scored, middle, _ = night
    rows = [row for row in replay(folder, tmp_path / "s.parquet", "--verdicts", "now") if row["status"] == "scored"]
    assert {row["judged_by"] for row in rows} == {"now"}
    assert all(verdict(row) == (6, row["log_odds"] >= middle) for row in rows)


def test_without_live_records_the_logs_times_decide_and_are_marked_approximate(night, tmp_path):
    folder, scored, middle, at = night
    rows = replay(folder, tmp_path / "s.parquet", "--verdicts", "then", "--batch-size", "3")
    assert {row["judged_by"] for row in rows} == {"then_approximate"}
    seen = set()
    for row in rows:
        if row["status"] != "scored":
            continue
        # TAI is 37 s ahead of UTC; the versions lie hours apart from any alert.
        seconds = (row["mjd_tai"] - UNIX_DAY_MJD) * 86400 - 37
        version = 4 if seconds < at[1] else 5 if seconds < at[2] else 6
        assert verdict(row) == (version, {4: True, 5: False, 6: row["log_odds"] >= middle}[version])
        seen.add(version)
    assert seen == {4, 5, 6}


def test_a_live_record_is_believed_over_the_logs_times(night, tmp_path):
    folder, scored, _, _ = night
    named = {row["alert_id"]: 5 for row in scored[:2]}
    records = [{"alert_id": i, "verdicts": json.dumps([{"filter": "f", "version": v}])} for i, v in named.items()]
    records.append({"alert_id": scored[2]["alert_id"], "verdicts": "[]"})  # a refusal names none
    (tmp_path / "live").mkdir()
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "live" / "part.parquet")
    rows = replay(folder, tmp_path / "s.parquet", "--verdicts", "then", "--live-records", tmp_path / "live")
    for row in rows:
        if row["alert_id"] in named:
            assert (row["judged_by"], verdict(row)) == ("then", (5, False))
        else:
            assert row["judged_by"] == "then_approximate"


def test_a_given_filter_judges_alone_and_is_said(night, tmp_path):
    folder, scored, middle, _ = night
    path = flow.filter_file(tmp_path / "strict.yaml", "lsst", {"snr": {"min": 1e9}}, 0.0)
    rows = replay(folder, tmp_path / "s.parquet", "--verdicts", path)
    assert {row["judged_by"] for row in rows} == {"file"}
    assert {row["reason"] for row in rows if row["status"] == "refused"} >= {"precut.snr"}


def test_filters_of_then_that_were_tuned_for_another_bundle_are_refused(night, tmp_path, capsys):
    folder, *_ = night
    other = flow.filter_file(tmp_path / "f.yaml", "lsst", {}, 0.0, "ab" * 32)
    assert main(["replay", str(folder / "in"), "--survey", "lsst", "--schemas", str(OWN_SCHEMAS), "--bundle",
                 str(folder / "bundle"), "--filters", str(other), "--out", str(tmp_path / "s.parquet"), "--verdicts", "then",
                 "--quiet"]) == 7  # fmt: skip
    assert "ab" * 32 in capsys.readouterr().err


def test_live_records_that_name_an_unknown_filter_or_version_are_told(night, tmp_path, capsys):
    folder, scored, *_ = night
    for name, version, says in (("g", 1, "name g"), ("f", 99, "no version 99")):
        records = [{"alert_id": scored[0]["alert_id"], "verdicts": json.dumps([{"filter": name, "version": version}])}]
        pq.write_table(pa.Table.from_pylist(records), tmp_path / "live.parquet")
        replay(folder, tmp_path / "s.parquet", "--verdicts", "then", "--live-records", tmp_path / "live.parquet", code=2)
        assert says in capsys.readouterr().err


def test_of_several_live_records_the_last_published_counts():
    records = [
        {"alert_id": 1, "verdicts": [{"filter": "f", "version": 2}], "published_ms": 20},
        {"alert_id": 1, "verdicts": [{"filter": "f", "version": 1}], "published_ms": 10},
        {"alert_id": 2, "verdicts": None, "published_ms": 10},
    ]
    assert live_verdicts(records) == {1: (("f", 2),)}
