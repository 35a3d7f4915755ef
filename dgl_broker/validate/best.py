"""The best real candidates of a table: one alert an object, with its packet where that was kept, and why it passed."""

from dataclasses import dataclass

import numpy as np

from dgl_broker.explain.again import filter_of_version
from dgl_broker.scores import Scores
from dgl_broker.tune.cards import truth

N_BEST = 50


@dataclass(frozen=True)
class Candidate:
    """One of the best: `row` of the table, `alert` decoded or why it is not at hand, and what a person wants to know of it."""

    rank: int
    row: int
    survey: str
    alert_id: int
    object: str
    score: float
    passed: bool
    known: str | None
    alert: object
    record: dict

    def as_dict(self):
        """For JSON."""
        names = ("rank", "survey", "object", "score", "passed", "known")
        return {**{name: getattr(self, name) for name in names}, "alert_id": str(self.alert_id),
                "packet": None if isinstance(self.alert, str) else "shown", "reason": self.record.get("reason")}  # fmt: skip


def best_candidates(table, packets, records, n=N_BEST):
    """The best `n` objects of the real alerts, each by its best scored alert.

    Parameters
    ----------
    table : JudgedTable
    packets : dgl_broker.tune.packets.Packets
    records : callable
        (survey, alert id) -> whole row of the table.
    """
    units = table.objects(table.alerts.stream & np.isfinite(table.score))
    order = np.lexsort((table.alerts.alert_id[units.row], -units.score))[:n]
    out = []
    for rank, unit in enumerate(order, 1):
        row = int(units.row[unit])
        survey, alert_id = table.alerts.survey.one(row), int(table.alerts.alert_id[row])
        record = records(survey, alert_id)
        alert = packets.alert(survey, alert_id, record.get("source"), record.get("source_row") or 0)
        out.append(
            Candidate(
                rank,
                row,
                survey,
                alert_id,
                table.alerts.object_name[table.alerts.object[row]],
                float(table.score[row]),
                bool(table.passed[row]),
                truth(table.alerts, row),
                alert,
                record,
            )
        )
    return out


def filters_of(table, given=()):
    """The filters that judged a table, as far as their files are at hand: (found, those that are not, as text)."""
    places = [*given, *(f["source"] for f in (table.manifest or {}).get("filters", ()) if f.get("source"))]
    found, missing = [], []
    for name, version in table.verdicts:
        one = filter_of_version(name, version, places)
        if one is None:
            missing.append(f"{name} version {version}")
        else:
            found.append(one)
    return found, missing


def scores_of(record):
    """A row of a table as `Scores`, for the drawings of `dgl_broker.html.scores`; None where it has the log-odds alone."""
    if record.get("p_lsn") is None:
        return None
    members = tuple(record.get("member_p_lsn") or ())
    names = [name for name in Scores.__slots__ if name != "member_p_lsn"]
    return Scores(member_p_lsn=members, **{name: record.get(name) for name in names})
