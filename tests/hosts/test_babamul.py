"""Babamul's own client, login and API: alerts of its streams and of BOOM's filters, committed when their scores are out."""

import base64
import contextlib
import io
import json
import os
import threading
import time
from types import SimpleNamespace

import pytest
from measured import keep, rank_correlation
from recorded import BIG, record
from scripted import serving

os.environ.setdefault("BABAMUL_NO_VERSION_CHECK", "1")
pytest.importorskip("babamul", reason="babamul is not installed here: tox -e host-babamul")

import babamul.config  # noqa: E402
import boom_forms  # noqa: E402
import fastavro  # noqa: E402
from babamul import ZtfAlert  # noqa: E402
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402

from dgl_broker.client import Client  # noqa: E402
from dgl_broker.errors import ConfigError, PacketError, ServiceFailed, StateError  # noqa: E402
from dgl_broker.hosts import babamul as host  # noqa: E402
from dgl_broker.wire import FolderSchemas  # noqa: E402
from dgl_broker.wire.records import read_record  # noqa: E402

USER = "babamul-someone"  # as in conftest: a group's name begins with it
TOPIC = "babamul.ztf.no-lsst-match.hosted"
CUTOUTS, ONE = "/babamul/surveys/ZTF/cutouts", "GET /babamul/surveys/ZTF/cutouts"


def avro(alert, schema=None):
    """An alert as an object container, its schema made from it where BOOM's own is not given."""
    from dgl_broker.wire.rows import _record

    schema = schema or {**_record(alert, "alert"), "namespace": "boom"}
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(schema), [alert])
    return out.getvalue()


def message(value, offset=0):
    return SimpleNamespace(
        value=lambda: value, topic=lambda: TOPIC, partition=lambda: 0, offset=lambda: offset, error=lambda: None
    )


def ztf_files(alert_files):
    """Real ZTF packets with a candid at their top, whole."""
    found = []
    for file in alert_files:
        if file.read_bytes()[:4] == b"Obj\x01" and "snappy" not in str(file):
            with open(file, "rb") as opened, contextlib.suppress(ValueError, EOFError, StopIteration):
                packet = next(fastavro.reader(opened))
                if packet.get("schemavsn", "").startswith(("3.3", "4")) and packet.get("candid"):
                    found.append(packet)
    return found


def lsst_files(alert_files, stage):
    """Real Rubin packets with the id at their top, which those before version 8 have not, whole."""
    schemas, found = FolderSchemas(stage.schemas), {}
    for file in alert_files:
        value = file.read_bytes()
        if value[:1] == b"\x00":
            with contextlib.suppress(PacketError):
                packet = read_record(value, schemas)
                if packet.get("diaSourceId"):
                    found[packet["diaSourceId"]] = packet
    return list(found.values())


@pytest.fixture
def api(monkeypatch):
    """Makes a local server Babamul's API, with these answers."""
    monkeypatch.setenv("BABAMUL_ENV", "local")
    monkeypatch.setenv("BABAMUL_API_TOKEN", "an-api-token")
    monkeypatch.setattr(host, "API_WAITS_S", (0.0, 0.0))
    with contextlib.ExitStack() as held:

        def make(answers):
            server = held.enter_context(serving(answers))
            monkeypatch.setitem(babamul.config.API_URLS, "local", f"{server.url}/babamul")
            return server

        yield make


def stamps_of(cutouts, candid):
    coded = {name: base64.b64encode(value or b"").decode() for name, value in cutouts.items()}
    return {"candid": candid, **coded}


def scored(request):
    """A service that scores whatever comes."""
    n = len(request["body"]["packets"])
    outcome = {"status": "scored", "reason": None, "error": None}
    return 200, {"outcomes": [{**outcome, "record": record(BIG + i)} for i in range(n)]}


class Sink(list):
    def __call__(self, results):
        self.extend(results)


def test_alert_of_ones_own_boom_filter_brings_its_cutouts(alert_files, api):
    packet = ztf_files(alert_files)[0]
    server, sink = api({}), Sink()
    with serving({"POST /v1/score": [scored]}) as service:
        value = avro(boom_forms.boom("ztf", packet), boom_forms.BOOM_ALERT)
        host.Scoring(Client(service.url), sink).batch([message(value)])
        sent = base64.b64decode(service.requests[0]["body"]["packets"][0])
    assert not server.requests and sink[0]["status"] == "scored" and sink[0]["from"] == f"{TOPIC}[0]@0"
    there = next(fastavro.reader(io.BytesIO(sent)))
    assert there["candid"] == packet["candid"] > 2**53
    assert there["cutoutDifference"]["stampData"] == packet["cutoutDifference"]["stampData"]


def test_cutouts_of_the_streams_come_from_the_api(alert_files, api):
    packets = ztf_files(alert_files)[:3]
    forms = [boom_forms.babamul("ztf", p) for p in packets]
    bulk = [stamps_of(cutouts, a["candid"]) for a, cutouts in forms[:1]]
    single = {"data": stamps_of(forms[1][1], forms[1][0]["candid"])}

    def one(request):
        wanted = int(request["query"]["candid"][0])
        return (200, single) if wanted == forms[1][0]["candid"] else (404, {"message": "no cutouts"})

    server, sink = api({f"POST {CUTOUTS}": [(200, {"data": {"cutouts": bulk}})], ONE: [one]}), Sink()
    with serving({"POST /v1/score": [scored]}) as service:
        scoring = host.Scoring(Client(service.url), sink)
        scoring.batch([message(avro(a), n) for n, (a, _) in enumerate(forms)])
        sent = [next(fastavro.reader(io.BytesIO(base64.b64decode(p)))) for p in service.requests[0]["body"]["packets"]]
    assert server.requests[0]["headers"]["Authorization"] == "Bearer an-api-token"
    assert server.requests[0]["body"] == {"candids": [p["candid"] for p in packets]}
    for there, packet in zip(sent[:2], packets):
        assert there["cutoutScience"]["stampData"] == packet["cutoutScience"]["stampData"]
    assert sent[2]["cutoutScience"] is None and scoring.counts["no_cutouts"] == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [((500, {"message": "oops"}), ServiceFailed), (None, ServiceFailed), ((401, {"message": "who"}), ConfigError)],
)
def test_api_in_trouble_hands_nothing_on(alert_files, api, answer, kind):
    alert, _ = boom_forms.babamul("ztf", ztf_files(alert_files)[0])
    api({f"POST {CUTOUTS}": [answer], ONE: [answer]})
    sink = Sink()
    with serving({"POST /v1/score": [scored]}) as service, pytest.raises(kind):
        host.Scoring(Client(service.url), sink).batch([message(avro(alert))])
    assert not sink and not service.requests


def test_what_cannot_be_read_is_kept_and_holds_up_no_other(alert_files, api, tmp_path):
    packet = ztf_files(alert_files)[0]
    good = avro(boom_forms.boom("ztf", packet), boom_forms.BOOM_ALERT)
    no_trigger = avro({**boom_forms.boom("ztf", packet), "photometry": []}, boom_forms.BOOM_ALERT)
    odd = [b"", b"nonsense", good[:-40], avro({"candid": 5, "objectId": "x"}), no_trigger]
    api({f"POST {CUTOUTS}": [(200, {"data": {"cutouts": []}})], ONE: [(404, {})]})
    sink = Sink()
    with serving({"POST /v1/score": [scored]}) as service:
        scoring = host.Scoring(Client(service.url), sink, tmp_path / "dead")
        scoring.batch([*(message(v, n) for n, v in enumerate(odd)), message(good, 9)])
    assert [r["status"] for r in sink] == ["dead_lettered"] * 5 + ["scored"]
    assert scoring.counts == {"dead_lettered": 5, "scored": 1, "no_cutouts": 1}
    assert {p.name: p.read_bytes() for p in (tmp_path / "dead").glob("*.avro")} == {
        f"{TOPIC}.0.{n}.avro": v for n, v in enumerate(odd)
    }
    for n in range(5):
        assert json.loads((tmp_path / "dead" / f"{TOPIC}.0.{n}.json").read_text()) == sink[n]
        assert sink[n]["reason"] and sink[n]["error"]


def test_what_the_service_cannot_read_is_kept_with_its_words(alert_files, api, tmp_path):
    value = avro(boom_forms.boom("ztf", ztf_files(alert_files)[0]), boom_forms.BOOM_ALERT)
    bad = {"status": "dead_lettered", "reason": "bad_value", "error": "candidate.magpsf is nan", "record": None}
    api({})
    sink = Sink()
    with serving({"POST /v1/score": [(200, {"outcomes": [bad]})]}) as service:
        scoring = host.Scoring(Client(service.url), sink, tmp_path / "dead")
        scoring.batch([message(value, 7)])
    assert (tmp_path / "dead" / f"{TOPIC}.0.7.avro").read_bytes() == value
    assert json.loads((tmp_path / "dead" / f"{TOPIC}.0.7.json").read_text()) == sink[0]
    assert sink == [{"from": f"{TOPIC}[0]@7", **bad}] and scoring.counts == {"dead_lettered": 1}


def test_dead_letter_that_cannot_be_kept_hands_nothing_on(api, tmp_path):
    (tmp_path / "dead").write_text("a file, no folder")
    api({})
    sink = Sink()
    with serving({}) as service, pytest.raises(StateError, match="dead"):
        host.Scoring(Client(service.url), sink, tmp_path / "dead").batch([message(b"nonsense")])
    assert not sink


def test_sink_of_lines_is_on_disk_and_ids_are_text(tmp_path):
    sink = host.json_lines(tmp_path / "scores.jsonl")
    sink([{"from": "t[0]@1", "status": "scored", "reason": None, "record": {"alert_id": BIG}}])
    assert json.loads((tmp_path / "scores.jsonl").read_text())["record"]["alert_id"] == str(BIG)


def test_real_alert_of_babamul_is_read_by_both(shared, api):
    """The one that could be collected: Babamul's own model and ours agree on its photometry."""
    value = (shared / "data/alerts/brokers/babamul_ztf_alert.avro").read_bytes()
    alert = next(fastavro.reader(io.BytesIO(value)))
    theirs = ZtfAlert.model_validate(alert)
    packet = host.packet_of_babamul(alert).record
    brightest = {p.jd: p.magpsf for p in theirs.prv_candidates}
    ours = {r["jd"]: r["magpsf"] for r in packet["prv_candidates"] if r["magpsf"] is not None}
    assert len(ours) > 20 and all(brightest[jd] == pytest.approx(mag, abs=1e-4) for jd, mag in ours.items())


def feed(broker, topic, values):
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 5_000_000})
    for value in values:
        producer.produce(topic, value)
    producer.flush(30)


def committed(broker, topic, group):
    reader = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group})
    try:
        return reader.committed([TopicPartition(topic, 0)], timeout=10)[0].offset
    except KafkaException:  # its coordinator is not there yet
        return None
    finally:
        reader.close()


@contextlib.contextmanager
def running(broker, topic, group, scoring):
    """The loop in a thread, with Babamul's own login; what ended it is raised."""
    stop, problems = threading.Event(), []
    stream = host.Stream(
        [topic], username=broker.user, password=broker.password, server=broker.scram, group_id=group, offset="earliest"
    )

    def work():
        try:
            host.run(stream, scoring, stop, wait_s=0.5)
        except Exception as error:  # noqa: BLE001 - told to the test
            problems.append(error)
        finally:
            stream.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield problems
    finally:
        stop.set()
        thread.join(60)


def until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.kafka
def test_batch_that_was_not_scored_stays_uncommitted(kafka_with_login, alert_files, api):
    """Babamul's client commits on its own by default: what is in hand when a process dies is lost then."""
    topic = "boom.filter.uncommitted"
    kafka_with_login.create_topic(topic, 1)
    packets = ztf_files(alert_files)[:4]
    feed(kafka_with_login, topic, [avro(boom_forms.boom("ztf", p), boom_forms.BOOM_ALERT) for p in packets])
    sink, away = Sink(), (503, {"code": "unavailable", "detail": "stopping", "store": None})
    with serving({"POST /v1/score": [away, scored]}) as service:
        first = host.Scoring(Client(service.url, patience_s=0.0), sink)
        with running(kafka_with_login, topic, f"{USER}-one", first) as problems:
            until(lambda: problems)
        assert isinstance(problems[0], ServiceFailed) and not sink
        assert committed(kafka_with_login, topic, f"{USER}-one") < 0
        with running(kafka_with_login, topic, f"{USER}-one", host.Scoring(Client(service.url), sink)):
            until(lambda: committed(kafka_with_login, topic, f"{USER}-one") == 4)
    assert len(sink) == 4


@pytest.mark.kafka
@pytest.mark.parametrize("survey", ["ztf", "lsst"])
@pytest.mark.parametrize("form", ["babamul", "boom"])
def test_scores_beside_those_of_the_stream(kafka_with_login, stage, alert_files, api, form, survey):
    """Real packets in these forms, from Kafka through the service: every alert that the stream scores is scored."""
    topic = f"{TOPIC}.{form}.{survey}"
    packets = ztf_files(alert_files) if survey == "ztf" else lsst_files(alert_files, stage)
    group, cutouts_of = f"{USER}-{form}-{survey}", CUTOUTS.replace("ZTF", survey.upper())
    kafka_with_login.create_topic(topic, 1)
    made = [boom_forms.babamul(survey, p) for p in packets]
    ids = {a["candid"] for a, _ in made}
    bulk = {a["candid"]: stamps_of(cutouts, a["candid"]) for a, cutouts in made}
    api({f"POST {cutouts_of}": [lambda r: (200, {"data": {"cutouts": [bulk[c] for c in r["body"]["candids"]]}})]})
    if form == "babamul":
        feed(kafka_with_login, topic, [avro(a) for a, _ in made])
    else:
        feed(kafka_with_login, topic, [avro(boom_forms.boom(survey, p), boom_forms.BOOM_ALERT) for p in packets])
    sink, began = Sink(), time.monotonic()
    with running(kafka_with_login, topic, group, host.Scoring(Client(stage.url), sink)):
        until(lambda: committed(kafka_with_login, topic, group) == len(packets), 240)
        took_s = time.monotonic() - began
    found = {r["record"]["alert_id"]: r for r in sink if r["record"]}
    wanted = {i: r for i, r in stage.published[survey].items() if i in ids}
    assert {i for i, r in wanted.items() if r["status"] == "scored"} <= {i for i, r in found.items() if r["status"] == "scored"}
    both = [i for i, r in wanted.items() if r["status"] == "scored"]
    assert len(both) > (5 if os.environ.get("DGL_SHARED") else 0)
    odds = {i: r["record"]["log_odds"] for i, r in found.items() if r["status"] == "scored"}
    stream = {i: wanted[i]["log_odds"] for i in both}
    alike = rank_correlation(stream, odds)
    # What a form loses moves scores; a sign gone wrong turns their order about, a unit mixes it.
    assert len(both) <= 5 or alike > {"babamul": 0.95, "boom": 0.75}[form]
    more = {"rank_correlation": alike, "packets": len(packets), "batch_s": round(took_s, 1)}
    keep(form, survey, wanted.values(), stream, odds, **more)
