"""Who may pass: the pre-cuts of a filter on the alerts of the tables, and what the tables cannot say of them."""

import json
from dataclasses import dataclass, replace

import numpy as np

from dgl_broker.archive.fact_columns import PREFIX, SPLIT_BY
from dgl_broker.selection.columns import accepts_column

REFUSED_BY_PRECUT = "precut."


@dataclass(frozen=True, eq=False)
class Precuts:
    """The pre-cuts of one filter, judged.

    Attributes
    ----------
    names : tuple of str
        Of the criteria, the filter's own survey first where it has one.
    n_failed : array of uint8, shape (n,)
        Criteria that do not let the alert pass.
    only : array of int8, shape (n,)
        The one criterion that does not, by its place in `names`; -1 where there is none or more than one.
    missing : tuple of str
        What the tables cannot say; empty where all is known.
    """

    names: tuple
    n_failed: np.ndarray
    only: np.ndarray
    missing: tuple

    @property
    def accepted(self):
        """Alerts that every criterion lets pass, shape (n,) bool."""
        return self.n_failed == 0


class Judge:
    """Judges filters on the same alerts, and remembers each criterion's answer: a slider moves one of them.

    Parameters
    ----------
    alerts : dgl_broker.tune.alerts.Alerts
    versions : callable
        (filter's name, version) -> the `Filter` of that version, or None: what a table's own columns were judged by.
    """

    def __init__(self, alerts, versions=lambda name, version: None):
        self.alerts = alerts
        self._versions = versions
        self._columns = {}
        self._reasons = [_refused_by_precut(t) for t in alerts.tables]

    @property
    def is_ungated(self):
        """Whether the tables hold the score of every alert that could have one, so that pre-cuts can be loosened.

        What the filter published holds no refusals of pre-cuts and no facts: it does not count as ungated.
        """
        return not any(refused.any() for refused in self._reasons) and all(map(_knows_pre_cuts, self.alerts.tables))

    def judge(self, filter_):
        """`Precuts` of a filter.

        An injection is judged without a criterion that asks for what is not injected: it stands for a real one.
        """
        n = len(self.alerts)
        n_failed, last, missing = np.zeros(n, np.uint8), np.full(n, -1, np.int8), []
        for place, criterion in enumerate(filter_.criteria):
            fails, why = self._fails(filter_, criterion)
            if why:
                missing.append(why)
            n_failed += fails
            last[fails] = place
        last[n_failed != 1] = -1
        return Precuts(tuple(c.name for c in filter_.criteria), n_failed, last, tuple(missing))

    def _fails(self, filter_, criterion):
        """(which alerts a criterion stops, what is missing to say so)."""
        bare = replace(criterion, why="")
        key = bare if all(f in self.alerts.facts for f in criterion.facts) else (filter_.name, filter_.require, bare)
        if key not in self._columns:
            if len(self._columns) > 60:  # a slider leaves one column at each stop
                self._columns.clear()
            self._columns[key] = self._judged(filter_, criterion)
        return self._columns[key]

    def _judged(self, filter_, criterion):
        alerts = self.alerts
        if all(fact in alerts.facts for fact in criterion.facts) and self._facts_everywhere(criterion):
            fails, missing = ~accepts_column(criterion, alerts.facts), None
        else:
            fails, missing = self._by_table(filter_, criterion)
        if criterion.facts == ("is_injected",):
            fails = fails & ~alerts.injected
        return fails, missing

    def _facts_everywhere(self, criterion):
        always = ("survey", "band", "mjd_tai", "ra", "dec")
        return all(
            fact in always or f"fact.{fact}" in t.numbers or f"fact.{fact}" in t.words
            for t in self.alerts.tables
            for fact in criterion.facts
        )

    def _by_table(self, filter_, criterion):
        """A criterion whose facts are not in all tables, by what each table recorded of it."""
        alerts, missing = self.alerts, []
        fails = np.zeros(len(alerts), bool)
        for number, table in enumerate(alerts.tables):
            mine = np.flatnonzero(alerts.table == number)
            found = self._recorded(table, filter_, criterion)
            if found is None:
                missing.append(f"{table.path.name} does not say which alerts meet {criterion.name}")
                continue
            fails[mine] = found[alerts.row[mine]]
        return fails, "; ".join(missing) or None

    def _recorded(self, table, filter_, criterion):
        """Rows of a table that the criterion stopped when they were judged; None where it was another, or is not recorded."""
        if not self._is_of_its_version(table, filter_, criterion):
            return None
        cut = table.numbers.get(f"cut.{filter_.name}.{criterion.name}")
        if cut is not None:
            return (cut == 0.0) | (np.isnan(cut) & (criterion.unknown != "pass"))
        if "verdicts" not in table.words:
            return None
        # A gated table: what a pre-cut refused has no verdict, and which of several criteria stopped it does not matter.
        reason = table.words["reason"].text() if "reason" in table.words else np.full(table.n, "")
        stopped = reason == f"{REFUSED_BY_PRECUT}{criterion.name}"
        return stopped | _failed_in_verdict(table.words["verdicts"], filter_.name, criterion.name)

    def _is_of_its_version(self, table, filter_, criterion):
        """Whether every version that the table was judged by had this very criterion."""
        versions = _versions_of(table, filter_.name)
        judged_by = [self._versions(filter_.name, version) for version in versions]
        asked = replace(criterion, why="")
        return bool(versions) and all(f is not None and asked in [replace(c, why="") for c in f.criteria] for f in judged_by)


def _knows_pre_cuts(table):
    """Whether a table has columns that only an ungated replay writes."""
    split = {PREFIX + name for name in SPLIT_BY}
    return any(name.startswith(("cut.", PREFIX)) and name not in split for name in (*table.numbers, *table.words))


def _refused_by_precut(table):
    reasons = table.words.get("reason")
    if reasons is None:
        return np.zeros(table.n, bool)
    codes = [n for n, word in enumerate(reasons.words) if word.startswith(REFUSED_BY_PRECUT)]
    return np.isin(reasons.code, codes)


def _versions_of(table, name):
    """Versions of a filter that a table was judged by, as its file says."""
    try:
        known = json.loads(table.metadata.get("filters", "[]"))
        return sorted({int(f["version"]) for f in known if f["name"] == name})
    except (ValueError, TypeError, KeyError):
        return []


def _failed_in_verdict(verdicts, name, criterion):
    """Rows in whose verdict a filter's criterion failed."""
    mark = f'"criterion":"{criterion}"'
    failing = [n for n, text in enumerate(verdicts.words) if mark in text and _fails_in(text, name, criterion)]
    return np.isin(verdicts.code, failing)


def _fails_in(text, name, criterion):
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return any(v["filter"] == name and any(f["criterion"] == criterion for f in v["failed"]) for v in found)
