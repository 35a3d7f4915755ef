"""What a consumer hands out in place of a message: errors that end the run, and those that librdkafka mends by itself."""

import logging
import time

from confluent_kafka import KafkaError

from dgl_broker.errors import InputUnavailable, ServiceFailed

log = logging.getLogger(__name__)
REPEAT_S = 60.0  # between two warnings alike
DENIED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
ENDING = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


class Seldom:
    """Warnings, those alike once a minute."""

    def __init__(self):
        self._next = {}

    def warn(self, alike, text):
        """Warn, unless one of the same `alike` (hashable) was given within the last minute."""
        now = time.monotonic()
        if now >= self._next.get(alike, 0.0):
            self._next[alike] = now + REPEAT_S
            log.warning("%s", text)


def raise_if_final(error, whose="kafka"):
    """End the run where a client cannot go on by itself.

    Raises
    ------
    InputUnavailable
        If it may not read, or not join its group.
    ServiceFailed
        If the client has failed for good, or was fenced.
    """
    if error.code() in DENIED:
        raise InputUnavailable(f"{whose}: {error.str()}")
    if error.fatal() or error.code() in ENDING:
        raise ServiceFailed(f"kafka: {error.str()}")
