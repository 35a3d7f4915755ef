"""A report as a record (`schemas/report.avsc`), and as what a webhook is sent."""

import hashlib

from dgl_broker.alert import BANDS
from dgl_broker.outputs.records import as_json
from dgl_broker.reports.ledger import object_name

COPIED = (
    "mjd_tai",
    "ra",
    "dec",
    "band",
    "p_lsn",
    "p_lensed_sn_ia",
    "p_lensed_sn_cc",
    "log_odds",
    "posterior",
    "prevalence",
    "p_value",
    "spread",
    "bundle_id",
    "bundle_sha256",
    "source",
    "source_row",
    "arrived_ms",
)


def report_id(survey, object_id, state):
    """Deterministic id of a report: 32 hex digits, the same however often it is sent."""
    return hashlib.sha256(f"{survey}|report|{object_id}|{state}".encode()).hexdigest()[:32]


def report_record(candidate, decision, rules, published_ms=None):
    """The report that a candidate became.

    Parameters
    ----------
    candidate : dict
        Its record, with the fields of `schemas/score.avsc`.
    decision : Decision
        With outcome "reported".
    rules : Rules
    published_ms : int, optional

    Returns
    -------
    dict
        With the fields of `schemas/report.avsc`.
    """
    name, seen = object_name(candidate), decision.seen
    passed = [v for v in candidate["verdicts"] if v["passed"]]
    return {
        "survey": candidate["survey"],
        "object_id": name,
        "state": decision.state,
        "alert_id": candidate["alert_id"],
        "night": decision.night,
        "number": decision.number,
        "max_per_night": rules.max_per_night,
        "withheld_before": decision.withheld,
        **{field: candidate[field] for field in COPIED},
        "magnitude": candidate.get("magnitude"),
        "brighter_mag": decision.brighter,
        "bands": "".join(sorted(seen.first, key=BANDS.find)),
        "new_alert_id": seen.new_alert_id,
        "new_mjd_tai": seen.new_mjd_tai,
        "filters": [{"filter": v["filter"], "version": v["version"]} for v in passed],
        "candidate_message_id": candidate["message_id"],
        "message_id": report_id(candidate["survey"], name, decision.state),
        "published_ms": published_ms,
    }


def webhook_text(report):
    """One line for people: what chat programs show."""
    change = f" by {report['brighter_mag']:.1f} mag" if report["state"] == "brighter" else ""
    facts = [f"{report['survey']} {report['object_id']}: {report['state']}{change}"]
    if report["log_odds"] is not None:
        facts.append(f"log odds {report['log_odds']:.1f}")
    if report["magnitude"] is not None:
        facts.append(f"{report['band']} = {report['magnitude']:.1f} mag")
    place = "" if None in (report["ra"], report["dec"]) else f" at {report['ra']:.5f} {report['dec']:+.5f}"
    return f"{', '.join(facts)}{place}; {report['number']} of at most {report['max_per_night']} in the night {report['night']}"


def webhook_body(report):
    """What is sent, as JSON bytes: the report with its 64-bit ids as text, and `text`, a line for people."""
    exact = {name: None if report[name] is None else str(report[name]) for name in ("alert_id", "new_alert_id")}
    return as_json({"text": webhook_text(report), **report, **exact}).encode()
