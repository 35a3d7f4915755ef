"""The largest message that goes out: of the producer's limit and the topic's, the smaller."""

import logging

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource

from dgl_broker.stream.clients import make_client, producer_conf

log = logging.getLogger(__name__)
PRODUCER_DEFAULT_BYTES = 1_000_000  # librdkafka's message.max.bytes
CONNECTION = ("bootstrap.", "security.", "sasl.", "enable.sasl.", "ssl.", "enable.ssl.", "client.", "socket.", "https.")


def largest_message(kafka, topic, timeout_s):
    """Bytes of the largest message that `topic` takes from our producer.

    The topic's own limit is asked for where the cluster tells it; where not (no such topic yet, no permission), what it
    refuses is found out when it does, and spilled then.
    """
    conf = producer_conf(kafka)
    limit = int(conf.get("message.max.bytes", PRODUCER_DEFAULT_BYTES))
    shared = {k: v for k, v in conf.items() if k.startswith(CONNECTION)}
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        client = make_client(AdminClient, shared)  # by name: the answer needs it alive
        answer = client.describe_configs([resource], request_timeout=min(timeout_s, 5.0))
        entry = next(iter(answer.values())).result(timeout=min(timeout_s, 5.0) + 1.0).get("max.message.bytes")
        return min(limit, int(entry.value)) if entry is not None else limit
    except (KafkaException, TimeoutError, ValueError) as error:
        said = error.args[0].str() if isinstance(error, KafkaException) else type(error).__name__
        log.info("topic %s: its largest message is not known (%s); assuming %d bytes", topic, said, limit)
        return limit
