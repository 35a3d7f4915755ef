"""Batches of messages from Kafka: who holds which partition, where to start, what is lost to retention, how far behind.

Committing is asked for by the delivery, for a batch whose outcomes are out. Rebalances are answered inside `poll`, which is
called between batches only: messages in hand of a partition that is taken away are let go, uncommitted.
"""

import contextlib
import logging
import time

from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from dgl_broker.errors import InputUnavailable, ServiceFailed
from dgl_broker.stream.batch import Batch, as_message
from dgl_broker.stream.client_errors import OUT_OF_RANGE, Seldom, raise_if_final
from dgl_broker.stream.clients import consumer_conf, is_cooperative, make_consumer
from dgl_broker.stream.cluster import Cluster
from dgl_broker.stream.commits import Commits
from dgl_broker.stream.ends import Ends
from dgl_broker.stream.starting import first_offsets, start_offsets
from dgl_broker.topic_names import is_template

log = logging.getLogger(__name__)
REFRESH_S = 30.0  # metadata: new nights' topics, new partitions, topics that went
IDLE_S = 1.0  # an empty batch is handed out after this, so that health and metrics stay fresh
POLL_S = 0.2
BATCH_BYTES = 256 * 1024 * 1024  # a batch closes here too: 1,000 LSST packets of the largest size seen


class Source:
    """The input.

    Parameters
    ----------
    kafka : dict
        librdkafka's keys.
    group_id : str
    subscription : dgl_broker.stream.topics.Subscription
    failures : dgl_broker.stream.failures.Failures
    start : "committed", "earliest", "latest" or int
        Where to start in topics that exist now; an int is a time [ms since 1970].
    until_eof : bool or Ends
        End at the partitions' ends as they stand when `prepare` is called, or at these.
    member : bool
        False reads without joining the group and commits nothing (a dry run).
    timeout_s : float
        For one answer of the cluster.
    """

    def __init__(
        self, kafka, group_id, subscription, failures, start="committed", until_eof=False, member=True, timeout_s=30.0
    ):
        conf = consumer_conf(kafka, group_id)
        self._cooperative = is_cooperative(conf)
        self._reset = "latest" if str(kafka.get("auto.offset.reset")) in ("latest", "largest", "end") else "earliest"
        self.consumer = make_consumer(kafka, group_id)
        self.subscription = subscription
        self.failures = failures
        self.start = start
        self.member = member
        self.timeout_s = min(timeout_s, 10.0)
        self.cluster = Cluster(self.consumer, failures, self.timeout_s)
        self.expired = 0
        self.assigned = set()
        self.positions = {}  # (topic, partition) -> next offset to come
        self.commits = Commits(self.consumer, lambda: make_consumer(kafka, group_id), failures) if member else None
        self._until_eof = until_eof is True
        self.ends = until_eof if isinstance(until_eof, Ends) else None
        self._starts = {}
        self._hand = Batch()
        self._next_refresh = 0.0
        self._parted = {}  # partitions just given up -> what was unread in them
        self._latest = {}  # where "latest" turned out to be, still to be committed
        self._closing = False
        self._seldom = Seldom()

    def open(self):
        """Prepare, and join the group."""
        self.prepare()
        self._subscribe()

    def prepare(self):
        """Find the topics, note their ends, apply the start.

        Raises
        ------
        InputUnavailable
            If a topic given by name does not exist, or may not be read.
        ServiceFailed
            If the cluster does not answer.
        """
        while not self._look_at_topics():
            pass
        missing = [t for t in self.subscription.topics if not is_template(t) and t not in self.subscription.held]
        if missing:
            raise InputUnavailable(f"topic {', '.join(missing)}: not on the cluster, or hidden from this user")
        places = self.cluster.places(self.subscription.held)
        if self._until_eof:
            self.ends = Ends({place: self.cluster.watermarks(place) for place in places})
        if self.start != "committed":
            self._starts = start_offsets(self.consumer, places, self.start, self.cluster.watermarks, self.timeout_s)
            if self.member:
                self.commits.start_group_at(self._starts)

    def close(self):
        """Leave the group, what is owed committed where that is possible."""
        self._closing = True
        if self.member:
            with contextlib.suppress(ServiceFailed):  # then it is read again, and something worse is on its way out already
                self.commits.pay()
            self.commits.owed = {}
        self.consumer.close()
        if self.member:
            self.commits.close()

    @property
    def holds_partitions(self):
        """Whether the group has given this member anything to read."""
        return bool(self.assigned)

    def next_batch(self, max_alerts, max_wait_s, should_stop=lambda: False):
        """Up to `max_alerts` messages, or what came within `max_wait_s` of the first; empty when nothing comes for a second."""
        if self.member:
            # "latest" at once: a crash before the first batch would move it on, over alerts that nobody read.
            self.commits.commit({place: offset for place, offset in self._latest.items() if place in self.assigned})
            self._latest = {}
        hand = self._hand = Batch()
        began, closes = time.monotonic(), None
        while len(hand) < max_alerts and hand.n_bytes < BATCH_BYTES and not should_stop():
            now = time.monotonic()
            if now >= (began + IDLE_S if closes is None else closes) or self.at_end():
                break
            message = self.consumer.poll(POLL_S if closes is None else min(POLL_S, closes - now))
            if message is None:
                continue
            if message.error():
                self._on_message_error(message)
            elif self._take(message) and closes is None:
                closes = time.monotonic() + max_wait_s
        hand.membership = self._membership()
        return hand

    def _take(self, message):
        place, offset = (message.topic(), message.partition()), message.offset()
        if place not in self.assigned or offset < self.positions.get(place, 0):
            return False
        end = self.ends and self.ends.of(place, offset)
        if end is not None:
            # Came after the start: left for the next run.
            self.consumer.pause([TopicPartition(*place)])
            self.positions[place] = max(self.positions.get(place, 0), end)
            return False
        self._hand.add(as_message(message))
        self.positions[place] = offset + 1
        return True

    def at_end(self):
        """Whether all there was at the start is read, by this member or, where it holds nothing, by its group."""
        if self.ends is None:
            return False
        if self.assigned or not self.member:
            return self.ends.are_reached(self.positions, self.assigned)
        return self.ends.are_committed(lambda places: self.commits.committed(places, self.timeout_s))

    def rewind(self, batch):
        """Read a batch again: it was not delivered, and its partitions, where still ours, go back to where it began."""
        for place, offset in batch.first.items():
            if place in self.assigned:
                self.positions[place] = offset
                self._go_to(place, offset)

    def commit(self, batch):
        """Commit a batch whose outcomes are out, unless others have its partitions by now."""
        self.commits.commit(batch.next, batch.membership[0])

    def _membership(self):
        return (self.consumer.memberid(), self.consumer.consumer_group_metadata()) if self.member else (None, None)

    def refresh(self):
        """Every 30 s: topics that came, rolled or went. Between batches only."""
        if time.monotonic() < self._next_refresh:
            return
        before = set(self.subscription.held)
        self._look_at_topics()
        if self.subscription.held != before:
            self._subscribe()

    def lag(self):
        """(topic, partition) -> messages of held partitions that are still to be read, where known."""
        behind = {place: self.cluster.behind(place, self.positions.get(place)) for place in self.assigned}
        return {place: left for place, left in behind.items() if left is not None}

    def _look_at_topics(self):
        existing = self.cluster.look(self.subscription.candidates())
        if existing is None:
            return False
        self._next_refresh = time.monotonic() + REFRESH_S
        if self.member:
            # Past trailing transaction markers too, so that a partition that is read shows as read to the whole group.
            self.commits.commit_beyond({place: self.positions[place] for place in self.assigned & set(self.positions)})
        _, removed = self.subscription.update(set(existing), self._is_read)
        held = {**self._parted, **{place: self._unread(place) for place in self.assigned}}
        for place in [p for p in held if p[0] in removed and p[0] not in existing]:
            log.warning("%s[%d] is gone, with %d offsets unread", *place, held[place])
            self.expired += held[place]
        self._parted = {}
        return True

    def _unread(self, place):
        """Offsets of a held partition that are still to be read, as far as the last fetch told."""
        return self.cluster.behind(place, self.positions.get(place)) or 0

    def _is_read(self, topic):
        """Whether the group has committed every partition of a topic to its end."""
        places = self.cluster.places([topic])
        committed = self.commits.committed(places, self.timeout_s) if self.member else self.positions
        return committed is not None and self.cluster.are_read(places, committed)

    def _subscribe(self):
        topics = sorted(self.subscription.held)
        log.info("reading %s", ", ".join(topics) or "nothing yet")
        if self.member:
            if topics:
                self.consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
            elif self.assigned:
                self.consumer.unsubscribe()
            return
        places = [p for p in self.cluster.places(topics) if p not in self.assigned]
        gone = [p for p in self.assigned if p[0] not in self.subscription.held]
        self._on_revoke(self.consumer, [TopicPartition(*p) for p in gone])
        offsets = self._first_offsets(places)
        kept = [TopicPartition(*p, self.positions.get(p, OFFSET_BEGINNING)) for p in self.assigned]
        self.consumer.assign(kept + offsets)
        self.assigned |= set(places)

    def _on_assign(self, consumer, partitions):
        if self._closing:
            return  # stopped before the group had answered: a client that closes is told no committed offsets, only time-outs
        offsets = self._first_offsets([(p.topic, p.partition) for p in partitions])
        (consumer.incremental_assign if self._cooperative else consumer.assign)(offsets)
        if not self._cooperative:
            self._forget(set(self.assigned) - {(p.topic, p.partition) for p in partitions})
        self.assigned |= {(p.topic, p.partition) for p in partitions}
        log.info("given %d partitions, holding %d", len(partitions), len(self.assigned))

    def _on_revoke(self, consumer, partitions):
        places = {(p.topic, p.partition) for p in partitions}
        if self.member:
            self.commits.pay()  # the last moment: after this they are others'
            # Or nobody's: the group may know before us that a topic was deleted. Metadata may not be asked for in here.
            self._parted |= {p: self._unread(p) for p in places & self.assigned}
            self._next_refresh = 0.0
        self._forget(places)
        log.info("gave up %d partitions, holding %d", len(partitions), len(self.assigned))

    def _forget(self, places):
        if self.member:
            self.commits.forget(places)
        self._hand.drop(places)
        self.assigned -= places
        for place in places:
            self.positions.pop(place, None)

    def _first_offsets(self, places):
        """Where to begin in partitions that were just given, as TopicPartitions."""
        known = self.cluster.committed(places)
        if not self.member:
            known = {place: self._starts.get(place, offset) for place, offset in known.items()}
        offsets, latest = first_offsets(known, self.subscription.at_start or (), self._reset, self.cluster.watermarks)
        self._latest |= latest
        self.positions |= {place: offset for place, offset in offsets.items() if offset >= 0}
        return [TopicPartition(*place, offset) for place, offset in offsets.items()]

    def _on_message_error(self, message):
        error, place = message.error(), (message.topic(), message.partition())
        if error.code() == KafkaError._PARTITION_EOF:
            if place in self.assigned:
                self.positions[place] = max(self.positions.get(place, 0), message.offset())
        elif error.code() in OUT_OF_RANGE:
            self._on_out_of_range(place)
        else:
            raise_if_final(error)
            # librdkafka goes on by itself; if it cannot, the look at the topics fails too, and is counted there.
            self._seldom.warn((place, error.code()), f"kafka: {error.str()}")

    def _on_out_of_range(self, place):
        """Retention overtook us, or the topic was made anew: go on at what there is, and count what was lost."""
        if place not in self.assigned:
            return
        low, high = self.cluster.watermarks(place)
        position = self.positions.get(place, low)
        lost = max(0, low - position)
        if lost:
            log.warning("%s[%d]: offsets %d to %d expired before they were read", *place, position, low - 1)
        else:
            log.warning("%s[%d]: offset %d is beyond the end %d; reading from %d", *place, position, high, low)
        self.expired += lost
        self.positions[place] = low
        self._go_to(place, low)
        if lost and self.member and place not in self._hand.first:
            self.commits.commit({place: low})  # it is counted: whoever comes next begins here

    def _go_to(self, place, offset):
        """Read a held partition on from an offset; unlike `seek` also where fetching has stopped."""
        there = TopicPartition(*place, offset)
        if self._cooperative and self.member:
            self.consumer.incremental_unassign([there])
            self.consumer.incremental_assign([there])
        else:
            others = [TopicPartition(*p, self.positions.get(p, OFFSET_BEGINNING)) for p in self.assigned - {place}]
            self.consumer.assign([*others, there])
