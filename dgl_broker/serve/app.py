"""The HTTP side: who may ask, how much, and what is answered. Everything that takes long happens elsewhere."""

import asyncio
import json
import logging
import secrets
import time
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dgl_broker import __version__
from dgl_broker.errors import DglError
from dgl_broker.observe.metrics import CONTENT_TYPE
from dgl_broker.outputs.records import score_record
from dgl_broker.serve import answers
from dgl_broker.serve.desk import Expired, QueueFull
from dgl_broker.serve.packets import BadBody, messages_of_bytes, messages_of_json

log = logging.getLogger(__name__)
BINARY = ("application/octet-stream", "application/avro", "avro/binary")
JSON = "application/json"
LARGEST_ID = 2**63 - 1
CODES = {
    400: "bad_request", 401: "no_token", 404: "not_found", 405: "no_such_method", 408: "too_slow", 413: "too_large",
    415: "unknown_type", 422: "bad_request", 429: "busy", 500: "failed", 503: "unavailable", 504: "timed_out",
}  # fmt: skip

SurveyName = Literal["ztf", "lsst"]
AlertId = Annotated[str, Path(pattern=r"^[0-9]{1,19}$", description="candid (ZTF) or diaSourceId (LSST)")]
ObjectId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="objectId (ZTF) or diaObjectId (LSST)")]
PACKETS = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["packets"],
                    "properties": {
                        "packets": {
                            "type": "array",
                            "items": {"type": "string", "format": "byte"},
                            "description": "one packet each, base64: an Avro container of one alert, or a Confluent frame",
                        }
                    },
                }
            },
            **{
                name: {"schema": {"type": "string", "format": "binary", "description": "a frame, or a container of alerts"}}
                for name in BINARY
            },
        },
    }
}


def _problem(status, detail, code=None, store=None, headers=None):
    content = {"code": code or CODES[status], "detail": detail, "store": store}
    return Response(json.dumps(content), status, headers, JSON)


def _answer(content):
    return Response(answers.body(content), media_type=JSON)


def _documented(*statuses):
    return {status: {"model": answers.Problem} for status in (401, *statuses)}


class BytesAtHand:
    """Bytes of the bodies of all requests that are being read, wait or are scored: bounded."""

    def __init__(self, limit):
        self.limit, self.held = limit, 0

    def take(self, n):
        """Account for `n` more; QueueFull if they are too many."""
        if self.held + n > self.limit:
            raise QueueFull(1.0)
        self.held += n


def make_app(settings, desk, metrics, ready, store=None, follower=None):
    """The application.

    Parameters
    ----------
    settings : ServeSettings
    desk : Desk or None
    metrics : ServeMetrics
    ready : callable
        () -> dict of the conditions of readiness.
    store, follower : ScoreStore, Follower or None
        Both or none.
    """
    limits, at_hand = settings.limits, BytesAtHand(settings.limits.queue_bytes)
    token = None if settings.token is None else settings.token.get_secret_value().encode()
    app = FastAPI(
        title="dgl_broker",
        version=__version__,
        description="Lensed-supernova scores of alerts: packets scored on request, and what the filter published.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    guarded = {} if token is None else {"dependencies": [Depends(_asks_for(token))]}

    @app.exception_handler(HTTPException)
    async def http_problem(request, error):
        headers = dict(error.headers or {}) | ({"WWW-Authenticate": "Bearer"} if error.status_code == 401 else {})
        return _problem(error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def bad_request(request, error):
        first = error.errors()[0]
        return _problem(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.middleware("http")
    async def counted(request, call_next):
        began = time.perf_counter()
        try:
            response = await call_next(request)
        except Exception:  # noqa: BLE001 - a bug: told in the log, and answered as every other problem is
            log.exception("%s %s", request.method, request.url.path)
            response = _problem(500, "this service has a problem of its own; its log says more")
        route = getattr(request.scope.get("route"), "path", "none")
        metrics.request(route, response.status_code, time.perf_counter() - began)
        return response

    @app.post(
        "/v1/score",
        response_model=answers.ScoreAnswer,
        responses=_documented(404, 408, 413, 415, 422, 429, 503, 504),
        openapi_extra=PACKETS,
        **guarded,
    )
    async def score(request: Request, survey: Annotated[SurveyName, Query(description="whose packets they are")]):
        """Score packets: one outcome each, in order; a bad packet never fails the others."""
        if desk is None or survey not in desk.scorers:
            return _problem(404, f"this service scores no packets of {survey}", "not_scored_here")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON and kind not in BINARY:
            return _problem(415, f"Content-Type {kind!r}, expected {JSON} or one of {', '.join(BINARY)}")
        taken = []
        try:
            async with asyncio.timeout(limits.receive_s):
                body = await _body(request, limits.request_bytes, at_hand, taken)
            work = (
                (messages_of_json, body, limits.packets) if kind == JSON else (messages_of_bytes, body, survey, limits.packets)
            )
            messages = await asyncio.to_thread(*work)
            outcomes = await _outcomes(desk, survey, messages, limits.answer_s)
            return Response(await asyncio.to_thread(_scored, desk.scorers[survey], outcomes), media_type=JSON)
        except BadBody as error:
            return _problem(error.status, str(error))
        except QueueFull as error:
            metrics.busy()
            return _problem(429, str(error), headers={"Retry-After": str(round(error.retry_s))})
        except TimeoutError:
            return _problem(408, f"the body did not arrive within {limits.receive_s:g} s", headers={"Connection": "close"})
        except Expired:
            return _problem(504, f"not scored within {limits.answer_s:g} s")
        except ClientDisconnect:
            return _problem(400, "the connection was closed before the body was complete")
        except DglError as error:
            return _problem(503, str(error))
        finally:
            at_hand.held -= sum(taken)

    @app.get("/v1/scores/{survey}/{alert_id}", response_model=answers.RecordAnswer, responses=_documented(404, 422), **guarded)
    def score_of_alert(survey: SurveyName, alert_id: AlertId):
        """What the filter published of one alert; 404 where there is nothing (yet: see `store`)."""
        if store is None:
            return _problem(404, "this service follows no filter", "no_store")
        state = follower.state()  # first: what is found is at least as new
        record = store.score(survey, int(alert_id)) if int(alert_id) <= LARGEST_ID else None
        if record is None:
            return _problem(404, f"{survey} {alert_id}: nothing published that is kept here", store=state)
        return _answer({"record": record, "store": state})

    @app.get(
        "/v1/objects/{survey}/{object_id}", response_model=answers.ObjectAnswer, responses=_documented(404, 422), **guarded
    )
    def scores_of_object(
        survey: SurveyName,
        object_id: ObjectId,
        limit: Annotated[int, Query(ge=1, le=1000, description="records at most")] = 100,
    ):
        """What the filter published of an object's alerts, the latest first."""
        if store is None:
            return _problem(404, "this service follows no filter", "no_store")
        state = follower.state()
        n, records = store.object_scores(survey, object_id, limit)
        if not n:
            return _problem(404, f"{survey} object {object_id}: nothing published that is kept here", store=state)
        return _answer({"survey": survey, "object_id": object_id, "n_alerts": n, "records": records, "store": state})

    @app.get("/v1/status", response_model=answers.StatusAnswer, responses=_documented(), **guarded)
    def status():
        """What this service scores, with what, and how far its store is."""
        scorers = desk.scorers.items() if desk else ()
        return _answer(
            {
                "version": __version__,
                "scoring": [_scoring(survey, scorer) for survey, scorer in scorers],
                "queued_packets": desk.queued_packets if desk else 0,
                "store": follower.state() if follower else None,
            }
        )

    @app.get("/metrics", include_in_schema=False, **guarded)
    def metrics_page():
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/healthz", include_in_schema=False)
    def alive():
        return _answer({"alive": True})

    @app.get("/readyz", include_in_schema=False)
    def is_ready():
        conditions = ready()
        return Response(answers.body(conditions), 200 if all(conditions.values()) else 503, media_type=JSON)

    return app


def _asks_for(token):
    """A dependency that lets through who sends the token."""
    bearer = HTTPBearer(auto_error=False, description="the service's token")

    def authorised(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]):
        given = credentials.credentials.encode() if credentials else b""
        if not secrets.compare_digest(given, token):
            raise HTTPException(401, "expected Authorization: Bearer, and the service's token")

    return authorised


async def _body(request, at_most, at_hand, taken):
    """The body, as long as it is not too large and all bodies together are not either."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > at_most:
        raise BadBody(413, f"a body of {declared} bytes, at most {at_most}")
    parts, n = [], 0
    async for chunk in request.stream():
        n += len(chunk)
        if n > at_most:
            raise BadBody(413, f"a body of more than {at_most} bytes")
        at_hand.take(len(chunk))
        taken.append(len(chunk))
        parts.append(chunk)
    return b"".join(parts)


async def _outcomes(desk, survey, messages, answer_s):
    future = desk.submit(survey, messages, answer_s)
    done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=answer_s)
    if not done:
        future.cancel()
        raise Expired(survey)
    return done.pop().result()


def _scored(scorer, outcomes):
    """The answer's bytes."""
    found = []
    for outcome in outcomes:
        record = None
        if outcome.alert is not None:
            record = score_record(outcome, scorer.bundle_id, scorer.bundle_sha256, time.time_ns() // 1_000_000)
        found.append(answers.outcome_answer(outcome, record))
    return answers.body({"outcomes": found})


def _scoring(survey, scorer):
    return {
        "survey": survey,
        "bundle_id": str(scorer.bundle_id),
        "bundle_sha256": str(scorer.bundle_sha256),
        "device": str(scorer.device_name),
        "trained": bool(scorer.is_trained),
        "filters": [f"{f.name}:{f.version}" for f in scorer.filters],
    }
