"""Topics of a test's own, workers on them, and a scorer that has learnt to read what it could not."""

import re
from dataclasses import replace

from confluent_kafka import Consumer, TopicPartition
from fake_scorer import FakeScorer

from dgl_broker.settings_model import Settings
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.worker import Worker
from kafka import flow

WORDS = ("scored", "candidate", "precut", "poor", "cut")


def commit(servers, group, topic, offsets):
    """Commit for a group from outside it: partition -> offset."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(topic, p, o) for p, o in offsets.items()], asynchronous=False)
    consumer.close()


class Fixed(FakeScorer):
    """Reads "cut" as the candidate that it was."""

    def _one(self, message):
        outcome = super()._one(replace(message, value=message.value.replace(b"cut", b"candidate", 1)))
        outcome.message = message
        return outcome


class Place:
    """Settings of one test and its topics."""

    def __init__(self, broker, test_name, tmp_path, n_partitions=2, **changes):
        self.name = re.sub(r"[^a-z0-9_]", "_", test_name.removeprefix("test_"))[:70]
        self.servers, self.n_partitions = broker.bootstrap_servers, n_partitions
        # By themselves they would be made with eight partitions, and what looks back reads these one after the other.
        for key in ("in", "scores", "candidates", "dead_letters"):
            broker.create_topic(f"{self.name}.{key}", n_partitions)
        raw = {
            "survey": "ztf",
            "kafka": {"bootstrap.servers": self.servers, "session.timeout.ms": 6000, "group.id": self.name},
            "input": {"topics": [f"{self.name}.in"]},
            "output": {key: f"{self.name}.{key}" for key in ("scores", "candidates", "dead_letters")}
            | {"spill": str(tmp_path / "spill")},
            "batch": {"max_alerts": 50, "max_wait_s": 0.1},
        }
        self.raw = {
            key: {**v, **changes.get(key, {})} if isinstance(v, dict) else changes.get(key, v) for key, v in raw.items()
        }
        self.raw |= {key: v for key, v in changes.items() if key not in raw}
        self.settings = Settings.model_validate(self.raw)

    def feed(self, first, n):
        """`n` messages for the fake scorer, of every word in turn."""
        values = [f"{i} {WORDS[i % len(WORDS)]}".encode() for i in range(first, first + n)]
        flow.produce(self.servers, f"{self.name}.in", values, self.n_partitions)

    def run(self, scorer=None):
        """One worker to the input's end; its summary."""
        worker = Worker(self.settings, Stop(), scorer=scorer or FakeScorer())
        worker.run(until_eof=True)
        return worker.summary()

    def messages(self, key):
        """What is on one of the output topics."""
        return flow.read_topic(self.servers, f"{self.name}.{key}")
