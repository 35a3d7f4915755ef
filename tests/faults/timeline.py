"""How far a group is, watched from outside, and how long it took to come on again after a fault."""

import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from kafka.flow import PATIENCE_S

SECONDS_BETWEEN_LOOKS = 0.1


class Timeline:
    """Committed offsets of a group over time.

    Parameters
    ----------
    servers, group : str
    places : list of (topic, partition)
    """

    def __init__(self, servers, group, places):
        self._asker = Consumer({"bootstrap.servers": servers, "group.id": group, "log_level": 0})
        self._places = [TopicPartition(*place) for place in places]
        self.samples = []  # (monotonic time, committed offset of each partition)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                answer = self._asker.committed(self._places, timeout=1.0)
            except KafkaException:
                continue
            # A partition that is gone, or not there yet, has nothing committed.
            if all(a.error is None or a.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART for a in answer):
                self.samples.append((time.monotonic(), tuple(0 if a.error else max(0, a.offset) for a in answer)))

    @property
    def committed(self):
        """Sum of the offsets last seen."""
        return sum(self.samples[-1][1]) if self.samples else 0

    def wait_for(self, at_least, seconds=PATIENCE_S, still=lambda: None):
        """Until the group has committed so many, and no longer than `seconds` without anything committed.

        `still` is called between looks and may raise.
        """
        seen, deadline = self.committed, time.monotonic() + seconds
        while (now := self.committed) < at_least:
            still()
            if now > seen:
                seen, deadline = now, time.monotonic() + seconds
            assert time.monotonic() < deadline, f"{now} committed, and no more for {seconds:g} s; expected {at_least}"
            time.sleep(0.02)

    def recovery_s(self, at, ends=None):
        """Seconds from `at` until every partition had come on from where it stood, or all that it ever held was read.

        None where that was never seen.

        Parameters
        ----------
        at : float
            Monotonic time.
        ends : list of int, optional
            Ends of the partitions at that time: where given, those count in which alerts were waiting, and with none there is
            nothing to be told.
        """
        before = [offsets for when, offsets in self.samples if when <= at]
        stood = before[-1] if before else (0,) * len(self._places)
        until = self.samples[-1][1] if ends is None else ends
        if ends is not None and all(s >= end for s, end in zip(stood, ends)):
            return None
        for when, offsets in self.samples:
            if when > at and all(o > s or s >= end for o, s, end in zip(offsets, stood, until)):
                return round(when - at, 2)
        return None

    def close(self):
        """Stop watching."""
        self._ended.set()
        self._thread.join(10)
        self._asker.close()
