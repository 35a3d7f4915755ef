"""A replay in parts: by shards, stopped and gone on with, by night, at a pace, with injections; always the same result."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from simulated import OWN_SCHEMAS, packets

from dgl_broker.archive.catalogue import ROW, Catalogue
from dgl_broker.archive.inject import make_injection
from dgl_broker.archive.kept import KeptPackets
from dgl_broker.archive.pace import Pace, parse_pace
from dgl_broker.archive.replay import Replay
from dgl_broker.archive.score_columns import read_score_columns
from dgl_broker.archive.sources import find_files
from dgl_broker.cli import main
from dgl_broker.errors import ConfigError, InputUnavailable, StateError

DATA = Path(__file__).parent / "data" / "alerts"
ROOT = Path(__file__).parents[1]
EXACT = (
    "alert_id",
    "object_id",
    "status",
    "reason",
    "verdicts",
    "stratum",
    "message_id",
    "bands_used",
    "judged_by",
    "injected",
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """30 simulated LSST alerts as a tar and as files, and two broken messages."""
    folder = tmp_path_factory.mktemp("archive")
    values = [value for value, _ in packets("lsst", 20)]
    for n, value in enumerate(values[:8]):
        (folder / f"{n:02d}.avro").write_bytes(value)
    (folder / "90.avro").write_bytes(b"\0\0\0\0\1 nothing")
    (folder / "91.avro").write_bytes(values[0][:300])
    (folder / "tarred").mkdir()
    with tarfile.open(folder / "tarred" / "night.tar.gz", "w:gz") as tar:
        for n, value in enumerate(values[8:]):
            path = folder / "one"
            path.write_bytes(value)
            tar.add(path, f"{n:02d}.avro")
    (folder / "one").unlink()
    return folder


def replay(archive, out, *args, code=0, bundle="default"):
    """Summary of a replay in this process."""
    summary = out.with_name(f"{out.name}.summary.json")
    found = main(["replay", str(archive), "--survey", "lsst", "--schemas", str(OWN_SCHEMAS), "--filters", "lensed_sn_lsst",
                  "--bundle", bundle, "--out", str(out), "--summary", str(summary), "--batch-size", "4", "--quiet",
                  *map(str, args)])  # fmt: skip
    assert found == code
    return json.loads(summary.read_text()) if summary.exists() else None


def rows_of(*paths):
    """Rows of tables by alert id."""
    rows = [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]
    assert len({row["alert_id"] for row in rows}) == len(rows)
    return {row["alert_id"]: row for row in rows}


def assert_equal(some, others, tolerance=1e-4):
    """Equal rows but for float32's rounding in batches of other company (design, property 2)."""
    assert some.keys() == others.keys()
    for key, row in some.items():
        other = others[key]
        assert [row[name] for name in EXACT] == [other[name] for name in EXACT]
        assert (row["log_odds"] is None) == (other["log_odds"] is None)
        if row["log_odds"] is not None:
            assert abs(row["log_odds"] - other["log_odds"]) <= tolerance


@pytest.fixture(scope="module")
def whole(archive, tmp_path_factory):
    """The replay in one piece: its folder and its rows."""
    folder = tmp_path_factory.mktemp("whole")
    summary = replay(archive, folder / "s.parquet", "--keep-packets", "top:5")
    assert (summary["found"], summary["consumed"], summary["dead_lettered"]) == (22, 22, 2) and summary["scored"] > 5
    return folder, rows_of(folder / "s.parquet")


def interrupted(monkeypatch, after):
    """A replay fails after so many batches."""
    real, done = Replay._one, []

    def one(self, n, messages, keeper):
        if len(done) == after:
            raise StateError("as if the disk were full")
        done.append(n)
        real(self, n, messages, keeper)

    monkeypatch.setattr(Replay, "_one", one)
    return done


def files_of(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and "summary" not in p.name}


def test_stopped_anywhere_it_goes_on_and_the_result_is_the_same_to_the_bit(archive, whole, tmp_path, monkeypatch):
    out = tmp_path / "s.parquet"
    for after in (0, 1, 3):
        with monkeypatch.context() as patch:
            done = interrupted(patch, after)
            replay(archive, out, "--keep-packets", "top:5", code=6)
        assert len(done) == after and not out.exists() and (tmp_path / "s.ledger").exists()
    summary = replay(archive, out, "--keep-packets", "top:5")
    assert summary["resumed_at"] == 16 and summary["consumed"] == 22
    # Parquet, dead letters and index, bit by bit.
    mine, other = files_of(tmp_path), files_of(whole[0])
    for name in ("s.parquet", "index.jsonl", "00000000.bin", "00000001.bin"):
        assert mine[name] == other[name], name
    assert not (tmp_path / "s.ledger").exists() and not (tmp_path / "s.kept.part").exists()
    with KeptPackets.beside(out) as kept, KeptPackets.beside(whole[0] / "s.parquet") as all_at_once:
        assert kept.ids() == all_at_once.ids() and len(kept) == 5
        assert [kept.value(*key) for key in kept.ids()] == [all_at_once.value(*key) for key in kept.ids()]


KILLED = """
import os, signal, sys
from dgl_broker.archive.replay import Replay
from dgl_broker.cli import main
settle = Replay._one
def one(self, n, messages, keeper):
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    settle(self, n, messages, keeper)
Replay._one = one
main(sys.argv[1:])
"""


def test_a_process_that_is_killed_goes_on_where_it_was(archive, whole, tmp_path):
    out = tmp_path / "s.parquet"
    args = ["replay", str(archive), "--survey", "lsst", "--schemas", str(OWN_SCHEMAS), "--filters", "lensed_sn_lsst", "--out",
            str(out), "--batch-size", "4", "--quiet"]  # fmt: skip
    killed = subprocess.run([sys.executable, "-c", KILLED, *args], cwd=ROOT, timeout=600)
    assert killed.returncode == -signal.SIGKILL and not out.exists() and (tmp_path / "s.ledger").exists()
    summary = tmp_path / "summary.json"
    assert main([*args, "--summary", str(summary)]) == 0 and json.loads(summary.read_text())["resumed_at"] == 12
    assert_equal(rows_of(out), whole[1], tolerance=0.0)


def test_a_signal_ends_after_the_batch_in_hand(archive, tmp_path, monkeypatch, capsys):
    settle = Replay._one

    def one(self, n, messages, keeper):
        if n == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        settle(self, n, messages, keeper)

    monkeypatch.setattr(Replay, "_one", one)
    assert replay(archive, tmp_path / "s.parquet", code=128 + signal.SIGTERM)["consumed"] == 8
    said = capsys.readouterr().out
    assert "the same command goes on" in said and "selected 22 = consumed 8 + still to do 14" in said
    assert not (tmp_path / "s.parquet").exists()


@pytest.mark.parametrize("how", [[], ["--by-night"]])
def test_shards_together_are_the_whole(archive, whole, tmp_path, how, monkeypatch):
    out = tmp_path / "scores"
    summaries = []
    for i in range(3):
        if i == 1:
            with monkeypatch.context() as patch:
                interrupted(patch, 1)
                replay(archive, out, "--shard", "1/3", *how, code=6)
        summaries.append(replay(archive, out, "--shard", f"{i}/3", *how))
    assert_equal(rows_of(*out.rglob("*.parquet")), whole[1])
    assert sum(s["dead_lettered"] for s in summaries) == 2
    for s in summaries:
        assert s["found"] == s["selected"] + sum(s["left_out"].values()) if "left_out" in s else True
    names = {p.name for p in out.rglob("*.parquet")}
    assert names == {f"shard-{i}-of-3.parquet" for i in range(3)}
    assert all(p.parent.name.startswith("night=") for p in out.rglob("*.parquet")) == bool(how)
    table = read_score_columns(out, lambda name: name in ("log_odds", "alert_id"))
    assert table.n == len(whole[1])


def test_shards_by_source_read_their_own_files_alone_and_are_the_whole(archive, whole, tmp_path, capsys):
    out, n_files = tmp_path / "scores", len(find_files([archive]))
    assert n_files > 3
    summaries = [replay(archive, out, "--shard", f"{i}/3", "--shard-by", "source") for i in range(3)]
    assert_equal(rows_of(*out.rglob("*.parquet")), whole[1])
    assert [sum(s[what] for s in summaries) for what in ("found", "consumed", "dead_lettered")] == [22, 22, 2]
    read = [one["name"] for path in tmp_path.glob("*.manifest.json") for one in json.loads(path.read_text())["inputs"]]
    assert len(read) == len(set(read)) == n_files  # each file by one shard
    # Another way to part the archive, or another archive, beside those: alerts would be missing or there twice.
    capsys.readouterr()
    replay(archive, out, "--shard", "0/3", code=2)
    assert "shard_by 'source', here 'object'" in capsys.readouterr().err
    replay(archive / "tarred", out, "--shard", "0/3", "--shard-by", "source", code=2)
    (archive / "new.avro").write_bytes(b"\0\0\0\0\2 another")
    try:
        capsys.readouterr()
        replay(archive, out, "--shard", "0/3", "--shard-by", "source", code=2)
        assert f"of_sources {n_files}, here {n_files + 1}" in capsys.readouterr().err
    finally:
        (archive / "new.avro").unlink()
    replay(archive, out, "--shard", "0/3", "--shard-by", "source")  # the same again is no other
    replay(archive, tmp_path / "many", "--shard", f"0/{n_files + 1}", "--shard-by", "source", code=2)
    assert f"{n_files} sources, expected {n_files + 1} or more" in capsys.readouterr().err
    for option in (["--companions"], ["--inject", "1"]):
        replay(archive, tmp_path / "other", "--shard", "0/2", "--shard-by", "source", *option, code=2)
        assert option[0].strip("-")[:6] in capsys.readouterr().err


def test_nights_are_those_of_the_survey(archive, tmp_path, whole):
    from dgl_broker.nights import night_of

    out = tmp_path / "nights"
    replay(archive, out, "--by-night")
    for path in out.rglob("*.parquet"):
        for row in pq.read_table(path, partitioning=None).to_pylist():
            assert path.parent.name == f"night={night_of('lsst', row['mjd_tai'])}"
    assert_equal(rows_of(*out.rglob("*.parquet")), whole[1], tolerance=0.0)


def test_a_ledger_of_other_things_is_not_gone_on_with(archive, tmp_path, monkeypatch, capsys):
    out = tmp_path / "s.parquet"
    with monkeypatch.context() as patch:
        interrupted(patch, 2)
        replay(archive, out, code=6)
    capsys.readouterr()
    replay(archive, out, "--ungated", code=2)
    assert "ungated was false, is true" in capsys.readouterr().err
    (archive / "new.avro").write_bytes(b"\0\0\0\0\2 another")
    try:
        replay(archive, out, code=2)
        assert "inputs was" in capsys.readouterr().err
        assert replay(archive, out, "--restart")["dead_lettered"] == 3
    finally:
        (archive / "new.avro").unlink()


def test_the_manifest_says_what_it_was_made_of(archive, whole):
    manifest = json.loads((whole[0] / "s.manifest.json").read_text())
    for one in manifest["inputs"]:
        assert one["sha256"] == hashlib.sha256(Path(one["name"]).read_bytes()).hexdigest()
    assert sum(one["messages"] for one in manifest["inputs"]) == 22
    (table,) = manifest["outputs"]
    assert table["sha256"] == hashlib.sha256(Path(table["name"]).read_bytes()).hexdigest() and table["rows"] == 20
    assert manifest["settings"]["bundle_sha256"] == manifest["accounts"]["bundle_sha256"]
    assert manifest["settings"]["batch_size"] == 4 and manifest["filters"][0]["name"] == "lensed_sn_lsst"
    assert manifest["software"]["torch"] and manifest["settings"]["keep_packets"] == "top:5"


def test_a_window_objects_and_a_sample_are_parts_of_the_whole(archive, whole, tmp_path):
    rows = sorted(whole[1].values(), key=lambda row: row["mjd_tai"])
    objects = sorted({row["object_id"] for row in rows if row["object_id"]})[:2]
    (tmp_path / "objects.txt").write_text(f"# two of them\n{objects[0]}\n\n{objects[1]}  # a note\n")
    summary = replay(archive, tmp_path / "o.parquet", "--objects", tmp_path / "objects.txt")
    assert set(rows_of(tmp_path / "o.parquet")) == {row["alert_id"] for row in rows if row["object_id"] in objects}
    assert summary["selected"] == summary["consumed"] and summary["found"] == 22
    from dgl_broker.html.alert_words import utc

    middle = rows[len(rows) // 2]
    text = utc(middle["mjd_tai"] - 1 / 86400).replace(" UTC", "").replace(" ", "T")
    replay(archive, tmp_path / "f.parquet", "--from", text)
    assert set(rows_of(tmp_path / "f.parquet")) == {row["alert_id"] for row in rows if row["mjd_tai"] >= middle["mjd_tai"]}


def test_the_closing_summary_balances(archive, tmp_path, capsys):
    replay(archive, tmp_path / "s.parquet", "--shard", "0/1", "--sample", "0.5")
    said = capsys.readouterr().out.splitlines()
    found = [int(word) for word in said[0].replace("=", "+").split() if word.isdecimal()]
    assert said[0].startswith("found 22 = ") and found[0] == sum(found[1:])
    consumed = [int(word) for word in said[1].split() if word.isdecimal()]
    assert consumed[0] == sum(consumed[1:])


@pytest.mark.parametrize(
    "option, says",
    [
        (["--shard", "4/4"], "--shard 4/4"), (["--sample", "0"], "--sample"), (["--speed", "fast"], "--speed fast"),
        (["--speed", "2x", "--rate", "5"], "one of them"), (["--rate", "0/s"], "--rate"), (["--from", "yesterday"], "--from"),
        (["--from", "2026-01-02", "--to", "2026-01-01"], "ends after"), (["--to-kafka"], "--config"),
        (["--keep-packets", "best"], "--keep-packets"), (["--live-records", "x"], "--verdicts then"),
        (["--objects", "/nowhere/ids"], "ids"), (["--verdicts", "/nowhere.yaml"], "nowhere"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_told(archive, tmp_path, capsys, option, says):
    args = ["replay", str(archive), "--survey", "lsst", "--out", str(tmp_path / "s.parquet")]
    assert main([*args, *option]) in (2, 3) and says in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_topic_needs_a_configuration(tmp_path, capsys):
    assert main(["replay", "kafka:topic", "--survey", "lsst", "--out", str(tmp_path / "s.parquet")]) == 2
    assert "--config" in capsys.readouterr().err


# Pace


def test_batches_are_cut_by_numbers_and_times_alone():
    mjd = 60000 + np.array([0, 0.1, 0.2, 5.0, 5.1, 5.15, 30.0, 31.5, np.inf, np.inf]) / 86400
    assert Pace().edges(mjd, 4).tolist() == [0, 4, 8, 10]
    assert Pace(rate=3.0).edges(mjd, 256).tolist() == [0, 3, 6, 9, 10]
    # At the alerts' own speed a batch holds a second; those without a time come last, together.
    assert Pace(speed=1.0).edges(mjd, 256).tolist() == [0, 3, 6, 7, 8, 10]
    assert Pace(speed=10.0).edges(mjd, 256).tolist() == [0, 6, 8, 10]
    assert Pace(speed=10.0).edges(mjd, 2).tolist() == [0, 2, 4, 6, 8, 10]
    assert Pace().edges(np.zeros(0), 4).tolist() == [0]


def test_a_clock_holds_batches_back_until_they_are_due(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("dgl_broker.archive.pace.time.monotonic", lambda: now[0])
    mjd = 60000 + np.array([0.0, 20.0, 40.0, np.inf]) / 86400
    clock = Pace(speed=10.0).clock(mjd, 1)
    # From the second alert on: the third is due 20 s later, at ten times the speed 2 s.
    assert clock.due_in(3) == pytest.approx(2.0, abs=1e-4) and clock.due_in(4) == 0.0
    now[0] += 1.5
    assert clock.due_in(3) == pytest.approx(0.5, abs=1e-4)
    assert Pace(rate=4.0).clock(mjd, 0).due_in(4) == pytest.approx(1.0)
    assert Pace().clock(mjd, 0).due_in(4) == 0.0


def test_paces_are_read_as_people_write_them():
    assert parse_pace("10x", None) == Pace(10.0) and parse_pace(None, "256/s") == Pace(None, 256.0)
    assert parse_pace("0.5", None) == Pace(0.5) and parse_pace(None, None) == Pace()
    with pytest.raises(ConfigError):
        parse_pace("-1x", None)


# Injections


def test_injected_supernovae_are_marked_and_lie_where_the_archive_looked(archive, whole, tmp_path):
    out = tmp_path / "s.parquet"
    summary = replay(archive, out, "--inject", "4", "--ungated")
    rows = rows_of(out)
    mine = {i: row for i, row in rows.items() if row["injected"]}
    assert summary["injected"] == len(mine) >= 4 and all(row["source"].startswith("injected:") for row in mine.values())
    real = {i: row for i, row in rows.items() if not row["injected"]}
    assert set(real) == set(whole[1])
    for i, row in real.items():
        if row["log_odds"] is not None and whole[1][i]["log_odds"] is not None:
            assert abs(row["log_odds"] - whole[1][i]["log_odds"]) < 1e-4
    times = [row["mjd_tai"] for row in real.values()]
    assert all(min(times) - 1e-9 <= row["mjd_tai"] <= max(times) + 1e-9 for row in mine.values())
    # One detection of each system falls on an exposure of the archive, at a real alert's place.
    exposures = {(round(row["mjd_tai"], 8), row["band"]) for row in real.values()}
    systems = {row["source"] for row in mine.values()}
    on = {row["source"] for row in mine.values() if (round(row["mjd_tai"], 8), row["band"]) in exposures}
    assert len(systems) == 4 and on == systems
    labels = list(csv.DictReader((tmp_path / "s.injected.csv").read_text().splitlines()))
    assert {int(label["alert_id"]) for label in labels} == set(mine)
    assert {label["class"] for label in labels} == {"lensed_sn_ia", "lensed_sn_cc"} and labels[0]["source"] == "injected"
    from dgl_broker.evaluation.labels import read_labels

    found = read_labels(tmp_path / "s.injected.csv").of(["lsst"] * len(mine), list(mine), [None] * len(mine))
    assert found.positive.all() and found.simulated.all()


def test_no_injection_is_put_at_a_time_at_which_every_alert_is_refused():
    rows = np.zeros(3, ROW)
    rows["mjd_tai"], rows["ra"], rows["band"] = [1.7e9, 61000.25, np.inf], [10.0, 20.0, 30.0], 2  # schema 7's made-up packets
    injection = make_injection("2", 1, Catalogue([], rows, []), "lsst")
    labels = list(injection.labels())
    assert {label["mjd_tai"] for label in labels} == {61000.25} and len({label["system"] for label in labels}) == 2
    with pytest.raises(InputUnavailable, match="no alert whose position"):
        make_injection("2", 1, Catalogue([], rows[:1], []), "lsst")


def test_every_shard_injects_the_same_and_each_once(archive, tmp_path):
    whole = tmp_path / "w.parquet"
    replay(archive, whole, "--inject", "3")
    for i in range(2):
        replay(archive, tmp_path / "parts", "--inject", "3", "--shard", f"{i}/2")
    assert_equal(rows_of(*(tmp_path / "parts").rglob("*.parquet")), rows_of(whole))


def test_a_folder_of_the_simulator_is_injected(archive, tmp_path):
    from dgl_broker.sim.packet_files import write_packet_files

    write_packet_files("lsst", 2, 7, tmp_path / "sims", mix="lensed_sn_ia=1", alerts_per_object=3, workers=1)
    with open(tmp_path / "sims" / "labels.csv") as file:
        known = {int(row["alert_id"]) for row in csv.DictReader(file)}
    replay(archive, tmp_path / "s.parquet", "--inject", tmp_path / "sims")
    injected = {i for i, row in rows_of(tmp_path / "s.parquet").items() if row["injected"]}
    assert injected and injected <= known


def test_companions_are_the_same_after_a_stop(archive, tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    replay(archive, tmp_path / "a" / "s.parquet", "--companions")
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        replay(archive, tmp_path / "b" / "s.parquet", "--companions", code=6)
    replay(archive, tmp_path / "b" / "s.parquet", "--companions")
    assert (tmp_path / "a" / "s.parquet").read_bytes() == (tmp_path / "b" / "s.parquet").read_bytes()
