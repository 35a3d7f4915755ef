"""Consumers and producers from the settings' `kafka` section: each gets the keys that are its own, and what we rely on.

The section's keys are librdkafka's, unchanged; ours here are defaults under them, but for the few that the accounts rest on.
"""

import logging

from confluent_kafka import Consumer, KafkaException, Producer

from dgl_broker.errors import ConfigError
from dgl_broker.librdkafka import properties, text_value

log = logging.getLogger(__name__)

CONSUMER_DEFAULTS = {
    "partition.assignment.strategy": "cooperative-sticky",
    # A member that hangs is replaced after this; one that scores slowly keeps its place by its heartbeats.
    "session.timeout.ms": "30000",
    "queued.max.messages.kbytes": "32768",  # of prefetched packets, for all partitions together
    "fetch.queue.backoff.ms": "20",  # a full queue lasts half a second: librdkafka's second would leave us waiting
}
PRODUCER_DEFAULTS = {
    "enable.idempotence": "true",
    "acks": "all",
    "linger.ms": "5",
    "compression.type": "lz4",
    "delivery.timeout.ms": "60000",
}
CONSUMER_FIXED = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "enable.partition.eof": "true",
    # Out of range is ours to answer: what retention took is counted, and later topics are read from their start.
    "auto.offset.reset": "error",
}


def _merged(kafka, scope, defaults, fixed):
    known = properties()
    aliases = {"sasl.mechanisms": "sasl.mechanism", "request.required.acks": "acks", "compression.codec": "compression.type"}
    given = {k: text_value(v) for k, v in kafka.items() if known[k].scope in (scope, "both")}
    named = {aliases.get(k, k) for k in given}
    return {**{k: v for k, v in defaults.items() if k not in named}, **given, **fixed}


def _tell(error):
    """An error of librdkafka itself: what it recovers from is only told, the rest meets the next call."""
    log.log(logging.ERROR if error.fatal() else logging.WARNING, "kafka: %s", error.str())


def make_client(kind, conf):
    """A client of confluent-kafka that logs to Python's log; ConfigError where librdkafka refuses the configuration."""
    try:
        return kind({**conf, "error_cb": _tell}, logger=logging.getLogger("librdkafka"))
    except KafkaException as error:
        raise ConfigError(f"kafka: {error.args[0].str()}") from error


def consumer_conf(kafka, group_id):
    """Configuration of a consumer of this group."""
    defaults = dict(CONSUMER_DEFAULTS)
    if kafka.get("group.protocol") == "consumer":
        # KIP-848: the broker assigns and keeps the time; librdkafka refuses these keys then.
        del defaults["partition.assignment.strategy"], defaults["session.timeout.ms"]
    return _merged({**kafka, "group.id": group_id}, "consumer", defaults, CONSUMER_FIXED)


def producer_conf(kafka, transactional_id=None):
    """Configuration of a producer; with a transactional id of a transactional one, whose open transaction soon times out."""
    defaults, fixed = dict(PRODUCER_DEFAULTS), {"delivery.report.only.error": False}
    if transactional_id is not None:
        # What a killed process left open hides later outputs from read_committed readers until it is aborted.
        defaults |= {"transaction.timeout.ms": "10000", "delivery.timeout.ms": "10000"}
        fixed["transactional.id"] = transactional_id
    return _merged(kafka, "producer", defaults, fixed)


def make_consumer(kafka, group_id, **overrides):
    """A consumer that commits nothing by itself.

    Raises
    ------
    ConfigError
        If librdkafka refuses the configuration.
    """
    return make_client(Consumer, {**consumer_conf(kafka, group_id), **overrides})


def make_producer(kafka, transactional_id=None):
    """A producer whose every message is acknowledged by all replicas.

    Raises
    ------
    ConfigError
        If librdkafka refuses the configuration.
    """
    return make_client(Producer, producer_conf(kafka, transactional_id))


def is_cooperative(conf):
    """Whether partitions come and go one by one (incremental assign) under this consumer configuration."""
    strategy = conf.get("partition.assignment.strategy", "")
    return strategy.startswith("cooperative") or conf.get("group.protocol") == "consumer"
