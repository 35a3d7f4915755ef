"""hop-client on Apache Kafka with Hopskotch's kind of login: reports sent on, committed once they are there, read back."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from reports_made import BIG, candidate, encode, reports

hop = pytest.importorskip("hop", reason="hop-client is not installed here: tox -e host-hopskotch")

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402
from hop.auth import Auth  # noqa: E402
from hop.io import Stream  # noqa: E402
from hop.models import AvroBlob, JSONBlob  # noqa: E402
from measured import Clock, keep_sent  # noqa: E402

from dgl_broker.errors import ServiceFailed  # noqa: E402
from dgl_broker.hosts import hopskotch as host  # noqa: E402
from dgl_broker.stream.taking import Taker  # noqa: E402

GROUP = "to-hopskotch"


def some(n=3):
    """Reports of as many objects."""
    return reports([candidate(name=str(169813006111211555 + i), alert_id=BIG + i, log_odds=4.5 + i) for i in range(n)])


@pytest.mark.parametrize("form", ["json", "avro", "gcn"])
def test_message_is_read_by_hops_models(form):
    (report,) = some(1)
    packed = host.message_of(report, form, "https://example.org/{object_id}").serialize()
    model = {"json": JSONBlob, "avro": AvroBlob, "gcn": JSONBlob}[form]
    assert packed["format"] == {"json": "json", "avro": "avro", "gcn": "json"}[form]
    content = model.deserialize(packed["content"]).content
    if form == "avro":
        assert content == report and content["alert_id"] == BIG
    elif form == "json":
        assert content["alert_id"] == str(BIG) and content["object_id"] in content["text"]
    else:
        assert content["id"][0] == str(BIG) and content["data_archive_page"] == f"https://example.org/{report['object_id']}"


def feed(broker, topic, values):
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for value in values:
        producer.produce(topic, value)
    producer.flush(30)


def committed(broker, topic):
    reader = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": GROUP})
    try:
        return reader.committed([TopicPartition(topic, 0)], timeout=10)[0].offset
    except KafkaException:  # its coordinator is not there yet
        return None
    finally:
        reader.close()


def until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.contextmanager
def running(broker, topic, sender):
    """The loop in a thread; what ended it stands in the list that this gives."""
    stop, problems = threading.Event(), []
    taker = Taker({"bootstrap.servers": broker.bootstrap_servers, "isolation.level": "read_committed"}, GROUP, [topic])

    def work():
        try:
            host.run(taker, sender, stop, 0.2)
        except Exception as error:  # noqa: BLE001 - told to the test
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield problems
    finally:
        stop.set()
        thread.join(60)
        taker.close()


def read_back(url, auth, n, **how):
    """(content, headers, key) of n messages of a topic, by hop's own reader, each marked as done."""
    found = []
    with Stream(auth=auth, start_at=hop.io.StartPosition.EARLIEST).open(url, "r", **how) as reader:
        for message, metadata in reader.read(metadata=True, autocommit=False, batch_timeout=timedelta(seconds=0.5)):
            reader.mark_done(metadata)
            found.append((message.content, dict(metadata.headers), metadata.key))
            if len(found) == n:
                return found
    return found


@pytest.mark.kafka
def test_reports_come_back_from_kafka_as_they_were(kafka_with_login):
    broker, made = kafka_with_login, some()
    broker.create_topic("dgl.lsst.reports", 1)
    broker.create_topic("dgl.out", 1)
    feed(broker, "dgl.lsst.reports", [encode(made[0]), b"nonsense", *map(encode, made[1:])])
    auth = Auth(broker.user, broker.password, host=broker.scram, ssl=False)
    url = f"kafka://{broker.scram}/dgl.out"
    sender = host.Sender(url, "avro", auth)
    with running(broker, "dgl.lsst.reports", sender):
        until(lambda: committed(broker, "dgl.lsst.reports") == 4)
        found = read_back(url, auth, 3)
    assert [content for content, _, _ in found] == made
    assert [headers["message_id"].decode() for _, headers, _ in found] == [r["message_id"] for r in made]
    assert [key.decode() for _, _, key in found] == [r["object_id"] for r in made]
    assert all(headers["_sender"].decode() == broker.user for _, headers, _ in found)
    assert sender.counts == {"sent": 3, "unreadable": 1}
    clock = Clock()
    for report in some(30):
        with clock:
            sender.send([encode(report)])
    sender.close()
    keep_sent("hopskotch", clock, len(found))


@pytest.mark.kafka
def test_tests_are_marked_and_left_out_by_readers(kafka_with_login):
    broker = kafka_with_login
    broker.create_topic("dgl.tests", 1)
    auth = Auth(broker.user, broker.password, host=broker.scram, ssl=False)
    url = f"kafka://{broker.scram}/dgl.tests"
    tests, real = host.Sender(url, "gcn", auth, test=True), host.Sender(url, "gcn", auth)
    tests.send(map(encode, some(1)))
    real.send(map(encode, some(1)))
    tests.close()
    real.close()
    assert [content["alert_tense"] for content, _, _ in read_back(url, auth, 1)] == ["current"]
    assert [content["alert_tense"] for content, _, _ in read_back(url, auth, 2, ignoretest=False)] == ["test", "current"]


@pytest.mark.kafka
def test_report_that_is_not_delivered_stays_uncommitted(kafka_with_login, own_kafka, monkeypatch):
    monkeypatch.setattr(host, "DELIVERED_S", 2.0)
    broker, away = kafka_with_login, own_kafka()
    broker.create_topic("dgl.undelivered", 1)
    away.create_topic("dgl.out", 1)
    sender = host.Sender(f"kafka://{away.bootstrap_servers}/dgl.out", auth=False)
    away.stop()
    feed(broker, "dgl.undelivered", map(encode, some(2)))
    with running(broker, "dgl.undelivered", sender) as problems:
        until(lambda: problems)
    assert isinstance(problems[0], ServiceFailed) and "2 reports not delivered" in str(problems[0])
    assert committed(broker, "dgl.undelivered") < 0


@pytest.mark.kafka
def test_command_sends_until_it_is_ended(kafka_with_login, tmp_path):
    broker, made = kafka_with_login, some()
    broker.create_topic("dgl.command.reports", 1)
    broker.create_topic("dgl.command.out", 1)
    feed(broker, "dgl.command.reports", map(encode, made))
    config = {
        "survey": "lsst",
        "kafka": {"bootstrap.servers": broker.bootstrap_servers, "group.id": "dgl"},
        "input": {"topics": ["alerts"], "schemas": str(tmp_path)},
        "reports": {"topic": "dgl.command.reports"},
    }
    (tmp_path / "broker.yaml").write_text(json.dumps(config))  # JSON is YAML
    url = f"kafka://{broker.bootstrap_servers}/dgl.command.out"
    command = [sys.executable, "-m", "dgl_broker.hosts.hopskotch", "--config", str(tmp_path / "broker.yaml")]
    command += ["--to", url, "--no-auth", "--group", GROUP]
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until(lambda: process.poll() is not None or committed(broker, "dgl.command.reports") == 3)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err.decode()
    assert json.loads(out) == {"sent": 3}
    assert [content["message_id"] for content, _, _ in read_back(url, False, 3)] == [r["message_id"] for r in made]
