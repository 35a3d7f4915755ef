"""Ranges of topics read without a group: for looking back at what went in and what came out."""

import logging
import time

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from dgl_broker.errors import InputUnavailable
from dgl_broker.stream.client_errors import DENIED
from dgl_broker.stream.clients import make_consumer
from dgl_broker.stream.cluster import Cluster
from dgl_broker.stream.starting import start_offsets

log = logging.getLogger(__name__)
POLL_S = 0.5
FETCH_WAIT_MS = 10


class RangeReader:
    """Reads partitions one after another, offset by offset; commits nothing and joins no group.

    Parameters
    ----------
    kafka : dict
        librdkafka's keys.
    group_id : str
        Whose committed offsets `committed` tells.
    failures : dgl_broker.stream.failures.Failures
    timeout_s : float
        For one answer, and for the next message.
    **overrides
        Further keys of librdkafka, over those of `kafka`.
    """

    def __init__(self, kafka, group_id, failures, timeout_s=30.0, **overrides):
        # A fetch that waits for more at a partition's end holds up every other question on the same connection.
        self.consumer = make_consumer(kafka, group_id, **{"fetch.wait.max.ms": FETCH_WAIT_MS, **overrides})
        # Asked under read_committed, a partition ends where the first open transaction begins, and a transaction stays open
        # for a moment after its commit was answered: the true end is asked for, and what is open waited for.
        self._asker = make_consumer(kafka, group_id, **{**overrides, "isolation.level": "read_uncommitted"})
        self.failures = failures
        self.timeout_s = timeout_s
        self.cluster = Cluster(self._asker, failures, min(timeout_s, 10.0))

    def close(self):
        """Let go of the connections."""
        self.consumer.close()
        self._asker.close()

    def places(self, topics):
        """(topic, partition) of those of `topics` that exist, in order.

        Raises
        ------
        InputUnavailable, ServiceFailed
        """
        while (existing := self.cluster.look(topics)) is None:
            pass
        return self.cluster.places(existing)

    def ranges(self, places, from_ms=None, to_ms=None):
        """place -> (first, end): offsets from the first message at or after `from_ms` up to the first at or after `to_ms`.

        None is the beginning, and the end as it stands. Adjacent windows share no offset and leave out none.
        """
        marks = {place: self.cluster.watermarks(place) for place in places}
        firsts = {place: low for place, (low, _) in marks.items()} if from_ms is None else self._at(places, from_ms, marks)
        ends = {place: high for place, (_, high) in marks.items()} if to_ms is None else self._at(places, to_ms, marks)
        return {place: (firsts[place], max(firsts[place], ends[place])) for place in places}

    def _at(self, places, when_ms, marks):
        while True:
            try:
                return start_offsets(self._asker, places, when_ms, marks.get, min(self.timeout_s, 10.0))
            except KafkaException as error:
                self.failures.failed("kafka", f"offsets for times: {error.args[0].str()}")

    def committed(self, places):
        """place -> offset that the group has committed, or None where it has not."""
        while True:
            try:
                asked = [TopicPartition(*place) for place in places]
                found = self.consumer.committed(asked, timeout=self.timeout_s) if asked else []
                for one in found:
                    if one.error is not None:
                        raise KafkaException(one.error)
                return {(f.topic, f.partition): None if f.offset == OFFSET_INVALID else f.offset for f in found}
            except KafkaException as error:
                self.failures.failed("kafka", f"committed offsets: {error.args[0].str()}")

    def read(self, place, first, end):
        """Messages of a partition from offset `first` up to `end`, as far as they are committed and still there.

        Yields
        ------
        confluent_kafka.Message

        Raises
        ------
        ServiceFailed
            If nothing comes, time and again.
        InputUnavailable
            If the partition may not be read.
        """
        if first >= end:
            return
        self.consumer.assign([TopicPartition(*place, first)])
        try:
            yield from self._until(place, first, end)
        finally:
            self.consumer.unassign()

    def _until(self, place, first, end):
        heard, held = time.monotonic(), None
        while True:
            message = self.consumer.poll(POLL_S)
            if message is None:
                if time.monotonic() - heard > self.timeout_s:
                    if held is not None:
                        log.warning("%s[%d]: a transaction is open at offset %d; not read beyond", *place, held)
                        return
                    self.failures.failed("kafka", f"{place[0]}[{place[1]}]: nothing came for {self.timeout_s:g} s")
                    heard = time.monotonic()
                continue
            heard, error = time.monotonic(), message.error()
            if error is None:
                if message.offset() >= end:
                    return
                if message.offset() >= first:
                    yield message
                held = None
                if message.offset() + 1 >= end:
                    return
            elif error.code() == KafkaError._PARTITION_EOF:
                if message.offset() >= end:
                    return
                held = message.offset()
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                # Retention overtook us: on with what is left.
                low, _ = self.cluster.watermarks(place)
                if low >= end:
                    return
                self.consumer.assign([TopicPartition(*place, max(low, first))])
            elif error.code() in DENIED:
                raise InputUnavailable(f"topic {place[0]}: {error.str()}")
            else:
                self.failures.failed("kafka", f"{place[0]}[{place[1]}]: {error.str()}")
