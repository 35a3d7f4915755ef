"""The stream without a broker: rolling topics, batches, the loop's accounts, signals; and librdkafka's mock cluster."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from fake_scorer import FakeScorer
from kafka import flow

from dgl_broker.alert import Message
from dgl_broker.errors import ConfigError, InputUnavailable, ServiceFailed, StateError
from dgl_broker.librdkafka import properties, property_problem
from dgl_broker.observe import Watch
from dgl_broker.observe.summary import AccountsDoNotBalance
from dgl_broker.settings_model import Settings
from dgl_broker.stream.batch import Batch, as_message
from dgl_broker.stream.clients import consumer_conf, is_cooperative, make_consumer, make_producer, producer_conf
from dgl_broker.stream.commits import Commits
from dgl_broker.stream.delivery import AtLeastOnce, DryRun
from dgl_broker.stream.embedded import AHEAD_BYTES, Feeder
from dgl_broker.stream.ends import Ends
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.run_loop import Rules, RunLoop
from dgl_broker.stream.sink import Sink
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.topics import Subscription, expand, is_of_template
from dgl_broker.stream.worker import Worker

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TEMPLATE = "ztf_{night:%Y%m%d}_programid1"


def quick_failures(limit=3, stop=None):
    """Failures without pauses."""
    stop = stop or Stop()
    stop.wait = lambda seconds: None
    return Failures(limit, stop)


# Topics


def test_template_stands_for_this_night_and_those_before():
    assert expand([TEMPLATE], 2, NOON) == ["ztf_20261122_programid1", "ztf_20261121_programid1"]
    assert expand(["fixed", "fixed"], 2, NOON) == ["fixed"]


def test_night_is_the_utc_date_whatever_the_clocks_zone():
    from datetime import timezone

    evening_in_california = datetime(2026, 11, 21, 18, tzinfo=timezone(timedelta(hours=-8)))
    assert expand([TEMPLATE], 1, evening_in_california) == ["ztf_20261122_programid1"]


def test_next_night_is_looked_for_an_hour_before_midnight():
    late = NOON.replace(hour=23, minute=5)
    assert expand([TEMPLATE], 1, late) == ["ztf_20261123_programid1", "ztf_20261122_programid1"]


def test_topic_leaves_only_when_it_is_read():
    now = [NOON]
    subscription = Subscription([TEMPLATE], 2, lambda: now[0])
    cluster = {"ztf_20261121_programid1", "ztf_20261122_programid1", "ztf_20261123_programid1", "other"}
    read = set()
    assert subscription.update(cluster, read.__contains__) == (["ztf_20261121_programid1", "ztf_20261122_programid1"], [])
    assert subscription.at_start == {"ztf_20261121_programid1", "ztf_20261122_programid1"}
    now[0] += timedelta(days=1)
    assert subscription.update(cluster, read.__contains__) == (["ztf_20261123_programid1"], [])
    assert "ztf_20261121_programid1" in subscription.candidates()
    read.add("ztf_20261121_programid1")
    assert subscription.update(cluster, read.__contains__) == ([], ["ztf_20261121_programid1"])
    assert subscription.at_start == {"ztf_20261121_programid1", "ztf_20261122_programid1"}


@pytest.mark.parametrize(
    ("topic", "is_one"),
    [
        ("ztf_20261119_programid1", True),
        ("ztf_20261119_programid2", False),
        ("ztf_2026119_programid1", False),
        ("fixed", False),
    ],
)
def test_name_is_told_to_be_of_a_template_by_the_night_in_it(topic, is_one):
    assert is_of_template(topic, TEMPLATE) is is_one and not is_of_template(topic, "fixed")


def test_night_that_was_begun_is_read_to_its_end_however_long_nobody_ran():
    begun = {"ztf_20261115_programid1", "ztf_20261116_programid1", "other", "ztf_20261010_programid1"}
    subscription = Subscription([TEMPLATE, "fixed"], 2, lambda: NOON, begun=lambda: begun)
    cluster = {"ztf_20261115_programid1", "ztf_20261116_programid1", "ztf_20261122_programid1", "other", "fixed"}
    assert set(subscription.candidates()) >= begun - {"other"}
    subscription.update(cluster, {"ztf_20261115_programid1"}.__contains__)
    assert subscription.held == {"ztf_20261116_programid1", "ztf_20261122_programid1", "fixed"} == subscription.at_start
    begun.add("ztf_20261114_programid1")
    assert "ztf_20261114_programid1" not in subscription.candidates()  # asked once, at the start


def test_topic_that_is_gone_leaves_though_it_was_not_read():
    subscription = Subscription(["a", "b"], 1)
    subscription.update({"a", "b"}, lambda t: False)
    assert subscription.update({"a"}, lambda t: False) == ([], ["b"])
    # And comes back with its topic.
    assert subscription.update({"a", "b"}, lambda t: False) == (["b"], [])


# Clients


def test_each_client_gets_its_own_keys():
    kafka = {
        "bootstrap.servers": "b",
        "session.timeout.ms": 6000,
        "compression.type": "zstd",
        "linger.ms": 50,
        "check.crcs": True,
    }
    consumer, producer = consumer_conf(kafka, "g"), producer_conf(kafka)
    assert consumer["session.timeout.ms"] == "6000" and consumer["check.crcs"] == "true" and consumer["group.id"] == "g"
    assert not {"compression.type", "linger.ms", "acks"} & set(consumer)
    assert producer["compression.type"] == "zstd" and producer["linger.ms"] == "50" and "session.timeout.ms" not in producer
    assert consumer["enable.auto.commit"] == consumer["enable.auto.offset.store"] == "false"
    assert is_cooperative(consumer) and not is_cooperative(consumer_conf({"partition.assignment.strategy": "range"}, "g"))


def test_other_name_of_a_key_replaces_our_default():
    assert "acks" not in producer_conf({"request.required.acks": 1})
    assert "compression.type" not in producer_conf({"compression.codec": "none"})


def test_configuration_that_librdkafka_refuses_is_a_configuration_error():
    with pytest.raises(ConfigError, match="sasl.username and sasl.password must be set"):
        make_consumer({"bootstrap.servers": "b", "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}, "g")


def test_properties_are_those_of_the_library():
    known = properties()
    assert known["group.id"].scope == "consumer" and known["acks"].scope == "producer" and known["client.id"].scope == "both"
    assert known["rebalance_cb"].callback and not known["sasl.password"].callback
    assert property_problem("session.timeout.ms", 6000) is None
    assert "outside allowed range" in property_problem("session.timeout.ms", -1)
    assert "No such configuration property" in property_problem("no.such.key", 1)


# Batches


def message(offset, partition=0, value=b"1 scored"):
    return Message(value, "t", partition, offset)


def test_partition_that_is_taken_away_leaves_the_batch():
    batch = Batch()
    for n in range(6):
        batch.add(message(n // 2, n % 2))
    batch.drop([("t", 1)])
    assert [(m.partition, m.offset) for m in batch.messages] == [(0, 0), (0, 1), (0, 2)]
    assert batch.next == {("t", 0): 3} and batch.first == {("t", 0): 0}


def test_odd_kafka_messages_become_messages():
    class Odd:
        topic, partition, offset = (lambda self: "t"), (lambda self: 3), (lambda self: 9)
        key, value = (lambda self: None), (lambda self: None)
        timestamp = lambda self: (0, -1)  # noqa: E731

        def headers(self):
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    assert as_message(Odd()) == Message(b"", "t", 3, 9)


def test_ends_hold_for_partitions_of_the_start_alone():
    ends = Ends({("t", 0): (0, 10), ("t", 1): (5, 5)})
    assert ends.of(("t", 0), 9) is None and ends.of(("t", 0), 10) == 10 and ends.of(("t", 7), 10) is None
    assert not ends.are_reached({}, {("t", 0)}) and ends.are_reached({("t", 0): 10}, {("t", 0), ("t", 1), ("t", 7)})
    assert not ends.are_committed(lambda places: {("t", 0): 9})
    assert not ends.are_committed(lambda places: {("t", 0): 10})  # not asked again within a second
    ends._next_look = 0.0
    assert ends.are_committed(lambda places: {("t", 0): 10})
    assert Ends({("t", 0): (7, 7)}).are_committed(None)


# Failures


def test_failures_in_a_row_end_the_run_and_a_success_starts_anew():
    failures = quick_failures(3)
    for _ in range(2):
        failures.failed("kafka", "no answer")
        failures.failed("kafka", "no answer")
        failures.worked("kafka")
    failures.failed("kafka", "a")
    failures.failed("registry", "b")
    failures.failed("kafka", "a")
    with pytest.raises(ServiceFailed, match="kafka failed 3 times in a row: a"):
        failures.failed("kafka", "a")


def test_failure_while_stopping_is_the_last():
    stop = Stop()
    failures = quick_failures(10, stop)
    stop.ask()
    with pytest.raises(ServiceFailed, match="was to stop"):
        failures.failed("kafka", "no answer")


# Commits, with a consumer that answers as told


class Group:
    """Answers commits with error codes, one each, then takes them."""

    def __init__(self, *codes):
        self.codes, self.taken = list(codes), []

    def commit(self, offsets, asynchronous):
        if self.codes and (code := self.codes.pop(0)) is not None:
            raise KafkaException(KafkaError(code))
        self.taken.append({(o.topic, o.partition): o.offset for o in offsets})
        return offsets


def commits(*codes):
    group = Group(*codes)
    return group, Commits(group, None, quick_failures())


def test_commit_waits_for_a_group_in_motion():
    group, made = commits(KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION)
    made.commit({("t", 0): 5})
    assert group.taken == [{("t", 0): 5}] and made.owed == {}


def test_commit_that_a_moving_group_refuses_for_long_is_owed_and_paid_with_the_next():
    group, made = commits(KafkaError.REBALANCE_IN_PROGRESS)
    made.owed = {("t", 0): 5}
    made.pay(patience_s=-1.0)
    assert made.owed == {("t", 0): 5} and group.taken == []
    made.commit({("t", 1): 7})
    assert group.taken == [{("t", 0): 5, ("t", 1): 7}]


def test_member_that_was_thrown_out_owes_nothing():
    group, made = commits(KafkaError.UNKNOWN_MEMBER_ID)
    made.commit({("t", 0): 5})
    assert made.owed == {} and group.taken == []


def test_member_that_came_back_under_another_name_does_not_commit():
    group, made = commits()
    group.memberid = lambda: "new"
    made.commit({("t", 0): 5}, "old")
    assert group.taken == [] and made.owed == {}
    made.commit({("t", 0): 5}, "new")
    assert group.taken == [{("t", 0): 5}]


def test_partition_that_was_lost_is_not_paid_for():
    group, made = commits()
    made.owed = {("t", 0): 5, ("t", 1): 6}
    made.forget({("t", 0)})
    made.pay()
    assert group.taken == [{("t", 1): 6}]


def test_other_process_with_our_instance_id_ends_this_one():
    _, made = commits(KafkaError.FENCED_INSTANCE_ID)
    with pytest.raises(ServiceFailed):
        made.commit({("t", 0): 5})


def test_commit_that_fails_is_tried_again_and_counted():
    group, made = commits(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError._TRANSPORT)
    made.commit({("t", 0): 5})
    assert group.taken == [{("t", 0): 5}] and made.failures.in_a_row["kafka"] == 0
    with pytest.raises(ServiceFailed, match="3 times in a row"):
        commits(*[KafkaError._TRANSPORT] * 3)[1].commit({("t", 0): 5})


def test_deleted_topic_does_not_keep_others_from_being_committed():
    unknown = KafkaError.UNKNOWN_TOPIC_OR_PART
    group, made = commits(unknown, unknown)
    made.commit({("gone", 0): 5, ("t", 0): 6})
    assert group.taken == [{("t", 0): 6}] and made.owed == {}


def test_start_offsets_do_not_move_a_group_that_has_members():
    group, made = commits(KafkaError.UNKNOWN_MEMBER_ID)
    made.start_group_at({("t", 0): 5})
    assert group.taken == []
    group, made = commits()
    made.start_group_at({("t", 0): 5})
    assert group.taken == [{("t", 0): 5}]


def test_only_what_lies_beyond_our_own_commits_is_committed_at_the_end_of_a_partition():
    group, made = commits()
    made.commit({("t", 0): 5})
    made.commit_beyond({("t", 0): 7, ("t", 1): 9})
    made.commit_beyond({("t", 0): 7})
    assert group.taken == [{("t", 0): 5}, {("t", 0): 7}]


# The loop


class Batches:
    """A source of prepared batches."""

    holds_partitions, assigned, expired = True, {("t", 0)}, 0

    def __init__(self, *batches):
        self.batches, self.asked = list(batches), []

    def refresh(self):
        pass

    def lag(self):
        return {}

    def at_end(self):
        return not self.batches

    def next_batch(self, max_alerts, max_wait_s, should_stop):
        self.asked.append(max_alerts)
        batch = Batch()
        for one in self.batches.pop(0) if self.batches else ():
            batch.add(one)
        return batch


class Delivery:
    publishes = True

    def __init__(self, delivered=True):
        self.delivered, self.outputs, self.offsets = delivered, [], {}

    def deliver(self, outputs, batch):
        self.outputs += outputs
        self.offsets |= batch.next
        return self.delivered


def loop(*batches, scorer=None, delivery=None, **rules):
    publisher = SimpleNamespace(outputs=lambda outcome: [SimpleNamespace(topic="s", outcome=outcome)])
    source = Batches(*batches)
    made = RunLoop(source, scorer or FakeScorer(), publisher, delivery or Delivery(), Watch(), Rules(**rules), Stop())
    return source, made


def test_every_batch_is_delivered_and_counted():
    _, made = loop([message(0), message(1, value=b"7 poor")], [message(2, value=b"?")])
    made.run()
    total = made.watch.accounts.total
    assert (total.consumed, total.scored, total.refused, total.dead_lettered) == (3, 1, 1, 1)
    assert made.delivery.offsets == {("t", 0): 3}


def test_batch_that_was_not_delivered_is_not_counted():
    _, made = loop([message(0)], delivery=Delivery(delivered=False))
    made.run()
    assert made.watch.accounts.consumed == 0


@pytest.mark.parametrize("odd", ["one too few", "one too many", "of another message", "no such status"])
def test_scorer_that_mislays_an_alert_stops_the_run_before_anything_leaves(odd):
    class Mislays(FakeScorer):
        def score(self, messages):
            out = super().score(messages)
            if odd == "of another message":
                out.reverse()
            if odd == "no such status":
                out[0].status = "lost"
            return {"one too few": out[:-1], "one too many": [*out, out[0]]}.get(odd, out)

    _, made = loop([message(0), message(1, value=b"2 scored")], scorer=Mislays())
    with pytest.raises(AccountsDoNotBalance):
        made.run()
    assert made.delivery.outputs == [] and made.delivery.offsets == {}


def test_failure_of_the_scorer_leaves_the_batch_uncommitted():
    class Breaks(FakeScorer):
        def score(self, messages):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    _, made = loop([message(0)], scorer=Breaks())
    with pytest.raises(RuntimeError):
        made.run()
    assert made.delivery.offsets == {}


def test_old_alerts_are_refused_in_their_place():
    now = int(time.time() * 1000)
    old, fresh = Message(b"1 scored", "t", 0, 0, None, now - 10_000), Message(b"2 scored", "t", 0, 1, None, now)
    unknown = Message(b"3 scored", "t", 0, 2)
    scorer = FakeScorer()
    _, made = loop(scorer=scorer, max_age_s=5.0)
    outcomes = made.outcomes([fresh, old, unknown])
    assert [(o.status, o.reason) for o in outcomes] == [("scored", None), ("refused", "too_old"), ("scored", None)]
    assert [o.message for o in outcomes] == [fresh, old, unknown] and scorer.seen == [fresh, unknown]


def test_old_message_that_cannot_be_read_is_a_dead_letter():
    old = [Message(value, "t", 0, n, None, 1) for n, value in enumerate((b"1 scored", b"garbage"))]
    _, made = loop(max_age_s=5.0)
    assert [(o.status, o.reason, o.alert_id) for o in made.outcomes(old)] == [
        ("refused", "too_old", 1),
        ("dead_lettered", "truncated", None),
    ]


def test_last_batch_is_no_larger_than_what_is_left_to_do():
    batches = [[message(n) for n in range(first, first + 4)] for first in (0, 4)] + [[message(8), message(9)]]
    source, made = loop(*batches, max_alerts=4, stop_after=10)
    made.run()
    assert source.asked == [4, 4, 2] and made.watch.accounts.consumed == 10


def test_batch_that_takes_too_long_makes_the_next_smaller():
    slow = FakeScorer(before=lambda messages: time.sleep(0.05))
    source, made = loop([message(n) for n in range(100)], [message(100)], scorer=slow, max_alerts=100, longest_batch_s=0.02)
    made.run()
    assert source.asked[0] == 100 and 1 <= source.asked[1] <= 20


def test_dry_run_delivers_and_publishes_nothing():
    _, made = loop([message(0)], delivery=DryRun())
    made.run()
    assert made.watch.accounts.consumed == 1 and made.watch.accounts.total.published == Counter()


# Signals

SLEEPER = """
import sys, time
from dgl_broker.stream.stopping import Stop
with Stop() as stop:
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
    print("asked", flush=True)
    if "busy" in sys.argv:
        import hashlib
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C, as a network's forward pass or a flush may be
sys.exit(stop.exit_code)
"""


def sleeper(*arguments):
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_asks_and_names_the_exit_code(number):
    with sleeper() as process:
        process.send_signal(number)
        assert process.wait(10) == 128 + number


def test_second_signal_ends_a_process_that_is_busy_in_c():
    with sleeper("busy") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM


def test_stop_gives_the_signals_back():
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 5
        while not stop():
            assert time.monotonic() < deadline
    assert signal.getsignal(signal.SIGTERM) == before and stop.exit_code == 143


def test_stop_that_nobody_asked_for_is_exit_code_0():
    assert Stop().exit_code == 0 and not Stop()()


# librdkafka's mock cluster


def settings(cluster, **changes):
    given = {
        "survey": "ztf",
        "kafka": {"bootstrap.servers": cluster.bootstrap_servers, "session.timeout.ms": 6000},
        "input": {"topics": ["in"]},
        "batch": {"max_alerts": 40, "max_wait_s": 0.1},
    }
    return Settings.model_validate({**given, **changes})


@pytest.fixture
def cluster(mock_kafka):
    mock_kafka.create_topic("in", 3)
    for topic in ("dgl.ztf.scores", "dgl.ztf.candidates", "dgl.ztf.deadletters"):
        mock_kafka.create_topic(topic, 1)
    return mock_kafka


def test_filter_runs_on_the_embedded_cluster_fed_in_step_with_its_commits(cluster):
    one = settings(cluster)
    feeder = Feeder(cluster, "in", 3, one.group_id)
    n, padding = 300, b" " + os.urandom(100_000)  # 30 MB through partitions of 5 MB

    def feed():
        for i in range(n):
            feeder.send(f"{i} {'candidate' if i % 10 == 0 else 'scored'}".encode() + padding, partition=i % 3)
        feeder.close()

    thread = threading.Thread(target=feed)
    thread.start()
    scorer = FakeScorer()
    worker = Worker(one, Stop(), scorer=scorer)
    worker.run(max_alerts=n)
    thread.join(30)
    assert {int(m.value.split()[0]) for m in scorer.seen} == set(range(n)) and len(scorer.seen) == n
    assert max(feeder._ahead) <= AHEAD_BYTES
    records = flow.containers(flow.read_topic(cluster.bootstrap_servers, "dgl.ztf.scores"))
    assert {r["alert_id"] for r in records} == set(range(n))
    summary = worker.summary()
    assert summary["candidates"] == 30 and summary["published"]["dgl.ztf.candidates"] == 30


def test_feeder_says_when_nobody_reads(cluster):
    feeder = Feeder(cluster, "in", 1, "nobody", timeout_s=0.3)
    with pytest.raises(ServiceFailed, match="nothing committed"):
        for _ in range(60):
            feeder.send(b"x" * 100_000)
    feeder.close()


def output(value=b"v", topic="dgl.ztf.scores"):
    from dgl_broker.outputs.publish import Output

    return Output("scores", topic, b"k", value, [])


def sink(cluster, shrink=lambda output: None, **kafka):
    producer = make_producer({"bootstrap.servers": cluster.bootstrap_servers, **kafka})
    return Sink(producer, quick_failures(), shrink)


PRODUCE, COMMIT = 0, 8


def test_output_that_failed_is_sent_again(cluster):
    cluster.push_errors(PRODUCE, KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS)
    sink(cluster).deliver([output(b"a"), output(b"b")])
    assert sorted(m.value() for m in flow.read_topic(cluster.bootstrap_servers, "dgl.ztf.scores")) == [b"a", b"b"]


def test_output_that_the_broker_finds_too_large_is_replaced_or_stops_the_run(cluster):
    cluster.push_errors(PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
    made = sink(cluster, shrink=lambda output_: output(b"small"))
    made.deliver([output(b"large")])
    assert [m.value() for m in flow.read_topic(cluster.bootstrap_servers, "dgl.ztf.scores")] == [b"small"]
    cluster.push_errors(PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
    with pytest.raises(StateError, match="larger than the broker takes"):
        sink(cluster).deliver([output(b"large")])


def test_output_larger_than_our_own_limit_never_leaves(cluster):
    with pytest.raises(StateError, match="kafka.message.max.bytes"):
        sink(cluster, **{"message.max.bytes": 2000}).deliver([output(b"x" * 5000)])


def test_topic_that_may_not_be_written_is_said(cluster):
    cluster.push_errors(PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(InputUnavailable, match="topic dgl.ztf.scores"):
        sink(cluster).deliver([output()])


def test_broker_that_takes_nothing_ends_the_run(cluster):
    made = sink(cluster, **{"delivery.timeout.ms": 300, "socket.connection.setup.timeout.ms": 1000})
    cluster.set_broker_down(1)
    with pytest.raises(ServiceFailed, match="3 times in a row"):
        made.deliver([output()])
    cluster.set_broker_down(1, down=False)


def test_nothing_is_committed_when_the_outputs_are_not_out():
    calls = []

    class Fails:
        def deliver(self, outputs):
            calls.append("deliver")
            raise ServiceFailed("kafka failed")

    source = SimpleNamespace(commit=lambda batch: calls.append("commit"))
    with pytest.raises(ServiceFailed):
        AtLeastOnce(source, Fails()).deliver([output()], Batch())
    assert calls == ["deliver"]


def test_first_offsets_come_from_the_group_then_from_the_start(cluster):
    one = settings(cluster)
    feeder = Feeder(cluster, "in", 3, one.group_id)
    for i in range(30):
        feeder.send(f"{i} scored".encode(), partition=i % 3)
    feeder.close()
    consumer = make_consumer(one.kafka, one.group_id)
    consumer.commit(offsets=[TopicPartition("in", 0, 4), TopicPartition("in", 1, 10)], asynchronous=False)
    consumer.close()
    scorer = FakeScorer()
    Worker(one, Stop(), scorer=scorer).run(until_eof=True, dry_run=True)
    assert Counter(m.partition for m in scorer.seen) == {0: 6, 2: 10}


# The command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (ServiceFailed("kafka failed, says hunter2"), 5),
        (StateError("disk full, says hunter2"), 6),
        (InputUnavailable("no topic, says hunter2"), 3),
        (RuntimeError("CUDA error, says hunter2"), 1),
    ],
)
def test_exit_code_says_what_ended_the_run_and_the_summary_is_written(monkeypatch, tmp_path, capsys, error, code):
    import json

    from dgl_broker.cli import main

    def run(self, **how):
        assert how == {"until_eof": True, "max_alerts": 7, "dry_run": True}
        if error is not None:
            raise error

    monkeypatch.setattr(Worker, "run", run)
    monkeypatch.setenv("DGL_BROKER__KAFKA__SASL_PASSWORD", "hunter2")
    config = tmp_path / "broker.yaml"
    config.write_text("survey: ztf\nkafka: {bootstrap.servers: b}\ninput: {topics: [a]}\n")
    summary = tmp_path / "s.json"
    options = ["--until-eof", "--max-alerts", "7", "--dry-run", "--summary", str(summary)]
    assert main(["run", "--config", str(config), *options]) == code
    printed = capsys.readouterr()
    assert "hunter2" not in printed.out + printed.err
    assert error is None or "says ***" in printed.err
    assert json.loads(summary.read_text())["consumed"] == 0 and "consumed 0 = scored 0" in printed.out


def test_wrong_configuration_ends_with_2(tmp_path, capsys):
    from dgl_broker.cli import main

    config = tmp_path / "broker.yaml"
    config.write_text("survey: zft\n")
    assert main(["run", "--config", str(config)]) == 2
    assert "survey: found 'zft'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["run", "--config", str(config), "--max-alerts", "0"])
    assert ended.value.code == 2


def test_call_that_never_comes_back_ends_the_run_and_what_it_raises_is_passed_on():
    from dgl_broker.stream.delivery import answered

    never = threading.Event()
    with pytest.raises(ServiceFailed, match=r"no answer within 0\.05 s"):
        answered(never.wait, 0.05)
    never.set()
    assert answered(lambda: 7, 5.0) == 7
    with pytest.raises(KeyError):
        answered(lambda: {}["a"], 5.0)
