"""Answers of the service, recorded from a real one (data/score.json), and such answers changed."""

import json
from pathlib import Path

BIG = 2**62 + 12345  # an id that no double holds
ANSWER = json.loads((Path(__file__).parent / "data/score.json").read_text())
STORE = ANSWER["store"]
PASSED = ANSWER["record"]["verdicts"]
FAILED = [{**v, "passed": False, "failed": [{"criterion": "log_odds", "value": -5.5}]} for v in PASSED]
UNKNOWN = (404, {"code": "not_found", "detail": "nothing published that is kept here", "store": STORE})
AWAY = (503, {"code": "unavailable", "detail": "this service is stopping", "store": None})


def record(alert_id=BIG, **changes):
    """The record of an alert that passed, with another id and these changes."""
    return {**ANSWER["record"], "alert_id": str(alert_id), **changes}


def refused(alert_id=BIG, reason="no_cutouts", **changes):
    """The record of an alert that was refused."""
    empty = {name: None for name, value in ANSWER["record"].items() if isinstance(value, float) and name not in ("ra", "dec")}
    return record(alert_id, **empty, status="refused", reason=reason, verdicts=[], member_p_lsn=[], **changes)


def found(one, **store):
    """The answer of a lookup that finds this record."""
    return 200, {"record": one, "store": {**STORE, **store}}


def unknown(**store):
    """The answer of a lookup that finds nothing."""
    return 404, {**UNKNOWN[1], "store": {**STORE, **store}}
