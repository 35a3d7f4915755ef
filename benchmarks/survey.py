"""Plays a survey: a process that writes alerts to a topic at a pace, each with an id of its own and of objects in turn.

`python -m benchmarks.survey SERVERS TOPIC VALUES.avro RATE N OBJECTS`
"""

import struct
import sys
import time
from collections.abc import Sequence

import fastavro
from confluent_kafka import Producer

from benchmarks.alerts import LSST_ID, official_schemas
from benchmarks.kafka_topic import PARTITIONS, survey_codec
from dgl_broker import wire

FIRST_ID = 170_000_000_000_000_000  # as long as Rubin's
FIRST_OBJECT = FIRST_ID + 10**15
FIRST_MJD_TAI = 61_041.3
NIGHT_DAYS = 0.4  # within which all alerts of one stream come
BANDS = "gri"  # an object is seen in each in turn, so that an alert has companions in the others


def zigzag(value):
    """A long as Avro writes it."""
    value, out = value << 1, bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class Numbered:
    """Framed LSST messages that are written anew for any number of alerts: ids and time are set in their bytes.

    Each comes in every one of `BANDS`, with its history moved to `FIRST_MJD_TAI`. A first alert has one id for both of its own.
    """

    def __init__(self, values):
        schemas = official_schemas()
        parsed = wire.parse_schema(schemas.writer_schema(LSST_ID).tree)
        records = [wire.open_message(value, "lsst", schemas).whole() for value in values]
        records = [_sentinels(record) for record in records if record["diaObject"]]
        if not records:
            raise ValueError("no message is of an object")
        self.by_band = [
            [wire.encode_confluent(parsed, LSST_ID, r | {"diaSource": r["diaSource"] | {"band": band}}) for r in records]
            for band in BANDS
        ]

    def message(self, n, n_objects, n_all=10**6):
        """The n-th alert of `n_all`; it is of object `n % n_objects`, and in the next band whenever that comes again."""
        values = self.by_band[n // n_objects % len(BANDS)]
        value = values[n % len(values)]
        value = value.replace(zigzag(FIRST_ID), zigzag(FIRST_ID + n))
        value = value.replace(_double(FIRST_MJD_TAI), _double(FIRST_MJD_TAI + NIGHT_DAYS * n / n_all))
        return value.replace(zigzag(FIRST_OBJECT), zigzag(FIRST_OBJECT + n % n_objects))


class Stream(Sequence):
    """`n` alerts of `n_objects`, each made when it is asked for: a topic's worth of them would not fit in memory."""

    def __init__(self, values, n, n_objects):
        self._numbered, self._n, self._n_objects = Numbered(values), n, n_objects

    def __len__(self):
        return self._n

    def __getitem__(self, k):
        if not 0 <= k < self._n:
            raise IndexError(k)
        return self._numbered.message(k, self._n_objects, self._n)


def _double(value):
    """A double as Avro writes it."""
    return struct.pack("<d", value)


def _sentinels(record):
    """A record with the ids and the time that are looked for in its bytes; what came before keeps its distance in time."""
    source, rows = record["diaSource"], ("prvDiaSources", "prvDiaForcedSources")
    by = FIRST_MJD_TAI - source["midpointMjdTai"]
    source = source | {"diaSourceId": FIRST_ID, "diaObjectId": FIRST_OBJECT, "midpointMjdTai": FIRST_MJD_TAI}
    moved = {name: record[name] and [_moved(row, by) for row in record[name]] for name in rows}
    dia_object = record["diaObject"] | {"diaObjectId": FIRST_OBJECT}
    return record | moved | {"diaSourceId": FIRST_ID, "diaSource": source, "diaObject": dia_object}


def _moved(row, by):
    return row | {"midpointMjdTai": row["midpointMjdTai"] + by}


def main(servers, topic, path, rate, n, n_objects):
    """Write `n` alerts at `rate` a second, or as fast as that comes to when it fell behind."""
    with open(path, "rb") as file:
        numbered = Numbered([record["value"] for record in fastavro.reader(file)])
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "compression.type": survey_codec("lsst")})
    began = time.monotonic()
    for k in range(int(n)):
        while (left := began + k / float(rate) - time.monotonic()) > 0:
            producer.poll(min(left, 0.05))
        message = numbered.message(k, int(n_objects), int(n))
        while True:
            try:
                producer.produce(topic, message, partition=k % PARTITIONS)
                break
            except BufferError:  # the broker has fallen behind, not the survey: it is late then, and its latency shows it
                producer.poll(0.05)
    if producer.flush(120):
        raise RuntimeError(f"{topic}: not all alerts could be written")


if __name__ == "__main__":
    main(*sys.argv[1:])
