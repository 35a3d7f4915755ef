"""Messages of a topic for a reader that keeps what it takes: committed once it says that it has them."""

import logging

from confluent_kafka import KafkaException

from dgl_broker.stream.clients import make_consumer

log = logging.getLogger(__name__)


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
        messages = self._consumer.consume(at_most, wait_s)
        for one in messages:
            if one.error() is not None:
                log.warning("kafka: %s", one.error().str())
        return [one for one in messages if one.error() is None]

    def have(self, messages):
        """Commit these; what was given to another member meanwhile is read again by it."""
        last = {(one.topic(), one.partition()): one for one in messages}
        for one in last.values():
            try:
                self._consumer.commit(message=one, asynchronous=False)
            except KafkaException as error:
                log.warning("kafka: commit: %s", error.args[0].str())

    def close(self):
        """Leave the group."""
        self._consumer.close()
