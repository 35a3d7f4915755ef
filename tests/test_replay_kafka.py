"""Live = replay, on Apache Kafka: the same alerts through `run` and through `replay` give equal scores, reasons, verdicts.

Whole, sharded, stopped and gone on with; from files and from the topic itself; with the bundle and the filter that ship.
"""

import json

import pyarrow.parquet as pq
import pytest
from kafka import flow
from simulated import packets

from dgl_broker.archive.kept import KeptPackets
from dgl_broker.archive.replay import Replay
from dgl_broker.cli import main
from dgl_broker.errors import StateError

pytestmark = pytest.mark.kafka
N_TEMPLATES, N_PARTITIONS = 60, 3
# A replay's batches have other company than the stream's: log-odds to 1e-4, probabilities to 1e-6 (design, property 2).
LOG_ODDS, PROBABILITY = 1e-4, 1e-6
EXACT = ("survey", "alert_id", "object_id", "mjd_tai", "ra", "dec", "band", "status", "reason", "stratum", "bands_used",
         "n_epochs", "companion_alert_ids", "bundle_id", "bundle_sha256", "calibration_id", "device", "precision",
         "message_id", "prevalence")  # fmt: skip
PROBABILITIES = ("p_no_lens", "p_lens", "p_lensed_sn_ia", "p_lensed_sn_cc", "p_lsn", "posterior", "p_value")
CLOSE = {"log_odds": LOG_ODDS, "spread": LOG_ODDS, **dict.fromkeys(PROBABILITIES, PROBABILITY)}


def inputs():
    """20 simulated alerts, 60 made of real ones, all different, and three that cannot be read."""
    templates = flow.ZtfTemplates()
    values = [value for value, _ in packets("ztf", 20)] + [templates.packet(n) for n in range(N_TEMPLATES)]
    return [*values[:11], values[0][:9000], *values[11:], b"Obj\x01 no more", b"no packet"]


@pytest.fixture(scope="module")
def night(kafka, tmp_path_factory):
    """What the stream said: the configuration, score records by alert id, dead letters, and where all that lies."""
    folder = tmp_path_factory.mktemp("night")
    values = inputs()
    (folder / "files").mkdir()
    for n, value in enumerate(values):
        (folder / "files" / f"{n:03d}.avro").write_bytes(value)
    config = folder / "broker.yaml"
    settings = {
        "survey": "ztf",
        "kafka": {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "night"},
        "input": {"topics": ["night.in"]},
        "output": {"scores": "night.scores", "candidates": "night.candidates", "dead_letters": "night.dead", "refused": "all"},
        "batch": {"max_alerts": 32, "max_wait_s": 0.2},
    }
    config.write_text(json.dumps(settings))
    kafka.create_topic("night.in", N_PARTITIONS)
    flow.produce(kafka.bootstrap_servers, "night.in", values, N_PARTITIONS)
    run = flow.Filter(folder / "run", config, "--until-eof", "--keep-packets", "top:10", "--keep-folder", str(folder / "kept"))
    assert run.wait() == 0, run.log
    records = {r["alert_id"]: r for r in flow.containers(flow.read_topic(kafka.bootstrap_servers, "night.scores"))}
    assert len(records) == 80 and {r["status"] for r in records.values()} == {"scored", "refused"}
    dead = flow.containers(flow.read_topic(kafka.bootstrap_servers, "night.dead"))
    assert len(dead) == 3
    return kafka, folder, config, records, dead


def replay(night, out, *args, sources=None, code=0):
    _, folder, config, *_ = night
    sources = sources or [str(folder / "files")]
    found = main(["replay", *sources, "--config", str(config), "--out", str(out), "--quiet", "--batch-size", "16",
                  *map(str, args)])  # fmt: skip
    assert found == code


def check(night, *tables):
    """Rows of these tables are what the stream said; they are returned by alert id."""
    records = night[3]
    rows = [row for table in tables for row in pq.read_table(table, partitioning=None).to_pylist()]
    assert sorted(row["alert_id"] for row in rows) == sorted(records)
    for row in rows:
        live = records[row["alert_id"]]
        assert {name: row[name] for name in EXACT} == {name: live[name] for name in EXACT}
        for name, tolerance in CLOSE.items():
            assert (row[name] is None) == (live[name] is None)
            assert row[name] is None or abs(row[name] - live[name]) <= tolerance, name
        assert len(row["member_p_lsn"]) == len(live["member_p_lsn"])
        assert all(abs(a - b) <= PROBABILITY for a, b in zip(row["member_p_lsn"], live["member_p_lsn"]))
        verdicts = json.loads(row["verdicts"])
        assert [(v["filter"], v["version"], v["passed"]) for v in verdicts] == [
            (v["filter"], v["version"], v["passed"]) for v in live["verdicts"]
        ]
        assert [[f["criterion"] for f in v["failed"]] for v in verdicts] == [
            [f["criterion"] for f in v["failed"]] for v in live["verdicts"]
        ]
    return {row["alert_id"]: row for row in rows}


def dead_letters(*folders):
    return [json.loads(line) for f in folders for line in (f / "index.jsonl").read_text().splitlines() if f.exists()]


def test_files_replayed_whole_say_what_the_stream_said(night, tmp_path):
    replay(night, tmp_path / "s.parquet")
    check(night, tmp_path / "s.parquet")
    letters = dead_letters(tmp_path / "s.deadletters")
    assert sorted(d["reason"] for d in letters) == sorted(d["reason"] for d in night[4])
    bytes_kept = {(tmp_path / "s.deadletters" / d["file"]).read_bytes() for d in letters}
    assert bytes_kept == {d["value"] for d in night[4]}


def test_the_topic_replayed_says_what_the_stream_said_and_from_where(night, tmp_path):
    replay(night, tmp_path / "s.parquet", sources=["kafka:night.in"])
    rows = check(night, tmp_path / "s.parquet")
    for alert_id, row in rows.items():
        assert (row["source"], row["source_row"]) == (night[3][alert_id]["source"], night[3][alert_id]["source_row"])
    manifest = json.loads((tmp_path / "s.manifest.json").read_text())
    assert sum(one["end_offset"] - one["first_offset"] for one in manifest["inputs"]) == 83


def test_ranges_of_offsets_and_of_times_are_parts_of_the_topic(night, tmp_path):
    replay(night, tmp_path / "a.parquet", sources=["kafka:night.in[0]@0..5", "kafka:night.in[0]@5..", "kafka:night.in[1]"])
    replay(night, tmp_path / "b.parquet", sources=["kafka:night.in[2]"])
    check(night, tmp_path / "a.parquet", tmp_path / "b.parquet")
    replay(night, tmp_path / "t.parquet", sources=["kafka:night.in@2020-01-01..2100-01-01"])
    check(night, tmp_path / "t.parquet")
    replay(night, tmp_path / "none.parquet", sources=["kafka:night.in@2020-01-01..2020-01-02"])
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_shards_one_of_them_stopped_and_gone_on_with_say_what_the_stream_said(night, tmp_path, monkeypatch):
    out = tmp_path / "scores"
    for i in range(3):
        if i == 1:
            with monkeypatch.context() as patch:
                real, done = Replay._one, []

                def one(self, n, messages, keeper, real=real, done=done):
                    if len(done) == 1:
                        raise StateError("as if the disk were full")
                    done.append(n)
                    real(self, n, messages, keeper)

                patch.setattr(Replay, "_one", one)
                replay(night, out, "--shard", "1/3", "--by-night", code=6)
        replay(night, out, "--shard", f"{i}/3", "--by-night")
    check(night, *sorted(out.rglob("*.parquet")))
    letters = dead_letters(*tmp_path.glob("scores.shard-*.deadletters"))
    assert sorted(d["reason"] for d in letters) == sorted(d["reason"] for d in night[4])


def test_a_replay_publishes_the_same_records_to_topics_of_another_name(night, tmp_path):
    kafka, _, config, records, dead = night
    replay(night, tmp_path / "s.parquet", "--to-kafka", "--inject", "2")
    published = flow.containers(flow.read_topic(kafka.bootstrap_servers, "replay.night.scores"))
    assert {r["alert_id"]: r["message_id"] for r in published} == {i: r["message_id"] for i, r in records.items()}
    again = flow.containers(flow.read_topic(kafka.bootstrap_servers, "replay.night.dead"))
    assert sorted(d["value_sha256"] for d in again) == sorted(d["value_sha256"] for d in dead)
    # What was injected stands in the table and nowhere else.
    rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
    injected = {row["alert_id"] for row in rows if row["injected"]}
    assert injected and not injected & {r["alert_id"] for r in published}
    live = flow.read_topic(kafka.bootstrap_servers, "night.scores")
    assert len(live) == 80


def test_kafka_alone_is_a_sink_with_a_ledger_of_its_own(night, tmp_path, capsys):
    kafka, folder, config, records, _ = night
    args = ["replay", str(folder / "files"), "--config", str(config), "--to-kafka", "--topic-prefix", "again.", "--quiet"]
    assert main(args) == 2 and "--ledger" in capsys.readouterr().err
    assert main([*args, "--ledger", str(tmp_path / "again.ledger")]) == 0
    published = flow.containers(flow.read_topic(kafka.bootstrap_servers, "again.night.scores"))
    assert {r["alert_id"] for r in published} == set(records)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["again.manifest.json"]


def test_the_stream_kept_the_best_as_a_replay_does(night, tmp_path):
    replay(night, tmp_path / "s.parquet", "--keep-packets", "all")
    with KeptPackets.open(night[1] / "kept") as live, KeptPackets.beside(tmp_path / "s.parquet") as kept:
        assert len(kept) == 80 and len(live) > 0 and set(live.ids()) <= set(kept.ids())
        for key in live.ids():
            assert live.value(*key) == kept.value(*key)


def test_live_records_name_the_filter_of_then(night, tmp_path):
    replay(night, tmp_path / "s.parquet", "--verdicts", "then", "--live-records", "kafka:night.scores")
    rows = check(night, tmp_path / "s.parquet")
    by = {row["judged_by"] for row in rows.values() if row["status"] == "scored"}
    assert by == {"then"}


def test_a_replay_is_validated_against_the_live_stream(night, tmp_path):
    replay(night, tmp_path / "s.parquet")
    args = ["validate", str(tmp_path / "s.parquet"), "--against", "kafka:night.scores", "--config", str(night[2])]
    assert main([*args, "--out", str(tmp_path / "report")]) == 0
    found = json.loads((tmp_path / "report" / "report.json").read_text())["against"]
    assert found["alerts"] == {"both": 80, "only_after": 0, "only_before": 0}
    assert found["scores"]["equal"]["k"] == found["scores"]["n"] > 10 and found["status"] == []
    assert found["entering"]["objects"] == found["leaving"]["objects"] == 0
    assert found["drift"]["alerts"]["ks"] < 0.05 and found["bundles"]["after"] == found["bundles"]["before"]
