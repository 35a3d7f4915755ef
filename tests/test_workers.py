"""Several workers under one supervisor: deaths, back-off, sums, ends. The workers of most tests only say what they would do."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition

from dgl_broker.errors import InputUnavailable
from dgl_broker.observe.summary import summary_text
from dgl_broker.settings_model import Settings
from dgl_broker.stream.clients import make_consumer
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.workers import doubt as doubt_module
from dgl_broker.stream.workers import place as place_module
from dgl_broker.stream.workers import supervisor as supervisor_module
from dgl_broker.stream.workers.doubt import was_committed
from dgl_broker.stream.workers.place import LONGEST_PAUSE_S, Place
from dgl_broker.stream.workers.supervisor import Supervisor, WorkersEnded, environment

ROOT = Path(__file__).parents[1]
FAKE = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
KILL, TERM = int(signal.SIGKILL), int(signal.SIGTERM)


@pytest.fixture
def supervise(mock_kafka, tmp_path, monkeypatch):
    """Makes supervisors of fake workers with a plan; pauses are short."""
    mock_kafka.create_topic("in", 4)
    monkeypatch.setattr(place_module, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(place_module, "LONGEST_PAUSE_S", 0.05)

    def make(*plan, stop=None, **changes):
        kafka = {"bootstrap.servers": mock_kafka.bootstrap_servers}
        raw = {"survey": "ztf", "kafka": kafka, "input": {"topics": ["in"]}}
        settings = Settings.model_validate(
            {k: {**raw.get(k, {}), **v} if k == "kafka" else v for k, v in {**raw, **changes}.items()}
        )
        return Supervisor(settings, len(plan), stop or Stop(), FAKE, {"plan": plan, "folder": str(tmp_path)})

    return make


def lives(folder, number):
    """How often a worker was started."""
    return len(list(folder.glob(f"{number}.*.life")))


def test_sums_of_workers_balance_and_tell_what_each_did(supervise):
    made = supervise([[["state"], ["deliver", 10], ["deliver", 5]]], [[["deliver", 7], ["state"]]])
    made.run(until_eof=True)
    summary = made.summary()
    assert (summary["consumed"], summary["scored"], summary["refused"], summary["dead_lettered"]) == (22, 19, 3, 0)
    assert summary["consumed"] == summary["scored"] + summary["refused"] + summary["dead_lettered"]
    assert summary["refused_by_reason"] == {"made_up": 3} and summary["published"] == {"s": 22} and summary["batches"] == 3
    assert summary["expired"] == 2 and summary["bundle_id"] == "fake" and summary["workers"] == 2
    assert summary["worker_restarts"] == {} and summary["in_doubt"] == 0
    assert summary["ended"] == "all that was asked for is read"


def test_dead_worker_is_started_anew_and_counted(supervise, tmp_path):
    first = [["state"], ["deliver", 10], ["die", KILL]]
    made = supervise([first, [["exit", 1]], [["exit", 5]], [["deliver", 3]]], [[["deliver", 7], ["state"]]])
    made.run(until_eof=True)
    summary = made.summary()
    assert summary["consumed"] == 20 and summary["worker_restarts"] == {"SIGKILL": 1, "exit 1": 1, "exit 5": 1}
    assert (lives(tmp_path, 0), lives(tmp_path, 1)) == (4, 1)
    assert "workers: 2, started anew after SIGKILL 1, exit 1 1, exit 5 1" in summary_text(summary)
    page = made.sums.metrics.text().decode()
    assert 'dgl_worker_restarts_total{cause="SIGKILL"} 1.0' in page and "dgl_consumed_total 20.0" in page
    assert "dgl_expired_total 2.0" in page  # what the dead had counted stays


@pytest.mark.parametrize("code", [2, 3, 4, 6, 7])
def test_worker_that_would_end_the_same_way_again_ends_all_with_its_code(supervise, tmp_path, code):
    made = supervise([[["deliver", 4], ["wait"]]], [[["exit", code]]])
    with pytest.raises(WorkersEnded, match=f"ended with exit code {code}") as ended:
        made.run()
    assert ended.value.exit_code == code
    assert (tmp_path / "0.in_order").exists() and lives(tmp_path, 1) == 1
    assert made.summary()["consumed"] == 4 and made.summary()["ended"] == "by a failure"


@pytest.mark.parametrize(("step", "code"), [(["die", KILL], 1), (["exit", 5], 5)])
def test_worker_that_never_delivers_is_not_started_for_ever(supervise, tmp_path, step, code):
    made = supervise([[["wait"]]], [[step]], workers={"max_restarts": 1})
    with pytest.raises(WorkersEnded, match="died 2 times in a row") as ended:
        made.run()
    assert ended.value.exit_code == code and lives(tmp_path, 1) == 2 and (tmp_path / "0.in_order").exists()


def test_worker_that_ends_though_nothing_was_to_end_is_started_anew(supervise, tmp_path):
    stop = Stop()
    made = supervise([[["exit", 0]], [["wait"]]], stop=stop)
    thread = threading.Thread(target=made.run)
    thread.start()
    wait_until(lambda: lives(tmp_path, 0) == 2)
    stop.ask()
    thread.join(90)
    assert made.summary()["worker_restarts"] == {"exit 0": 1} and made.summary()["ended"] == "by a signal"


def test_worker_that_delivers_between_its_deaths_is(supervise, tmp_path):
    again = [["deliver", 2], ["die", KILL]]
    made = supervise([again, again, again, [["deliver", 2]]], workers={"max_restarts": 1})
    made.run(until_eof=True)
    assert lives(tmp_path, 0) == 4 and made.summary()["consumed"] == 8


def test_pauses_double_up_to_the_longest():
    one, pauses = Place(0, [], {}), []
    one.process = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    one.process.wait(10)
    one._began = time.monotonic()
    for _ in range(9):
        one.died()
        pauses.append(one.wait())
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    one.delivered()
    one.died()
    assert one.wait() == 1.0


@pytest.mark.parametrize(("answer", "consumed", "in_doubt"), [(True, 16, 0), (False, 12, 0), (None, 12, 4)])
def test_batch_that_a_killed_worker_was_delivering_counts_where_the_group_has_committed_it(
    supervise, monkeypatch, answer, consumed, in_doubt
):
    asked = []

    def was_committed(kafka, group_id, offsets):
        asked.append((group_id, offsets))
        return answer

    monkeypatch.setattr(supervisor_module, "was_committed", was_committed)
    made = supervise([[["deliver", 10], ["begin", 4], ["die", KILL]], [["deliver", 2]]])
    made.run(until_eof=True)
    assert asked == [("dgl-broker-ztf", [["in", 0, 14]])]
    assert (made.summary()["consumed"], made.summary()["in_doubt"]) == (consumed, in_doubt)
    assert ("nobody could say" in summary_text(made.summary())) == bool(in_doubt)


def test_group_says_what_it_has_committed(mock_kafka, monkeypatch):
    monkeypatch.setattr(doubt_module, "ANSWER_S", 1.0)
    mock_kafka.create_topic("in", 2)
    kafka = {"bootstrap.servers": mock_kafka.bootstrap_servers}
    consumer = make_consumer(kafka, "g")
    consumer.commit(offsets=[TopicPartition("in", 0, 7), TopicPartition("in", 1, 3)], asynchronous=False)
    consumer.close()
    assert was_committed(kafka, "g", [["in", 0, 7], ["in", 1, 3]]) is True
    assert was_committed(kafka, "g", [["in", 0, 8], ["in", 1, 4]]) is False
    assert was_committed(kafka, "g", [["in", 0, 7], ["in", 1, 4]]) is None  # one request commits all or none
    mock_kafka.set_broker_down(1)
    assert was_committed(kafka, "g", [["in", 0, 7]], patience_s=0.0) is None


def test_stop_ends_all_in_order_and_starts_nobody_anew(supervise, tmp_path):
    stop = Stop()
    made = supervise([[["deliver", 3], ["wait"]]], [[["wait"]]], stop=stop)
    thread = threading.Thread(target=made.run)
    thread.start()
    wait_until(lambda: lives(tmp_path, 0) == lives(tmp_path, 1) == 1 and made.summary()["consumed"] == 3)
    stop.ask()
    thread.join(90)
    assert not thread.is_alive() and {p.name for p in tmp_path.glob("*.in_order")} == {"0.in_order", "1.in_order"}
    assert made.summary()["ended"] == "by a signal"


def test_worker_that_dies_while_all_are_to_end_is_not_started_anew(supervise, tmp_path, monkeypatch):
    monkeypatch.setattr(place_module, "FIRST_PAUSE_S", 60.0)
    stop = Stop()
    made = supervise([[["exit", 1]]], [[["wait"]]], stop=stop)
    thread = threading.Thread(target=made.run)
    thread.start()
    wait_until(lambda: made.places[0].cause is not None)  # it waits for its time
    stop.ask()
    thread.join(90)
    assert not thread.is_alive() and lives(tmp_path, 0) == 1 and made.summary()["worker_restarts"] == {}


def test_kill_ends_all_at_once(supervise, tmp_path):
    made = supervise([[["wait"]]], [[["wait"]]], workers={"max_restarts": 0})
    thread = threading.Thread(target=lambda: pytest.raises(WorkersEnded, made.run))
    thread.start()
    wait_until(lambda: lives(tmp_path, 0) == lives(tmp_path, 1) == 1)
    made.kill()
    thread.join(90)
    assert not thread.is_alive() and not list(tmp_path.glob("*.in_order"))


def test_workers_end_in_order_when_their_supervisor_is_killed(mock_kafka, tmp_path):
    mock_kafka.create_topic("in", 1)
    code = f"""
import sys
from dgl_broker.settings_model import Settings
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.workers.supervisor import Supervisor
kafka = {{"bootstrap.servers": "{mock_kafka.bootstrap_servers}"}}
settings = {{"survey": "ztf", "kafka": kafka, "input": {{"topics": ["in"]}}}}
options = {{"plan": [[[["wait"]]]] * 2, "folder": "{tmp_path}"}}
Supervisor(Settings.model_validate(settings), 2, Stop(), {FAKE!r}, options).run()
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True) as process:
        wait_until(lambda: lives(tmp_path, 0) == lives(tmp_path, 1) == 1)
        process.kill()
    wait_until(lambda: len(list(tmp_path.glob("*.in_order"))) == 2)


def test_what_workers_log_is_passed_on_without_secrets(supervise, capsys, monkeypatch):
    made = supervise([[["say", "the password is hunter2, a b c"]]], kafka={"sasl.password": "hunter2"})
    made.run(until_eof=True)
    assert "the password is ***, a b c\n" in capsys.readouterr().err


def test_each_worker_has_ids_of_its_own_and_no_port(supervise, tmp_path):
    kafka = {"group.instance.id": "host", "sasl.password": "hunter2"}
    again = [["exit", 1]]
    made = supervise([again, []], [[]], delivery="exactly_once", kafka=kafka, input={"topics": ["in"], "start": "earliest"})
    made.run(until_eof=True)
    jobs = [json.loads((tmp_path / f"{name}.life").read_text()) for name in ("0.0", "0.1", "1.0")]
    ids = [job["settings"]["kafka"]["transactional.id"] for job in jobs]
    # The next in a place takes over what the one before had open.
    assert ids[0] == ids[1] != ids[2] and all(i.startswith("dgl-broker-ztf-") for i in ids)
    assert [job["settings"]["kafka"]["group.instance.id"] for job in jobs] == ["host-0", "host-0", "host-1"]
    # The start was applied once, before there were members; a worker that is started anew goes on.
    assert {job["settings"]["input"]["start"] for job in jobs} == {"committed"} and jobs[0]["at_start"] == ["in"]
    assert Settings.model_validate(jobs[0]["settings"]).kafka["sasl.password"] == "hunter2"


def test_ends_are_those_of_the_start_for_a_worker_that_is_started_anew_too(supervise, mock_kafka, tmp_path):
    producer = Producer({"bootstrap.servers": mock_kafka.bootstrap_servers})
    for n in range(3):
        producer.produce("in", b"x", partition=n % 2)
    producer.flush(10)
    made = supervise([[["exit", 1]], []])
    made.run(until_eof=True)
    jobs = [json.loads((tmp_path / f"0.{n}.life").read_text()) for n in range(2)]
    assert jobs[0]["ends"] == jobs[1]["ends"] == [["in", 0, 2], ["in", 1, 1]]


def test_missing_topic_is_told_before_any_worker_starts(supervise, tmp_path):
    made = supervise([[]], input={"topics": ["nowhere"]})
    with pytest.raises(InputUnavailable, match="nowhere"):
        made.run()
    assert lives(tmp_path, 0) == 0 and made.summary()["consumed"] == 0


def test_whole_is_ready_when_every_worker_is_and_one_holds_partitions(supervise, tmp_path):
    stop = Stop()
    made = supervise([[["state"], ["wait"]]], [[["wait"]], [["state"], ["wait"]]], stop=stop)
    thread = threading.Thread(target=made.run)
    thread.start()
    health = made.sums.health
    wait_until(lambda: health.as_dict()["workers"] and made.sums._states and lives(tmp_path, 1) == 1)
    assert not health.as_dict()["bundle"] and not health.ready and health.alive
    made.places[1].process.kill()
    wait_until(lambda: health.ready)
    assert set(health.as_dict()) == {"alive", "ready", "workers", "bundle", "partitions", "schemas"}
    assert "dgl_ready 1.0" in made.sums.metrics.text().decode() and "dgl_workers 2.0" in made.sums.metrics.text().decode()
    stop.ask()
    thread.join(90)


def test_worker_that_hangs_makes_the_whole_not_alive(supervise):
    made = supervise([[["wait"]]])
    made.sums.beat(1, [time.monotonic()])
    assert made.sums.health.alive
    made.sums.beat(2, [time.monotonic(), time.monotonic() - 3600.0])
    assert not made.sums.health.alive


def test_cores_are_shared_out_unless_the_environment_says_otherwise():
    cores = len(os.sched_getaffinity(0))
    assert environment(1, environ={})["OMP_NUM_THREADS"] == str(cores)
    assert environment(10 * cores, environ={"A": "b"}) == {
        "A": "b", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    assert environment(1, environ={"OMP_NUM_THREADS": "3"})["OMP_NUM_THREADS"] == "3"
    assert environment(1, threads=5, environ={"OMP_NUM_THREADS": "3"})["OMP_NUM_THREADS"] == "5"


def test_supervisor_loads_no_torch():
    code = "import sys, dgl_broker.cli.run, dgl_broker.cli.streaming, dgl_broker.stream.workers.supervisor as s\n"
    code += "import dgl_broker.archive.keep, dgl_broker.settings, dgl_broker.stream.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("option", [["--max-alerts", "5"], ["--dry-run"]])
def test_what_one_process_counts_by_itself_is_not_for_workers(tmp_path, capsys, option):
    from dgl_broker.cli import main

    config = tmp_path / "broker.yaml"
    config.write_text("survey: ztf\nkafka: {bootstrap.servers: b}\ninput: {topics: [a]}\nworkers: {count: 2}\n")
    assert main(["run", "--config", str(config), *option]) == 2
    assert option[0] in capsys.readouterr().err


# On Apache Kafka, with the real filter


@pytest.fixture
def place(kafka, tmp_path):
    """A bundle and filters of a test's own, its topics, and processes on them."""
    from kafka import flow

    flow.tiny_bundle(tmp_path / "bundle", "ztf", 1.01)
    started = []

    def start(name, *arguments, verb="run", **changes):
        raw = {
            "survey": "ztf",
            "filters": [],
            "kafka": {"bootstrap.servers": kafka.bootstrap_servers, "session.timeout.ms": 6000, "group.id": name},
            "input": {"topics": [f"{name}.in"]},
            "batch": {"max_alerts": 16, "max_wait_s": 0.1},
            **changes,
        }
        if verb == "run":
            topics = {key: f"{name}.{key}" for key in ("scores", "candidates", "dead_letters")}
            raw |= {"bundle": "./bundle", "output": {**topics, "refused": "all"}}
        else:
            raw["rekey"] = {"topic": f"{name}.out"}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(raw))  # JSON is YAML
        started.append(flow.Filter(tmp_path / name, tmp_path / f"{name}.yaml", *arguments, verb=verb))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(20)


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_killed_worker_costs_nothing_and_the_sums_are_exact(kafka, place, delivery):
    """No input is without an outcome, nor counted twice; under exactly once none has two, else both have one message id."""
    from kafka import flow
    from kafka.broker import free_ports

    name, n, (port,) = f"workers-{delivery}", 600, free_ports(1)
    templates = flow.ZtfTemplates()
    values = [v[: len(v) // 2] if i % 97 == 0 else v for i, v in ((i, templates.packet(i)) for i in range(n))]
    kafka.create_topic(f"{name}.in", 8)
    one = place(name, "--workers", "2", delivery=delivery, metrics={"port": port})
    one.wait_for("given 4 partitions", 120)  # to the second of them
    flow.produce(kafka.bootstrap_servers, f"{name}.in", values, 8)
    wait_until(lambda: committed(kafka, name) >= 50, 120)
    victim = int(re.search(r"worker 1 \(process (\d+)\) started", one.log)[1])
    os.kill(victim, signal.SIGKILL)
    one.wait_for("worker 1 is started anew")
    wait_until(lambda: page(port)["dgl_consumed_total"] >= n, 120)
    found = page(port)
    assert (
        found["dgl_consumed_total"]
        == n
        == found["dgl_scored_total"] + sum_of(found, "dgl_refused_total", "dgl_dead_lettered_total")
    )
    assert found['dgl_worker_restarts_total{cause="SIGKILL"}'] == 1
    wait_until(lambda: page(port).get("dgl_workers") == 2 and page(port)["dgl_ready"] == 1, 120)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
        assert json.load(answer)["workers"] is True
    one.signal(signal.SIGTERM)
    assert one.wait() == 128 + signal.SIGTERM, one.log
    summary = one.summary
    assert (summary["consumed"], summary["dead_lettered"], summary["in_doubt"]) == (n, 7, 0)
    assert summary["consumed"] == summary["scored"] + summary["refused"] + summary["dead_lettered"]
    assert summary["worker_restarts"] == {"SIGKILL": 1} and summary["ended"] == "by a signal"
    records = flow.containers(flow.read_topic(kafka.bootstrap_servers, f"{name}.scores"))
    dead = flow.containers(flow.read_topic(kafka.bootstrap_servers, f"{name}.dead_letters"))
    wanted = {flow.FIRST_ID + i for i in range(n) if i % 97}
    assert {r["alert_id"] for r in records} == wanted and len({r["message_id"] for r in records}) == len(wanted)
    assert len({d["message_id"] for d in dead}) == 7
    if delivery == "exactly_once":
        assert (len(records), len(dead)) == (len(wanted), 7)
    assert set(re.findall(r"Z INFO (worker \d): ", one.log)) == {"worker 0", "worker 1"}


@pytest.mark.kafka
def test_second_signal_leaves_no_worker_behind(kafka, place):
    """With workers of `rekey`, which load no networks."""
    name = "workersleave"
    kafka.create_topic(f"{name}.in", 8)
    one = place(name, "--workers", "2", verb="rekey")
    one.wait_for("given 4 partitions", 120)
    workers = [int(pid) for pid in re.findall(r"worker \d \(process (\d+)\) started", one.log)]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # as one that hangs: it would not end in order
    one.signal(signal.SIGTERM)
    one.wait_for("finishing the batch in hand")
    one.signal(signal.SIGTERM)
    assert one.wait(60) == 128 + signal.SIGTERM
    assert len(workers) == 2
    wait_until(lambda: not any(is_alive(pid) for pid in workers))


@pytest.mark.kafka
def test_device_that_is_not_there_ends_all_with_its_code(kafka, place):
    kafka.create_topic("workersdevice.in", 1)
    one = place("workersdevice", "--workers", "1", device="cuda:7")
    assert one.wait() == 4, one.log
    assert "ended with exit code 4: all end" in one.log and one.summary["consumed"] == 0


def committed(kafka, name):
    from kafka import flow

    return sum(max(0, offset) for offset in flow.committed(kafka.bootstrap_servers, name, f"{name}.in").values())


def page(port):
    """Series of the page of metrics as they stand there -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def sum_of(found, *names):
    return sum(value for series, value in found.items() if series.split("{")[0] in names)


def is_alive(pid):
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds, seconds=90):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
