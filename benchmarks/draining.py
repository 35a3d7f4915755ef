"""Processes that read a topic: started, watched while they drain it, and what their outputs tell of each message."""

import contextlib
import io
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import fastavro
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.kafka_topic import PARTITIONS
from benchmarks.processes import Memory

from kafka.flow import Filter, each_message  # isort: skip - on the path once kafka_topic is imported

PATIENCE_S = 900.0


@dataclass(frozen=True)
class Mark:
    """One arrival: its moment [s since 1970], messages not yet through by then, and how many came."""

    at: float
    waiting: int
    n: int


class Output(NamedTuple):
    """What became of one message: its place in the input, Kafka's times of it and of its output [s since 1970], its id."""

    place: tuple
    arrived: float
    acknowledged: float
    is_scored: bool
    message_id: str


@dataclass
class Drained:
    """How a topic was drained.

    `latency_s` is, of each message, from its arrival to the broker's acknowledgment of its output, and `came_with` the number
    of its arrival; `seconds` is from the first arrival to the last acknowledgment, `steady` the rate without the beginning.
    `lost` and `twice` count messages by their places, `waiting` those that were not through when each arrival came, and
    `late_s` is the most by which an arrival came after its time.
    `peak_mib` are the peaks of resident memory of the processes, the largest first.
    """

    n: int
    seconds: float
    latency_s: np.ndarray
    came_with: np.ndarray
    lost: int
    twice: int
    broker_cpu_s: float | None
    peak_mib: list = field(default_factory=list)
    ready_s: float | None = None
    scored: int = 0
    steady: float | None = None
    waiting: list = field(default_factory=list)
    late_s: float = 0.0

    @property
    def rate(self):
        """Alerts a second."""
        return self.n / self.seconds


def start_filter(server, run, folder, n_processes, environ=None, verb="run"):
    """(the filter, seconds until its members were ready): `dgl-broker run`, each process holding partitions and warm."""
    began = time.monotonic()
    workers = ("--workers", str(n_processes)) if n_processes > 1 else ()
    one = Filter(folder, run.path, *workers, environ=environ, verb=verb)
    wait_for_members(server, run.group, n_processes, [one])
    return one, time.monotonic() - began


def wait_for_members(server, group, n, processes, n_partitions=PARTITIONS):
    """Until `n` members of a group share all partitions."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(Exception):  # the group may not be there yet
            held = server.members(group)
            if len(held) == n and sum(held) == n_partitions:
                return
        _require_alive(processes)
        if time.monotonic() > deadline:
            raise RuntimeError(f"group {group}: {n} members do not share {n_partitions} partitions")
        time.sleep(0.1)


def drain_by_offsets(server, run, arrival, processes):
    """`Drained` of one arrival of which not every message has an output: through when the group has committed all of them.

    It has no latencies, and `lost` is 0: what is committed cannot be told from what was lost by its outputs.
    """
    memory = Memory([one.process.pid for one in processes])
    memory.start()
    before, began = server.cpu_s(), arrival.arrive()
    ended = wait_until_committed(server, run, processes)
    spent, peaks = None if before is None else server.cpu_s() - before, memory.stop()
    found = read_outputs(server, run)
    places = [one.place for one in found]
    return Drained(
        n=arrival.n,
        seconds=ended - began,
        latency_s=np.empty(0),
        came_with=np.empty(0, int),
        lost=0,
        twice=len(places) - len(set(places)),
        broker_cpu_s=spent,
        peak_mib=peaks,
        scored=sum(one.is_scored for one in found),
        waiting=[0],
    )


def require_all(run, n, places):
    """Raises where a message has no outcome: `places` of outcomes in the input, of `n` messages."""
    there = len(set(places))
    if there != n:
        raise RuntimeError(f"{run.topic}: {n - there} of {n} messages have no outcome")


def drain(server, run, arrival, processes, ready_s=None):
    """Let messages arrive, and wait until the outcome of each is acknowledged; see `drain_in_turn`."""
    return drain_in_turn(server, run, [lambda: arrival], processes, ready_s)[0]


def drain_in_turn(server, run, arrivals, processes, ready_s=None, pause_s=0.0):
    """Let messages arrive in turn, and wait until the outcome of each is acknowledged.

    The first arrival is written before, and each other once the one before is through, in what is left until its own time: its
    writing takes no processor from the filter unless that is late, and the topic need not hold more than two.

    Parameters
    ----------
    server : Kafka
    run : Run
    arrivals : list of callable
        Each writes an `Arrival` and gives it.
    processes : list of Filter
        That read the topic.
    ready_s : float, optional
    pause_s : float
        From one arrival to the next.

    Returns
    -------
    Drained
    list of (float, float)
        Resident memory of all processes together over time: (s since 1970, MiB).
    """
    arrival, late_s = arrivals[0](), 0.0
    memory = Memory([one.process.pid for one in processes])
    memory.start()
    outputs = Outputs(server, run)
    before, began = server.cpu_s(), time.time()
    marks, total = [], 0
    for k, write in enumerate(arrivals):
        due = began + k * pause_s
        if k:
            while outputs.count() < total and time.time() < due - 1.5 * arrival.writing_s:
                _require_alive(processes)
                time.sleep(0.1)
            server.forget(run.topic, run.group)
            arrival = write()
        while time.time() < due:
            time.sleep(0.02)
        waiting = total - outputs.count()
        marks.append(Mark(arrival.arrive(), waiting, arrival.n))
        total, late_s = total + arrival.n, max(late_s, marks[-1].at - due)
    outputs.close()
    wait_until_written(server, run, total, processes)
    spent = None if before is None else server.cpu_s() - before
    peaks = memory.stop()
    return _drained(server, run, marks, total, spent, peaks, ready_s, late_s), memory.sums


class Outputs:
    """How many outputs of a run the broker has acknowledged so far."""

    def __init__(self, server, run):
        self._consumer = Consumer({"bootstrap.servers": server.servers, "group.id": "bench"})
        found = {topic: self._consumer.list_topics(topic, timeout=10).topics[topic].partitions for topic in run.outputs}
        self._places = [TopicPartition(topic, partition) for topic, partitions in found.items() for partition in partitions]

    def count(self):
        """So many."""
        return sum(self._consumer.get_watermark_offsets(place, timeout=10)[1] for place in self._places)

    def close(self):
        """Leave."""
        self._consumer.close()


def read_outputs(server, run):
    """An `Output` for each message that a run has written: scores, refusals and dead letters."""
    found = []
    for topic in run.outputs:
        for message in each_message(server.servers, topic):
            record = next(fastavro.reader(io.BytesIO(message.value())))
            if "source" in record:
                place, arrived_ms = (record["source"], record["source_row"]), record.get("arrived_ms")
            else:  # a dead letter
                place, arrived_ms = (f"{record['topic']}[{record['partition']}]", record["offset"]), record["timestamp_ms"]
            arrived = np.nan if arrived_ms is None else arrived_ms / 1000.0  # a naive pipeline does not say
            moment, is_scored = message.timestamp()[1] / 1000.0, record.get("status") == "scored"
            found.append(Output(place, arrived, moment, is_scored, record.get("message_id")))
    return found


def steady_rate(moments):
    """A second, of what came at these moments [s]: from the first tenth to the last."""
    moments = np.sort(moments)
    first = len(moments) // 10
    return float((len(moments) - 1 - first) / max(moments[-1] - moments[first], 1e-3))


def wait_for_outputs(outputs, n, processes):
    """Until there are so many `Outputs`."""
    deadline = time.monotonic() + PATIENCE_S
    while outputs.count() < n:
        _require_alive(processes)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{outputs.count()} of {n} outcomes after {PATIENCE_S:g} s")
        time.sleep(0.1)


def wait_until_written(server, run, n, processes):
    """Until a run has written `n` outputs; the moment [s since 1970]."""
    outputs = Outputs(server, run)
    try:
        wait_for_outputs(outputs, n, processes)
        return time.time()
    finally:
        outputs.close()


def wait_until_committed(server, run, processes=()):
    """Until a group has committed all that its topic holds, but for the markers of transactions; the moment [s since 1970]."""
    consumer = Consumer({"bootstrap.servers": server.servers, "group.id": run.group})
    places = [TopicPartition(run.topic, p) for p in consumer.list_topics(run.topic, timeout=10).topics[run.topic].partitions]
    deadline = time.monotonic() + PATIENCE_S
    try:
        while True:
            held = {one.partition: one.offset for one in consumer.committed(places, timeout=10)}
            left = [consumer.get_watermark_offsets(place, timeout=10)[1] - held[place.partition] for place in places]
            if max(left) <= 1:
                return time.time()
            _require_alive(processes)
            if time.monotonic() > deadline:
                raise RuntimeError(f"{run.topic}: {sum(left)} not committed after {PATIENCE_S:g} s")
            time.sleep(0.05)
    finally:
        consumer.close()


def _require_alive(processes):
    for one in processes:
        if one.process.poll() is not None:
            raise RuntimeError(f"ended with {one.process.returncode}:\n{one.log[-3000:]}")


def _drained(server, run, marks, total, spent, peaks, ready_s, late_s):
    """What outputs tell: their places in the input, and the broker's time of each."""
    found = read_outputs(server, run)
    places, moments = [one.place for one in found], [one.acknowledged for one in found]
    require_all(run, total, places)
    unique = len(set(places))
    came_with = _arrivals_of(places, marks)
    return Drained(
        n=total,
        seconds=max(moments) - marks[0].at,
        latency_s=np.array(moments) - np.array([mark.at for mark in marks])[came_with],
        came_with=came_with,
        lost=total - unique,
        twice=len(places) - unique,
        broker_cpu_s=spent,
        peak_mib=peaks,
        ready_s=ready_s,
        scored=sum(one.is_scored for one in found),
        steady=steady_rate(moments),
        waiting=[mark.waiting for mark in marks],
        late_s=late_s,
    )


def _arrivals_of(places, marks):
    """Number of the arrival that each place came with: all fill each partition evenly, one after another."""
    by_partition = {}
    for n, (partition, offset) in enumerate(places):
        by_partition.setdefault(partition, []).append((offset, n))
    out = np.empty(len(places), int)
    shares = np.cumsum([mark.n for mark in marks]) / sum(mark.n for mark in marks)
    for rows in by_partition.values():
        numbers = [n for _, n in sorted(rows)]
        ranks = (np.arange(len(numbers)) + 0.5) / len(numbers)
        out[numbers] = np.searchsorted(shares, ranks)
    return out


def stop(processes):
    """End processes in order."""
    for one in processes:
        one.signal(15)
    for one in processes:
        one.wait()
