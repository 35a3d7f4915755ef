"""Topics followed from where a reader of its own left off, without a group: what is new, and how far behind that is.

The reader keeps the places itself, with what it made of the messages: nothing is committed to Kafka.
"""

import logging
import time

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from dgl_broker.stream.client_errors import OUT_OF_RANGE, Seldom
from dgl_broker.stream.clients import make_consumer

log = logging.getLogger(__name__)
GROUP = "dgl-broker-following"  # librdkafka wants a name; nobody joins it
AT_ONCE = 1000  # messages handed out together
WAIT_S = 0.2
LOOK_S = 1.0  # how often the ends are asked for
REFRESH_S = 30.0  # metadata: new topics and partitions
ANSWER_S = 5.0


class Following:
    """Topics as they grow.

    Parameters
    ----------
    kafka : dict
        librdkafka's keys.
    topics : list of str
        One that is not there yet is waited for.
    places : dict
        (topic, partition) -> offset of the next message; partitions that are not in it are read from their beginning.
    clock : callable
        Seconds since 1970.

    Attributes
    ----------
    behind : int or None
        Messages that are on the topics and not read yet, an upper bound (it counts markers of transactions); None where
        Kafka has not told.
    complete_until : float or None
        All that was published before this time is read [s since 1970].
    expired : int
        Offsets that retention took before they were read.
    connected : bool
        Whether Kafka answered when last asked.
    """

    def __init__(self, kafka, topics, places, clock=time.time):
        committed_only = {"isolation.level": "read_committed"}
        self.consumer = make_consumer(kafka, GROUP, **committed_only)
        # Of its own: on the reader's connection a question waits for the fetch before it.
        self._asker = make_consumer(kafka, GROUP, **committed_only)
        self.topics, self.positions = list(topics), dict(places)
        self.behind = self.complete_until = None
        self.expired, self.connected = 0, False
        self._clock = clock
        self._assigned = set()
        self._asked = 0.0
        self._ends, self._goal = None, None  # where the topics end; (when asked, ends) that are to be reached
        self._next_look = self._next_refresh = 0.0
        self._seldom = Seldom()

    def close(self):
        """Let go of the connections."""
        self.consumer.close()
        self._asker.close()

    def read(self):
        """Up to a thousand new messages, in order within each partition; after at most a fraction of a second.

        `positions` stands behind them when this returns.
        """
        if self._assigned:
            found = self.consumer.consume(AT_ONCE, WAIT_S)
        else:
            found = []
            self.consumer.poll(WAIT_S)  # serves the callbacks, and waits
        messages = []
        for message in found:
            place = (message.topic(), message.partition())
            if message.error() is not None:
                self._on_error(message, place)
            elif message.offset() >= self.positions.get(place, 0):
                self.positions[place] = message.offset() + 1
                messages.append(message)
        return messages

    def look(self):
        """Once a second: ask where the topics end. Call it when what was read is put away."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            try:
                if now >= self._next_refresh:
                    self._find_partitions()
                    self._next_refresh = now + REFRESH_S
                self._ask_ends()
                self.connected = True
            except KafkaException as error:
                self.connected = False
                self._seldom.warn("kafka", error.args[0].str())
        if self._ends is None:
            return
        self.behind = self._short_of(self._ends)
        # The goal stays until it is reached, so that a stream without pause has an answer too.
        if self._short_of(self._goal[1]) == 0:
            self.complete_until, self._goal = self._goal[0], (self._asked, self._ends)

    def _short_of(self, ends):
        return sum(max(0, end - self.positions.get(place, 0)) for place, end in ends.items())

    def _find_partitions(self):
        for topic in self.topics:
            found = self._asker.list_topics(topic, timeout=ANSWER_S).topics[topic]
            if found.error is not None:
                self._seldom.warn(topic, f"topic {topic}: {found.error.str()}")
                continue
            new = {(topic, p) for p in found.partitions} - self._assigned
            if new:
                starts = [TopicPartition(*p, self.positions.get(p, OFFSET_BEGINNING)) for p in sorted(new)]
                self.consumer.incremental_assign(starts)
                self._assigned |= new
                log.info("following %s, %d partitions", topic, len(found.partitions))

    def _ask_ends(self):
        asked, ends = self._clock(), {}
        for place in sorted(self._assigned):
            marks = self._asker.get_watermark_offsets(TopicPartition(*place), timeout=ANSWER_S)
            if marks is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            low, ends[place] = marks
            if low > self.positions.get(place, 0):
                self._overtaken(place, low)
            elif self.positions.get(place, 0) > ends[place]:
                log.warning("%s[%d]: read up to %d, and it ends at %d: made anew?", *place, self.positions[place], ends[place])
                self._go_to(place, low)
        self._ends, self._asked = ends, asked
        if self._goal is None:
            self._goal = (asked, ends)

    def _on_error(self, message, place):
        error = message.error()
        if error.code() == KafkaError._PARTITION_EOF:
            # Beyond markers of transactions, which are no messages.
            self.positions[place] = max(self.positions.get(place, 0), message.offset())
        elif error.code() in OUT_OF_RANGE:
            self._next_look = 0.0  # the next look finds out which way it is out of range
        else:
            self._seldom.warn(place, error.str())

    def _overtaken(self, place, low):
        lost = low - self.positions.get(place, 0)
        if place in self.positions:
            log.warning("%s[%d]: offsets %d to %d expired before they were read", *place, self.positions[place], low - 1)
            self.expired += lost
            self._go_to(place, low)
        else:
            self.positions[place] = low  # read from its beginning, which is here

    def _go_to(self, place, offset):
        self.positions[place] = offset
        there = TopicPartition(*place, offset)
        self.consumer.incremental_unassign([there])
        self.consumer.incremental_assign([there])
