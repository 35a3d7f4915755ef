"""A change of a filter reaches a running `dgl-broker run` on Apache Kafka: two workers, alerts coming all the while.

One run for the whole story: activated, with a worker that lags, rolled back; then a replay judges each alert as it was judged.
"""

import json
import os
import re
import signal
import threading
import time

import pyarrow.parquet as pq
import pytest
from kafka import flow

from dgl_broker.cli import main
from dgl_broker.model.card import CARD, bundle_sha256, read_card
from dgl_broker.selection import load_filter
from dgl_broker.selection.status import read_workers

pytestmark = pytest.mark.kafka
NAME, N_PARTITIONS = "tuned", 4
FIRST = 3  # version of the filter that it starts with
LOW, HIGH = -600.0, 600.0  # natural log-odds that all and that none of the scores reach


class Running:
    """The filter with two workers, its filter's file, and alerts sent to it."""

    def __init__(self, kafka, folder):
        self.kafka, self.folder, self.sent = kafka, folder, 0
        self.templates = flow.ZtfTemplates()
        bundle = flow.tiny_bundle(folder / "bundle", "ztf", 1.01)
        sha256 = bundle_sha256(read_card((folder / "bundle" / CARD).read_bytes(), str(bundle)))
        (folder / "filters").mkdir()
        self.file = flow.filter_file(folder / "filters" / "line.yaml", "ztf", {}, LOW, sha256)
        self.status = self.file.parent / "status"
        kafka.create_topic(f"{NAME}.in", N_PARTITIONS)
        topics = {key: f"{NAME}.{key}" for key in ("scores", "candidates", "dead_letters")}
        for topic in topics.values():
            kafka.create_topic(topic)
        self.config = folder / "broker.yaml"
        self.config.write_text(
            json.dumps(  # JSON is YAML
                {
                    "survey": "ztf",
                    "bundle": "./bundle",
                    "filters": ["./filters/line.yaml"],
                    "kafka": {"bootstrap.servers": kafka.bootstrap_servers, "group.id": NAME},
                    "input": {"topics": [f"{NAME}.in"]},
                    "output": {**topics, "refused": "all"},
                    "batch": {"max_alerts": 8, "max_wait_s": 0.05},
                }
            )
        )
        self.process = flow.Filter(folder / "run", self.config, "--workers", "2")

    def send(self, n):
        """`n` alerts that nobody has seen."""
        packets = [self.templates.packet(i) for i in range(self.sent, self.sent + n)]
        flow.produce(self.kafka.bootstrap_servers, f"{NAME}.in", packets, N_PARTITIONS)
        self.sent += n

    def records(self):
        """The record of every alert, once all that were sent have one; in order of the input."""
        found = {}

        def whole():
            messages = flow.read_topic(self.kafka.bootstrap_servers, f"{NAME}.scores")
            found.update({r["alert_id"]: r for r in flow.containers(messages)})
            return len(found) == self.sent

        wait_until(whole)
        return sorted(found.values(), key=lambda r: (r["source"], r["source_row"]))

    def scored(self):
        """alert id -> (version, passed) of every scored alert so far."""
        return {r["alert_id"]: verdict(r) for r in self.records() if r["status"] == "scored"}

    def workers(self, version):
        """Whether both workers say that they judge by this version."""
        return [w.versions.get("line") for w in read_workers(self.status)] == [version, version]

    def tune(self, *args):
        """`dgl-broker tune` on what the filter has published."""
        return main(["tune", *map(str, args), "--config", str(self.config), "--scores", f"kafka:{NAME}.scores"])


def verdict(record):
    (one,) = record["verdicts"]
    return one["version"], one["passed"]


def wait_until(what, seconds=flow.PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.2)


@pytest.fixture
def running(kafka, tmp_path):
    one = Running(kafka, tmp_path)
    yield one
    if one.process.process.poll() is None:
        one.process.process.kill()
        one.process.wait(20)


def test_a_change_is_judged_by_in_seconds_and_every_score_says_by_which_version(running, tmp_path, capsys):
    wait_until(lambda: running.workers(FIRST) or running.process.process.poll() is not None)
    running.send(20)
    assert set(running.scored().values()) == {(FIRST, True)}

    # While alerts come: put into force between two batches, and told as done only when both workers judge by it.
    stop = threading.Event()

    def keep_sending():
        while not stop.wait(0.1):
            running.send(4)

    feeding = threading.Thread(target=keep_sending)
    feeding.start()
    try:
        began = time.monotonic()
        assert running.tune("activate", "--threshold", HIGH, "--reason", "full moon", "--wait", "60") == 0
        took_s = time.monotonic() - began
    finally:
        stop.set()
        feeding.join()
    assert f"version {FIRST + 1} in force on 2 of 2 workers" in capsys.readouterr().out and took_s < 60
    before = set(running.scored())
    running.send(12)
    after = {alert_id: said for alert_id, said in running.scored().items() if alert_id not in before}
    assert after and set(after.values()) == {(FIRST + 1, False)}

    # A worker that hangs is waited for, and named; what it does take, it takes when it goes on.
    lame = read_workers(running.status)[0].worker
    pid = int(re.search(r"-(\d+)-[0-9a-f]{4}$", lame)[1])
    os.kill(pid, signal.SIGSTOP)
    try:
        assert running.tune("activate", "--threshold", LOW, "--reason", "dark again", "--wait", "3") == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert f"lagging: {lame}: version {FIRST + 1} since" in capsys.readouterr().out
    wait_until(lambda: running.workers(FIRST + 2))
    assert running.tune("rollback", "--to", FIRST + 1, "--reason", "it was not", "--wait", "60") == 0
    running.send(12)
    said = running.scored()
    last = {said[i] for i in range(flow.FIRST_ID + running.sent - 12, flow.FIRST_ID + running.sent) if i in said}
    assert load_filter(running.file).version == FIRST + 3 and last == {(FIRST + 3, False)}

    # In the order of each partition no version comes back, and each verdict is that of its version.
    latest = {}
    for record in running.records():
        if record["status"] == "scored":
            version, passed = verdict(record)
            assert version >= latest.get(record["source"], FIRST) and passed == (version in (FIRST, FIRST + 2))
            latest[record["source"]] = version
    running.process.signal(signal.SIGTERM)
    assert running.process.wait() == 128 + signal.SIGTERM
    assert running.process.summary["consumed"] == running.sent

    # What the live records say is what a replay of then says, whatever is in force now.
    out = tmp_path / "then.parquet"
    args = ["--config", str(running.config), "--live-records", f"kafka:{NAME}.scores", "--verdicts", "then", "--quiet"]
    assert main(["replay", f"kafka:{NAME}.in", *args, "--out", str(out)]) == 0
    rows = [row for row in pq.read_table(out).to_pylist() if row["status"] == "scored"]
    assert {row["alert_id"]: verdict({"verdicts": json.loads(row["verdicts"])}) for row in rows} == said
    assert {row["judged_by"] for row in rows} == {"then"}
