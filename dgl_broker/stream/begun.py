"""Topics that a group has begun to read: of a template these are read to their end, though nobody ran for some nights."""

import logging

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

from dgl_broker.stream.compacted import admin_client

log = logging.getLogger(__name__)
ANSWER_S = 10.0


def begun_topics(kafka, group_id, timeout_s):
    """Topics of which the group has committed offsets; none where the cluster does not tell, which is logged.

    Parameters
    ----------
    kafka : dict
        librdkafka's keys.
    group_id : str
    timeout_s : float
    """
    timeout_s = min(timeout_s, ANSWER_S)
    client = admin_client(kafka)  # by name: the answer needs it alive
    try:
        asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group_id)], request_timeout=timeout_s)
        found = asked[group_id].result(timeout_s + 1.0)
        return {place.topic for place in found.topic_partitions if place.offset >= 0}
    except (KafkaException, TimeoutError) as error:
        said = error.args[0].str() if isinstance(error, KafkaException) else "no answer"
        log.warning("kafka: offsets of group %s: %s; older nights that it may have begun are not read", group_id, said)
        return set()
