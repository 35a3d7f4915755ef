"""What a table of judged alerts shows: distributions, completeness and false positives over objects, nights, refusals, tracks.

Measures and intervals are those of `dgl_broker.evaluation`. An object counts once in each group and passes there if any of its
alerts in the group does.
"""

from collections import Counter
from types import SimpleNamespace

import numpy as np

from dgl_broker.evaluation.checks import stability
from dgl_broker.evaluation.intervals import clopper_pearson, poisson
from dgl_broker.evaluation.measures import MEASURABLE, purity_at_prevalence
from dgl_broker.evaluation.operating import tpr_table
from dgl_broker.tune.alerts import LENSED, LENSED_CC, LENSED_IA, NEGATIVE, UNKNOWN_CLASS

BINS = 60
CLASSES = {"all": None, "lensed SN Ia": LENSED_IA, "lensed SN CC": LENSED_CC, "type unknown": LENSED}
DRAWS = 200
TRACKS = 40


def distributions(table):
    """Histograms of the log-odds by group, over the same bins."""
    known = table.score[np.isfinite(table.score)]
    if not len(known):
        return {"edges": [], "counts": {}, "n": {}}
    lo, hi = float(known.min()), float(known.max())
    edges = np.linspace(lo, hi if hi > lo else lo + 1.0, BINS + 1)
    groups = {name: table.score[mask & np.isfinite(table.score)] for name, mask in table.groups.items()}
    return {
        "edges": edges.tolist(),
        "counts": {name: np.histogram(s, edges)[0].tolist() for name, s in groups.items()},
        "n": {name: len(s) for name, s in groups.items()},
    }


def share(k, n):
    """`k` of `n` with its interval; value None of nothing."""
    return {"k": int(k), "n": int(n), "value": k / n if n else None, "interval": list(clopper_pearson(int(k), int(n)))}


def passing(units, prevalences):
    """What passes of some objects: completeness by class, false-positive rates, purity.

    Returns
    -------
    dict
        `completeness`: class to share; `injected`, `known`: of those alone; `fpr_known`: of the known negatives;
        `fpr_stream`: of real objects of which nothing is known, an upper bound where some of them are lensed; `purity`: by
        prevalence, as `_purity` has it; `labelled_candidates`: lensed ones among the passing real objects that are known.
    """
    class_, passed = units.class_, units.passed
    positive = class_ >= LENSED
    out = {"n_objects": len(units), "completeness": {}}
    for name, code in CLASSES.items():
        mine = positive if code is None else class_ == code
        if name == "all" or mine.any():
            out["completeness"][name] = share(np.count_nonzero(passed & mine), np.count_nonzero(mine))
    injected = units.table.alerts.injected[units.row]
    for name, mine in (("injected", positive & injected), ("known", positive & ~injected)):
        out[name] = share(np.count_nonzero(passed & mine), np.count_nonzero(mine))
    negative, stream = class_ == NEGATIVE, units.stream & (class_ == UNKNOWN_CLASS)
    for name, mine in (("fpr_known", negative), ("fpr_stream", stream)):
        out[name] = share(np.count_nonzero(passed & mine), np.count_nonzero(mine))
    out["purity"] = {f"{p:g}": _purity(out["completeness"]["all"], out["fpr_stream"], p) for p in prevalences}
    candidates = passed & units.stream & (class_ != UNKNOWN_CLASS)
    out["labelled_candidates"] = share(np.count_nonzero(candidates & positive), np.count_nonzero(candidates))
    return out


def _purity(tpr, fpr, prevalence):
    """`value` with the limits that both rates' intervals give; below 3 false positives only what it is `at_least`."""
    if tpr["value"] is None or not fpr["n"]:
        return None
    least, most = (purity_at_prevalence(tpr["interval"][a], fpr["interval"][1 - a], prevalence) for a in (0, 1))
    if fpr["k"] < MEASURABLE:
        return {"value": None, "interval": None, "at_least": least}
    value = purity_at_prevalence(tpr["value"], fpr["value"], prevalence)
    return {"value": value, "interval": [least, most], "at_least": least}


def at_rates(units):
    """Completeness at false-positive rates 1e-2, 1e-3, 1e-4, against the known negatives and against the stream."""
    out = {}
    for name, mask in (
        ("known negatives", units.class_ == NEGATIVE),
        ("stream", units.stream & (units.class_ == UNKNOWN_CLASS)),
    ):
        judged = units.against(mask)
        if not judged.positive.any() or judged.positive.all():
            continue
        weight = np.where(judged.positive, 1.0, 1.0 / max(1, int((~judged.positive).sum())))
        subsets = {"all": judged.positive, "lensed_sn_ia": judged.positive & (judged.label == 2),
                   "lensed_sn_cc": judged.positive & (judged.label == 3)}  # fmt: skip
        out[name] = tpr_table(judged, weight, subsets, n_draws=DRAWS, curve=True)
    return out


def by_group(table, masks, prevalences):
    """`passing` of the objects of each mask, empty ones left out."""
    out = {}
    for name, mask in masks.items():
        units = table.objects(mask)
        if len(units):
            out[name] = passing(units, prevalences)
    return out


def nights(table):
    """Per night of the archive: real alerts, scored, passing alerts and objects, with Poisson's interval of the objects."""
    alerts, out = table.alerts, []
    real = alerts.stream
    for n, night in enumerate(alerts.nights):
        mine = real & (alerts.night == n)
        if not mine.any():
            continue
        passed = mine & table.passed
        objects = len(np.unique(alerts.object[passed]))
        out.append(
            {
                "night": night,
                "alerts": int(mine.sum()),
                "scored": int((mine & (table.status == "scored")).sum()),
                "candidate_alerts": int(passed.sum()),
                "candidates": objects,
                "interval": list(poisson(objects)),
            }
        )
    return out


def nightly_mean(table, per_night):
    """Candidates a night over all nights, scaled to the whole stream where a sample was replayed."""
    total, n = sum(row["candidates"] for row in per_night), len(per_night)
    if not n:
        return None
    scale = 1.0 / (n * table.alerts.sampled)
    return {"mean": total * scale, "interval": [end * scale for end in poisson(total)], "nights": n,
            "sampled": table.alerts.sampled}  # fmt: skip


def refusals(table):
    """Refusals by reason: how many real alerts, and what they cost.

    Returns
    -------
    list of dict
        `reason`, `stream`, `share` of the real alerts; `positive_alerts`, `negative_alerts`; `lost`: lensed supernovae of which
        every alert was refused, this reason being the most frequent, as a share of all of them.
    """
    refused = table.status == "refused"
    positive = table.alerts.class_ >= LENSED
    lost = _lost_objects(table, positive, refused)
    n_positive = len(np.unique(table.alerts.object[positive]))
    rows = []
    for reason, count in Counter(table.reason[refused].tolist()).most_common():
        mine = refused & (table.reason == reason)
        stream = int((mine & table.alerts.stream).sum())
        rows.append(
            {
                "reason": reason,
                "alerts": count,
                "stream": stream,
                "share": share(stream, int(table.alerts.stream.sum())),
                "positive_alerts": int((mine & positive).sum()),
                "negative_alerts": int((mine & (table.alerts.class_ == NEGATIVE)).sum()),
                "lost": share(lost[reason], n_positive),
            }
        )
    return rows


def _lost_objects(table, positive, refused):
    """Reason to lensed supernovae that were refused at every alert, by their most frequent reason."""
    rows = np.flatnonzero(positive)
    rows = rows[np.argsort(table.alerts.object[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(table.alerts.object[rows], prepend=-1))
    lost = Counter()
    for mine in np.split(rows, starts[1:]) if len(rows) else ():
        if refused[mine].all():
            lost[Counter(table.reason[mine].tolist()).most_common(1)[0][0]] += 1
    return lost


def precut_costs(table):
    """Of an ungated table: what each pre-cut alone would stop, of lensed supernovae (all alerts) and of the stream."""
    rows, objects = [], table.alerts.object
    positive, stream = table.alerts.class_ >= LENSED, table.alerts.stream & (table.alerts.class_ == UNKNOWN_CLASS)
    for name, met in table.cuts.items():
        stops = met == 0.0
        names = np.unique(objects[positive])
        kept = np.unique(objects[positive & ~stops])
        rows.append(
            {
                "criterion": name,
                "lost": share(len(names) - len(kept), len(names)),
                "stopped": share(int((stops & stream).sum()), int(stream.sum())),
                "unknown": int(np.isnan(met).sum()),
            }
        )
    return rows


def steadiness(table, threshold):
    """How scores move from one detection of an object to the next, by group; as `evaluation.checks.stability`."""
    out = {}
    for name, mask in table.groups.items():
        rows = np.flatnonzero(mask & np.isfinite(table.score) & np.isfinite(table.n_detections))
        if len(rows) < 2:
            continue
        seen = SimpleNamespace(
            labels={"n_detections": table.n_detections[rows].astype(int)},
            object=table.alerts.object[rows],
            score=table.score[rows],
            label=np.zeros(len(rows), int),
        )
        found = stability(seen, threshold, first=1, last=10**6).get("no_lens")
        if found and found["n"]:
            out[name] = found
    return out


def tracks(table, n=TRACKS):
    """Scores over time of some objects with two alerts or more: the best live ones, and those of which something is known.

    Returns
    -------
    list of dict
        `object`, `group`, `days` since its first alert in the table, `score`, `n_detections`, `passed`; of refused alerts the
        score is None.
    """
    counts = np.bincount(table.alerts.object)
    several = counts[table.alerts.object] > 1
    out = []
    for group, mask in table.groups.items():
        units = table.objects(mask & several)
        units = units.select(np.isfinite(units.score))
        for unit in np.argsort(-units.score, kind="stable")[: n // 2]:
            rows = np.flatnonzero(table.alerts.object == table.alerts.object[units.row[unit]])
            rows = rows[np.argsort(table.alerts.facts["mjd_tai"][rows], kind="stable")]
            times = table.alerts.facts["mjd_tai"][rows]
            out.append(
                {
                    "object": table.alerts.object_name[table.alerts.object[rows[0]]],
                    "group": group,
                    "days": (times - times[0]).tolist(),
                    "score": [float(s) if np.isfinite(s) else None for s in table.score[rows]],
                    "n_detections": [int(k) if np.isfinite(k) else None for k in table.n_detections[rows]],
                    "passed": table.passed[rows].tolist(),
                }
            )
    return out
