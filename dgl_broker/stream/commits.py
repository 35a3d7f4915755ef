"""Offsets of the group: committing them, with the answers that a group in motion gives, and asking for them."""

import logging

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from dgl_broker.errors import ServiceFailed

log = logging.getLogger(__name__)
# The group has taken this member's partitions: whoever has them now reads on from the last commit.
FENCED = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.STALE_MEMBER_EPOCH)
GROUP_IS_BUSY = (*FENCED, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.FENCED_MEMBER_EPOCH)


class Commits:
    """Commits of one consumer, in the foreground.

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
        self._make_asker = make_asker
        self._asker = None
        self._done = {}

    def close(self):
        """Close the asker."""
        if self._asker is not None:
            self._asker.close()

    def commit(self, offsets):
        """Commit (topic, partition) -> next offset.

        Returns
        -------
        bool
            False where the group has given the partitions to others: they read these messages again.

        Raises
        ------
        ServiceFailed
            If the group does not take it time and again, or another process has this member's `group.instance.id`.
        """
        wanted = [TopicPartition(*place, offset) for place, offset in offsets.items()]
        while wanted:
            try:
                answer = self.consumer.commit(offsets=wanted, asynchronous=False)
                error = next((a.error for a in answer if a.error is not None), None)
            except KafkaException as exception:
                error = exception.args[0]
            if error is None:
                break
            if error.code() in FENCED:
                log.warning("not committed: %s; the group reads these alerts again", error.str())
                return False
            if error.fatal() or error.code() == KafkaError.FENCED_INSTANCE_ID:
                raise ServiceFailed(f"kafka: {error.str()}")
            self.failures.failed("kafka", f"commit: {error.str()}")
        self.failures.worked("kafka")
        self._done |= offsets
        return True

    def commit_beyond(self, offsets):
        """Commit those offsets that are beyond what this process committed, where it committed anything there."""
        ahead = {place: o for place, o in offsets.items() if o > self._done.get(place, o)}
        if ahead:
            self.commit(ahead)

    def start_group_at(self, offsets):
        """Commit where a group is to start; not while it has members: then it has begun, and goes on where it is."""
        wanted = [TopicPartition(*place, offset) for place, offset in offsets.items()]
        while wanted:
            try:
                answer = self.consumer.commit(offsets=wanted, asynchronous=False)
                error = next((a.error for a in answer if a.error is not None), None)
            except KafkaException as exception:
                error = exception.args[0]
            if error is None:
                return
            if error.code() in GROUP_IS_BUSY:
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
