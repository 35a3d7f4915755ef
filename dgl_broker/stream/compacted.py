"""Topics that are a memory: one partition, compacted, so that the last word on every key stays."""

import logging

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from dgl_broker.errors import InputUnavailable, ServiceFailed
from dgl_broker.stream.client_errors import DENIED
from dgl_broker.stream.clients import make_client, producer_conf

log = logging.getLogger(__name__)
SHARED = ("bootstrap.", "security.", "sasl.", "ssl.", "client.", "socket.")  # keys that every kind of client takes


def admin_client(kafka):
    """A client for topics and their configuration, with the connection of the settings' `kafka`."""
    return make_client(AdminClient, {k: v for k, v in producer_conf(kafka).items() if k.startswith(SHARED)})


def make_compacted(kafka, name, purpose, timeout_s):
    """Make such a topic; one that is there already is left as it is.

    Parameters
    ----------
    kafka : dict
        librdkafka's keys.
    name : str
    purpose : str
        What it is needed for, for the error.
    timeout_s : float

    Raises
    ------
    InputUnavailable
        If this user may not make topics.
    ServiceFailed
        If the cluster does not answer.
    """
    topic = NewTopic(name, num_partitions=1, replication_factor=-1, config={"cleanup.policy": "compact"})
    client = admin_client(kafka)  # by name: the answer needs it alive
    try:
        client.create_topics([topic], request_timeout=timeout_s)[name].result()
    except KafkaException as error:
        code = error.args[0].code()
        if code in DENIED:
            text = f"is needed (compacted, one partition) {purpose}, and may not be created here"
            raise InputUnavailable(f"topic {name}: {text}") from error
        if code != KafkaError.TOPIC_ALREADY_EXISTS:
            raise ServiceFailed(f"topic {name}: {error.args[0].str()}") from error


def check_compacted(kafka, name, n_partitions, timeout_s):
    """Nothing, if topic `name` forgets no key, as far as the cluster tells its configuration.

    Raises
    ------
    InputUnavailable
        If it has more than one partition, or retention would delete what it must remember.
    """
    if n_partitions != 1:
        raise InputUnavailable(f"topic {name}: {n_partitions} partitions, expected one: who holds it holds the memory")
    client, resource = admin_client(kafka), ConfigResource(ConfigResource.Type.TOPIC, name)
    try:
        answer = client.describe_configs([resource], request_timeout=timeout_s)
        entry = next(iter(answer.values())).result(timeout=timeout_s + 1.0).get("cleanup.policy")
    except (KafkaException, TimeoutError) as error:
        said = error.args[0].str() if isinstance(error, KafkaException) else type(error).__name__
        log.info("topic %s: its cleanup.policy is not known (%s); assuming compact", name, said)
        return
    if entry is not None and entry.value != "compact":
        raise InputUnavailable(f"topic {name}: cleanup.policy {entry.value}, expected compact: what is deleted is forgotten")
