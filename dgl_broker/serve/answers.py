"""What the service answers, for its OpenAPI description and for the JSON itself.

The record is that of `schemas/score.avsc`, field by field, with one difference: 64-bit ids are text, since most readers of
JSON have doubles only.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from dgl_broker.outputs.avro import load_schema
from dgl_broker.outputs.records import as_json

SCHEMA = load_schema("score")
ID_FIELDS = ("alert_id", "companion_alert_ids")
_PLAIN = {"string": str, "long": int, "int": int, "double": float, "float": float, "boolean": bool}


class Answer(BaseModel):
    """Base: nothing that is not described."""

    model_config = ConfigDict(extra="forbid")


def _python_type(kind, name):
    if isinstance(kind, list):
        options = [_python_type(one, name) for one in kind if one != "null"]
        union = options[0]
        for option in options[1:]:
            union = union | option
        return union | None if "null" in kind else union
    if isinstance(kind, dict) and kind["type"] == "array":
        return list[_python_type(kind["items"], name)]
    if isinstance(kind, dict) and kind["type"] == "record":
        return _model(kind)
    return str if name in ID_FIELDS else _PLAIN[kind if isinstance(kind, str) else kind["type"]]


def _model(schema):
    fields = {
        f["name"]: (Annotated[_python_type(f["type"], f["name"]), Field(description=f.get("doc"))], ...)
        for f in schema["fields"]
    }
    return create_model(schema["name"], __base__=Answer, __doc__=schema.get("doc"), **fields)


ScoreRecord = _model(SCHEMA)


class StoreState(Answer):
    """How far the store is behind the topics that it follows."""

    behind_messages: int | None = Field(
        description="messages on the topics that are not in the store yet, an upper bound; null where Kafka has not told"
    )
    behind_s: float | None = Field(
        description="everything published longer ago than this is in the store [s]; null before it has caught up once"
    )
    following: bool = Field(description="whether Kafka answers")


class Outcome(Answer):
    """The one outcome of one packet."""

    status: Literal["scored", "refused", "dead_lettered"]
    reason: str | None = Field(description="why it was refused or could not be read; null where scored")
    error: str | None = Field(description="the same for people")
    record: ScoreRecord | None = Field(description="null where the packet could not be read so far")


class ScoreAnswer(Answer):
    """Outcomes of the packets of a request, in their order."""

    outcomes: list[Outcome]


class RecordAnswer(Answer):
    """What the filter published of one alert."""

    record: ScoreRecord
    store: StoreState


class ObjectAnswer(Answer):
    """What the filter published of one object's alerts."""

    survey: Literal["ztf", "lsst"]
    object_id: str
    n_alerts: int = Field(description="alerts of the object in the store")
    records: list[ScoreRecord] = Field(description="of the latest alerts, the latest first")
    store: StoreState


class Scoring(Answer):
    """What scores the packets of one survey."""

    survey: Literal["ztf", "lsst"]
    bundle_id: str
    bundle_sha256: str
    device: str
    trained: bool
    filters: list[str] = Field(description="`name:version` of the filters in force")


class StatusAnswer(Answer):
    """What this service does, and how it is."""

    version: str
    scoring: list[Scoring]
    queued_packets: int
    store: StoreState | None = Field(description="null where there is no store")


class Problem(Answer):
    """Why there is no such answer."""

    code: str = Field(description="a short word for programs")
    detail: str = Field(description="the same for people")
    store: StoreState | None = Field(None, description="with 404 of a lookup: how far the store is behind")


def api_record(record, published_ms=None):
    """A score record (a dict with the fields of `schemas/score.avsc`) as the answers have it.

    Parameters
    ----------
    record : dict
        Fields that it lacks, of an older version, are null or empty; those of a newer one are left out.
    published_ms : int, optional
        For records that do not say.
    """
    out = _shaped(record, SCHEMA, "")
    if out["published_ms"] is None:
        out["published_ms"] = published_ms
    return out


def _shaped(value, kind, name):
    if isinstance(kind, list):
        return None if value is None else _shaped(value, next(one for one in kind if one != "null"), name)
    if isinstance(kind, dict) and kind["type"] == "array":
        return [_shaped(one, kind["items"], name) for one in value or ()]
    if isinstance(kind, dict) and kind["type"] == "record":
        return {f["name"]: _shaped(value.get(f["name"]), f["type"], f["name"]) for f in kind["fields"]}
    return str(value) if name in ID_FIELDS else value


def outcome_answer(outcome, record):
    """An `Outcome` of the pipeline, and its score record or None, as a dict."""
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "error": outcome.error,
        "record": None if record is None else api_record(record),
    }


def body(answer: Any) -> bytes:
    """The JSON of an answer; what is not finite is null."""
    return as_json(answer).encode()
