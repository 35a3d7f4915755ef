"""apf's own step, consumer and producer on Apache Kafka: probabilities of what is scored, committed when they are out."""

import base64
import io
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from measured import keep
from recorded import BIG, record, refused
from scripted import serving

pytest.importorskip("apf", reason="apf-base is not installed here: tox -e host-alerce")

import fastavro  # noqa: E402
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402

from dgl_broker.client import Answer  # noqa: E402
from dgl_broker.errors import ConfigError  # noqa: E402
from dgl_broker.hosts import alerce  # noqa: E402

LEAST = {
    "CONSUMER_SERVER": "kafka:9092",
    "CONSUMER_TOPICS": "ztf_20260101_programid1,ztf_20260102_programid1",
    "CONSUMER_GROUP_ID": "deepgravilens",
    "PRODUCER_SERVER": "kafka:9092",
    "PRODUCER_TOPIC_FORMAT": "deepgravilens_%s",
}


def answers(*records):
    """What the service answers for packets that become these records; None is one that cannot be read."""
    dead = {"status": "dead_lettered", "reason": "truncated", "error": "cut off", "record": None}
    return [dead if r is None else {"status": r["status"], "reason": r["reason"], "error": None, "record": r} for r in records]


def test_settings_have_alerces_names():
    config = alerce.step_config({**LEAST, "CONSUME_MESSAGES": "250", "STREAM": "lsst", "DGL_SERVICE_URL": "http://s:1"})
    assert config["CONSUMER_CONFIG"]["TOPICS"] == LEAST["CONSUMER_TOPICS"].split(",")
    assert (config["CONSUMER_CONFIG"]["consume.messages"], config["CONSUMER_CONFIG"]["consume.timeout"]) == (250, 10)
    assert config["PRODUCER_CONFIG"]["TOPIC_STRATEGY"]["PARAMS"]["topic_format"] == "deepgravilens_%s"
    assert config["SERVICE_CONFIG"]["SURVEY"] == "lsst" and "sasl.username" not in config["CONSUMER_CONFIG"]["PARAMS"]
    secured = {"CONSUMER_KAFKA_USERNAME": "u", "CONSUMER_KAFKA_PASSWORD": "p", "PRODUCER_TOPIC": "fixed"}
    config = alerce.step_config({**LEAST, **secured})
    assert config["CONSUMER_CONFIG"]["PARAMS"]["sasl.mechanism"] == "SCRAM-SHA-512"
    assert config["PRODUCER_CONFIG"]["TOPIC"] == "fixed" and "TOPIC_STRATEGY" not in config["PRODUCER_CONFIG"]


def test_missing_settings_are_named():
    with pytest.raises(ConfigError, match="CONSUMER_GROUP_ID, PRODUCER_TOPIC or PRODUCER_TOPIC_FORMAT not set"):
        alerce.step_config({k: v for k, v in LEAST.items() if k not in ("CONSUMER_GROUP_ID", "PRODUCER_TOPIC_FORMAT")})


def test_output_is_probabilities_by_class_with_exact_ids():
    one = record(p_no_lens=0.1, p_lens=0.2, p_lensed_sn_ia=0.65, p_lensed_sn_cc=0.05)
    made = alerce.probabilities(Answer("scored", record={**one, "alert_id": BIG}))
    assert made["candid"] == BIG and made["oid"] == one["object_id"] and made["classifier_name"] == "deepgravilens"
    assert made["classifier_version"] == f"{one['bundle_id']}@{one['bundle_sha256'][:8]}"
    rows = {c["class_name"]: (c["probability"], c["ranking"]) for c in made["classifications"]}
    assert rows == {"no_lens": (0.1, 3), "lens": (0.2, 2), "lensed_sn_ia": (0.65, 1), "lensed_sn_cc": (0.05, 4)}
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(alerce.SCHEMA), [made])
    assert next(fastavro.reader(io.BytesIO(out.getvalue())))["candid"] == BIG


class Topics:
    """A step's topics on a broker, and the step as its own process."""

    def __init__(self, broker, name, folder):
        self.broker, self.folder = broker, folder
        self.name = re.sub(r"[^a-z0-9_]", "_", name.removeprefix("test_"))[:60]
        self.source, self.sink = f"{self.name}.in", f"{self.name}.out"
        for topic in (self.source, self.sink):
            broker.create_topic(topic, 1)

    def feed(self, *values):
        producer = Producer({"bootstrap.servers": self.broker.bootstrap_servers, "message.max.bytes": 5_000_000})
        for value in values:
            producer.produce(self.source, value)
        producer.flush(30)

    def start(self, url, **environ):
        settings = {
            "CONSUMER_SERVER": self.broker.bootstrap_servers, "PRODUCER_SERVER": self.broker.bootstrap_servers,
            "CONSUMER_TOPICS": self.source, "PRODUCER_TOPIC": self.sink, "CONSUMER_GROUP_ID": self.name,
            "CONSUME_TIMEOUT": "1", "DGL_SERVICE_URL": url, "DGL_SERVICE_TOKEN": "a-token-of-this-test",
        }  # fmt: skip
        self.log = self.folder / "log.txt"
        with open(self.log, "ab") as log:
            command = [sys.executable, "-W", "ignore", "-m", "dgl_broker.hosts.alerce"]
            env = {**os.environ, **settings, **environ}
            return subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self.folder)

    @property
    def outputs(self):
        return [next(fastavro.reader(io.BytesIO(m.value()))) for m in self._read(self.sink)]

    @property
    def keys(self):
        return [m.key().decode() for m in self._read(self.sink)]

    def _read(self, topic):
        conf = {"bootstrap.servers": self.broker.bootstrap_servers, "group.id": "reader", "enable.partition.eof": True}
        reader = Consumer(conf)
        try:
            reader.assign([TopicPartition(topic, 0, 0)])
            found = []
            while not (message := reader.poll(10)).error():
                found.append(message)
            return found
        finally:
            reader.close()

    @property
    def committed(self):
        reader = Consumer({"bootstrap.servers": self.broker.bootstrap_servers, "group.id": self.name})
        try:
            return reader.committed([TopicPartition(self.source, 0)], timeout=10)[0].offset
        except KafkaException:  # its coordinator is not there yet
            return None
        finally:
            reader.close()

    def wait(self, condition, process, seconds=90):
        deadline = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.2)


@pytest.fixture
def topics(kafka, request, tmp_path):
    return Topics(kafka, request.node.name, tmp_path)


@pytest.mark.kafka
def test_batch_is_produced_and_then_committed(topics):
    """One bad packet, one refused, a tombstone: the others' probabilities come out, keyed by object, and all is committed."""

    def score(request):
        packets = [base64.b64decode(p) for p in request["body"]["packets"]]
        made = {b"good": record(BIG, object_id="ZTF1"), b"low": record(BIG + 1, object_id="ZTF2"), b"poor": refused(BIG + 2)}
        return 200, {"outcomes": answers(*(made.get(p) for p in packets))}

    with serving({"POST /v1/score": [score]}) as service:
        topics.feed(b"good", b"broken", b"poor", None, b"low")
        process = topics.start(service.url)
        try:
            topics.wait(lambda: topics.committed == 5, process)
        finally:
            process.kill()
            process.wait()
        assert service.requests[0]["query"] == {"survey": ["ztf"]}
    assert [(o["candid"], o["oid"]) for o in topics.outputs] == [(BIG, "ZTF1"), (BIG + 1, "ZTF2")]
    assert topics.keys == ["ZTF1", "ZTF2"]
    log = topics.log.read_text()
    assert "'dead_lettered:truncated': 2" in log and "'refused:no_cutouts': 1" in log and "a-token-of-this-test" not in log


@pytest.mark.kafka
def test_step_that_dies_while_scoring_leaves_its_batch_uncommitted(topics):
    calls = []

    def score(request):
        calls.append(len(request["body"]["packets"]))
        if len(calls) == 1:
            victim[0].send_signal(signal.SIGKILL)  # scored, but never heard of
        return 200, {"outcomes": answers(*(record(BIG + n) for n in range(calls[-1])))}

    with serving({"POST /v1/score": [score]}) as service:
        topics.feed(*[b"packet"] * 7)
        victim = [topics.start(service.url)]
        assert victim[0].wait(90) == -signal.SIGKILL
        assert topics.committed < 0 and topics.outputs == []
        second = topics.start(service.url)
        try:
            topics.wait(lambda: topics.committed == 7, second)
        finally:
            second.kill()
            second.wait()
    assert {o["candid"] for o in topics.outputs} == {BIG + n for n in range(7)}


@pytest.mark.kafka
def test_output_that_the_broker_refuses_stays_uncommitted(topics):
    """apf itself commits first: the input would be lost."""
    topics.broker.delete_topic(topics.sink)
    topics.broker.create_topic(topics.sink, 1, max_message_bytes=200)
    with serving({"POST /v1/score": [(200, {"outcomes": answers(record())})]}) as service:
        topics.feed(b"packet")
        process = topics.start(service.url)
        assert process.wait(90) == 1
    assert "outputs not delivered" in topics.log.read_text() and topics.committed < 0


@pytest.mark.kafka
@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_probabilities_are_those_of_the_stream(topics, stage, alert_files, survey):
    """Real packets from Kafka to Kafka: what the step produces is what the streaming filter gave the same alerts."""
    files = [f for f in alert_files if f"/{survey}/" in str(f)] if os.environ.get("DGL_SHARED") else list(alert_files)
    topics.feed(*(file.read_bytes() for file in files))
    process, began = topics.start(stage.url, STREAM=survey), time.monotonic()
    try:
        topics.wait(lambda: topics.committed == len(files), process, 240)
        took_s = time.monotonic() - began
    finally:
        process.kill()
        process.wait()
    wanted = {i: r for i, r in stage.published[survey].items() if r["status"] == "scored"}
    found = {o["candid"]: o for o in topics.outputs}
    assert set(found) == set(wanted) and wanted
    for alert_id, output in found.items():
        said = {c["class_name"]: c["probability"] for c in output["classifications"]}
        assert said == pytest.approx({name: wanted[alert_id][f"p_{name}"] for name in alerce.CLASSES}, abs=1e-6)
        assert output["log_odds"] == pytest.approx(wanted[alert_id]["log_odds"], abs=1e-4)
        assert bool(output["passed"]) == wanted[alert_id]["verdicts"][0]["passed"]
    odds, stream = {i: o["log_odds"] for i, o in found.items()}, {i: r["log_odds"] for i, r in wanted.items()}
    keep("alerce", survey, wanted.values(), stream, odds, packets=len(files), batch_s=round(took_s, 1))
