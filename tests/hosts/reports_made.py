"""Reports as `dgl-broker report` makes them, by its own ledger, from candidates."""

import contextlib

from confluent_kafka import Producer
from kafka.registry import Registry

from dgl_broker.outputs.avro import load_schema, make_form
from dgl_broker.outputs.registry import OutputRegistry
from dgl_broker.reports import Ledger, Rules
from dgl_broker.reports.ledger import REPORTED
from dgl_broker.reports.records import report_record
from dgl_broker.stream.embedded import EmbeddedKafka

# 2026-11-22T06:00:00 UTC is JD 2461366.75 by the Julian day's own formula (Meeus, ch. 7), MJD 61366.25; TAI is 37 s ahead.
UTC_06 = "2026-11-22T06:00:00.000Z"
MJD_TAI_06 = 61366.25 + 37 / 86400
BIG = 2**62 + 12345  # an id that no double holds


def candidate(name="169813006111211555", alert_id=BIG, band="g", magnitude=21.5, **changes):
    """A record of the candidates topic."""
    record = {field["name"]: field.get("default") for field in load_schema("score")["fields"]}
    record |= {
        "survey": "lsst",
        "alert_id": alert_id,
        "object_id": name,
        "mjd_tai": MJD_TAI_06,
        "ra": 150.25,
        "dec": -2.5,
        "band": band,
        "magnitude": magnitude,
        "status": "scored",
        "p_lsn": 0.75,
        "p_lensed_sn_ia": 0.5,
        "p_lensed_sn_cc": 0.25,
        "log_odds": 4.5,
        "posterior": 9e-5,
        "prevalence": 1e-6,
        "bundle_id": "lsst",
        "bundle_sha256": "ab" * 32,
        "verdicts": [{"filter": "lensed_sn_lsst", "version": 1, "passed": True, "failed": []}],
        "message_id": f"m{alert_id}",
    }
    return record | changes


def reports(candidates, survey="lsst", published_ms=1_795_378_640_000):
    """Reports of these candidates, in order."""
    rules = Rules(survey, max_per_night=50, brighter_mag=1.0)
    ledger, found = Ledger(rules), []
    for n, one in enumerate(candidates):
        decision = ledger.decide(one)
        ledger.take(decision)
        ledger.settle()
        if decision.outcome == REPORTED:
            found.append(report_record(one, decision, rules, published_ms + n))
    return found


def encode(report, registry=None):
    """A report as its topic has it; framed, where there is a registry."""
    return make_form("report", "t", registry).encode(report)


@contextlib.contextmanager
def framed(topic, made):
    """A Kafka whose topic has these reports framed, as `output.registry` makes them: its address, and a registry that asks the
    user `reader` for the password `secret`.
    """
    registry = Registry(user="reader", password="secret")
    try:
        with EmbeddedKafka() as cluster:
            cluster.create_topic(topic, 1)
            producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
            writer = OutputRegistry(registry.url, "reader", "secret")
            for one in made:
                producer.produce(topic, encode(one, writer))
            assert producer.flush(60) == 0
            yield cluster.bootstrap_servers, registry.url
    finally:
        registry.close()
