"""Pitt-Google's client: envelopes of Cloud Run in, scores to Pub/Sub through Google's own client, acknowledged after that."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent import futures
from datetime import UTC, datetime, timedelta
from wsgiref.util import setup_testing_defaults

import pytest
from measured import MEASURING, Clock, keep
from recorded import AWAY, BIG, UNKNOWN, found, record, refused, unknown
from scripted import serving

pittgoogle = pytest.importorskip("pittgoogle", reason="pittgoogle-client is not installed here: tox -e host-pittgoogle")

import grpc  # noqa: E402
import requests  # noqa: E402
from google.pubsub_v1.types import PublishRequest, PublishResponse  # noqa: E402

from dgl_broker.client import Client  # noqa: E402
from dgl_broker.errors import ConfigError, PacketError  # noqa: E402
from dgl_broker.hosts import pittgoogle as host  # noqa: E402


class Pubsub(grpc.GenericRpcHandler):
    """What Google's publisher talks to: keeps what is published, or refuses it."""

    def __init__(self):
        self.published, self.refuses = [], False

    def service(self, details):
        if details.method != "/google.pubsub.v1.Publisher/Publish":
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._publish, PublishRequest.deserialize, lambda answer: PublishResponse.serialize(answer)
        )

    def _publish(self, request, context):
        if self.refuses:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not yours")
        self.published += [(request.topic, m.data, dict(m.attributes)) for m in request.messages]
        return PublishResponse(message_ids=[str(len(self.published))] * len(request.messages))


@pytest.fixture
def pubsub(monkeypatch):
    """A local Pub/Sub, by the variable that Google's client has for its emulator."""
    handler = Pubsub()
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
    yield handler
    server.stop(0)


@pytest.fixture
def module(pubsub):
    """Makes a module whose service gives these answers."""
    with contextlib.ExitStack() as held:

        def make(answers, survey="ztf", table=None):
            service = held.enter_context(serving(answers)) if isinstance(answers, dict) else answers
            topic = pittgoogle.Topic.from_cloud(host.NAME, projectid="a-project", survey=survey, testid="mytest")
            made = host.Module(survey, lambda: Client(service.url, patience_s=0.0), topic, table)
            made.asked = service
            return made

        yield make


def envelope(data, /, age_s=0.0, **attributes):
    """As Pub/Sub posts it to Cloud Run."""
    message = {"data": base64.b64encode(data).decode(), "attributes": attributes, "messageId": "7", "message_id": "7"}
    published = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat().replace("+00:00", "Z")
    return {"message": {**message, "publish_time": published}, "subscription": "projects/p/subscriptions/s"}


def outcome(one, status="scored", reason=None, error=None):
    return 200, {"outcomes": [{"status": status, "reason": reason, "error": error, "record": one}]}


def test_packet_is_scored_as_it_came_and_published(module, pubsub):
    made = module({"POST /v1/score": [outcome(record())]})
    assert made.handle(envelope(b"\x00\x00\x00\x03\xe8packet", diaObjectId="9", schema_version="10.0")) == ("", 204)
    assert base64.b64decode(made.asked.requests[0]["body"]["packets"][0]) == b"\x00\x00\x00\x03\xe8packet"
    ((topic, data, attributes),) = pubsub.published
    assert topic == "projects/a-project/topics/ztf-deepgravilens-mytest"
    said = json.loads(data)
    assert said["deepgravilens"]["alert_id"] == str(BIG) and said["status"] == "scored"
    assert attributes["deepgravilens_candidate"] == "true" and attributes["diaObjectId"] == "9"


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (outcome(refused(), "refused", "no_cutouts"), "refused", "no_cutouts"),
        (outcome(None, "dead_lettered", "truncated", "cut off"), "dead_lettered", "truncated"),
    ],
)
def test_refusals_and_broken_packets_are_published_and_acknowledged(module, pubsub, answer, status, reason):
    """Not acknowledged, a broken packet would come again for days."""
    assert module({"POST /v1/score": [answer]}).handle(envelope(b"Obj\x01")) == ("", 204)
    attributes = pubsub.published[0][2]
    assert (attributes["deepgravilens_status"], attributes["deepgravilens_reason"]) == (status, reason)
    assert "deepgravilens_candidate" not in attributes


def test_lite_messages_are_looked_up_by_their_exact_id(module, pubsub):
    lite = json.dumps({"candid": str(BIG)}).encode()
    made = module({f"GET /v1/scores/ztf/{BIG}": [found(record())]})
    assert made.handle(envelope(lite)) == ("", 204) and len(pubsub.published) == 1
    assert host.lite_id({"alert_lite": {"diaSource": {"diaSourceId": BIG}}}, "lsst") == BIG
    outside = [{"candid": value} for value in (-1, 2**63, str(2**63), 10**400)]
    for odd in ({}, {"candid": float(BIG)}, {"candid": True}, {"candidate": {"candid": None}}, *outside):
        with pytest.raises(PacketError):
            host.lite_id(odd, "ztf")
    assert host.lite_id({"candid": 2**63 - 1}, "ztf") == 2**63 - 1
    # The service calls an id outside of 64 bits a wrong question, which no repetition mends.
    for broken in (b"{", b'{"candid": 1e18}', b'{"candid": 9223372036854775808}'):
        assert made.handle(envelope(broken)) == ("", 204)
    statuses = [attributes["deepgravilens_status"] for _, _, attributes in pubsub.published]
    assert statuses == ["scored", "dead_lettered", "dead_lettered", "dead_lettered"]


def test_lite_message_of_a_published_refusal_is_answered_at_once(module, pubsub):
    """As with `output.refused: all`."""
    made = module({"GET /v1/scores/*": [found(refused(reason="precut"))]})
    assert made.handle(envelope(json.dumps({"candid": BIG}).encode(), 1.0)) == ("", 204)
    ((_, _, attributes),) = pubsub.published
    assert (attributes["deepgravilens_status"], attributes["deepgravilens_reason"]) == ("refused", "precut")


def test_lite_message_without_a_score_comes_again_until_none_can_come(module, pubsub):
    lite = json.dumps({"candid": BIG}).encode()
    made = module({"GET /v1/scores/*": [UNKNOWN, unknown(behind_s=None), unknown(behind_s=900.0), UNKNOWN]})
    statuses = [made.handle(envelope(lite, age_s))[1] for age_s in (5.0, 700.0, 700.0, 700.0)]
    assert statuses == [503, 503, 503, 204]
    assert not pubsub.published


def test_attributes_that_the_client_takes_for_its_own_are_left_out(module, pubsub):
    made = module({"POST /v1/score": [outcome(record())]})
    attributes = {"topic": "x", "data": "y", "retry": "no", "timeout": "0", "ordering_key": "k", "kafka.topic": "z"}
    assert made.handle(envelope(b"packet", **attributes)) == ("", 204)
    assert set(pubsub.published[0][2]) == {"kafka.topic", "deepgravilens_status", "deepgravilens_candidate"}


@pytest.mark.parametrize("answer", [AWAY, None, (200, b"<html>")])
def test_service_that_is_away_leaves_the_message_unacknowledged(module, pubsub, answer):
    assert module({"POST /v1/score": [answer]}).handle(envelope(b"packet"))[1] == 503
    assert not pubsub.published


def test_output_that_is_refused_leaves_the_message_unacknowledged(module, pubsub):
    made = module({"POST /v1/score": [outcome(record())]})
    pubsub.refuses = True
    text, status = made.handle(envelope(b"packet"))
    assert status == 503 and "PermissionDenied" in text


@pytest.mark.parametrize("odd", [None, {}, [], {"message": {}}, {"message": {"data": 5}}, {"message": {"data": "AAA"}}, "text"])
def test_what_is_no_envelope_is_a_bad_request(module, odd):
    made = module({})
    assert made.handle(odd)[1] == 400 and not made.asked.requests


def test_rows_of_the_table_of_classifications(module, pubsub):
    class Table:
        def __init__(self):
            self.rows, self.errors = [], []

        def insert_rows(self, rows):
            self.rows += rows
            return self.errors

    table = Table()
    made = module(
        {"POST /v1/score": [outcome(record()), outcome(refused(), "refused", "no_cutouts"), outcome(record())]}, table=table
    )
    made.handle(envelope(b"packet"))
    made.handle(envelope(b"packet"))
    assert [row["class"] for row in table.rows] == list(host.CLASSES) and {row["candid"] for row in table.rows} == {BIG}
    assert sum(row["probability"] for row in table.rows) == pytest.approx(1.0, abs=1e-6)
    table.errors = [{"index": 0}]
    assert made.handle(envelope(b"packet"))[1] == 503


def asked(body, module, method="POST", path="/", size=None):
    """(status, text) of the WSGI application."""
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
    setup_testing_defaults(environ)
    environ["CONTENT_LENGTH"] = str(len(body) if size is None else size)
    got = []
    text = b"".join(host.app(environ, lambda status, headers: got.append(int(status[:3])), lambda: module))
    return got[0], text.decode()


def test_application_answers_pubsub(module, pubsub):
    made = module({"POST /v1/score": [outcome(record())]})
    assert asked(json.dumps(envelope(b"packet")).encode(), made) == (204, "")
    assert asked(b"no JSON", made)[0] == 400 and asked(b"", made)[0] == 400
    assert asked(b"", made, "GET")[0] == 404 and asked(b"", made, path="/x")[0] == 404
    assert asked(b"", made, size=10**9)[0] == 413 and asked(b"", made, size="-5")[0] == 413
    assert len(pubsub.published) == 1


def test_wrong_settings_are_told_and_the_message_comes_again(module, pubsub):
    made = module({"POST /v1/score": [(401, {"code": "no_token", "detail": "expected a token", "store": None})]})
    assert asked(json.dumps(envelope(b"packet")).encode(), made)[0] == 503
    for environ in ({}, {"GCP_PROJECT": "p", "SURVEY": "des"}, {"GCP_PROJECT": "p", "SURVEY": "ztf"}):
        with pytest.raises(ConfigError):
            host.module_from(environ)
    assert (
        host.module_from({"GCP_PROJECT": "p", "SURVEY": "lsst", "DGL_SERVICE_URL": "http://s"}).topic.name
        == "lsst-deepgravilens"
    )


def test_command_of_the_page_answers_until_it_is_ended(pubsub):
    """gunicorn with eight threads, as a container runs it: scores go out, and SIGTERM ends it."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with serving({"POST /v1/score": [outcome(record())]}) as service:
        settings = {"GCP_PROJECT": "a-project", "SURVEY": "ztf", "DGL_SERVICE_URL": service.url, "DGL_SERVICE_TOKEN": "a-token"}
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "8"]
        process = subprocess.Popen([*command, "dgl_broker.hosts.pittgoogle:app"], env={**os.environ, **settings})
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    answers = [
                        requests.post(f"http://127.0.0.1:{port}/", json=envelope(b"packet"), timeout=300) for _ in range(3)
                    ]
                    break
                except requests.ConnectionError:
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
        assert service.requests[0]["headers"]["Authorization"] == "Bearer a-token"
    assert [one.status_code for one in answers] == [204] * 3
    assert [topic for topic, _, _ in pubsub.published] == ["projects/a-project/topics/ztf-deepgravilens"] * 3


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_scores_are_those_of_the_stream(module, pubsub, stage, alert_files, survey):
    """Real packets, eight requests at once as Cloud Run sends them: every alert has the score that the stream gave it."""
    folder = {"ztf": "/ztf/", "lsst": "/lsst/"}[survey]
    files = [f for f in alert_files if folder in str(f)] if os.environ.get("DGL_SHARED") else list(alert_files)
    made, clock = module(stage, survey), Clock()

    def one(file):
        given = envelope(file.read_bytes())
        with clock:
            return made.handle(given)[1]

    with futures.ThreadPoolExecutor(1 if MEASURING else 8) as pool:
        assert list(pool.map(one, files)) == [204] * len(files)
    said = [json.loads(data)["deepgravilens"] for _, data, _ in pubsub.published]
    found_ = {int(one["alert_id"]): one["log_odds"] for one in said if one and one["status"] == "scored"}
    wanted = {i: r["log_odds"] for i, r in stage.published[survey].items() if r["status"] == "scored"}
    assert set(found_) == set(wanted) and wanted
    assert max(abs(found_[i] - log_odds) for i, log_odds in wanted.items()) < 1e-4
    keep("pittgoogle", survey, stage.published[survey].values(), wanted, found_, clock)
