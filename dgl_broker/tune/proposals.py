"""A proposed change of a filter: what was asked, and the filter that it comes to."""

import datetime
from dataclasses import dataclass, replace

from dgl_broker.errors import ConfigError
from dgl_broker.selection import dump_filter, parse_filter
from dgl_broker.selection.criteria import read_criteria
from dgl_broker.selection.filter_files import SCORE_RANGES
from dgl_broker.selection.filters import OperatingPoint
from dgl_broker.selection.problems import Problems, check_number
from dgl_broker.selection.words import requirement
from dgl_broker.tune.points import threshold_of


@dataclass(frozen=True)
class Proposal:
    """What is asked: a threshold or an operating point (metric, value), and pre-cuts as in a filter's `require`.

    What is None stays as it is in force; `bundle` is by default the one that the filter is tuned for.
    """

    filter: str
    bundle: str | None = None
    threshold: float | None = None
    operating_point: tuple[str, float] | None = None
    require: dict | None = None


@dataclass(frozen=True, eq=False)
class Proposed:
    """What it comes to: the filter in force, the new one (its version is given when it is activated), and how it was counted.

    `point` is the metric of an operating point, `of` what it was measured on.
    """

    old: object
    new: object
    bundle: object
    selected: object
    point: str | None = None
    of: str | None = None

    @property
    def threshold(self):
        """That of the new filter."""
        return self.new.threshold

    @property
    def changed(self):
        """Whether it judges otherwise than the filter in force."""
        return self.new.threshold != self.old.threshold or precuts_of(self.new) != precuts_of(self.old)


def precuts_of(filter_):
    """What the pre-cuts ask, without the reasons."""
    return {c.name: requirement(c) for c in filter_.require}


def with_precuts(old, require):
    """A filter with other pre-cuts; a criterion that stays keeps its `why`.

    Raises
    ------
    ConfigError
        With all that is wrong.
    """
    if require is None:
        return old
    problems = Problems(old.name)
    criteria = read_criteria(require, problems)
    if old.survey is not None and any(c.name == "survey" for c in criteria):
        problems.add("require.survey", "beside the filter's own survey", "one or the other")
    problems.raise_any()
    reasons = {c.name: c.why for c in old.require}
    return replace(old, require=tuple(c if c.why else replace(c, why=reasons.get(c.name, "")) for c in criteria))


def threshold_asked(proposal, draft, selected):
    """(threshold, metric, what it was measured on) that a proposal comes to.

    Raises
    ------
    ConfigError
        If both a threshold and an operating point are given, or it cannot be.
    """
    if proposal.threshold is not None and proposal.operating_point is not None:
        raise ConfigError("threshold and operating_point, expected one of them")
    if proposal.operating_point is not None:
        metric, value = proposal.operating_point
        threshold, of = threshold_of(selected, metric, value)
        low, high = SCORE_RANGES[draft.score]
        return min(max(threshold, low), high), metric, of
    threshold = draft.threshold if proposal.threshold is None else proposal.threshold
    problems = Problems(draft.name)
    check_number(threshold, *SCORE_RANGES[draft.score], problems, "threshold", "nat" if draft.score == "log_odds" else "")
    problems.raise_any()
    return threshold, None, None


def finished(proposed, today=None):
    """The filter to be put into force: with what was measured at its threshold, and checked as its file would be."""
    today = today or datetime.datetime.now(datetime.UTC).date().isoformat()
    point = measured(proposed.selected, proposed.threshold, proposed.point, today)
    return parse_filter(dump_filter(replace(proposed.new, operating_point=point)), proposed.new.source or proposed.new.name)


def measured(selected, threshold, metric, today):
    """The operating point to stand in the file: of the metric asked for, else the first that can be measured."""
    nightly, found, negatives = (
        selected.candidates(threshold),
        selected.completeness(threshold),
        selected.negatives(threshold),
    )
    data = describe(selected)
    if metric == "fpr" and negatives is not None and negatives["measurable"]:
        return OperatingPoint("fpr", negatives["fpr"], negatives["lo"], negatives["hi"], negatives["n"], data, today)
    if metric == "fpr":
        real = selected.stream(threshold)
        value = real["share"] if real["passing"] >= 3 else None
        return OperatingPoint("fpr", value, real["lo"], real["hi"], real["n"], data, today)
    if found is not None and (metric == "completeness" or nightly is None):
        return OperatingPoint("completeness", found["value"], found["lo"], found["hi"], None, data, today)
    if nightly is not None:
        return OperatingPoint("candidates_per_night", nightly["mean"], nightly["lo"], nightly["hi"], None, data, today)
    return None


def describe(selected):
    """What was counted, in a line: tables, nights, alerts."""
    alerts = selected.alerts
    names = ", ".join(t.path.name for t in alerts.tables)
    nights = [alerts.nights[i] for i in selected.real_nights]
    when = f"{len(nights)} night{'s' if len(nights) > 1 else ''} {nights[0]} to {nights[-1]}, " if nights else ""
    share = "" if alerts.sampled == 1.0 else f" (a sample of {alerts.sampled:g})"
    return f"{names}: {when}{selected.n_stream} real alerts{share}, {selected.ranked.positives.n} lensed objects"
