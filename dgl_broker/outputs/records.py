"""One outcome as a record: the same field names in Avro (schemas/score.avsc) and in Parquet.

64-bit ids stay integers here, and become text in JSON, whose readers keep 53 bits.
"""

import hashlib
import json
import math

import numpy as np

from dgl_broker.message_id import message_id

SCORE_FIELDS = (
    "p_no_lens",
    "p_lens",
    "p_lensed_sn_ia",
    "p_lensed_sn_cc",
    "p_lsn",
    "log_odds",
    "posterior",
    "prevalence",
    "p_value",
    "p_value_floor",
    "stratum",
    "member_p_lsn",
    "spread",
    "bundle_id",
    "bundle_sha256",
    "calibration_id",
    "device",
    "precision",
)
# What a bundle that scores beside the one in force says; None without one.
SHADOW_SCORES = ("p_no_lens", "p_lens", "p_lensed_sn_ia", "p_lensed_sn_cc", "p_lsn", "log_odds", "posterior")
SHADOW_FIELDS = tuple(f"shadow_{name}" for name in ("bundle_id", "bundle_sha256", "reason", *SHADOW_SCORES))
STREAM_FIELDS = ("arrived_ms", "published_ms", "magnitude", "injected")  # in Avro alone
EXACT_JSON_INTEGER = 2**53  # beyond it a reader that has only doubles rounds


def dead_letter_id(survey, message):
    """Deterministic id of a dead letter: of one place in the input and its bytes."""
    digest = hashlib.sha256(message.value).hexdigest()
    return hashlib.sha256(f"{survey}|dead_letter|{message.where()}|{digest}".encode()).hexdigest()[:32]


def in_sample(survey, alert_id, rate):
    """Whether an alert belongs to a sample of this rate: by hash of its id, so the same on every worker and in every run."""
    digest = hashlib.sha256(f"sample|{survey}|{int(alert_id)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < rate * 2.0**64


def plain(value):
    """A criterion's value as None, bool, int, float or str."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _number(value):
    return None if value is None else float(value)


def score_record(outcome, bundle_id=None, bundle_sha256=None, published_ms=None):
    """One scored or refused outcome as a dict with the field names of `schemas/score.avsc`.

    Parameters
    ----------
    outcome : Outcome
        Scored or refused, with its alert.
    bundle_id, bundle_sha256 : str, optional
        Bundle in force; a refused alert has no scores to say so.
    published_ms : int, optional
        When the record is made [ms since 1970].

    Raises
    ------
    ValueError
        If the outcome has no alert: what was not decoded has no row.
    """
    alert, scores, completeness = outcome.alert, outcome.scores, outcome.completeness
    if alert is None:
        raise ValueError(f"{outcome.status} ({outcome.reason}): an outcome without an alert has no score record")
    record = dict.fromkeys(SCORE_FIELDS)
    record["member_p_lsn"] = []
    record["bundle_id"], record["bundle_sha256"] = bundle_id, bundle_sha256
    if scores is not None:
        for name in SCORE_FIELDS:
            value = getattr(scores, name)
            if name == "member_p_lsn":
                value = [float(p) for p in value]
            elif not isinstance(value, str):
                value = _number(value)
            record[name] = value
    companions = [int(i) for i in getattr(completeness, "companion_alert_ids", ())]
    message, kafka = outcome.message, getattr(outcome.message, "topic", None) is not None
    record.update(
        survey=alert.survey,
        alert_id=int(alert.alert_id),
        object_id=alert.object_id,
        mjd_tai=_number(alert.mjd_tai),
        ra=_number(alert.ra),
        dec=_number(alert.dec),
        band=alert.band,
        status=outcome.status,
        reason=outcome.reason,
        bands_used=getattr(completeness, "bands_used", None),
        n_epochs=getattr(completeness, "n_epochs", None),
        companion_alert_ids=companions,
        verdicts=[verdict_record(v) for v in outcome.verdicts],
        message_id=outcome.message_id or message_id(alert.survey, alert.alert_id, record["bundle_sha256"] or "", companions),
        source=f"{message.topic}[{message.partition}]" if kafka else getattr(message, "source", None),
        source_row=message.offset if kafka else getattr(message, "source_row", None),
        arrived_ms=getattr(message, "timestamp_ms", None),
        published_ms=published_ms,
        magnitude=_number(alert.facts.get("magnitude")),
        injected=outcome.is_injected,
    )
    record.update(_NO_SHADOW if outcome.shadow is None else _shadow(outcome.shadow))
    return record


_NO_SHADOW = dict.fromkeys(SHADOW_FIELDS)


def _shadow(beside):
    values = [None if beside.scores is None else _number(getattr(beside.scores, name)) for name in SHADOW_SCORES]
    return dict(zip(SHADOW_FIELDS, (beside.bundle_id, beside.bundle_sha256, beside.reason, *values), strict=True))


def verdict_record(verdict):
    """A `Verdict` as a dict."""
    failed = [{"criterion": name, "value": plain(value)} for name, value in verdict.failed]
    return {
        "filter": verdict.filter,
        "version": int(verdict.version),
        "passed": bool(verdict.passed),
        "failed": failed,
    }


def candidate_record(record):
    """The score record of an alert that passed, as the candidates topic has it; None where it passed no filter."""
    passed = [v for v in record["verdicts"] if v["passed"]]
    if record["status"] != "scored" or not passed:
        return None
    filters = ",".join(sorted(f"{v['filter']}:{v['version']}" for v in passed))
    its_id = message_id(
        record["survey"], record["alert_id"], record["bundle_sha256"] or "", record["companion_alert_ids"], filters
    )
    return {**record, "verdicts": passed, "message_id": its_id}


def table_row(record):
    """A score record as a row of `scores.parquet`: verdicts as JSON text, without what only a stream's readers need."""
    row = {name: value for name, value in record.items() if name not in STREAM_FIELDS}
    return {**row, "verdicts": as_json(record["verdicts"])}


def as_json(value):
    """Strict JSON text: integers beyond 2^53 as strings, what is not finite as null."""
    return json.dumps(_exact(value), separators=(",", ":"), allow_nan=False)


def _exact(value):
    if isinstance(value, dict):
        return {name: _exact(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT_JSON_INTEGER:
        return str(value)
    return value
