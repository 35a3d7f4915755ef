"""The stream on Apache Kafka, in this process, with a scorer that needs no packets: where it starts, leaves and counts."""

import os
import re
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from fake_scorer import FakeScorer
from kafka import flow

from dgl_broker.settings_model import Settings
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.worker import Worker

pytestmark = pytest.mark.kafka
WORDS = ("scored", "candidate", "precut", "poor", "cut")


def values(first, n, word=None):
    """`n` messages for the fake scorer, of every word in turn."""
    return [f"{i} {word or WORDS[i % len(WORDS)]}".encode() for i in range(first, first + n)]


class Run:
    """Workers on topics of their own."""

    def __init__(self, broker, name, tmp_path, **changes):
        self.servers, self.name = broker.bootstrap_servers, name
        settings = {
            "survey": "ztf",
            "kafka": {"bootstrap.servers": self.servers, "session.timeout.ms": 6000, "group.id": name},
            "input": {"topics": [f"{name}.in"]},
            "output": {key: f"{name}.{key}" for key in ("scores", "candidates", "dead_letters")}
            | {"spill": str(tmp_path / "spill")},
            "batch": {"max_alerts": 50, "max_wait_s": 0.1},
        }
        for section, given in changes.items():
            settings[section] = {**settings.get(section, {}), **given} if isinstance(given, dict) else given
        self.settings = Settings.model_validate(settings)

    def __call__(self, scorer=None, stop=None, until_eof=True, **how):
        """Run one worker to its end; its summary."""
        worker = Worker(self.settings, stop or Stop(), scorer=scorer or FakeScorer())
        worker.run(until_eof=until_eof, **how)
        return worker.summary()

    def read(self, key):
        """Records of one of the output topics."""
        return flow.containers(flow.read_topic(self.servers, f"{self.name}.{key}"))

    def scored_ids(self):
        """Alert id -> how often it is in the scores topic."""
        return Counter(r["alert_id"] for r in self.read("scores"))


@pytest.fixture
def run(kafka, tmp_path, request):
    """Makes a `Run` with topics named after the test; `topic=0` makes no input topic."""

    def make(n_partitions=2, **changes):
        name = re.sub(r"[^a-z0-9_]", "_", request.node.name.removeprefix("test_"))[:70]
        if n_partitions:
            kafka.create_topic(f"{name}.in", n_partitions)
        return Run(kafka, name, tmp_path, **changes)

    return make


def feed(one, first, n, n_partitions=2, word=None, topic=None, **conf):
    flow.produce(one.servers, topic or f"{one.name}.in", values(first, n, word), n_partitions, **conf)


def test_accounts_balance_and_outputs_are_where_they_belong(run):
    one = run()
    feed(one, 0, 200)
    summary = one()
    assert (summary["consumed"], summary["scored"], summary["refused"], summary["dead_lettered"]) == (200, 80, 80, 40)
    assert summary["refused_by_reason"] == {"precut.faint": 40, "no_cutouts": 40}
    assert summary["candidates"] == 40 and summary["expired"] == 0
    # The default publishes refusals but those of pre-cuts.
    assert one.scored_ids() == Counter(i for i in range(200) if i % 5 in (0, 1, 3))
    assert {r["alert_id"] for r in one.read("candidates")} == {i for i in range(200) if i % 5 == 1}
    assert {r["value"] for r in one.read("dead_letters")} == {f"{i} cut".encode() for i in range(4, 200, 5)}


def test_second_run_goes_on_where_the_first_committed(run):
    one = run()
    feed(one, 0, 100)
    assert one()["consumed"] == 100
    feed(one, 100, 30)
    assert one()["consumed"] == 30
    assert one()["consumed"] == 0


def test_until_eof_ends_at_the_ends_as_they_stood_at_the_start(run):
    one = run(1)
    feed(one, 0, 60, 1)

    def feed_more(_messages):
        if not late:
            late.append(True)
            feed(one, 1000, 500, 1)

    late = []
    scorer = FakeScorer(before=feed_more)
    assert one(scorer)["consumed"] == 60
    assert max(m.offset for m in scorer.seen) == 59
    assert one()["consumed"] == 500


def test_max_alerts_is_exact(run):
    one = run()
    feed(one, 0, 300)
    assert one(max_alerts=123, until_eof=False)["consumed"] == 123
    assert one()["consumed"] == 177


def test_dry_run_produces_and_commits_nothing(run):
    one = run()
    feed(one, 0, 40)
    summary = one(dry_run=True)
    assert summary["consumed"] == 40 and summary["published"] == {}
    assert set(flow.committed(one.servers, one.name, f"{one.name}.in").values()) == {-1001}
    assert flow.read_topic(one.servers, f"{one.name}.scores") == []
    assert one()["consumed"] == 40


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_start_overrides_what_is_committed(run, start):
    one = run(input={"start": start})
    feed(one, 0, 50)
    assert one()["consumed"] == (50 if start == "earliest" else 0)
    assert one()["consumed"] == (50 if start == "earliest" else 0)


def test_start_at_a_time(run):
    one = run()
    feed(one, 0, 20)
    time.sleep(0.05)
    now = datetime.now(UTC)
    time.sleep(0.05)
    feed(one, 100, 7)
    later = Run.__new__(Run)
    later.__dict__ = {
        **one.__dict__,
        "settings": one.settings.model_copy(update={"input": one.settings.input.model_copy(update={"start": now.isoformat()})}),
    }
    assert later()["consumed"] == 7


def test_latest_where_nothing_is_committed_is_committed_at_once(run):
    one = run(kafka={"auto.offset.reset": "latest"})
    feed(one, 0, 50)
    stop = Stop()
    worker = Worker(one.settings, stop, scorer=FakeScorer())
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_until(lambda: sum(flow.committed(one.servers, one.name, f"{one.name}.in").values()) == 50)
    stop.ask()
    thread.join(30)
    feed(one, 50, 10)
    assert one()["consumed"] == 10


def test_what_retention_took_is_counted_as_expired(run, kafka):
    one = run(1)
    feed(one, 0, 40, 1)
    assert one(max_alerts=10, until_eof=False)["consumed"] == 10
    delete_records(kafka, f"{one.name}.in", 25)
    summary = one()
    assert summary["expired"] == 15 and summary["consumed"] == 15


def test_retention_that_overtakes_a_running_filter_is_counted(run, kafka):
    one = run(
        1,
        kafka={
            "queued.min.messages": 1,
            "fetch.message.max.bytes": 1000,
            "queued.max.messages.kbytes": 1,
            "fetch.queue.backoff.ms": 5,
        },
    )
    flow.produce(
        one.servers, f"{one.name}.in", [v + b" " + b"x" * 900 for v in values(0, 400, "scored")], 1, **{"batch.num.messages": 1}
    )

    def overtake(messages):
        if messages[0].offset == 0:
            delete_records(kafka, f"{one.name}.in", 300)

    summary = one(FakeScorer(before=overtake))
    assert summary["expired"] > 0
    # Offsets 50 to 299 less what had been fetched already.
    assert summary["consumed"] + summary["expired"] == 400


def test_alerts_beyond_max_age_are_refused_and_counted(run):
    one = run(overload={"max_age_s": 600.0})
    old = int((time.time() - 3600) * 1000)
    produce_at(one, values(0, 10, "scored"), old)
    feed(one, 10, 10, word="scored")
    summary = one()
    assert summary["refused_by_reason"] == {"too_old": 10} and summary["scored"] == 10
    # By default refusals but those of pre-cuts are published, so that an audit finds them.
    assert {r["alert_id"]: r["reason"] for r in one.read("scores")} == {n: "too_old" if n < 10 else None for n in range(20)}


def test_alerts_of_a_partnership_are_never_published(run):
    one = run(output={"refused": "all"})
    feed(one, 0, 10, word="partner")
    summary = one()
    assert summary["scored"] == 10 and summary["withheld"] == 10
    assert flow.read_topic(one.servers, f"{one.name}.scores") == []


def test_nightly_topics_come_roll_and_go(run, kafka):
    one = run(0)
    nights = [datetime.now(UTC).date() - timedelta(days=n) for n in (2, 1, 0)]
    template = f"{one.name}" + "_{night:%Y%m%d}"
    topics = [template.format(night=n) for n in nights]
    for topic in topics:
        kafka.create_topic(topic, 1)
    for n, topic in enumerate(topics):
        feed(one, 100 * n, 10, 1, topic=topic)
    one.settings = one.settings.model_copy(update={"input": one.settings.input.model_copy(update={"topics": [template]})})
    summary = one()
    assert summary["consumed"] == 20
    assert set(one.scored_ids()) == {i for n in (100, 200) for i in range(n, n + 10) if i % 5 in (0, 1, 3)}


def test_dead_letter_larger_than_the_topic_takes_is_spilled_and_pointed_to(run, kafka, tmp_path):
    one = run(1)
    kafka.create_topic(f"{one.name}.dead_letters", 1, max_message_bytes=20_000)
    large = os.urandom(50_000)  # what compresses is not large to the broker
    flow.produce(one.servers, f"{one.name}.in", [b"1 scored", large, b"2 cut"], 1)
    summary = one()
    assert summary["dead_lettered"] == 2
    records = {r["size"]: r for r in one.read("dead_letters")}
    spilled = records[50_000]
    assert spilled["value"] is None and records[5]["spilled_to"] is None
    path = spilled["spilled_to"].split(":", 1)[1]
    with open(path, "rb") as file:
        assert file.read() == large
    assert (tmp_path / "spill").stat().st_mode & 0o777 == 0o700
    assert [p.stat().st_mode & 0o777 for p in (tmp_path / "spill").iterdir()] == [0o600]


def test_what_the_broker_alone_finds_too_large_is_spilled_too(run, kafka, monkeypatch):
    # As where the topic's limit may not be asked for.
    monkeypatch.setattr("dgl_broker.stream.worker.largest_message", lambda *_: 10_000_000)
    one = run(1, kafka={"message.max.bytes": 3_000_000})
    kafka.create_topic(f"{one.name}.dead_letters", 1, max_message_bytes=20_000)
    flow.produce(one.servers, f"{one.name}.in", [os.urandom(50_000), b"y" * 10, os.urandom(4_000_000), b"3 scored"], 1)
    assert one()["dead_lettered"] == 3
    assert {r["size"]: r["value"] is None for r in one.read("dead_letters")} == {50_000: True, 10: False, 4_000_000: True}


def test_exactly_once_commits_outputs_and_offsets_together(run, kafka):
    one = run(delivery="exactly_once")
    kafka.create_topic(f"{one.name}.dead_letters", 1, max_message_bytes=20_000)
    feed(one, 0, 200)
    summary = one()
    assert summary["consumed"] == 200
    assert one.scored_ids() == Counter(i for i in range(200) if i % 5 in (0, 1, 3))
    feed(one, 200, 100)
    assert one()["consumed"] == 100


def test_topic_written_with_transactions_is_read_to_its_end(run):
    one = run(1)
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": one.servers, "transactional.id": one.name})
    producer.init_transactions(30)
    for first in (0, 10):
        producer.begin_transaction()
        for value in values(first, 10):
            producer.produce(f"{one.name}.in", value, partition=0)
        producer.commit_transaction(30) if first == 0 else producer.abort_transaction(30)
    summary = one()
    # Ten committed; ten aborted and the two markers are offsets, not alerts.
    assert summary["consumed"] == 10 and summary["expired"] == 0


def test_partitions_that_are_added_are_read(run, kafka, monkeypatch):
    monkeypatch.setattr("dgl_broker.stream.source.REFRESH_S", 0.5)
    one = run(1, kafka={"topic.metadata.refresh.interval.ms": 500})
    stop, scorer = Stop(), FakeScorer()
    worker = Worker(one.settings, stop, scorer=scorer)
    thread = threading.Thread(target=worker.run)
    thread.start()
    feed(one, 0, 10, 1)
    wait_until(lambda: len(scorer.seen) == 10)
    kafka.add_partitions(f"{one.name}.in", 3)
    time.sleep(0.2)
    feed(one, 10, 30, 3)
    wait_until(lambda: len(scorer.seen) == 40)
    stop.ask()
    thread.join(30)
    assert {m.partition for m in scorer.seen} == {0, 1, 2}


@pytest.mark.parametrize(
    "kafka_keys", [{"partition.assignment.strategy": "range"}, {"group.protocol": "consumer"}], ids=["eager", "kip848"]
)
def test_other_group_protocols_account_for_every_alert_too(run, kafka_keys):
    one = run(4, kafka=kafka_keys)
    if "group.protocol" in kafka_keys:
        del one.settings.kafka["session.timeout.ms"]  # the broker's to say
    feed(one, 0, 400, 4)
    stop, scorers = Stop(), [FakeScorer(lambda m: time.sleep(0.05)) for _ in range(2)]
    workers = [Worker(one.settings, stop, scorer=scorer) for scorer in scorers]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    threads[0].start()
    wait_until(lambda: scorers[0].seen)
    threads[1].start()
    feed(one, 400, 400, 4)
    wait_until(lambda: sum(flow.committed(one.servers, one.name, f"{one.name}.in").values()) == 800)
    stop.ask()
    for thread in threads:
        thread.join(30)
    assert set(one.scored_ids()) == {i for i in range(800) if i % 5 in (0, 1, 3)}
    assert sum(w.summary()["consumed"] for w in workers) >= 800


def test_second_process_with_the_same_instance_id_ends_the_first(run):
    from dgl_broker.errors import ServiceFailed

    one = run(kafka={"group.instance.id": "the-one"})
    feed(one, 0, 20)
    first, stop, caught = Worker(one.settings, Stop(), scorer=FakeScorer()), Stop(), []

    def run_first():
        try:
            first.run()
        except ServiceFailed as error:
            caught.append(error)

    thread = threading.Thread(target=run_first)
    thread.start()
    wait_until(lambda: first.watch.accounts.consumed == 20)
    second = Worker(one.settings, stop, scorer=FakeScorer())
    other = threading.Thread(target=second.run)
    other.start()
    thread.join(60)
    assert caught and "static" in str(caught[0]).lower() or "fenced" in str(caught[0]).lower()
    stop.ask()
    other.join(30)
    assert set(one.scored_ids().values()) == {1}


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_member_that_hangs_is_replaced_and_nothing_is_lost(run, delivery):
    one = run(1, delivery=delivery, kafka={"max.poll.interval.ms": 6000})
    feed(one, 0, 100, 1, word="scored")

    def hang_once(_messages):
        if not hung:
            hung.append(True)
            time.sleep(9)

    hung = []
    summary = one(FakeScorer(hang_once))
    found = one.scored_ids()
    assert set(found) == set(range(100))
    if delivery == "exactly_once":
        assert set(found.values()) == {1} and summary["consumed"] == 100
    else:
        assert summary["consumed"] == sum(found.values()) == 150  # the first batch again: its commit came too late
    assert sum(flow.committed(one.servers, one.name, f"{one.name}.in").values()) >= 100


def test_new_night_is_taken_up_and_an_old_one_let_go_when_it_is_read(run, kafka, monkeypatch):
    import functools

    from dgl_broker.stream.topics import Subscription

    now = [datetime(2026, 11, 22, 12, tzinfo=UTC)]
    monkeypatch.setattr("dgl_broker.stream.source.REFRESH_S", 0.3)
    monkeypatch.setattr("dgl_broker.stream.worker.Subscription", functools.partial(Subscription, clock=lambda: now[0]))
    one = run(0, input={"topics": ["rolls_{night:%Y%m%d}"], "nights": 1})
    kafka.create_topic("rolls_20261122", 1)
    feed(one, 0, 10, 1, "scored", topic="rolls_20261122")
    scorer, stop = FakeScorer(), Stop()
    worker = Worker(one.settings, stop, scorer=scorer)
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_until(lambda: len(scorer.seen) == 10)
    # The next night's topic is made late, with alerts in it already: read from its first one.
    kafka.create_topic("rolls_20261123", 1)
    feed(one, 100, 7, 1, "scored", topic="rolls_20261123")
    now[0] += timedelta(days=1)
    wait_until(lambda: len(scorer.seen) == 17)
    wait_until(lambda: kafka_topics(worker) == {"rolls_20261123"})
    feed(one, 200, 3, 1, "scored", topic="rolls_20261123")
    wait_until(lambda: len(scorer.seen) == 20)
    stop.ask()
    thread.join(30)
    assert worker.summary()["expired"] == 0 and worker.summary()["consumed"] == 20


def kafka_topics(worker):
    return {labels[0] for labels in worker.watch.metrics._rows.get("dgl_lag", ())}


def test_readiness_and_metrics_of_a_running_filter(run):
    import json
    import urllib.request

    from kafka.broker import free_ports

    (port,) = free_ports(1)
    one = run(metrics={"port": port})
    feed(one, 0, 50)
    stop = Stop()
    worker = Worker(one.settings, stop, scorer=FakeScorer())
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_until(lambda: worker.watch.accounts.consumed == 50)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
        assert json.load(answer) == {"alive": True, "ready": True, "bundle": True, "partitions": True, "schemas": True}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    for line in (
        "dgl_consumed_total 50.0",
        "dgl_ready 1.0",
        'dgl_bundle_info{bundle_id="fake"',
        'dgl_filter_info{filter="bright",version="3"} 1.0',
    ):
        assert line in text
    assert f'dgl_published_total{{topic="{one.name}.scores"}} 30.0' in text
    stop.ask()
    thread.join(30)


def test_missing_topic_is_an_unavailable_input(run):
    from dgl_broker.errors import InputUnavailable

    one = run(0)
    with pytest.raises(InputUnavailable, match=r"missing_topic_is_an_unavailable_input.in: not on the cluster"):
        one()


def test_broker_that_stays_away_ends_the_run(own_kafka, tmp_path):
    from dgl_broker.errors import ServiceFailed

    broker = own_kafka()
    one = Run(broker, "away", tmp_path, service={"timeout_s": 0.5, "max_failures": 3})
    broker.kill()
    with pytest.raises(ServiceFailed, match="3 times in a row"):
        one()


def wait_until(holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def delete_records(kafka, topic, before):
    """As retention does: nothing before this offset is left."""
    from confluent_kafka import TopicPartition

    for future in kafka.admin.delete_records([TopicPartition(topic, 0, before)]).values():
        future.result(30)


def produce_at(one, contents, timestamp_ms):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": one.servers})
    for value in contents:
        producer.produce(f"{one.name}.in", value, partition=0, timestamp=timestamp_ms)
    producer.flush(30)
