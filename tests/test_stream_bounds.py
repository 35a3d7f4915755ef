"""What must not grow, and what slows us: a topic replayed from its beginning, a slow broker; retention that is real."""

import functools
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from fake_scorer import FakeScorer
from kafka import flow

from dgl_broker.outputs.publish import Output
from dgl_broker.settings_model import Settings
from dgl_broker.stream.clients import make_producer
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.sink import Sink
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.topics import Subscription
from dgl_broker.stream.worker import Worker

ROOT = Path(__file__).parents[1]
MIB = 1024 * 1024


def settings_of(servers, name, **changes):
    """Settings on topics of a test's own."""
    raw = {
        "survey": "ztf",
        "kafka": {"bootstrap.servers": servers, "session.timeout.ms": 6000, "group.id": name},
        "input": {"topics": [f"{name}.in"]},
        "output": {key: f"{name}.{key}" for key in ("scores", "candidates", "dead_letters")},
        "batch": {"max_alerts": 20, "max_wait_s": 0.1},
    }
    return Settings.model_validate({k: {**v, **changes.get(k, {})} if isinstance(v, dict) else v for k, v in raw.items()})


# A slow broker


@pytest.fixture
def slow_kafka(mock_kafka):
    """The mock cluster, which answers a fifth of a second late once `slow()` is called."""
    for topic in ("slow.in", "slow.scores", "slow.candidates", "slow.dead_letters"):
        mock_kafka.create_topic(topic, 1)
    mock_kafka.slow = lambda: mock_kafka.set_round_trip(1, 200)
    return mock_kafka


def test_outputs_that_do_not_fit_the_producers_queue_wait_and_all_go_out(slow_kafka):
    limits = {"queue.buffering.max.messages": 10, "linger.ms": 0, "bootstrap.servers": slow_kafka.bootstrap_servers}
    producer, waiting = make_producer(limits), []
    sink = Sink(producer, Failures(3, Stop()), lambda output: None)
    produce = sink._produce

    def watched(*args):
        produce(*args)
        waiting.append(len(producer))

    sink._produce = watched
    slow_kafka.slow()
    sink.deliver([Output("scores", "slow.scores", b"k", b"%d" % n, []) for n in range(60)])
    slow_kafka.set_round_trip(1, 0)
    found = [int(m.value()) for m in flow.read_topic(slow_kafka.bootstrap_servers, "slow.scores")]
    assert sorted(found) == list(range(60)) and max(waiting) <= 10


def test_slow_broker_slows_the_loop_and_nothing_waits_behind_a_batch(slow_kafka):
    servers, asked = slow_kafka.bootstrap_servers, []
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "other"})

    def look(messages):
        asked.append((time.monotonic(), consumer.get_watermark_offsets(TopicPartition("slow.scores", 0), timeout=10)[1]))

    flow.produce(servers, "slow.in", [f"{n} scored".encode() for n in range(80)], 1)
    slow_kafka.slow()
    worker = Worker(settings_of(servers, "slow"), Stop(), scorer=FakeScorer(look))
    worker.run(max_alerts=80)
    consumer.close()
    # Before a batch is scored all that came before it is acknowledged: what waits is one batch, however slow the broker.
    assert [n for _, n in asked] == [0, 20, 40, 60]
    times = [t for t, _ in asked]
    assert min(b - a for a, b in zip(times, times[1:])) >= 0.4  # an acknowledgement and a commit
    assert worker.summary()["consumed"] == 80


# A topic replayed from its beginning

REPLAY = """
import json, resource, sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from fake_scorer import FakeScorer
from dgl_broker.settings_model import Settings
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.worker import Worker

class Forgets(FakeScorer):
    def score(self, messages):
        time.sleep(0.02)  # slower than Kafka is: what is not bounded fills up
        outcomes = super().score(messages)
        self.seen = []
        return outcomes

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

worker = Worker(Settings.model_validate(json.loads(sys.argv[1])), Stop(), scorer=Forgets())
before = peak_mib()
worker.run(until_eof=True)
print(json.dumps({{"grown_mib": peak_mib() - before, "consumed": worker.summary()["consumed"]}}))
"""


@pytest.mark.kafka
def test_memory_does_not_grow_with_the_topic_that_is_replayed(kafka):
    name, size, n = "replayed", 50_000, 4000  # 190 MiB
    kafka.create_topic(f"{name}.in", 4)
    padding = os.urandom(size)
    flow.produce(kafka.bootstrap_servers, f"{name}.in", (b"%d scored " % i + padding for i in range(n)), 4)
    bounds = {"queued.max.messages.kbytes": 8192, "fetch.max.bytes": 4_000_000, "max.partition.fetch.bytes": 1_000_000}
    settings = settings_of(kafka.bootstrap_servers, name, kafka=bounds, input={"start": "earliest"})
    code = REPLAY.format(root=str(ROOT), tests=str(ROOT / "tests"))
    given = settings.model_dump_json(exclude_unset=True)
    done = subprocess.run([sys.executable, "-c", code, given], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["consumed"] == n
    # 8 MiB fetched ahead, some fetches under way, a batch of 1 MB with its copies, librdkafka's threads; without a bound: 190.
    assert told["grown_mib"] < 80, told


# Retention


@pytest.mark.kafka
def test_topics_of_a_minute_each_with_a_retention_of_a_second_are_all_accounted_for(kafka, monkeypatch):
    """A template by the minute; what retention took of one is counted, and the others are read."""
    now = [datetime(2026, 11, 22, 23, 58, tzinfo=UTC)]
    monkeypatch.setattr("dgl_broker.stream.source.REFRESH_S", 0.3)
    monkeypatch.setattr("dgl_broker.stream.worker.Subscription", functools.partial(Subscription, clock=lambda: now[0]))
    name = "minutes"
    settings = settings_of(kafka.bootstrap_servers, name, input={"topics": [name + "_{night:%Y%m%d%H%M}"], "nights": 1})
    topics = [(now[0] + timedelta(minutes=n)).strftime(f"{name}_%Y%m%d%H%M") for n in range(4)]  # over midnight

    def feed(topic, first, n, **config):
        kafka.create_topic(topic, 1, **config)
        flow.produce(kafka.bootstrap_servers, topic, [f"{i} scored".encode() for i in range(first, first + n)], 1)

    # Of the first minute's 30 alerts 10 are read before this filter is stopped; retention takes the rest.
    feed(topics[0], 0, 30, retention_ms=1000)
    first = Worker(settings, Stop(), scorer=FakeScorer())
    first.run(max_alerts=10)
    wait_until(lambda: low(kafka, topics[0]) == 30)
    scorer, stop = FakeScorer(), Stop()
    second = Worker(settings, stop, scorer=scorer)
    thread = threading.Thread(target=second.run)
    thread.start()
    for n, topic in enumerate(topics[1:], 1):
        now[0] += timedelta(minutes=1)
        feed(topic, 100 * n, 7)
        wait_until(lambda n=n: len(scorer.seen) == 7 * n)
    wait_until(lambda: topics_held(second) == {topics[-1]})
    stop.ask()
    thread.join(90)
    assert [int(m.value.split()[0]) for m in scorer.seen] == [100 * n + i for n in (1, 2, 3) for i in range(7)]
    summary = second.summary()
    assert (summary["consumed"], summary["expired"]) == (21, 20)


@pytest.mark.kafka
def test_night_that_was_begun_is_read_to_its_end_when_nobody_ran_for_three(kafka, monkeypatch):
    now = [datetime(2026, 11, 20, 5, tzinfo=UTC)]
    monkeypatch.setattr("dgl_broker.stream.worker.Subscription", functools.partial(Subscription, clock=lambda: now[0]))
    name = "weekend"
    settings = settings_of(kafka.bootstrap_servers, name, input={"topics": [name + "_{night:%Y%m%d}"]})
    for day, first in (("19", 0), ("20", 100), ("21", 200), ("23", 300)):
        kafka.create_topic(f"{name}_202611{day}", 2)
        values = [f"{i} scored".encode() for i in range(first, first + 20)]
        flow.produce(kafka.bootstrap_servers, f"{name}_202611{day}", values, 2)
    Worker(settings, Stop(), scorer=FakeScorer()).run(max_alerts=25)
    now[0] += timedelta(days=3)
    scorer = FakeScorer()
    Worker(settings, Stop(), scorer=scorer).run(until_eof=True)
    # Of the nights 19 and 20 what was left; the 21st was never begun and is older than `nights`; the 22nd has no topic.
    assert len(scorer.seen) == 15 + 20 and {int(m.value.split()[0]) // 100 for m in scorer.seen} >= {3}
    assert not [m for m in scorer.seen if m.topic.endswith("21")]


@pytest.mark.kafka
def test_markers_of_transactions_make_expired_an_upper_bound(kafka):
    """Ten alerts and a marker are gone: eleven offsets, of which we cannot know that one was no alert."""
    name = "markers"
    kafka.create_topic(f"{name}.in", 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": name})
    producer.init_transactions(30)
    for first in (0, 10):
        producer.begin_transaction()
        for n in range(first, first + 10):
            producer.produce(f"{name}.in", f"{n} scored".encode(), partition=0)
        producer.commit_transaction(30)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": name})
    consumer.commit(offsets=[TopicPartition(f"{name}.in", 0, 0)], asynchronous=False)
    consumer.close()
    for future in kafka.admin.delete_records([TopicPartition(f"{name}.in", 0, 11)]).values():
        future.result(30)
    worker = Worker(settings_of(kafka.bootstrap_servers, name), Stop(), scorer=FakeScorer())
    worker.run(until_eof=True)
    assert (worker.summary()["consumed"], worker.summary()["expired"]) == (10, 11)


def low(kafka, topic):
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "low"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[0]
    finally:
        consumer.close()


def topics_held(worker):
    return {labels[0] for labels in worker.watch.metrics._rows.get("dgl_lag", ())}


def wait_until(holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
