"""A recorded score against the one made again: equal within what arithmetic allows, or what differs."""

import math
from dataclasses import dataclass

from dgl_broker.archive.one_row import verdicts_of
from dgl_broker.outputs.records import as_json, score_record, table_row

EXACT = (
    "object_id", "band", "status", "reason", "stratum", "bands_used", "n_epochs", "companion_alert_ids", "bundle_sha256",
    "calibration_id", "message_id",
)  # fmt: skip
PROBABILITIES = ("p_no_lens", "p_lens", "p_lensed_sn_ia", "p_lensed_sn_cc", "p_lsn")
# Properties 2 and 9 of the design: what company, and half precision, may move.
SAME = {"log_odds": 1e-4, "probability": 1e-6}
HALF = {"log_odds": 0.02, "share": 0.01, "probability": 0.02}


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was; `allowed` is by how much it might differ, None where it must be equal."""

    what: str
    then: object
    now: object
    allowed: float | None = None


@dataclass(frozen=True)
class Comparison:
    """`differences` is empty where the score was reproduced; `exact` where device and precision are those of then."""

    differences: tuple
    exact: bool
    log_odds_then: float | None
    log_odds_now: float | None

    @property
    def reproduced(self):
        """Whether nothing differs beyond what is allowed."""
        return not self.differences


def compare(row, outcome, scorer, missing=()):
    """A row of a table against an outcome.

    Parameters
    ----------
    row : dict
    outcome : Outcome
    scorer : Scorer
        That made it.
    missing : sequence of str
        What the score was made of and is not at hand: differences of their own.
    """
    found = [Difference(f"not at hand: {what}", "used", "missing") for what in missing]
    if outcome.alert is None:
        return Comparison((*found, Difference("status", row["status"], outcome.status)), True, row["log_odds"], None)
    now = table_row(score_record(outcome, scorer.bundle_id, scorer.bundle_sha256))
    exact = (row["device"], row["precision"]) == (now["device"], now["precision"]) or row["status"] != "scored"
    for name in EXACT:
        then = row[name] if name != "companion_alert_ids" else list(row[name] or ())
        if then != now[name]:
            found.append(Difference(name, then, now[name]))
    found += _numbers(row, now, exact)
    if not missing:
        found += _verdicts(row, now, exact)
    return Comparison(tuple(found), exact, row["log_odds"], now["log_odds"])


def _numbers(row, now, exact):
    log_odds = SAME["log_odds"] if exact else max(HALF["log_odds"], HALF["share"] * abs(row["log_odds"] or 0.0))
    probability = SAME["probability"] if exact else HALF["probability"]
    allowed = {"log_odds": log_odds, "spread": log_odds, **dict.fromkeys(PROBABILITIES, probability)}
    if row["p_value"] is not None:
        # A score that moves by a hair may pass one or two of the null's.
        allowed["p_value"] = max(2.0 * (row["p_value_floor"] or 0.0), (1e-3 if exact else 0.05) * row["p_value"])
    for name, tolerance in allowed.items():
        if not _close(row[name], now[name], tolerance):
            yield Difference(name, row[name], now[name], tolerance)
    for n, pair in enumerate(zip(row["member_p_lsn"] or (), now["member_p_lsn"] or ())):
        if not _close(*pair, probability):
            yield Difference(f"member {n + 1} p_lsn", *pair, probability)


def _close(then, now, tolerance):
    if then is None or now is None:
        return then is None and now is None
    return math.isfinite(then) and math.isfinite(now) and abs(then - now) <= tolerance


def _verdicts(row, now, exact):
    """Verdicts that differ; the score itself among the failed criteria is compared above."""

    def said(record):
        return {
            (v["filter"], int(v["version"])): (v["passed"], tuple(f["criterion"] for f in v["failed"]))
            for v in verdicts_of(record)
        }

    then, again = said(row), said(now)
    for key in sorted({*then, *again}):
        if then.get(key) != again.get(key):
            near = "" if exact else " (another device: a score this close to the threshold may fall on either side)"
            yield Difference(f"verdict of {key[0]} version {key[1]}{near}", as_json(then.get(key)), as_json(again.get(key)))
