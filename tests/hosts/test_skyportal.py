"""SkyPortal's provider: its operations as published (skyportal/broker_apis/interface.py and _base.py at 05c1b80), not its code.

With DGL_SKYPORTAL, the folder of a copy of SkyPortal, the same tests run on its own `BrokerAPI`.
"""

import asyncio
import inspect
import os
import sys
import threading
from types import SimpleNamespace

import pytest
from measured import Clock, keep_sent
from recorded import record, refused
from reports_made import BIG, candidate, encode, framed, reports
from scripted import serving

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed here")

from confluent_kafka import Producer  # noqa: E402

from dgl_broker.hosts import reported  # noqa: E402
from dgl_broker.hosts import skyportal as host  # noqa: E402
from dgl_broker.stream.embedded import EmbeddedKafka  # noqa: E402

FIRST, SECOND, TOPIC = "169813006111211555", "169813006111211999", "dgl.lsst.reports"
# Operation -> its parameters.
PUBLISHED = {
    "query_alerts": ("broker", "session"),
    "get_alert": ("broker", "alert_id", "session"),
    "run_ingestion": ("broker", "session"),
    "validate_config": ("altdata",),
}


def broker_api():
    """SkyPortal's base class where a copy of it is at hand, else one with the operations that it publishes."""
    if os.environ.get("DGL_SKYPORTAL"):
        sys.path.insert(0, os.environ["DGL_SKYPORTAL"])
        from skyportal.broker_apis.interface import BrokerAPI

        return BrokerAPI

    def stub(*args, **kwargs):
        raise NotImplementedError

    names = [*PUBLISHED, "get_cutouts", "cone_search", "get_filters", "create_filter", "test_filter", "filter_modules"]
    return type("BrokerAPI", (), {**dict.fromkeys(names, staticmethod(stub)), "surveys": [], "filter_kind": "none"})


BASE = broker_api()


@pytest.fixture(scope="module")
def topic():
    made = reports(
        [
            candidate(FIRST, BIG),
            candidate(SECOND, BIG + 1, ra=10.0, dec=60.0),
            candidate(FIRST, BIG + 2, band="r", log_odds=6.5),
        ]
    )
    with EmbeddedKafka() as cluster:
        cluster.create_topic(TOPIC, 1)
        producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
        for value in [encode(made[0]), b"nonsense", *map(encode, made[1:])]:
            producer.produce(TOPIC, value)
        producer.flush(10)
        yield cluster.bootstrap_servers


@pytest.fixture
def broker(topic, request):
    """A configured broker, as SkyPortal's model has it."""
    config = {"service_url": "http://127.0.0.1:1", "kafka_servers": topic, "topics": [TOPIC], "group_id": request.node.name}
    return SimpleNamespace(id=1, altdata=config)


async def saving(*args):
    """Saves nothing."""


def test_operations_are_those_that_skyportal_publishes():
    made = host.provider(BASE, saving)
    for name, parameters in PUBLISHED.items():
        ours = getattr(made, name)
        assert ours is not getattr(BASE, name)
        assert set(parameters) <= set(inspect.signature(ours).parameters)
    assert host.provider(BASE).run_ingestion is BASE.run_ingestion  # nothing to save with: not implemented, and said so
    assert made.get_cutouts is BASE.get_cutouts and made.cone_search is BASE.cone_search
    assert made.__name__ == "DEEPGRAVILENS" and made.surveys == ["ZTF", "LSST"]
    assert inspect.iscoroutinefunction(made.run_ingestion)
    if hasattr(BASE, "implements"):  # SkyPortal's own
        found = {name for name, there in made.implements().items() if there}
        assert found == {*PUBLISHED, "save_as_source", "get_photometry"}
        assert made.frontend_render_api_info()["formSchemaConfig"] == host.FORM


def test_form_names_what_is_required(broker):
    made = host.provider(BASE)
    assert set(made.form_json_schema_config["required"]) <= set(made.form_json_schema_config["properties"])
    assert set(made.ui_json_schema) <= set(made.form_json_schema_config["properties"])
    made.validate_config(broker.altdata)
    for odd in (None, {}, {**broker.altdata, "topics": []}):
        with pytest.raises(ValueError, match="topics"):
            made.validate_config(odd)
    login = SimpleNamespace(altdata={"kafka_servers": "k:1", "kafka_username": "u", "kafka_password": "p"})
    assert host.kafka_of(login)["sasl.mechanism"] == "SCRAM-SHA-512"


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, [BIG + 2, BIG + 1, BIG]),
        ({"objectId": FIRST}, [BIG + 2, BIG]),
        ({"candid": str(BIG + 1)}, [BIG + 1]),
        ({"survey": "ZTF"}, []),
        ({"ra": 10.0, "dec": 60.0}, [BIG + 1]),
        # At dec 60 one second of right ascension is half a second on the sky.
        ({"ra": 10.0 + 3.9 / 3600, "dec": 60.0, "radius": 2.0}, [BIG + 1]),
        ({"ra": 10.0 + 4.1 / 3600, "dec": 60.0, "radius": 2.0}, []),
    ],
)
def test_reports_are_found(broker, asked, wanted):
    found = host.provider(BASE).query_alerts(broker, None, **asked)
    assert [one["candid"] for one in found] == [str(i) for i in wanted]
    assert all(one["prv_candidates"] == [] and one["objectId"] in (FIRST, SECOND) for one in found)


def test_object_comes_with_the_scores_of_its_alerts(broker):
    rows = [record(BIG - i, survey="lsst", object_id=FIRST, log_odds=4.0 - i) for i in range(2)]
    answer = {"survey": "lsst", "object_id": FIRST, "n_alerts": 3, "records": [*rows, refused(BIG + 9)], "store": None}
    with serving({f"GET /v1/objects/lsst/{FIRST}": [(200, answer)]}) as service:
        broker.altdata["service_url"] = service.url
        found = host.provider(BASE).get_alert(broker, FIRST, None, survey="LSST")
    assert found["objectId"] == FIRST and found["survey"] == "LSST" and found["candid"] == str(BIG)
    assert [(one["candid"], one["log_odds"]) for one in found["scores"]] == [(str(BIG), 4.0), (str(BIG - 1), 3.0)]
    assert found["classifications"]["filters"].startswith("lenient")


def test_object_without_a_score_is_none(broker):
    nothing = (404, {"code": "not_found", "detail": "nothing", "store": {"behind_s": 0.5}})
    with serving({"GET /v1/objects/*": [nothing]}) as service:
        broker.altdata["service_url"] = service.url
        assert host.provider(BASE).get_alert(broker, "ZTF26aa", None) is None
        assert [r["path"] for r in service.requests] == ["/v1/objects/ztf/ZTF26aa"]


def test_each_report_becomes_a_candidate_and_is_committed_after_that(broker, monkeypatch):
    quick = {
        **host.kafka_of(broker),
        "session.timeout.ms": 6000,
    }  # after which the mock cluster gives a left group's place away
    monkeypatch.setattr(host, "WAIT_S", 0.2)
    monkeypatch.setattr(host, "kafka_of", lambda broker: quick)
    saved = []

    async def save(*args):
        saved.append(args)
        if len(saved) == 2:
            raise RuntimeError("the database is away")

    made = host.provider(BASE, save)
    with pytest.raises(RuntimeError):
        asyncio.run(made.run_ingestion(broker, max_messages=10))
    assert asyncio.run(made.run_ingestion(broker, max_messages=3)) == 3  # all again: none was committed
    assert [args[3] for args in saved] == [BIG, BIG + 1, BIG, BIG + 1, BIG + 2]
    _, data, survey, _, annotations = saved[-1]
    assert (data["objectId"], survey, annotations["log_odds"], annotations["state"]) == (FIRST, "LSST", 6.5, "confirmed")
    stop = threading.Event()
    stop.set()
    assert asyncio.run(made.run_ingestion(broker, stop=stop)) == 0


def test_framed_reports_are_read_with_their_registry(broker, monkeypatch):
    monkeypatch.setattr(host, "WAIT_S", 0.2)
    saved, told_of, stop = [], [], threading.Event()
    monkeypatch.setattr(reported.log, "warning", lambda text, *args: told_of.append(text % args))

    async def save(*args):
        saved.append(args[3])

    made = host.provider(BASE, save)
    with framed(TOPIC, reports([candidate(FIRST, BIG), candidate(SECOND, BIG + 1)])) as (servers, url):
        broker.altdata["kafka_servers"] = servers
        assert made.query_alerts(broker, None) == []
        assert len(told_of) == 1 and told_of[0].startswith("2 messages are no reports of ours")
        told = threading.Timer(60.0, stop.set)
        monkeypatch.setattr(host.log, "warning", lambda *args: stop.set() if args[2] == 2 else None)
        told.start()
        assert asyncio.run(made.run_ingestion(broker, stop=stop)) == 0 and told.is_alive()  # counted, and said
        told.cancel()
        broker.altdata |= {"registry": url, "registry_username": "reader", "registry_password": "secret", "group_id": "anew"}
        assert [one["candid"] for one in made.query_alerts(broker, None)] == [str(BIG + 1), str(BIG)]
        assert asyncio.run(made.run_ingestion(broker, max_messages=2)) == 2
    assert saved == [BIG, BIG + 1]


def test_time_that_an_answer_takes(broker):
    clock = Clock()
    for _ in range(5):
        with clock:
            came = host.provider(BASE).query_alerts(broker, None)
    assert len(came) == 3
    keep_sent("skyportal", clock, len(came), "a question")
