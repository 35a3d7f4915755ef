"""Messages of a topic for a reader that keeps what it takes: committed once it says that it has them."""

import logging

from confluent_kafka import KafkaException

from dgl_broker.stream.clients import make_consumer

log = logging.getLogger(__name__)


def take(consumer, at_most, wait_s):
    """Up to so many messages of a consumer, those that come within `wait_s`; errors are told in the log."""
    messages = consumer.consume(at_most, wait_s)
    for one in messages:
        if one.error() is not None:
            log.warning("kafka: %s", one.error().str())
    return [one for one in messages if one.error() is None]


def commit(consumer, messages):
    """Commit these messages; what was given to another member meanwhile is read again by it."""
    for one in {(m.topic(), m.partition()): m for m in messages}.values():
        try:
            consumer.commit(message=one, asynchronous=False)
        except KafkaException as error:
            log.warning("kafka: commit: %s", error.args[0].str())


class Taker:
    """A member of a consumer group.

    Parameters
    ----------
    kafka : dict
        librdkafka's keys.
    group_id : str
    topics : list of str
        Read from their beginning where the group has committed nothing.
    """

    def __init__(self, kafka, group_id, topics):
        overrides = {"auto.offset.reset": "earliest", "enable.partition.eof": "false"}
        self._consumer = make_consumer(kafka, group_id, **overrides)
        self._consumer.subscribe(topics)

    def take(self, at_most, wait_s):
        """Up to so many messages, those that come within `wait_s`."""
        return take(self._consumer, at_most, wait_s)

    def have(self, messages):
        """Commit these."""
        commit(self._consumer, messages)

    def close(self):
        """Leave the group."""
        self._consumer.close()
