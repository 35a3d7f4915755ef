"""Whether the batch that a worker was delivering when it died is out: the group's committed offsets say so."""

import logging
import time

from confluent_kafka import KafkaException, TopicPartition

from dgl_broker.errors import DglError
from dgl_broker.stream.clients import make_consumer

log = logging.getLogger(__name__)
ANSWER_S = 5.0
PATIENCE_S = 30.0  # a transaction that was left open holds the answer back until it is aborted, after 10 s by default


def was_committed(kafka, group_id, offsets, patience_s=PATIENCE_S):
    """Whether the group has committed all of `offsets`; None where it does not say.

    To be asked before the dead member's partitions are others', which is when its session times out at the earliest: their
    commits would look like its own.

    Parameters
    ----------
    kafka : dict
        librdkafka's keys.
    group_id : str
    offsets : list of (topic, partition, offset)
        As they were to be committed, in one request.
    patience_s : float
    """
    deadline = time.monotonic() + patience_s
    # Under read_committed the answer waits for transactions that are still open on these offsets.
    try:
        asker = make_consumer(kafka, group_id, **{"isolation.level": "read_committed"})
    except DglError as error:
        log.warning("%s", error)
        return None
    try:
        while True:
            try:
                found = asker.committed([TopicPartition(t, p) for t, p, _ in offsets], timeout=ANSWER_S)
                errors = [f.error for f in found if f.error is not None]
                if not errors:
                    break
                problem = errors[0]
            except KafkaException as exception:
                problem = exception.args[0]
            if time.monotonic() > deadline:
                log.warning("kafka: committed offsets: %s", problem.str())
                return None
            time.sleep(0.1)  # errors come at once where the coordinator moves
    finally:
        asker.close()
    committed = {(f.topic, f.partition): f.offset for f in found}
    beyond = {committed.get((topic, partition), -1) >= offset for topic, partition, offset in offsets}
    return beyond.pop() if len(beyond) == 1 else None
