"""What the cluster says of topics: which there are, their partitions, where these begin and end."""

import logging

from confluent_kafka import KafkaException, TopicPartition

from dgl_broker.errors import InputUnavailable
from dgl_broker.stream.client_errors import DENIED

log = logging.getLogger(__name__)


class Cluster:
    """Questions to the cluster, through a consumer's connections.

    Parameters
    ----------
    consumer : confluent_kafka.Consumer
    failures : dgl_broker.stream.failures.Failures
    timeout_s : float
        For one answer.
    """

    def __init__(self, consumer, failures, timeout_s):
        self.consumer = consumer
        self.failures = failures
        self.timeout_s = timeout_s
        self._ends = {}  # (topic, partition) -> offset after its last message, as last told
        self.partitions = {}  # topic -> its partitions, as last seen

    def look(self, topics):
        """Those of `topics` that exist, as {topic: partitions}; None where the cluster does not answer.

        Raises
        ------
        InputUnavailable
            If one may not be read.
        ServiceFailed
            If the cluster has not answered too often in a row.
        """
        existing = {}
        try:
            for topic in topics:
                found = self.consumer.list_topics(topic, timeout=self.timeout_s).topics[topic]
                if found.error is None:
                    existing[topic] = sorted(found.partitions)
                elif found.error.code() in DENIED:
                    raise InputUnavailable(f"topic {topic}: {found.error.str()}")
        except KafkaException as error:
            self.failures.failed("kafka", f"metadata: {error.args[0].str()}")
            return None
        self.failures.worked("kafka")
        self.partitions |= existing
        return existing

    def gone(self, places):
        """Those of `places` that the cluster has no more; none where it does not answer."""
        existing = self.look({topic for topic, _ in places})
        return [] if existing is None else [place for place in places if place[1] not in existing.get(place[0], ())]

    def places(self, topics):
        """(topic, partition) of all partitions of these topics."""
        return [(topic, partition) for topic in sorted(topics) for partition in self.partitions.get(topic, ())]

    def watermarks(self, place):
        """(first offset there is, offset after the last), asked for now; retried until the cluster answers.

        Raises
        ------
        ServiceFailed
            If it has not answered too often in a row.
        """
        while True:
            try:
                marks = self.consumer.get_watermark_offsets(TopicPartition(*place), timeout=self.timeout_s)
            except KafkaException as error:
                marks, text = None, error.args[0].str()
            if marks is not None:
                return marks
            self.failures.failed("kafka", f"offsets of {place[0]}[{place[1]}]: {text}")

    def committed(self, places):
        """place -> offset that the consumer's group has committed, negative where none; retried until the group answers.

        Raises
        ------
        ServiceFailed
            If it has not answered too often in a row.
        """
        while places:
            try:
                found = self.consumer.committed([TopicPartition(*place) for place in places], timeout=self.timeout_s)
                return {(f.topic, f.partition): f.offset for f in found}
            except KafkaException as error:
                self.failures.failed("kafka", f"committed offsets: {error.args[0].str()}")
        return {}

    def are_read(self, places, committed):
        """Whether nothing of these partitions is left to read, or to count, behind the offsets that are committed.

        What retention took of a partition that was begun is not read yet: whoever holds it has it to count.
        """
        for place in places:
            low, high = self.watermarks(place)
            offset = committed.get(place, -1)
            if offset < high and (low < high or offset >= 0):
                return False
        return True

    def behind(self, place, position):
        """Messages of a partition after `position`, as far as the last fetch told; None where it told nothing."""
        low, high = self.consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        # Of a topic that was deleted nothing is told any more; what was told before still holds.
        high = self._ends[place] = high if high >= 0 else self._ends.get(place, high)
        return None if high < 0 else max(0, high - (max(low, 0) if position is None else position))
