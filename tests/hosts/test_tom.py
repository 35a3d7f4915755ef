"""TOM Toolkit itself, in Django: our reports by its pages and its command, as targets with the scores of their alerts."""

import os

import pytest
from measured import Clock, keep_sent
from recorded import found, record, refused
from reports_made import BIG, MJD_TAI_06, candidate, encode, framed, reports
from scripted import serving

pytest.importorskip("tom_alerts", reason="tomtoolkit is not installed here: tox -e host-tom")
os.environ["DJANGO_SETTINGS_MODULE"] = "tom_settings"

import django  # noqa: E402

django.setup()

from confluent_kafka import Producer  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client, override_settings  # noqa: E402
from django.test.utils import setup_test_environment, teardown_test_environment  # noqa: E402
from django.urls import reverse  # noqa: E402
from tom_alerts.alerts import get_service_class  # noqa: E402
from tom_alerts.models import BrokerQuery  # noqa: E402
from tom_dataproducts.models import PhotometryReducedDatum, ReducedDatum  # noqa: E402
from tom_dataservices.dataservices import get_data_service_class  # noqa: E402
from tom_targets.models import Target  # noqa: E402

from dgl_broker.stream.embedded import EmbeddedKafka  # noqa: E402

NAME, TOPIC = "DeepGraviLens", "dgl.lsst.reports"
FIRST, SECOND = "169813006111211555", "169813006111211999"


@pytest.fixture(scope="module")
def toolkit():
    """TOM Toolkit's tables, in memory."""
    setup_test_environment()
    call_command("migrate", verbosity=0)
    yield
    teardown_test_environment()


@pytest.fixture
def tom(toolkit):
    """A TOM with nothing in it; what a test saves is rolled back."""
    cache.clear()
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
    connection.queries_log.clear()


@pytest.fixture
def page(tom):
    """The browser of somebody who is logged in."""
    client = Client()
    client.force_login(User.objects.create(username="Han", email="han@example.org"))
    return client


@pytest.fixture(scope="module")
def topic():
    """Kafka with three reports of two objects, and something else."""
    made = reports(
        [
            candidate(FIRST, BIG),
            candidate(SECOND, BIG + 1, log_odds=1.5, magnitude=22.5, ra=10.0, dec=3.0),
            candidate(FIRST, BIG + 2, band="r", log_odds=6.5),
        ]
    )
    with EmbeddedKafka() as cluster:
        cluster.create_topic(TOPIC, 1)
        producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
        for value in [*map(encode, made), b"nonsense"]:
            producer.produce(TOPIC, value)
        producer.flush(10)
        yield {
            "kafka": {"bootstrap.servers": cluster.bootstrap_servers},
            "topics": [TOPIC],
            "page": "https://x.org/{object_id}",
        }


@pytest.fixture
def place(topic):
    """Both modules, with that Kafka in the TOM's settings."""
    with override_settings(BROKERS={NAME: topic}, DATA_SERVICES={NAME: topic}):
        yield topic


def of_object(*records):
    return 200, {"survey": "lsst", "object_id": FIRST, "n_alerts": len(records), "records": list(records), "store": None}


def question(**changes):
    """What its form sends."""
    return {"query_name": "new lenses", "broker": NAME, "days": "7", "survey": "lsst", "object_id": "", **changes}


def test_form_is_shown_and_saved_as_a_query(page, place):
    assert b"DeepGraviLens Query Form" in page.get(reverse("tom_alerts:create"), {"broker": NAME}).content
    page.post(reverse("tom_alerts:create"), question(min_log_odds="2.5", states=["new", "confirmed"]))
    saved = BrokerQuery.objects.get()
    assert saved.parameters["min_log_odds"] == 2.5 and saved.parameters["states"] == ["new", "confirmed"]
    assert page.post(reverse("tom_alerts:create"), question(days="-1")).status_code == 200 and BrokerQuery.objects.count() == 1


def test_query_lists_each_object_once_by_its_latest_report(page, place):
    query = BrokerQuery.objects.create(name="all", broker=NAME, parameters={"days": None})
    shown = page.get(reverse("tom_alerts:run", kwargs={"pk": query.pk}))
    listed = {one.name: one for one in shown.context["alerts"]}
    assert set(listed) == {FIRST, SECOND} and len(shown.context["alerts"]) == 2
    assert (listed[FIRST].score, listed[SECOND].score) == (6.5, 1.5)
    assert listed[FIRST].timestamp.isoformat() == "2026-11-22T06:00:00+00:00" and listed[FIRST].mag == 21.5
    assert b"https://x.org/169813006111211555" in shown.content


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"min_log_odds": 2.0}, {FIRST}),
        ({"object_id": f" {SECOND} "}, {SECOND}),
        ({"survey": "ztf"}, set()),
        ({"states": ["confirmed"]}, {FIRST}),
        ({"states": ["brighter"]}, set()),
        ({"days": 0.0}, set()),
    ],
)
def test_question_picks_reports(tom, place, asked, names):
    broker = get_service_class(NAME)()
    assert {one["object_id"] for one in broker.fetch_alerts({"days": None, **asked})} == names


def test_chosen_reports_become_targets_with_the_scores_of_their_alerts(page, place):
    """By tom_alerts' own pages; the same once more makes no datum twice."""
    rows = [record(BIG + i, survey="lsst", object_id=FIRST, log_odds=4.5 + i, mjd_tai=MJD_TAI_06 + i) for i in range(2)]
    query = BrokerQuery.objects.create(name="all", broker=NAME, parameters={"days": None, "object_id": FIRST})
    with serving({"GET /v1/objects/*": [of_object(*rows, refused(BIG + 7))]}) as service:
        place |= {"service": service.url, "token": "a-token"}
        (one,) = page.get(reverse("tom_alerts:run", kwargs={"pk": query.pk})).context["alerts"]
        sent = {"broker": NAME, "query_id": query.pk, "alerts": [one.id]}
        page.post(reverse("tom_alerts:create-target"), sent)
        assert service.requests[0]["headers"]["Authorization"] == "Bearer a-token"
        assert service.requests[0]["path"] == f"/v1/objects/lsst/{FIRST}"
        target = Target.objects.get()
        get_service_class(NAME)().process_reduced_data(target)
    assert (target.name, target.ra, target.dec, target.type) == (FIRST, 150.25, -2.5, "SIDEREAL")
    kept = ReducedDatum.objects.filter(target=target, data_type="deepgravilens").order_by("timestamp")
    assert [datum.value["log_odds"] for datum in kept] == [4.5, 5.5]
    assert [datum.value["alert_id"] for datum in kept] == [str(BIG), str(BIG + 1)]
    assert kept[0].timestamp.isoformat() == "2026-11-22T06:00:00+00:00"
    assert not PhotometryReducedDatum.objects.exists()  # a magnitude without an error is none


def test_service_that_is_away_leaves_the_report_s_own_score(page, place):
    with serving({"GET /v1/objects/*": [(500, {"detail": "oops"}), found(record())]}) as service:
        place |= {"service": service.url.replace("http", "ftp"), "token": None}  # wrongly configured, and so never asked
        target = Target.objects.create(name=FIRST, type="SIDEREAL", ra=1.0, dec=2.0)
        get_service_class(NAME)().process_reduced_data(target)
    (kept,) = ReducedDatum.objects.filter(target=target)
    assert kept.value["log_odds"] == 6.5 and kept.value["alert_id"] == str(BIG + 2)


def test_command_of_the_toolkit_makes_targets(tom, place, capsys):
    BrokerQuery.objects.create(name="nightly", broker=NAME, parameters={"days": None})
    call_command("runbrokerquery", "nightly")
    assert {t.name for t in Target.objects.all()} == {FIRST, SECOND}
    call_command("runbrokerquery", "nightly")
    assert Target.objects.count() == 2 and "WARNING" in capsys.readouterr().out


def test_all_reports_are_saved_by_the_generic_way(tom, place):
    made = get_service_class(NAME)().fetch_and_save_all({"days": None})
    assert {t.name for t in made} == {FIRST, SECOND} and all(t.pk for t in made)
    assert get_service_class(NAME)().fetch_alert("no such report") is None


def test_trouble_is_shown_to_the_user(page, place):
    query = BrokerQuery.objects.create(name="all", broker=NAME, parameters={"days": None})
    with override_settings(BROKERS={}):
        assert b"not properly configured" in page.get(reverse("tom_alerts:run", kwargs={"pk": query.pk})).content
    with override_settings(BROKERS={NAME: {**place, "kafka": {"no.such.key": "1"}}}):
        assert b"no.such.key" in page.get(reverse("tom_alerts:run", kwargs={"pk": query.pk})).content


def test_data_service_asks_by_its_form_and_makes_targets(page, place):
    """TOM Toolkit 3's own pages: form, results, targets, and an update later."""
    form = {"data_service": NAME, "days": "", "survey": "lsst", "min_log_odds": "2", "object_id": ""}
    assert b"object_id" in page.get(reverse("tom_dataservices:create"), {"data_service": NAME}).content
    shown = page.post(reverse("tom_dataservices:create"), form, follow=True)
    assert [(one["name"], one["log_odds"]) for one in shown.context["results"]] == [(FIRST, 6.5)]
    chosen = {"query_id": "", "data_service": NAME, "selected_results": ["0"]}
    page.post(reverse("tom_dataservices:create-target"), chosen)
    target = Target.objects.get()
    assert (target.name, target.ra) == (FIRST, 150.25)
    assert [d.value["log_odds"] for d in ReducedDatum.objects.filter(target=target)] == [6.5]
    rows = [record(BIG + i, survey="lsst", object_id=FIRST, log_odds=4.5 + i) for i in range(3)]
    with serving({"GET /v1/objects/*": [of_object(*rows)]}) as service:
        place |= {"service": service.url}
        page.post(reverse("tom_dataservices:update-data"), {"target": target.pk, "data_service": NAME})
    assert sorted(d.value["log_odds"] for d in ReducedDatum.objects.filter(target=target)) == [4.5, 5.5, 6.5]


def test_data_service_says_what_is_wrong(page, place):
    service = get_data_service_class(NAME)
    with override_settings(DATA_SERVICES={}):
        shown = page.post(reverse("tom_dataservices:create"), {"data_service": NAME}, follow=True)
        assert "not configured" in shown.context["query_feedback"]
    away = {"kafka": {"bootstrap.servers": "127.0.0.1:1"}, "topics": [TOPIC]}
    with override_settings(DATA_SERVICES={NAME: away}), pytest.MonkeyPatch.context() as patch:
        patch.setattr("dgl_broker.hosts.reported.TRIES", 1)
        shown = page.post(reverse("tom_dataservices:create"), {"data_service": NAME}, follow=True)
        assert "kafka" in shown.context["query_feedback"]
    assert service(query_parameters={}).query_reduced_data(Target(name="ZTF-nobody")) == {"deepgravilens": []}


def test_framed_reports_are_read_with_their_registry(tom, caplog):
    with framed(TOPIC, reports([candidate(FIRST, BIG)])) as (servers, url):
        place = {"kafka": {"bootstrap.servers": servers}, "topics": [TOPIC]}
        login = {"registry": url, "registry_user": "reader", "registry_password": "secret"}
        with override_settings(DATA_SERVICES={NAME: {**place, **login}}, BROKERS={NAME: {**place, **login}}):
            assert [one["name"] for one in get_data_service_class(NAME)().query_targets({})] == [FIRST]
            assert [one["object_id"] for one in get_service_class(NAME)().fetch_alerts({})] == [FIRST]
        assert "no reports of ours" not in caplog.text
        with override_settings(DATA_SERVICES={NAME: place}):
            assert get_data_service_class(NAME)().query_targets({}) == []
        assert "1 messages are no reports of ours" in caplog.text and "no registry" in caplog.text


def test_time_that_an_answer_takes(tom, place):
    clock, broker = Clock(), get_service_class(NAME)()
    for _ in range(5):
        with clock:
            came = [broker.to_generic_alert(one) for one in broker.fetch_alerts({"days": None})]
    assert len(came) == 2
    keep_sent("tom", clock, len(came), "a question")
