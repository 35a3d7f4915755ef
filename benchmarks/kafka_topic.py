"""A real Kafka for benchmarks: topics filled beforehand, processes that read them, and when their outputs were acknowledged.

What is to arrive at once is written in an open transaction while the filter stands ready, and becomes readable when that is
committed: no producer then takes the processor from the filter, and arrival is one moment.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.processes import cpu_s
from benchmarks.report import NotRun

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from kafka.broker import KafkaBroker, Topics, fetch_jars  # noqa: E402

PARTITIONS = 8
OPEN_MS = 900_000  # as long as a broker lets a transaction stay open by default
BROKER = "transaction.max.timeout.ms=3600000\nlog.retention.check.interval.ms=30000\nlog.segment.bytes=268435456\n"


class Kafka:
    """The broker that a benchmark reads from: `servers`, `topics`, and its CPU time where the process is ours."""

    def __init__(self, topics, process=None):
        self.topics, self.process = topics, process
        self.servers = topics.bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def cpu_s(self):
        """CPU seconds that the broker has taken; None where it runs elsewhere."""
        return None if self.process is None else cpu_s(self.process.pid)

    def fresh(self, name, n_partitions=PARTITIONS, **config):
        """The name of a new topic."""
        name = f"bench-{name}-{uuid.uuid4().hex[:8]}"
        self.topics.create_topic(name, n_partitions, **config)
        return name

    def forget(self, topic, group):
        """Delete what a group has committed of a topic."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group})
        try:
            places = [TopicPartition(topic, p) for p in consumer.list_topics(topic, timeout=10).topics[topic].partitions]
            done = [place for place in consumer.committed(places, timeout=10) if place.offset > 0]
        finally:
            consumer.close()
        for deleted in self.admin.delete_records(done).values() if done else ():
            deleted.result(30)

    def members(self, group):
        """Partitions that each member of a group holds, where its state is stable; else none."""
        found = self.admin.describe_consumer_groups([group], request_timeout=10)[group].result(10)
        if found.state.name != "STABLE":
            return []
        return [len(m.assignment.topic_partitions) for m in found.members]


@contextlib.contextmanager
def kafka():
    """DGL_TEST_KAFKA's, or one of our own for as long as this lasts.

    Raises
    ------
    NotRun
        Where there is neither, nor Java and Maven to have one.
    """
    named = os.environ.get("DGL_TEST_KAFKA")
    if named:
        yield Kafka(Topics(named))
        return
    jars = fetch_jars()
    if jars is None:
        raise NotRun("no Kafka: DGL_TEST_KAFKA is not set, and there is no Java and Maven to start one with")
    with tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        broker = KafkaBroker(folder, jars, BROKER, java=["-Xmx1g"])
        try:
            yield Kafka(broker, broker.process)
        finally:
            broker.stop()


def survey_codec(survey):
    """The compression that the survey's producer has: Rubin's snappy, ZTF's none."""
    return "snappy" if survey == "lsst" else "none"


class Arrival:
    """`n` messages, `values` over and over, that nobody sees before `arrive` is called; written in `writing_s`.

    They go to partition after partition, or each to its own of `partitions`.
    """

    def __init__(self, servers, topic, values, n, codec="none", n_partitions=PARTITIONS, partitions=None):
        self.n, began = n, time.monotonic()
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "transactional.id": uuid.uuid4().hex,
                "transaction.timeout.ms": OPEN_MS,
                "linger.ms": 50,
                "compression.type": codec,
                "message.max.bytes": 5_000_000,
                "queue.buffering.max.kbytes": 131_072,
                "log_level": 0,  # what a broker that has just started makes it try again
            }
        )
        self._producer.init_transactions(60)
        self._producer.begin_transaction()
        for k in range(n):
            while True:
                try:
                    partition = k % n_partitions if partitions is None else partitions[k]
                    self._producer.produce(topic, values[k % len(values)], partition=partition)
                    break
                except BufferError:
                    self._producer.poll(0.05)
            self._producer.poll(0)
        if self._producer.flush(300):
            raise RuntimeError(f"{topic}: not all of {n} messages could be written")
        self.writing_s = time.monotonic() - began

    def arrive(self):
        """Make them readable; the moment [s since 1970]."""
        now = time.time()
        self._producer.commit_transaction(60)
        return now


def config(folder, server, topic, survey, bundle="default", filters=None, schemas=None, more=None, refused="all"):
    """The `Run` of a configuration that reads a topic; its outputs carry the time at which the broker had them.

    Every message has an output, by which it is accounted for, unless `refused` is `scorable`, as the filter is shipped.
    """
    group = f"{topic}-{uuid.uuid4().hex[:6]}"
    scores = server.fresh("scores", 2, message_timestamp_type="LogAppendTime")
    letters = server.fresh("letters", 1, message_timestamp_type="LogAppendTime")
    settings = {
        "survey": survey,
        "bundle": str(bundle),
        "kafka": {},
        "input": {"topics": [topic], "start": "earliest"} | ({"schemas": str(schemas)} if schemas else {}),
        "output": {
            "scores": scores,
            "candidates": server.fresh("candidates", 1),
            "dead_letters": letters,
            "refused": refused,
            "spill": str(folder / "spill"),
        },
        "status": str(folder / "status"),
        **(more or {}),
    }
    settings["kafka"] = {"bootstrap.servers": server.servers, "group.id": group, **settings["kafka"]}
    if filters is not None:
        settings["filters"] = filters
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "broker.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return Run(path, group, topic, (scores, letters))


def rekey_config(folder, server, topic, survey, slim, letters, schemas):
    """The `Run` of a configuration that writes a topic keyed by object, every alert of it."""
    group = f"{topic}-{uuid.uuid4().hex[:6]}"
    settings = {
        "survey": survey,
        "filters": [],
        "kafka": {"bootstrap.servers": server.servers, "group.id": group},
        "input": {"topics": [topic], "start": "earliest", "schemas": str(schemas)},
        "rekey": {"topic": slim, "dead_letters": letters, "spill": str(folder / "spill")},
        "status": str(folder / "status"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rekey.yaml"
    path.write_text(json.dumps(settings))
    return Run(path, group, topic, (slim, letters))


@dataclass(frozen=True)
class Run:
    """What one run reads and writes."""

    path: Path
    group: str
    topic: str
    outputs: tuple
