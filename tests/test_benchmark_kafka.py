"""What benchmarks on Kafka stand on: messages that arrive at once, ids put into packets, whose arrival an output is of."""

import os
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import draining, end_to_end, report, survey  # noqa: E402
from benchmarks.alerts import LSST_ID, mixes, official_schemas  # noqa: E402
from benchmarks.kafka_topic import Arrival, Kafka  # noqa: E402
from benchmarks.processes import Memory, descendants, resident_mib  # noqa: E402
from dgl_broker import wire  # noqa: E402


@pytest.fixture(scope="module")
def messages():
    """Framed LSST messages of the benchmark's mix."""
    options = SimpleNamespace(quick=True, alerts="real")
    return next(m.values for m in mixes(options) if m.survey == "lsst" and m.name == "20 earlier rows")


def test_ids_are_put_in_without_a_shift_of_bytes(messages):
    numbered, schemas = survey.Numbered(messages), official_schemas()
    of_objects = [r for r in (wire.open_message(m, "lsst", schemas).whole() for m in messages) if r["diaObject"]]
    for n in (0, 7):
        value, whole = numbered.message(n, 5), of_objects[n % len(of_objects)]
        record = wire.open_message(value, "lsst", schemas).whole()
        assert int.from_bytes(value[1:5], "big") == LSST_ID and len(value) == len(numbered.values[n % len(of_objects)])
        assert record["diaSource"]["diaSourceId"] == survey.FIRST_ID + n
        assert record["diaObject"]["diaObjectId"] == survey.FIRST_OBJECT + n % 5
        assert record["diaSource"]["psfFlux"] == whole["diaSource"]["psfFlux"]
        assert record["cutoutDifference"] == whole["cutoutDifference"]


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
