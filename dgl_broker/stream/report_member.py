"""Who may report: the one member of a group that holds the one partition of the state's topic. The others stand by.

The group gives that partition to one member at a time, and its generation fences a member that hung: a transaction that names
an older one is refused.
"""

import logging

from confluent_kafka import OFFSET_END, KafkaError, TopicPartition

from dgl_broker.stream.client_errors import Seldom, raise_if_final
from dgl_broker.stream.clients import consumer_conf, is_cooperative, make_consumer

log = logging.getLogger(__name__)


class Member:
    """A member of the group.

    Parameters
    ----------
    kafka : dict
        librdkafka's keys.
    group_id : str
    topic : str
        The state's topic.

    Attributes
    ----------
    tenure : int or None
        Number of times that the partition was given to this member, while it holds it; None while it does not.
    """

    def __init__(self, kafka, group_id, topic):
        self.topic = topic
        self.tenure = None
        self.consumer = make_consumer(kafka, group_id)
        self._cooperative = is_cooperative(consumer_conf(kafka, group_id))
        self._given = 0
        self._seldom = Seldom()
        self.consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def close(self):
        """Leave the group."""
        self.tenure = None
        self.consumer.close()

    @property
    def joined(self):
        """Whether the group knows this member."""
        return bool(self.consumer.memberid())

    def poll(self, timeout_s=0.0):
        """Hear what the group says, waiting up to this long for something to be said.

        Raises
        ------
        InputUnavailable
            If the topic or the group is not ours to use.
        ServiceFailed
            If this member cannot go on.
        """
        message = self.consumer.poll(timeout_s)
        error = None if message is None else message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return
        raise_if_final(error, "group of the reports")
        self._seldom.warn(error.code(), f"kafka: {error.str()}")

    def membership(self):
        """What the group knows this member as, for its transactions."""
        return None, self.consumer.consumer_group_metadata()

    def _on_assign(self, consumer, partitions):
        if not partitions and self.tenure is None:
            log.info("standing by")
        places = [TopicPartition(p.topic, p.partition, OFFSET_END) for p in partitions]
        (consumer.incremental_assign if self._cooperative else consumer.assign)(places)
        if places:
            consumer.pause(places)  # held, not read: the state is read once, from its beginning, by its holder
            self._given += 1
            self.tenure = self._given
            log.info("holding the reports")

    def _on_revoke(self, consumer, partitions):
        if partitions:
            self.tenure = None
            log.info("no longer holding the reports")
