"""Offsets of the group: committing them, with the answers that a group in motion gives, and asking for them."""

import logging
import time

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from dgl_broker.errors import ServiceFailed

log = logging.getLogger(__name__)
# The group moves on while this member's answer to it is under way: the commit is in order as soon as it has arrived.
MOVING = (KafkaError.ILLEGAL_GENERATION, KafkaError.STALE_MEMBER_EPOCH, KafkaError.REBALANCE_IN_PROGRESS)
# The group has given this member up, and its partitions to others, who read on from the last commit.
THROWN_OUT = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_MEMBER_EPOCH)
MOVING_S = 5.0
PAUSE_S = 0.02


class Commits:
    """Commits of one consumer, in the foreground.

    What is `owed` is out but not committed yet: a group in the middle of a rebalance may refuse for some seconds. It is paid
    with the next commit, or when the partition is given up in order; a member that was thrown out owes nothing more.

    Parameters
    ----------
    consumer : confluent_kafka.Consumer
        The member of the group.
    make_asker : callable
        () -> a consumer of the same group that does not join it, made when it is first needed. The member's own connection
        to the coordinator answers nothing while a rebalance holds its JoinGroup.
    failures : Failures
    """

    def __init__(self, consumer, make_asker, failures):
        self.consumer = consumer
        self.failures = failures
        self.owed = {}
        self._make_asker = make_asker
        self._asker = None
        self._done = {}

    def close(self):
        """Close the asker."""
        if self._asker is not None:
            self._asker.close()

    def commit(self, offsets, member_id=None):
        """Commit (topic, partition) -> next offset, and what is owed.

        Parameters
        ----------
        offsets : dict
        member_id : str, optional
            What the group knew this member as when it was given these messages. A member that was thrown out and has joined
            again under another name does not commit them: others own the partitions, and may be further on.

        Raises
        ------
        ServiceFailed
            If the group does not take it time and again, or another process has this member's `group.instance.id`.
        """
        if member_id is not None and member_id != self.consumer.memberid():
            log.warning("not committed: this member was replaced while it worked; others read these alerts again")
            self.forget(set(offsets))
            return
        self.owed |= offsets
        self.pay()

    def pay(self, patience_s=MOVING_S):
        """Commit what is owed, waiting this long for a group in motion; what it still refuses stays owed."""
        deadline = time.monotonic() + patience_s
        while self.owed:
            error = self._try(self.owed)
            if error is None:
                self._done |= self.owed
                self.owed = {}
                self.failures.worked("kafka")
            elif error.code() in THROWN_OUT:
                log.warning("not committed: %s; others read these alerts again", error.str())
                self.owed = {}
            elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                self._pay_one_by_one()
                return
            elif error.fatal() or error.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID):
                raise ServiceFailed(f"kafka: {error.str()}")
            elif error.code() not in MOVING:
                self.failures.failed("kafka", f"commit: {error.str()}")
            elif time.monotonic() > deadline:
                log.info("not committed yet: %s", error.str())
                return
            else:
                time.sleep(PAUSE_S)

    def _pay_one_by_one(self):
        """A topic was deleted: what is owed for it cannot be paid, the rest can."""
        owed, self.owed = self.owed, {}
        for place, offset in owed.items():
            error = self._try({place: offset})
            if error is None:
                self._done[place] = offset
            elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                log.warning("%s[%d]: deleted, with its outcomes out and its offset uncommitted", *place)
            else:
                self.owed[place] = offset  # as before; the next commit comes back to it

    def forget(self, places):
        """These partitions are no longer ours, and what is owed for them is not ours to pay."""
        self.owed = {place: offset for place, offset in self.owed.items() if place not in places}
        self._done = {place: offset for place, offset in self._done.items() if place not in places}

    def commit_beyond(self, offsets):
        """Commit those offsets that are beyond what this process committed, where it committed anything there."""
        ahead = {place: o for place, o in offsets.items() if o > self._done.get(place, o)}
        if ahead:
            self.commit(ahead)

    def start_group_at(self, offsets):
        """Commit where a group is to start; not while it has members: then it has begun, and goes on where it is."""
        while offsets:
            error = self._try(offsets)
            if error is None:
                return
            if error.code() in (*MOVING, *THROWN_OUT):
                log.warning("input.start does not hold: the group has members already, and goes on where it is")
                return
            self.failures.failed("kafka", f"start offsets: {error.str()}")

    def committed(self, places, timeout_s):
        """(topic, partition) -> committed offset, negative where there is none; None where the group does not answer."""
        self._asker = self._asker or self._make_asker()
        try:
            answer = self._asker.committed([TopicPartition(*p) for p in places], timeout=timeout_s)
        except KafkaException as error:
            log.warning("kafka: committed offsets: %s", error.args[0].str())
            return None
        return {(a.topic, a.partition): a.offset for a in answer}

    def _try(self, offsets):
        """Commit once; the error or None."""
        try:
            wanted = [TopicPartition(*place, offset) for place, offset in offsets.items()]
            answer = self.consumer.commit(offsets=wanted, asynchronous=False)
        except KafkaException as exception:
            return exception.args[0]
        return next((a.error for a in answer if a.error is not None), None)
