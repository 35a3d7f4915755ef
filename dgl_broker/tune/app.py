"""The API under `/api/v1` and the page in front of it, as an ASGI application."""

import logging
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from dgl_broker import __version__
from dgl_broker.errors import ConfigError, DglError, GuardRefused
from dgl_broker.selection.audit import StaleVersion
from dgl_broker.tune import assets
from dgl_broker.tune.access import HEADERS, Denied
from dgl_broker.tune.alert_page import alert_page
from dgl_broker.tune.cards import EACH_SIDE, describe, nearest, pictures
from dgl_broker.tune.desk import Proposal
from dgl_broker.tune.state import desk_state, worker_states

log = logging.getLogger(__name__)
LONGEST_WAIT_S = 60.0
LARGEST_BODY = 64 * 1024  # bytes; a filter's pre-cuts are some 2 kB
Name = Annotated[str, Field(min_length=1, max_length=100)]
Words = Annotated[str, Field(min_length=1, max_length=2000)]


class Body(BaseModel):
    """A JSON body: nothing unknown in it."""

    model_config = ConfigDict(extra="forbid", strict=True)


class OperatingPointBody(Body):
    """A number to be reached or kept: `completeness`, `fpr` or `candidates_per_night`."""

    metric: Name
    value: float


class ProposalBody(Body):
    """A proposed filter: what is left out stays as it is in force."""

    filter: Name
    bundle: Name | None = Field(None, description="hash, the beginning of it, or id")
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    operating_point: OperatingPointBody | None = None
    require: dict[str, Any] | None = Field(None, description="all pre-cuts, as in the filter's file")

    def proposal(self):
        point = None if self.operating_point is None else (self.operating_point.metric, self.operating_point.value)
        return Proposal(self.filter, self.bundle, self.threshold, point, self.require)


class Change(Body):
    """What every change says for the audit log."""

    expected_version: int = Field(description="version of the filter that the change was made against")
    reason: Words
    who: Name | None = None
    wait_s: float = Field(0.0, ge=0.0, le=LONGEST_WAIT_S, description="how long to wait for the workers")


class ActivateBody(ProposalBody, Change):
    """Put a proposal into force."""


class RollbackBody(Change):
    """Put an earlier version into force again."""

    filter: Name
    to_version: int


class Guarded:
    """Lets through what `Access` admits, and puts its headers on every answer."""

    def __init__(self, app, access):
        self.app, self.access = app, access

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            self.access.check_request(scope["method"], headers)
            if int(headers.get("content-length") or 0) > LARGEST_BODY or "chunked" in headers.get("transfer-encoding", ""):
                raise Denied(413, f"a body of at most {LARGEST_BODY} bytes with its length")
        except ValueError:
            await _error(400, "bad_request", "content-length, expected a number")(scope, receive, send_with_headers)
        except Denied as denied:
            await _error(denied.status, "denied", str(denied))(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)


def make_app(desk, packets, access, who):
    """The application.

    Parameters
    ----------
    desk : dgl_broker.tune.desk.Desk
    packets : dgl_broker.tune.packets.Packets
    access : dgl_broker.tune.access.Access
    who : str
        For the audit log, where a request names nobody.
    """
    # FastAPI's own pages of documentation load scripts from elsewhere; the description itself is served.
    app = FastAPI(
        title="dgl-broker tune", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json"
    )
    app.add_middleware(Guarded, access=access)
    _answer_errors(app)

    def allowed(request: Request):
        access.check_token(request.headers.get("authorization"))

    @app.get("/api/v1/filters")
    def filters():
        """Filters in force, bundles with scores, alerts, and what the tables cannot say."""
        return desk_state(desk, packets, access, who)

    @app.get("/api/v1/workers")
    def workers(filter: Annotated[str, Query()]):
        """Workers that run a filter, and how far the version of its file has come."""
        file = desk.file(filter)
        return {"workers": worker_states(file), "version": file.in_force.version, **_arrived(file.arrival())}

    @app.get("/api/v1/history")
    def history(filter: Annotated[str, Query()]):
        """Changes of a filter, the newest first."""
        changes, broken = desk.file(filter).history()
        return {"changes": changes, "broken_lines": broken}

    @app.post("/api/v1/curves")
    def curves(body: ProposalBody):
        """Histograms and curves over the score for a set of pre-cuts."""
        return desk.curves(body.proposal())

    @app.post("/api/v1/preview")
    def preview(body: ProposalBody):
        """What a proposal would do; changes nothing."""
        out = desk.preview(body.proposal())
        for side in ("entering", "leaving"):
            out["changes"][side]["rows"] = [_described(desk, out, row) for row in out["changes"][side]["rows"]]
        return out

    @app.post("/api/v1/night")
    def night_list(body: ProposalBody, night: Annotated[str, Query(max_length=20)]):
        """The objects of one night that a proposal lets pass, and those that pass now and would not."""
        found, n, scores = desk.night(body.proposal(), night)
        objects = [{**describe(desk.alerts, row, scores[row]), "alerts": count, "change": word} for row, count, word in found]
        return {"night": night, "objects": objects, "n_objects": n}

    @app.post("/api/v1/nearest")
    def nearest_alerts(body: ProposalBody, each: Annotated[int, Query(ge=1, le=60)] = EACH_SIDE):
        """The alerts just above and just below the line, with stamps and light curves where packets were kept."""
        proposed = desk.propose(body.proposal())
        above, below = nearest(proposed.selected, proposed.threshold, each)
        column = proposed.bundle.scores[proposed.new.score]
        return {side: [_card(row, column[row]) for row in rows] for side, rows in (("above", above), ("below", below))}

    def _card(row, score):
        card = describe(desk.alerts, row, score)
        alert = _alert(row)
        return {**card, "why": alert} if isinstance(alert, str) else {**card, **pictures(alert)}

    def _alert(row):
        alerts = desk.alerts
        table = alerts.tables[alerts.table[row]]
        source = table.words["source"].one(alerts.row[row]) if "source" in table.words else None
        number = int(table.numbers["source_row"][alerts.row[row]]) if "source_row" in table.numbers else 0
        return packets.alert(alerts.survey.one(row), int(alerts.alert_id[row]), source, number)

    @app.get("/alert/{survey}/{alert_id}")
    def one_alert(survey: str, alert_id: int, filter: Annotated[str, Query()]):
        """One alert as a page of its own."""
        row = desk.alerts.find(survey, alert_id)
        if row is None:
            raise HTTPException(404, f"no {survey} alert {alert_id} in the tables")
        scores = [
            (f"{b.id} ({b.sha256[:8]})", {n: float(c[row]) for n, c in b.scores.items()}) for b in desk.alerts.bundles.values()
        ]
        text = alert_page(desk.alerts, row, _alert(row), desk.file(filter).in_force, scores)
        return Response(text, media_type="text/html; charset=utf-8")

    @app.post("/api/v1/activate", dependencies=[Depends(allowed)])
    def activate(body: ActivateBody):
        """Put a proposal into force, unless a guard refuses it."""
        new, arrival = desk.activate(body.proposal(), body.expected_version, body.who or who, body.reason, body.wait_s)
        log.info("filter %s: version %d activated by %s", new.name, new.version, body.who or who)
        return {"filter": new.name, "version": new.version, "threshold": new.threshold, **_arrived(arrival)}

    @app.post("/api/v1/rollback", dependencies=[Depends(allowed)])
    def rollback(body: RollbackBody):
        """Put an earlier version into force again, as a new version."""
        by = body.who or who
        new, arrival = desk.roll_back(body.filter, body.to_version, body.expected_version, by, body.reason, body.wait_s)
        log.info("filter %s: rolled back to version %d by %s", new.name, body.to_version, by)
        return {"filter": new.name, "version": new.version, "threshold": new.threshold, **_arrived(arrival)}

    @app.get("/healthz")
    def health():
        """The process answers."""
        return {"ok": True}

    @app.get("/", include_in_schema=False)
    def page(request: Request):
        return _asset("index.html", request)

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str, request: Request):
        if name not in assets.names():
            raise HTTPException(404, f"no file {name}")
        return _asset(name, request)

    return app


def _described(desk, out, row):
    score = desk.alerts.bundles[out["bundle"]["sha256"]].scores[out["score"]][row]
    return describe(desk.alerts, row, score)


def _arrived(arrival):
    return {
        "in_force_on": list(arrival.in_force),
        "lagging": list(arrival.lagging),
        "silent": list(arrival.silent),
        "complete": arrival.complete,
        "words": str(arrival),
        "seconds": round(arrival.seconds, 2),
    }


def _asset(name, request):
    found = assets.asset(name)
    # Asked for anew each time, answered by its tag: an upgrade of the program must not meet an old script.
    headers = {"etag": found.tag, "cache-control": "no-cache", "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.gzipped, media_type=found.type, headers={**headers, "content-encoding": "gzip"})
    return Response(found.content, media_type=found.type, headers=headers)


def _error(status, code, detail, reasons=()):
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    body = {"error": code, "detail": detail, "reasons": list(reasons) or [detail]}
    return JSONResponse(body, status, {**headers, "cache-control": "no-store"})


def _answer_errors(app):
    """Every error as JSON: `error` for programs, `detail` and `reasons` for people."""

    @app.exception_handler(Denied)
    def denied(_, error):
        return _error(error.status, "denied", str(error))

    @app.exception_handler(StaleVersion)
    def stale(_, error):
        return _error(409, "stale_version", str(error))

    @app.exception_handler(GuardRefused)
    def refused(_, error):
        return _error(422, "refused", str(error), error.reasons)

    @app.exception_handler(ConfigError)
    def nonsense(_, error):
        return _error(422, "not_possible", str(error), str(error).splitlines())

    @app.exception_handler(DglError)
    def failed(_, error):
        log.error("%s", error)
        return _error(500, "failed", str(error))

    @app.exception_handler(RequestValidationError)
    def malformed(_, error):
        reasons = [f"{'.'.join(str(p) for p in e['loc'][1:]) or 'body'}: {e['msg']}" for e in error.errors()]
        return _error(422, "bad_request", "; ".join(reasons), reasons)

    @app.exception_handler(HTTPException)
    def http(_, error):
        return _error(error.status_code, "http", str(error.detail))
