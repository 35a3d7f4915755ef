"""Alerts by the thousand from real ones, the filter as a process, and what it wrote, read back with a plain consumer."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "tests/data/alerts"
# Real ZTF packets of schema 3.3, 4.01 and 4.02; see tests/data/README.md.
TEMPLATES = (
    "1105522281015015000.avro",
    "2475433850315015009.avro",
    "ztf_20250302_programid1_ZTF17aaarzyp_2982177112815010003.v4_02.avro",
    "ztf_public_20221229_ZTF18abfkwnk_2188216843315010016.v3_3.avro",
    "2752190655615010046.avro",
)
PATIENCE_S = 240.0  # of every wait: a busy machine is slow, not wrong
FIRST_ID = 2_900_000_000_000_000_000  # 19 digits as real candids have, so that ids can be put in without a shift of bytes


def zigzag(value):
    """A long as Avro writes it."""
    value, out = (value << 1) ^ (value >> 63), bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class ZtfTemplates:
    """Real packets whose ids can be set: the bytes are theirs but for candid and objectId."""

    def __init__(self):
        self.packets = []
        for name in TEMPLATES:
            value = (ALERTS / name).read_bytes()
            record = next(fastavro.reader(io.BytesIO(value)))
            candid, name = zigzag(record["candid"]), record["objectId"].encode()
            assert value.count(candid) == 2, "candid stands twice in a packet"
            self.packets.append((value, candid, name))

    def packet(self, n):
        """The n-th alert: candid FIRST_ID + n, an object of its own."""
        value, candid, name = self.packets[n % len(self.packets)]
        fresh = zigzag(FIRST_ID + n)
        assert len(fresh) == len(candid)
        return value.replace(candid, fresh).replace(name, b"ZTF%09d" % n)


def produce(servers, topic, values, n_partitions, headers=None, **conf):
    """Produce `values` round-robin over partitions; every one acknowledged."""
    failed = []
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "message.max.bytes": 5_000_000, **conf})
    for n, value in enumerate(values):
        while True:
            try:
                producer.produce(
                    topic, value, partition=n % n_partitions, headers=headers, on_delivery=lambda e, _: e and failed.append(e)
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(60)
    assert not failed, failed[0]


def ends(servers, topic, isolation="read_committed"):
    """partition -> its end as a reader of this isolation sees it; nothing where there is no such topic."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "ends", "isolation.level": isolation})
    try:
        found = consumer.list_topics(topic, timeout=10).topics[topic]
        places = [] if found.error else [TopicPartition(topic, p) for p in found.partitions]
        return {place.partition: consumer.get_watermark_offsets(place, timeout=10)[1] for place in places}
    finally:
        consumer.close()


def wait_for_open_transactions(servers, topic, seconds=PATIENCE_S):
    """Until no transaction is open on a topic: one is for a moment after its commit; one of a killed process for longer."""
    deadline = time.monotonic() + seconds
    while ends(servers, topic) != ends(servers, topic, "read_uncommitted"):
        assert time.monotonic() < deadline, f"{topic}: a transaction stays open"
        time.sleep(0.05)


def read_topic(servers, topic, isolation="read_committed"):
    """All messages of a topic, by a plain consumer without a group; committed ones once no transaction is open."""
    return list(each_message(servers, topic, isolation))


def each_message(servers, topic, isolation="read_committed"):
    """Yields what `read_topic` gives, which may be more than memory holds."""
    if isolation == "read_committed":
        wait_for_open_transactions(servers, topic)
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        found = consumer.list_topics(topic, timeout=10).topics[topic]
        if found.error is not None:
            return
        consumer.assign([TopicPartition(topic, p, 0) for p in found.partitions])
        left = set(found.partitions)
        while left:
            message = consumer.poll(10)
            assert message is not None, f"{topic}: nothing more came, and {len(left)} partitions are not at their end"
            if message.error():
                left.discard(message.partition())
            else:
                yield message
    finally:
        consumer.close()


def containers(messages):
    """Each message's only record, by fastavro's own reader of object containers."""
    return [one for m in messages for one in fastavro.reader(io.BytesIO(m.value()))]


def committed(servers, group, topic):
    """partition -> committed offset of a group."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        answer = consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=10)
        return {a.partition: a.offset for a in answer}
    finally:
        consumer.close()


class Filter:
    """`dgl-broker run`, or another verb that streams, as a process of its own, log and summary in `folder`."""

    def __init__(self, folder, config, *arguments, environ=None, program=(sys.executable, "-m", "dgl_broker"), verb="run"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.summary_file = self.folder / "summary.json"
        self.log_file = self.folder / "log.txt"
        command = [*program, verb, "--config", str(config), "--summary", str(self.summary_file)]
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(environ or {})},
            )

    @property
    def log(self):
        """What it has written so far."""
        return self.log_file.read_text()

    @property
    def summary(self):
        """Its closing summary."""
        return json.loads(self.summary_file.read_text())

    def wait_for(self, text, seconds=PATIENCE_S):
        """Until its log says `text`."""
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"no {text!r} within {seconds} s:\n{self.log}"
            time.sleep(0.05)

    def signal(self, number):
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, seconds=PATIENCE_S):
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running after {seconds} s:\n{self.log[-4000:]}") from None


def tiny_bundle(folder, survey, scale_arcsec):
    """A bundle of tiny networks with random weights for `survey`, saved in `folder`."""
    import made_up_bundles

    from dgl_broker.model import save_bundle, untrained_bundle

    card = made_up_bundles.tiny_card(id=f"tiny_{survey}", survey=survey)
    card["input"]["image"] |= {"pixel_scale_arcsec": scale_arcsec, "softening_njy": 1000.0}
    made = untrained_bundle(survey, card=card)
    return save_bundle(folder, made.card, made.networks, made.fusion)


def filter_file(path, survey, require, threshold, bundle_sha256=None):
    """A filter of this name's file."""
    text = {
        "name": Path(path).stem,
        "version": 3,
        "description": "made up for a test",
        "survey": survey,
        "bundle_sha256": bundle_sha256,
        "require": require,
        "score": "log_odds",
        "threshold": threshold,
        "operating_point": {"metric": "fpr", **dict.fromkeys(("value", "lo", "hi", "n_neg", "data", "date"))},
        "completeness_floor": None,
        "max_candidates_per_night": None,
    }
    Path(path).write_text(json.dumps(text))  # JSON is YAML
    return Path(path)


class LsstTemplates:
    """Real framed LSST messages of schema 7.3, 9.0 and 10.0 whose diaSourceId can be set, the bytes being theirs but for it."""

    names = ("3527242430321524769.avro", "7912941781254298.avro", "169813006129561698.avro")

    def __init__(self):
        self.packets = [((ALERTS / name).read_bytes(), int(name.split(".")[0])) for name in self.names]

    def alert_id(self, n):
        """Id of the n-th alert."""
        return self.packets[n % len(self.packets)][1] + n // len(self.packets)

    def packet(self, n):
        """The n-th alert."""
        value, its_id = self.packets[n % len(self.packets)]
        old, new = zigzag(its_id), zigzag(self.alert_id(n))
        assert len(old) == len(new) and value.count(old) >= 2
        return value.replace(old, new)
