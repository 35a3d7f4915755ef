"""ALeRCE: an `apf` step that consumes survey packets, has them scored by the service, and produces class probabilities.

apf-base 2.5.2 commits before it produces, and its producer flushes only when it is thrown away; here a batch is committed when
the broker has acknowledged its outputs. apf's own consumer decodes with fastavro and dies of a packet that it cannot decode;
ours hands packets on as they came, so that a broken one is a counted outcome.

`python -m dgl_broker.hosts.alerce` runs the step with settings from the environment, under ALeRCE's names.
"""

import logging
import os
from collections import Counter

from apf.consumers import KafkaConsumer
from apf.core.step import GenericStep

from dgl_broker.client import Client
from dgl_broker.errors import ConfigError, ServiceFailed

CLASSIFIER = "deepgravilens"
CLASSES = ("no_lens", "lens", "lensed_sn_ia", "lensed_sn_cc")
FLUSH_S = 60.0
PATIENCE_S = 240.0  # with a service that does not answer; Kafka gives a member up after 300 s without a poll
SCHEMA = {
    "type": "record",
    "name": "deepgravilens_classification",
    "doc": "Class probabilities of one alert, in the form of ALeRCE's classifiers; each classification is a row of its table.",
    "fields": [
        {"name": "oid", "type": "string", "doc": "objectId (ZTF) or diaObjectId (LSST)"},
        {"name": "candid", "type": "long", "doc": "candid (ZTF) or diaSourceId (LSST)"},
        {"name": "classifications", "type": {"type": "array", "items": {
            "type": "record", "name": "classificationDict", "fields": [
                {"name": "class_name", "type": "string"},
                {"name": "probability", "type": "double"},
                {"name": "ranking", "type": "int", "doc": "1 is the most probable"},
            ]}}},
        {"name": "classifier_name", "type": "string"},
        {"name": "classifier_version", "type": "string", "doc": "bundle, first digits of its hash"},
        {"name": "brokerPublishTimestamp", "default": None,
         "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "log_odds", "type": "double", "doc": "log likelihood ratio, lensed supernova to all else; rank by this"},
        {"name": "passed", "type": {"type": "array", "items": "string"}, "doc": "filters that the alert passed"},
    ],
}  # fmt: skip


class PacketConsumer(KafkaConsumer):
    """apf's consumer, but for packets, which stay as they came: messages are {"packet": bytes, "timestamp": ms}."""

    def _deserialize_message(self, message):
        return {"packet": message.value() or b""}


class DeepGraviLensStep(GenericStep):
    """The step. `config["SERVICE_CONFIG"]` has URL, TOKEN, SURVEY and PATIENCE_S."""

    def __init__(self, config=None, **step_args):
        super().__init__(config=config, **step_args)
        self._commits, self.commit = self.commit, False  # not where apf does: see above
        service = config["SERVICE_CONFIG"]
        self.survey, self.outcomes = service["SURVEY"], Counter()
        self.client = Client(service["URL"], service.get("TOKEN"), patience_s=service.get("PATIENCE_S", PATIENCE_S))
        self._not_delivered = []
        self.set_producer_key_field("oid")

    def execute(self, messages):
        """Outputs of the packets that could be scored; the others are counted by reason, in the log and the metrics."""
        answers = self.client.score(self.survey, [message["packet"] for message in messages])
        counts = Counter(a.status if a.status == "scored" else f"{a.status}:{a.reason}" for a in answers)
        self.outcomes += counts
        self.metrics["outcomes"] = dict(counts)
        self.logger.info(f"{len(messages)} packets: {dict(counts)}")
        return [probabilities(a) for a in answers if a.status == "scored"]

    def produce(self, result):
        """Produce and wait until every output is acknowledged.

        Raises
        ------
        ServiceFailed
            If one is not: the batch stays uncommitted, and the step ends, to be started again.
        """
        for output in result:
            self.producer.produce(output, callback=self._delivered)
        left = self.producer.producer.flush(FLUSH_S)
        if left or self._not_delivered:
            raise ServiceFailed(f"kafka: {left + len(self._not_delivered)} outputs not delivered: {self._not_delivered[:1]}")

    def post_produce(self):
        """Commit the batch."""
        if self._commits:
            self.consumer.commit()

    def _delivered(self, error, _message):
        if error is not None:
            self._not_delivered.append(str(error))


def probabilities(answer):
    """The output of one scored alert."""
    record = answer.record
    found = {name: record[f"p_{name}"] for name in CLASSES}
    ranked = sorted(found, key=found.get, reverse=True)
    return {
        "oid": record["object_id"] or str(answer.alert_id),
        "candid": answer.alert_id,
        "classifications": [{"class_name": n, "probability": found[n], "ranking": ranked.index(n) + 1} for n in CLASSES],
        "classifier_name": CLASSIFIER,
        "classifier_version": answer.version,
        "brokerPublishTimestamp": record["published_ms"],
        "log_odds": answer.log_odds,
        "passed": list(answer.passed),
    }


def step_config(environ=None):
    """`STEP_CONFIG` from the environment, by the names that ALeRCE's steps have.

    Raises
    ------
    ConfigError
        Naming what is missing.
    """
    environ = os.environ if environ is None else environ
    needed = ("CONSUMER_SERVER", "CONSUMER_TOPICS", "CONSUMER_GROUP_ID", "PRODUCER_SERVER")
    missing = [name for name in needed if not environ.get(name)]
    if not environ.get("PRODUCER_TOPIC") and not environ.get("PRODUCER_TOPIC_FORMAT"):
        missing.append("PRODUCER_TOPIC or PRODUCER_TOPIC_FORMAT")
    if missing:
        raise ConfigError(f"environment: {', '.join(missing)} not set")
    consumer = {
        "CLASS": environ.get("CONSUMER_CLASS", "dgl_broker.hosts.alerce.PacketConsumer"),
        "TOPICS": environ["CONSUMER_TOPICS"].strip().split(","),
        "PARAMS": {
            "bootstrap.servers": environ["CONSUMER_SERVER"],
            "group.id": environ["CONSUMER_GROUP_ID"],
            "auto.offset.reset": "beginning",
            **_login(environ, "CONSUMER", "SASL_SSL", "SCRAM-SHA-512"),
        },
        "consume.timeout": int(environ.get("CONSUME_TIMEOUT", 10)),
        "consume.messages": int(environ.get("CONSUME_MESSAGES", 1000)),
    }
    producer = {
        "CLASS": environ.get("PRODUCER_CLASS", "apf.producers.KafkaProducer"),
        "PARAMS": {
            "bootstrap.servers": environ["PRODUCER_SERVER"],
            **_login(environ, "PRODUCER", "SASL_PLAINTEXT", "SCRAM-SHA-256"),
        },
        "SCHEMA": SCHEMA,
    }
    if environ.get("PRODUCER_TOPIC"):
        producer["TOPIC"] = environ["PRODUCER_TOPIC"]
    else:
        producer["TOPIC_STRATEGY"] = {
            "CLASS": environ.get("PRODUCER_TOPIC_STRATEGY_CLASS", "apf.core.topic_management.DailyTopicStrategy"),
            "PARAMS": {
                "topic_format": environ["PRODUCER_TOPIC_FORMAT"],
                "date_format": environ.get("PRODUCER_DATE_FORMAT", "%Y%m%d"),
                "change_hour": int(environ.get("PRODUCER_CHANGE_HOUR", 23)),
                "retention_days": int(environ.get("PRODUCER_RETENTION_DAYS", 1)),
            },
        }
    service = {
        "URL": environ.get("DGL_SERVICE_URL", "http://127.0.0.1:8060"),
        "TOKEN": environ.get("DGL_SERVICE_TOKEN"),
        "SURVEY": environ.get("STREAM", "ztf"),
    }
    return {"CONSUMER_CONFIG": consumer, "PRODUCER_CONFIG": producer, "SERVICE_CONFIG": service}


def _login(environ, side, protocol, mechanism):
    user, password = environ.get(f"{side}_KAFKA_USERNAME"), environ.get(f"{side}_KAFKA_PASSWORD")
    if not (user and password):
        return {}
    return {
        "security.protocol": environ.get(f"{side}_SECURITY_PROTOCOL", protocol),
        "sasl.mechanism": environ.get(f"{side}_SASL_MECHANISM", mechanism),
        "sasl.username": user,
        "sasl.password": password,
    }


def main():
    """Run the step until it is ended or a service fails."""
    level = logging.DEBUG if os.environ.get("LOGGING_DEBUG") else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    DeepGraviLensStep(config=step_config()).start()


if __name__ == "__main__":
    main()
