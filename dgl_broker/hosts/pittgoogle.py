"""Pitt-Google: a Cloud Run module that has the alert of a Pub/Sub message scored by the service and publishes the score.

Cloud Run answers Pub/Sub for us: a message is acknowledged by our 2xx, which is given once the output is published (and, where
asked for, in BigQuery), and sent again for anything else. One request holds one alert; requests that run at once share the
service's batches.

`app` is the WSGI application: `gunicorn dgl_broker.hosts.pittgoogle:app`, with settings from the environment.
"""

import json
import logging
import os
import threading
from datetime import UTC, datetime
from functools import cache

import pittgoogle

from dgl_broker.client import Answer, Client
from dgl_broker.errors import ConfigError, DglError, PacketError, ServiceFailed
from dgl_broker.outputs.records import as_json

log = logging.getLogger(__name__)
NAME = "deepgravilens"
CLASSES = ("no_lens", "lens", "lensed_sn_ia", "lensed_sn_cc")
MOST_BYTES = 16 * 1024 * 1024  # of an envelope: Pub/Sub's messages have 10 MB at most, a third more in base64
PATIENCE_S = 60.0  # with a service that does not answer; Pitt-Google's subscriptions wait 600 s for an acknowledgement
WAIT_S = 600.0  # how long after a lite message its score may still come
TAKEN = frozenset(("topic", "data", "ordering_key", "retry", "timeout"))  # what pittgoogle's client cannot send as attributes


class Module:
    """The work on one envelope.

    Parameters
    ----------
    survey : "ztf" or "lsst"
    service : callable
        () -> dgl_broker.client.Client, one a thread.
    topic : pittgoogle.Topic
        Of the scores; its `publish` returns when Pub/Sub has the message.
    table : pittgoogle.Table, optional
        `classifications`: a row a class of each scored alert.
    """

    def __init__(self, survey, service, topic, table=None):
        self.survey, self.service, self.topic, self.table = survey, service, topic, table

    def handle(self, envelope):
        """(text, HTTP status) of an envelope: 204 acknowledges, 400 is none of Pub/Sub's, 503 has it sent again."""
        try:
            alert = pittgoogle.Alert.from_cloud_run(envelope, schema_name="default")
        except (pittgoogle.exceptions.BadRequest, KeyError, ValueError, AttributeError, TypeError) as error:
            return f"no envelope of Pub/Sub: {type(error).__name__}: {error}", 400
        try:
            answer = self._answer(alert)
        except ServiceFailed as error:
            log.warning("%s", error)
            return str(error), 503
        if answer.status == "unknown":
            # A lite message of which the filter has published nothing: that may come, or a pre-cut refused it.
            age_s = (datetime.now(UTC) - alert.msg.publish_time).total_seconds()
            if age_s < WAIT_S or answer.is_behind(age_s):
                return f"no score yet; the service's store is {answer.behind_s} s behind", 503
            log.info("%s: nothing was published of it", alert.msg.message_id)
            return "", 204
        try:
            self._publish(alert, answer)
        except Exception as error:  # noqa: BLE001 - Google's clients', whatever it is: the message is to come again
            log.warning("output: %s: %s", type(error).__name__, error)
            return f"output: {type(error).__name__}", 503
        return "", 204

    def _answer(self, alert):
        data, service = alert.msg.data, self.service()
        if data[:1] != b"{":
            return service.score(self.survey, [data])[0]
        try:  # JSON: a `lite` message, which comes without stamps
            alert_id = lite_id(json.loads(data), self.survey)
        except ValueError as error:
            return Answer("dead_lettered", "undecodable", str(error))
        except PacketError as error:
            return Answer("dead_lettered", error.reason, error.detail)
        return service.score_of(self.survey, alert_id)

    def _publish(self, alert, answer):
        record = answer.record
        attributes = {name: value for name, value in (alert.msg.attributes or {}).items() if name not in TAKEN}
        attributes[f"{NAME}_status"] = answer.status
        if answer.reason:
            attributes[f"{NAME}_reason"] = answer.reason
        if answer.status == "scored":
            attributes[f"{NAME}_candidate"] = str(bool(answer.passed)).lower()
        said = {"status": answer.status, "reason": answer.reason, "error": answer.error, NAME: json.loads(as_json(record))}
        self.topic.publish(pittgoogle.Alert.from_dict(said, attributes, schema_name="default"), serializer="json")
        if self.table is not None and answer.status == "scored":
            errors = self.table.insert_rows(rows(answer))
            if errors:
                raise ServiceFailed(f"BigQuery: {errors[:1]}")


def lite_id(alert, survey):
    """The survey's 64-bit id in a lite message, exact.

    Raises
    ------
    PacketError
        If there is none, if it came as a float, which may have lost digits, or if no alert can have it.
    """
    inner = alert.get("alert_lite", alert) if isinstance(alert, dict) else {}
    places = {"ztf": [("candid",), ("candidate", "candid")], "lsst": [("diaSourceId",), ("diaSource", "diaSourceId")]}
    for place in places[survey]:
        value = inner
        for name in place:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if not 0 <= value < 2**63:
                raise PacketError("bad_value", f"a lite message of {survey}: {value} is no id, expected 0 to 2**63 - 1")
            return value
    expected = " or ".join(".".join(place) for place in places[survey])
    raise PacketError("missing_field", f"a lite message of {survey} without an integer {expected}")


def rows(answer):
    """Rows of Pitt-Google's table `classifications`: one a class."""
    record = answer.record
    common = {
        "objectId": record["object_id"],
        "candid": answer.alert_id,
        "classifier": NAME,
        "classifier_version": answer.version,
    }
    return [{**common, "class": name, "probability": record[f"p_{name}"]} for name in CLASSES]


def module_from(environ):
    """The `Module` that the environment asks for, by Pitt-Google's names; `docs/hosts/pittgoogle.md` has them.

    Raises
    ------
    ConfigError
    """
    project, survey = environ.get("GCP_PROJECT"), environ.get("SURVEY")
    if not project or survey not in ("ztf", "lsst"):
        raise ConfigError(f"GCP_PROJECT={project!r}, SURVEY={survey!r}: expected a project, and ztf or lsst")
    url, token = environ.get("DGL_SERVICE_URL"), environ.get("DGL_SERVICE_TOKEN")
    if not url:
        raise ConfigError("DGL_SERVICE_URL is not set: a Cloud Run module has no service beside it")
    testid = environ.get("TESTID")
    topic = pittgoogle.Topic.from_cloud(NAME, projectid=project, survey=survey, testid=testid)
    table = pittgoogle.Table.from_cloud("classifications", survey=survey, testid=testid) if environ.get("BIGQUERY") else None
    here = threading.local()  # a connection a thread: Cloud Run sends many requests at once

    def service():
        if not hasattr(here, "client"):
            here.client = Client(url, token, timeout_s=PATIENCE_S, patience_s=PATIENCE_S)
        return here.client

    return Module(survey, service, topic, table)


@cache
def _module():
    return module_from(os.environ)


def app(environ, start_response, module=None):
    """The WSGI application: POST / with an envelope."""
    text, status = _answered(environ, module or _module)
    body = text.encode()
    reason = {200: "OK", 204: "No Content", 400: "Bad Request", 404: "Not Found", 413: "Payload Too Large", 503: "Unavailable"}
    start_response(f"{status} {reason[status]}", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _answered(environ, module):
    if environ["REQUEST_METHOD"] != "POST" or environ.get("PATH_INFO", "/") not in ("", "/"):
        return "POST an envelope of Pub/Sub to /", 404
    size = environ.get("CONTENT_LENGTH") or "0"
    if not size.isdecimal() or int(size) > MOST_BYTES:
        return f"an envelope of {size} bytes, at most {MOST_BYTES}", 413
    try:
        envelope = json.loads(environ["wsgi.input"].read(int(size)) or b"null")
    except ValueError:
        return "no JSON", 400
    try:
        return module().handle(envelope)
    except DglError as error:  # settings, a token: to be mended, and the message comes again meanwhile
        log.error("%s", error)
        return str(error), 503
