"""Plays a survey: a process that writes alerts to a topic at a pace, each with an id of its own and of objects in turn.

`python -m benchmarks.survey SERVERS TOPIC VALUES.avro RATE N OBJECTS`
"""

import sys
import time

import fastavro
from confluent_kafka import Producer

from benchmarks.alerts import LSST_ID, official_schemas
from benchmarks.kafka_topic import PARTITIONS, survey_codec
from dgl_broker import wire

FIRST_ID = 170_000_000_000_000_000  # as long as Rubin's
FIRST_OBJECT = FIRST_ID + 10**15


def zigzag(value):
    """A long as Avro writes it."""
    value, out = value << 1, bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class Numbered:
    """Framed LSST messages whose ids can be set in their bytes, which are written anew: a first alert has one id for both."""

    def __init__(self, values):
        schemas = official_schemas()
        parsed = wire.parse_schema(schemas.writer_schema(LSST_ID).tree)
        self.values = []
        for value in values:
            record = wire.open_message(value, "lsst", schemas).whole()
            if record["diaObject"]:
                source = record["diaSource"] | {"diaSourceId": FIRST_ID, "diaObjectId": FIRST_OBJECT}
                record |= {"diaSourceId": FIRST_ID, "diaSource": source}
                record["diaObject"] = record["diaObject"] | {"diaObjectId": FIRST_OBJECT}
                self.values.append(wire.encode_confluent(parsed, LSST_ID, record))
        if not self.values:
            raise ValueError("no message is of an object")

    def message(self, n, n_objects):
        """The n-th alert; it is of object `n % n_objects`."""
        value = self.values[n % len(self.values)]
        value = value.replace(zigzag(FIRST_ID), zigzag(FIRST_ID + n))
        return value.replace(zigzag(FIRST_OBJECT), zigzag(FIRST_OBJECT + n % n_objects))


def main(servers, topic, path, rate, n, n_objects):
    """Write `n` alerts at `rate` a second, or as fast as that comes to when it fell behind."""
    with open(path, "rb") as file:
        numbered = Numbered([record["value"] for record in fastavro.reader(file)])
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "compression.type": survey_codec("lsst")})
    began = time.monotonic()
    for k in range(int(n)):
        while (left := began + k / float(rate) - time.monotonic()) > 0:
            producer.poll(min(left, 0.05))
        producer.produce(topic, numbered.message(k, int(n_objects)), partition=k % PARTITIONS)
    if producer.flush(120):
        raise RuntimeError(f"{topic}: not all alerts could be written")


if __name__ == "__main__":
    main(*sys.argv[1:])
