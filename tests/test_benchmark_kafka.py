"""What benchmarks on Kafka stand on: messages that arrive at once, ids put into packets, whose arrival an output is of."""

import math
import os
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import archives, draining, end_to_end, naive, report, survey, visit  # noqa: E402
from benchmarks.alerts import LSST_ID, mixes, official_schemas  # noqa: E402
from benchmarks.kafka_topic import Arrival, Kafka  # noqa: E402
from benchmarks.processes import Memory, descendants, resident_mib  # noqa: E402
from dgl_broker import wire  # noqa: E402


@pytest.fixture(scope="module")
def messages():
    """Framed LSST messages of the benchmark's mix."""
    options = SimpleNamespace(quick=True, alerts="real")
    return next(m.values for m in mixes(options) if m.survey == "lsst" and m.name == "20 earlier rows")


def test_ids_bands_and_times_are_put_in_without_a_shift_of_bytes(messages):
    stream, schemas = survey.Stream(messages, 40, 5), official_schemas()
    of_objects = [r for r in (wire.open_message(m, "lsst", schemas).whole() for m in messages) if r["diaObject"]]
    assert len(stream) == 40 and len(list(stream)) == 40
    for n in (0, 7, 39):
        value, whole = stream[n], of_objects[n % len(of_objects)]
        record = wire.open_message(value, "lsst", schemas).whole()
        source, before = record["diaSource"], whole["diaSource"]
        assert int.from_bytes(value[1:5], "big") == LSST_ID
        assert record["diaSourceId"] == source["diaSourceId"] == survey.FIRST_ID + n
        assert record["diaObject"]["diaObjectId"] == source["diaObjectId"] == survey.FIRST_OBJECT + n % 5
        assert source["midpointMjdTai"] == pytest.approx(survey.FIRST_MJD_TAI + survey.NIGHT_DAYS * n / 40, abs=1e-9)
        assert (source["psfFlux"], record["cutoutDifference"]) == (before["psfFlux"], whole["cutoutDifference"])
        for name in ("prvDiaSources", "prvDiaForcedSources"):  # as long before its first time as the real ones were
            ages = [[mjd - row["midpointMjdTai"] for row in one[name]] for one, mjd in
                    ((record, survey.FIRST_MJD_TAI), (whole, before["midpointMjdTai"]))]  # fmt: skip
            assert ages[0] == pytest.approx(ages[1], abs=1e-6) and len(ages[0]) == 10


def test_an_object_comes_again_later_in_another_band(messages):
    records = [
        wire.open_message(value, "lsst", official_schemas()).whole()["diaSource"] for value in survey.Stream(messages, 15, 5)
    ]
    of_one = [record for record in records if record["diaObjectId"] == survey.FIRST_OBJECT]
    assert {record["band"] for record in of_one} == set(survey.BANDS) and len(of_one) == 3
    assert [record["midpointMjdTai"] for record in records] == sorted(record["midpointMjdTai"] for record in records)


def test_an_output_is_of_the_place_that_its_record_names(monkeypatch):
    score = {"source": "in[3]", "source_row": 7, "arrived_ms": 1000, "status": "scored", "message_id": "a"}
    letter = {"topic": "in", "partition": 4, "offset": 7, "timestamp_ms": 2000, "message_id": "b"}
    of_naive = dict(zip(naive.FIELDS, ("in[3]", 8, "scored", 2, "[]"), strict=True))  # says not when its message came
    topics = {"scores": [score, score | {"status": "refused"}, of_naive], "letters": [letter]}
    sent = SimpleNamespace(timestamp=lambda: (1, 3500))
    monkeypatch.setattr(
        draining,
        "each_message",
        lambda servers, topic: [SimpleNamespace(**vars(sent), value=lambda r=r: r) for r in topics[topic]],
    )
    monkeypatch.setattr(draining, "fastavro", SimpleNamespace(reader=lambda file: iter([file])))
    monkeypatch.setattr(draining, "io", SimpleNamespace(BytesIO=lambda value: value))
    found = draining.read_outputs(SimpleNamespace(servers=""), SimpleNamespace(outputs=("scores", "letters")))
    assert [one.place for one in found] == [("in[3]", 7), ("in[3]", 7), ("in[3]", 8), ("in[4]", 7)]
    assert [one.is_scored for one in found] == [True, False, True, False]
    assert [one.acknowledged - one.arrived for one in found] == pytest.approx([2.5, 2.5, np.nan, 1.5], nan_ok=True)


def test_a_steady_rate_leaves_the_first_tenth_out():
    assert draining.steady_rate([5.0] * 2 + [5.0 + k / 10 for k in range(1, 19)]) == pytest.approx(10.0)


def test_each_output_is_of_the_arrival_that_its_message_came_with():
    marks = [SimpleNamespace(n=16), SimpleNamespace(n=16), SimpleNamespace(n=8)]
    # Two partitions; behind each arrival stands the marker of its commit, so that offsets have gaps.
    offsets = [*range(8), *range(9, 17), *range(18, 22)]
    places = [(p, offset) for p in ("t[0]", "t[1]") for offset in offsets]
    shuffled = np.random.default_rng(1).permutation(len(places))
    found = draining._arrivals_of([places[k] for k in shuffled], marks)
    expected = np.array(([0] * 8 + [1] * 8 + [2] * 4) * 2)[shuffled]
    assert (found == expected).all()


def test_a_message_without_an_outcome_is_an_error():
    run = SimpleNamespace(topic="t")
    draining.require_all(run, 2, [("t[0]", 0), ("t[0]", 1), ("t[0]", 1)])
    with pytest.raises(RuntimeError, match="t: 1 of 3 messages have no outcome"):
        draining.require_all(run, 3, [("t[0]", 0), ("t[0]", 1), ("t[0]", 1)])


@pytest.mark.parametrize(("growth_s", "lag_is_flat"), [(0.0, True), (1.0, False)])
def test_visits_whose_lag_grows_miss_their_goal(growth_s, lag_is_flat):
    came_with = np.repeat(np.arange(10), 100)
    latency_s = 10.0 + growth_s * came_with
    found = draining.Drained(1000, 400.0, latency_s, came_with, 0, 0, None, ready_s=9.0, waiting=[0] * 10, late_s=0.1)
    memory = [(39.0 * k + 1.0, 1500.0) for k in range(10)]
    measure = visit._in_a_row(SimpleNamespace(title="LSST"), found, memory, 10, 39.0)
    verdicts = {name: report.met(goal, measure.ratios[name][1]) for name, goal in measure.goals.items()}
    assert verdicts == {"p99, last three visits over second to fourth": lag_is_flat,
                        "memory, last three visits over second to fourth": True}  # fmt: skip
    assert measure.ways["p99 of a visit"][1] == pytest.approx(10.0 + 4.5 * growth_s)


def test_memory_of_a_worker_in_a_stream_has_its_goal():
    drained = {f"{name}: 1 process": [SimpleNamespace(peak_mib=[814.0, 1.0])] for name in end_to_end.MEMORY_GOAL_MIB}
    found = end_to_end._memory(SimpleNamespace(title="LSST"), drained)
    verdicts = {name: report.met(goal, found.ways[name][1]) for name, goal in found.goals.items()}
    assert verdicts == {"default bundle, most": False, "paper width, most": True}


def test_memory_is_that_of_processes_and_what_they_started():
    memory = Memory([os.getpid()])
    memory.start()
    while not memory.sums:
        memory._over.wait(0.05)
    assert memory.stop()[0] == pytest.approx(resident_mib(os.getpid()), rel=0.2)
    assert os.getpid() in descendants([os.getppid()])


def test_scores_of_spark_and_replay_are_of_the_same_alerts_and_equal():
    assert archives.furthest({1: 2.0, 2: -3.0}, {2: -3.0 - 2e-6, 1: 2.0}) == pytest.approx(2e-6)
    for theirs, said in (
        ({1: 2.0}, "1 alerts are scored by one"),
        ({1: 2.0, 2: -3.1}, "differ by 0.1"),
        ({1: math.nan, 2: -3.0}, "nan"),
    ):
        with pytest.raises(RuntimeError, match=said):
            archives.furthest({1: 2.0, 2: -3.0}, theirs)


@pytest.mark.kafka
def test_what_a_group_has_committed_can_be_deleted(kafka):
    server = Kafka(kafka)
    topic = server.fresh(f"test-{uuid.uuid4().hex[:6]}")
    Arrival(server.servers, topic, [b"a"], 24).arrive()
    consumer = Consumer({"bootstrap.servers": server.servers, "group.id": topic})
    deadline = time.monotonic() + 60
    while True:  # a broker that has just started has no coordinator for the group yet
        try:
            consumer.commit(offsets=[TopicPartition(topic, 2, 3)], asynchronous=False)
            break
        except KafkaException:
            assert time.monotonic() < deadline
    server.forget(topic, topic)
    first = [consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[0] for partition in range(8)]
    consumer.close()
    assert first == [0, 0, 3, 0, 0, 0, 0, 0]


@pytest.mark.kafka
def test_messages_are_seen_by_nobody_before_they_arrive(kafka):
    server = Kafka(kafka)
    topic = server.fresh(f"test-{uuid.uuid4().hex[:6]}")
    arrival = Arrival(server.servers, topic, [b"a", b"b", b"c"], 24, "snappy")
    from kafka.flow import ends, read_topic

    assert sum(ends(server.servers, topic).values()) == 0
    arrival.arrive()
    assert sorted(m.value() for m in read_topic(server.servers, topic)) == [b"a"] * 8 + [b"b"] * 8 + [b"c"] * 8
    assert {m.partition() for m in read_topic(server.servers, topic)} == set(range(8))
