"""A filter for a refreshed bundle at the same operating point, from scores of both over the same alerts."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, GuardRefused
from dgl_broker.evaluation.measures import MEASURABLE
from dgl_broker.selection.audit import activate
from dgl_broker.selection.filter_files import read_filter
from dgl_broker.selection.guard import activation_refusals
from dgl_broker.tune.changes import changes
from dgl_broker.tune.counts import Selected
from dgl_broker.tune.points import METRICS, rounded, threshold_of
from dgl_broker.tune.precuts import Judge
from dgl_broker.tune.proposals import Proposed, finished
from dgl_broker.tune.ranked import Ranked
from dgl_broker.tune.references import Injections, Reference
from dgl_broker.tune.running import bundle_on_disk


@dataclass(frozen=True, eq=False)
class Carried:
    """A carried filter, before it is written.

    `metric` and `value` are the operating point that was kept; `before` and `after` the counts of both over the same alerts,
    `changes` who comes in and who goes out, `refused` why the guards would not have it.
    """

    old: object
    new: object
    metric: str
    value: float
    n_alerts: int
    before: dict
    after: dict
    changes: dict
    refused: list


def find_bundle_scores(desk, name, survey=None):
    """The scores of a bundle named by hash, beginning of it, id, or as on disk: a folder, or the id of one that ships."""
    known = desk.alerts.bundles
    if Path(name).is_dir():
        bundle_id, sha256 = bundle_on_disk(name, survey)
        if sha256 not in known:
            have = ", ".join(f"{b.id} ({b.sha256[:8]})" for b in known.values())
            raise ConfigError(f"bundle {bundle_id} ({sha256[:8]}): no scores of it in the tables, these are of {have}")
        return known[sha256]
    return desk.bundle(name, None)


def carry(desk, name, to, by=None):
    """The filter `name` for another bundle, as `Carried`.

    Parameters
    ----------
    desk : dgl_broker.tune.desk.Desk
    name : str
        Of the filter.
    to : str
        The other bundle, as `find_bundle_scores` takes it.
    by : str, optional
        What is kept: `completeness`, `fpr` or `candidates_per_night`; by default what the filter's operating point says, if it
        is one of these.

    Raises
    ------
    ConfigError
        If scores of either are missing, or the operating point cannot be kept.
    """
    old = desk.file(name).in_force
    if old.bundle_sha256 is None:
        raise ConfigError(f"{name}: tuned for no bundle yet, so there is no operating point to carry over")
    ours, theirs = desk.alerts.bundles.get(old.bundle_sha256), find_bundle_scores(desk, to, old.survey)
    if ours is None:
        raise ConfigError(f"{name}: no scores of the bundle {old.bundle_sha256[:8]} that it is tuned for in the tables")
    if ours is theirs:
        raise ConfigError(f"{name}: bundle {theirs.id} ({theirs.sha256[:8]}) is the one that it is tuned for")
    both = ours.judged & theirs.judged
    if not both.any():
        raise ConfigError(f"{name}: no alert has been judged by both bundles, {ours.id} and {theirs.id}")
    alerts = desk.alerts.only(both)
    precuts = Judge(alerts, desk.version_of).judge(old)
    before, after = (
        Selected(Ranked(alerts, alerts.bundles[b.sha256].scores[old.score], old.score), precuts) for b in (ours, theirs)
    )
    metric = by or _metric(old, before)
    value, threshold = _same_point(before, after, old.threshold, metric)
    new = replace(old, threshold=threshold, bundle_sha256=theirs.sha256)
    proposed = Proposed(old, new, theirs, after, metric)
    refused = activation_refusals(new, theirs.sha256, Reference(after), Injections(after))
    refused += [f"{name}: {why}; replay with --filters {old.source} --ungated" for why in precuts.missing]
    return Carried(
        old,
        finished(proposed),
        metric,
        value,
        len(alerts),
        desk.counts(before, old.threshold),
        desk.counts(after, threshold),
        changes(before, old.threshold, after, threshold),
        refused,
    )


def _metric(old, selected):
    """The filter's own operating point where these alerts can show it, else nightly candidates, else completeness."""
    said = old.operating_point.metric if old.operating_point is not None else None
    for metric in (said, "candidates_per_night", "completeness"):
        if metric in METRICS and _shown(selected, old.threshold, metric):
            return metric
    raise ConfigError(
        f"{old.name}: fewer than {MEASURABLE:g} real alerts pass and no lensed supernova is found among the alerts that both "
        "have judged: more nights, or --labels"
    )


def _shown(selected, threshold, metric):
    """Whether there is enough to hold a metric by: a count of 0 to 2 would be kept by nearly any threshold."""
    if metric == "completeness":
        found = selected.completeness(threshold)
        return found is not None and found["found"] > 0
    negatives = selected.negatives(threshold)
    known = metric == "fpr" and negatives is not None and negatives["measurable"]
    return known or selected.stream(threshold)["passing"] >= MEASURABLE


def _same_point(before, after, threshold, metric):
    """(what is kept, the threshold that keeps it on the other scores)."""
    if metric not in METRICS:
        raise ConfigError(f"--by {metric!r}, expected one of {', '.join(METRICS)}")
    k = before.stream(threshold)["passing"]
    if not _shown(before, threshold, metric):
        have = "no lensed supernova is found" if metric == "completeness" else f"{k} real alerts pass, too few to keep"
        raise ConfigError(f"{metric}: {have} among the alerts that both have judged; more nights, --labels, or --by another")
    if metric == "completeness":
        share = before.completeness(threshold)["value"]
        return share, threshold_of(after, metric, share)[0]
    negatives = before.negatives(threshold)
    if metric == "fpr" and negatives is not None and negatives["measurable"]:
        return negatives["fpr"], threshold_of(after, metric, negatives["fpr"])[0]
    # Of the real stream: as many alerts in all nights together. The worst night alone would follow one night's weather.
    ours, theirs = (one.ranked.score[one.ok & one.ranked.stream] for one in (before, after))
    if k >= min(len(ours), len(theirs)):
        raise ConfigError(f"{metric}: {k} alerts pass now, the other bundle scores {len(theirs)} that the pre-cuts accept")
    nights = max(len(before.real_nights), 1)
    kept = k / before.n_stream if metric == "fpr" else k / nights / before.alerts.sampled
    return kept, rounded(after, _between(threshold, ours, theirs, k), upwards=True)


def _between(threshold, ours, theirs, k):
    """The place among other scores (falling) that a threshold with k scores above it has among ours.

    Between the last that passes and the first that does not, as far along as before: in a tail of a few candidates that gap is
    wide, and either end of it would be another operating point on the nights to come.
    """
    along = (threshold - float(ours[k])) / (float(ours[k - 1]) - float(ours[k]))
    return max(float(theirs[k]) + along * float(theirs[k - 1] - theirs[k]), float(np.nextafter(theirs[k], np.inf)))


def write_carried(desk, carried, who, why, out=None):
    """Writes a carried filter to a file of its own, with an entry in the audit log beside it.

    It does not replace the filter in force: workers of the old bundle would refuse it. The new file and the new bundle are
    named in `broker.yaml` together.

    Returns
    -------
    (Filter, path)

    Raises
    ------
    GuardRefused
        If a guard is against it, or the file would lie in the package's own folder.
    """
    file, old = desk.file(carried.old.name), carried.old
    path = Path(out) if out is not None else file.path.with_name(f"{old.name}.{carried.new.bundle_sha256[:8]}.yaml")
    if out is None and file.is_shipped:
        raise GuardRefused(f"{file.path} ships with the package: say with --out where the new filter is to lie")
    expected = read_filter(path).version if path.exists() else None
    action = f"carry from version {old.version} of bundle {old.bundle_sha256[:8]}"
    new = activate(path, carried.new, who, why, expected, carried.refused, action=action, above=old.version)
    return new, path
