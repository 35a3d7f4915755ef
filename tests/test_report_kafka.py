"""The stage that reports, on Apache Kafka: once a state, never above the cap, one holder, and a webhook that loses nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from kafka import flow
from test_reports import NIGHT_22, candidate

from dgl_broker.cli import main
from dgl_broker.errors import DglError, InputUnavailable, ServiceFailed
from dgl_broker.outputs.avro import load_schema, make_form
from dgl_broker.settings import load_settings
from dgl_broker.stream.report import ReportStage, read_nights
from dgl_broker.stream.stopping import Stop
from dgl_broker.wire import encode_container, parse_schema
from dgl_broker.wire.records import read_record

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parents[1]
CAP = 7
QUICK = {"session.timeout.ms": 2500, "heartbeat.interval.ms": 500}  # a killed member's place is free after this


class Place:
    """Topics and configuration of one test."""

    def __init__(self, broker, name, folder, n_partitions=4, **reports):
        self.servers, self.name, self.folder = broker.bootstrap_servers, name, folder
        self.n_partitions = n_partitions
        broker.create_topic(f"{name}.reports", 3)
        if n_partitions:
            broker.create_topic(f"{name}.candidates", n_partitions)
        self.config = folder / "broker.yaml"
        self.write(**reports)

    def write(self, kafka=(), batch=(), **reports):
        """The configuration; JSON is YAML."""
        settings = {
            "survey": "ztf",
            "kafka": {"bootstrap.servers": self.servers, "group.id": self.name, **QUICK, **dict(kafka)},
            "input": {"topics": [f"{self.name}.in"]},
            "output": {"candidates": f"{self.name}.candidates"},
            "reports": {"topic": f"{self.name}.reports", "max_per_night": CAP, **reports},
            "batch": {"max_alerts": 20, "max_wait_s": 0.05, **dict(batch)},
            "service": {"timeout_s": 10.0},
        }
        self.config.write_text(json.dumps(settings))

    def feed(self, records):
        """Candidates, keyed by object as the filter publishes them."""
        form = make_form("score", "t")
        producer = flow.Producer({"bootstrap.servers": self.servers, "linger.ms": 5})
        for record in records:
            producer.produce(f"{self.name}.candidates", form.encode(record), key=record["object_id"].encode())
            producer.poll(0)
        assert producer.flush(30) == 0

    def stage(self, **how):
        """One stage in this process, to the candidates' end; its summary."""
        stage = ReportStage(load_settings(self.config, {}), Stop())
        stage.run(until_eof=True, **how)
        return stage.summary()

    def start(self, name, *arguments):
        """`dgl-broker report` as a process of its own."""
        return Member(self, name, *arguments)

    def thread(self):
        """One stage in a thread, until it is told to stop."""
        return Thread(ReportStage(load_settings(self.config), Stop()))

    def reports(self):
        """The reports that a careful reader sees."""
        return [read_record(m.value()) for m in flow.read_topic(self.servers, f"{self.name}.reports")]

    def committed(self):
        """How many candidates the group has committed, told also while a killed process' transaction is open."""
        conf = {"bootstrap.servers": self.servers, "group.id": f"{self.name}-reports", "isolation.level": "read_uncommitted"}
        consumer = Consumer(conf)
        try:
            places = [TopicPartition(f"{self.name}.candidates", p) for p in range(self.n_partitions)]
            return sum(max(0, found.offset) for found in consumer.committed(places, timeout=20))
        finally:
            consumer.close()


class Thread(threading.Thread):
    """A stage that runs beside the test; `end` gives its summary, `failed` is what it failed of."""

    def __init__(self, stage):
        super().__init__(daemon=True)
        self.stage, self.failed = stage, None
        self.start()

    def run(self):
        try:
            self.stage.run()
        except DglError as error:
            self.failed = error

    def end(self):
        """Stop it in order."""
        self.stage.stop.ask()
        self.join(60)
        assert not self.is_alive()
        return self.stage.summary()


class Member(flow.Filter):
    """A process of the stage, log and summary in a folder."""

    def __init__(self, place, name, *arguments):
        self.folder = place.folder / name
        self.folder.mkdir()
        self.summary_file, self.log_file = self.folder / "summary.json", self.folder / "log.txt"
        command = [sys.executable, "-m", "dgl_broker", "report", "--config", str(place.config), *arguments]
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--summary", str(self.summary_file)],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )


@pytest.fixture
def place(kafka, tmp_path, request):
    """Makes a `Place` of the test's name; what still runs at the end is ended."""
    started, threads = [], []

    def make(**options):
        one = Place(kafka, re.sub(r"[^a-z0-9_]", "_", request.node.name.removeprefix("test_"))[:60], tmp_path, **options)
        start, thread = one.start, one.thread
        one.start = lambda *a: started.append(start(*a)) or started[-1]
        one.thread = lambda: threads.append(thread()) or threads[-1]
        return one

    yield make
    for one in threads:
        one.end()
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(20)


def objects(n, first=0, **changes):
    """One candidate of each of `n` objects, all of one night."""
    return [candidate(f"ZTF{i:06d}", alert_id=i, **changes) for i in range(first, first + n)]


def wait_until(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not within a minute"
        time.sleep(0.05)


def check(place, n_would, cap=CAP, night="2026-11-22"):
    """Each object once a state, the night's cap full and never exceeded, the counts those of the topic."""
    reports = place.reports()
    assert max(Counter((r["object_id"], r["state"]) for r in reports).values()) == 1
    of_night = [r for r in reports if r["night"] == night]
    assert len(of_night) == min(cap, n_would) and sorted(r["number"] for r in of_night) == list(range(1, len(of_night) + 1))
    assert read_nights(load_settings(place.config, {}), Stop())[night] == {
        "reported": len(of_night), "would_have_passed": n_would, "max_per_night": cap
    }  # fmt: skip
    return reports


def test_reports_once_a_state_and_goes_on_after_a_restart(place, kafka):
    one = place()
    first = [candidate("a", band="g", magnitude=20.0, alert_id=2**62), candidate("b"), candidate("c", injected=True)]
    one.feed([*first, *first])
    summary = one.stage()
    assert summary["reported"] == {"new": 2} and summary["skipped"] == {"known": 2, "injected": 2}
    assert summary["candidates"] == 6 and one.committed() == 6
    later = [candidate("a", NIGHT_22 + 1, "r"), candidate("a", NIGHT_22 + 1.1, "g", 18.0), candidate("c", NIGHT_22 + 1)]
    one.feed([*later, *first])
    summary = one.stage()
    assert summary["reported"] == {"confirmed": 1, "brighter": 1, "new": 1} and summary["candidates"] == 6
    assert one.stage()["candidates"] == 0
    found = flow.read_topic(one.servers, f"{one.name}.reports")
    records = [read_record(m.value()) for m in found]
    assert {(m.key().decode(), r["state"], r["night"]) for m, r in zip(found, records)} == {
        ("a", "new", "2026-11-22"), ("b", "new", "2026-11-22"),
        ("a", "confirmed", "2026-11-23"), ("a", "brighter", "2026-11-23"), ("c", "new", "2026-11-23"),
    }  # fmt: skip
    assert [dict(m.headers())["message_id"].decode() for m in found] == [r["message_id"] for r in records]
    assert {r["new_alert_id"] for r in records if r["object_id"] == "a"} == {2**62}
    topics = kafka.admin.list_topics(timeout=10).topics
    assert len(topics[f"{one.name}.reports.state"].partitions) == 1


def test_cap_is_held_over_partitions_and_restarts_and_the_rest_is_counted(place, capsys):
    one = place()
    one.feed(objects(30))
    assert one.stage()["withheld"] == {"new": 30 - CAP}
    one.feed(objects(30))
    assert one.stage()["skipped"] == {"again": 30 - CAP, "known": CAP}
    one.feed(objects(5, first=100, mjd=NIGHT_22 + 1))
    assert one.stage()["reported"] == {"new": 5}
    check(one, 30)
    check(one, 5, night="2026-11-23")
    assert main(["report", "--config", str(one.config), "--nights"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "night 2026-11-22: 7 reported, 30 would have passed, at most 7",
        "night 2026-11-23: 5 reported, 5 would have passed, at most 7",
    ]


def test_killed_in_the_middle_reports_nothing_twice_and_never_exceeds_the_cap(place):
    n, cap = 600, 200
    one = place(max_per_night=cap, batch={"max_alerts": 8})
    one.feed(objects(n))
    for kill in range(2):
        before = one.committed()
        member = one.start(f"killed{kill}")
        wait_until(lambda before=before: one.committed() >= before + 30)
        member.process.kill()
        member.wait()
    member = one.start("last", "--until-eof")
    assert member.wait() == 0, member.log
    check(one, n, cap)
    assert one.committed() == n
    last = member.summary
    assert last["candidates"] == sum(last["reported"].values()) + sum(last["withheld"].values()) + sum(last["skipped"].values())


def test_one_of_two_members_reports_and_one_that_hung_is_fenced(place):
    one = place(batch={"max_alerts": 4})
    one.feed(objects(3))
    first = one.start("first")
    first.wait_for("holding the reports")
    wait_until(lambda: one.committed() == 3)
    second = one.start("second")
    second.wait_for("standing by")
    one.feed(objects(2, first=10))
    wait_until(lambda: one.committed() == 5)

    first.signal(signal.SIGSTOP)  # as a stall of the network or a paging host, longer than the session's time
    one.feed(objects(20, first=20))
    second.wait_for("holding the reports")
    wait_until(lambda: one.committed() == 25)
    first.signal(signal.SIGCONT)
    first.wait_for("no longer holding the reports")
    one.feed(objects(10, first=100, mjd=NIGHT_22 + 1))
    wait_until(lambda: one.committed() == 35)

    second.signal(signal.SIGTERM)  # leaves in order: the other takes over at once
    assert second.wait() == 128 + signal.SIGTERM
    one.feed(objects(10, first=200, mjd=NIGHT_22 + 1))
    wait_until(lambda: one.committed() == 45)
    first.signal(signal.SIGTERM)
    assert first.wait() == 128 + signal.SIGTERM
    check(one, 25)
    check(one, 20, night="2026-11-23")
    summaries = [first.summary, second.summary]
    assert sum(s["candidates"] for s in summaries) == 45 and all(s["ended"] == "by a signal" for s in summaries)


def test_members_of_two_groups_by_mistake_still_hold_one_cap(place, monkeypatch):
    """Two configurations with other groups but one state: the later fences the earlier, which ends and says so."""
    one = place()
    monkeypatch.setattr("dgl_broker.stream.report.FENCED_S", 1.0)
    one.feed(objects(20))
    first = one.thread()
    wait_until(lambda: one.committed() == 20)
    one.write(group_id="other")
    assert one.stage()["candidates"] == 0  # its positions are in the state, not in its group
    one.feed(objects(5, first=50))
    first.join(60)
    assert isinstance(first.failed, ServiceFailed) and "fenced" in str(first.failed) and first.failed.exit_code == 5
    assert one.stage()["withheld"] == {"new": 5}
    check(one, 25)


def test_latest_begins_at_the_end_and_stays_there(place):
    one = place(kafka={"auto.offset.reset": "latest"})
    one.feed(objects(5))
    assert one.stage()["candidates"] == 0
    one.feed(objects(3, first=50))
    assert one.stage()["reported"] == {"new": 3}


def test_no_topic_of_candidates_is_waited_for(place, kafka):
    one = place(n_partitions=0)
    assert one.stage()["candidates"] == 0
    running = one.thread()
    wait_until(lambda: running.stage.watch.metrics["dgl_report_holder"]._value.get() == 1)
    kafka.create_topic(f"{one.name}.candidates", 2)
    one.feed(objects(2))
    wait_until(lambda: len(one.reports()) == 2)
    assert running.end()["reported"] == {"new": 2}


@pytest.mark.parametrize(("n_partitions", "policy", "said"), [(1, "delete", "cleanup.policy delete"), (2, "compact", "2 part")])
def test_state_that_would_forget_is_refused(place, kafka, n_partitions, policy, said):
    one = place()
    kafka.create_topic(f"{one.name}.reports.state", n_partitions, cleanup_policy=policy)
    with pytest.raises(InputUnavailable, match=said):
        one.stage()


def test_other_messages_on_the_topic_stall_nothing(place):
    one = place(n_partitions=1)
    flow.produce(one.servers, f"{one.name}.candidates", [b"", b"hello", make_form("report", "t").encode(a_report())], 1)
    # Ours by its fields, and yet no report can be made of it: an early form, cut down to what decides.
    short = {name: candidate("short")[name] for name in ("object_id", "alert_id", "mjd_tai", "band", "verdicts")}
    fields = [f for f in load_schema("score")["fields"] if f["name"] in short]
    made = encode_container(parse_schema({"type": "record", "name": "Short", "fields": fields}), short)
    flow.produce(one.servers, f"{one.name}.candidates", [made], 1)
    one.feed(objects(1))
    summary = one.stage()
    assert summary["skipped"] == {"unreadable": 4} and summary["reported"] == {"new": 1}
    check(one, 1)


def a_report():
    from test_reports import a_report

    return a_report()


class Receiver:
    """An HTTP server that answers as `answer(body, number of requests so far)` says, and keeps what it was sent."""

    def __init__(self, answer):
        got = self.got = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = answer(body, len(got))
                got.append((status, body, dict(self.headers)))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/s3cret-path"

    def taken(self):
        """Objects whose report it has taken, in order."""
        return [body["object_id"] for status, body, _ in self.got if status == 200]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receive():
    """Makes receivers."""
    made = []

    def make(answer=lambda body, n: 200):
        made.append(Receiver(answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_webhook_gets_every_report_though_it_was_down_and_refuses_one(place, receive, monkeypatch, caplog):
    refused = f"ZTF{3:06d}"

    def answer(body, n):
        return 503 if n < 2 else 422 if body["object_id"] == refused and fix == [] else 200

    fix, hook, one = [], receive(answer), place()
    monkeypatch.setenv("DGL_BROKER__REPORTS__WEBHOOK_TOKEN", "t0ken-of-the-hook")
    one.write(webhook=hook.url)
    one.feed(objects(CAP))
    running = one.thread()
    wait_until(lambda: len(hook.taken()) == CAP - 1 and running.stage.watch.undelivered == 1)
    one.feed(objects(1, first=50, mjd=NIGHT_22 + 1))  # what was refused holds up nothing
    wait_until(lambda: "ZTF000050" in hook.taken())
    assert running.end()["webhook"] == {"sent": CAP, "undelivered": 1}
    assert "503" in caplog.text and "set aside" in caplog.text
    assert "s3cret-path" not in caplog.text and "t0ken" not in caplog.text
    wanted = {f"ZTF{i:06d}" for i in (*range(CAP), 50)} - {refused}
    assert sorted(hook.taken()) == sorted(wanted)
    _, body, headers = hook.got[-1]
    assert headers["Idempotency-Key"] == body["message_id"] and headers["Authorization"] == "Bearer t0ken-of-the-hook"
    assert body["alert_id"] == "50" and body["text"].startswith("ztf ZTF000050: new, log odds 4.5, g = 20.0 mag")

    # After a fix at the receiver what was set aside is sent once more, and then no more.
    fix.append(True)
    assert main(["report", "--config", str(one.config), "--undelivered"]) == 0
    assert hook.taken().count(refused) == 1
    n = len(hook.got)
    assert main(["report", "--config", str(one.config), "--undelivered"]) == 0
    one.stage()
    assert len(hook.got) == n


def test_webhook_that_is_down_holds_up_no_report_and_what_waited_comes_after_a_restart(place, receive):
    down = receive(lambda body, n: 500)
    one = place()
    one.write(webhook=down.url)
    one.feed(objects(3))
    running = one.thread()
    wait_until(lambda: len(one.reports()) == 3 and len(down.got) >= 2)
    assert running.end()["webhook"] == {"sent": 0, "undelivered": 0}
    up = receive()
    one.write(webhook=up.url)
    one.stage()
    assert sorted(up.taken()) == [f"ZTF{i:06d}" for i in range(3)]


def test_webhook_killed_before_it_could_note_the_answer_posts_again_under_the_same_key(place, receive):
    killed = threading.Event()

    def answer(body, n):
        if n == 0:
            member.process.kill()  # it has the report, and will never hear that we took it
            killed.set()
        return 200

    hook, one = receive(answer), place(n_partitions=1)
    one.write(webhook=hook.url)
    one.feed(objects(1))
    member = one.start("member")
    assert killed.wait(60)
    member.wait()
    one.stage()
    keys = [headers["Idempotency-Key"] for _, _, headers in hook.got]
    assert len(keys) == 2 and len(set(keys)) == 1
