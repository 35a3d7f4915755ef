"""Plays a survey: a process that writes alerts to a topic at a pace, each with an id of its own and of objects in turn.

`python -m benchmarks.survey SERVERS TOPIC VALUES.avro RATE N OBJECTS`
"""

import sys
import time

import fastavro
from confluent_kafka import Producer

from benchmarks.alerts import official_schemas
from benchmarks.kafka_topic import PARTITIONS, survey_codec
from dgl_broker import wire

FIRST_ID = 170_000_000_000_000_000  # as long as Rubin's, so that ids can be put in without a shift of bytes


def zigzag(value):
    """A long as Avro writes it."""
    value, out = value << 1, bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class Numbered:
    """Framed LSST messages whose ids can be set: the bytes are theirs but for `diaSourceId` and `diaObjectId`."""

    def __init__(self, values):
        schemas = official_schemas()
        self.values = []
        for value in values:
            record = wire.open_message(value, "lsst", schemas).whole()
            ids = [record["diaSource"]["diaSourceId"], (record["diaObject"] or {}).get("diaObjectId")]
            if all(ids) and all(len(zigzag(one)) == len(zigzag(FIRST_ID)) for one in ids):
                self.values.append((value, *map(zigzag, ids)))
        if not self.values:
            raise ValueError("no message has ids of 18 digits")

    def message(self, n, n_objects):
        """The n-th alert; it is of object `n % n_objects`."""
        value, alert_id, object_id = self.values[n % len(self.values)]
        return value.replace(alert_id, zigzag(FIRST_ID + n)).replace(object_id, zigzag(FIRST_ID + 10**15 + n % n_objects))


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
