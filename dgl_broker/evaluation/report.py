"""The whole evaluation of a bundle on a test set, as one dictionary that JSON holds, with every curve that a page draws."""

import time

import numpy as np

from dgl_broker.evaluation import checks, mixes
from dgl_broker.evaluation.measures import FPRS, purity
from dgl_broker.evaluation.objects import Objects, subset_masks
from dgl_broker.evaluation.operating import false_positives, finite, in_mix, tpr_table
from dgl_broker.scores import CLASSES

DETECTIONS = tuple(range(1, 11))
DAYS = (1, 3, 7, 14, 21, 30, 45, 60)
CONFUSION_AT = (1, 3, 5, 7, 10)
BUDGETS = (1, 10, 100)  # candidates a night


def by_moment(objects, labels, survey, moments, judge, n_draws=300, unit="objects"):
    """Completeness tables over moments (detections or days), for both mixes.

    Parameters
    ----------
    objects : Objects
    labels : dict of arrays
    survey : str
    moments : sequence
    judge : callable
        Moment -> Judged.
    unit : "objects" or "systems"

    Returns
    -------
    dict
        mix -> list of tables, one a moment, each with `at`.
    """
    out = {}
    for mix in mixes.MIXES:
        rows = []
        for moment in moments:
            judged, weight = in_mix(mix, survey, objects, judge(moment), unit)
            masks = subset_masks(labels, judged.row, judged.positive)
            table = tpr_table(judged, weight, masks, FPRS, n_draws, seed=int(moment), curve=unit == "objects")
            rows.append({"at": moment, **table})
        out[mix] = rows
    return out


def contaminant_rates(objects, survey, tables, moments=CONFUSION_AT):
    """False positives of every kind at the thresholds of the tables of `by_moment`, at some detections.

    Returns
    -------
    list of dict
        `at`, `mix`, `fpr`, `kinds` as `operating.false_positives` gives them.
    """
    out = []
    for mix, rows in tables.items():
        for table in rows:
            if table["at"] not in moments:
                continue
            judged = objects.at_detection(table["at"])
            judged = judged.select(judged.enters) if mix == "stream" else judged
            for rate in table["rates"]:
                if rate["measurable"] and rate["threshold"] is not None:
                    kinds = false_positives(judged, rate["threshold"])
                    out.append({"at": table["at"], "mix": mix, "fpr": rate["fpr"], "kinds": kinds})
    return out


def purity_table(table, survey):
    """Purity in the stream mix for budgets of candidates a night, at several numbers of negatives a night.

    Parameters
    ----------
    table : dict
        One of `by_moment`'s, of the stream mix, with its curve.

    Returns
    -------
    list of dict
        `budget`, `negatives_per_night`, `fpr`, `tpr`, `purity`; None where the rate that fills the budget lies below the least
        that the sample can measure.
    """
    known = mixes.tables()
    lensed = known["lensed_sne_per_year"][survey]["rate"] / 365.25
    fpr, tpr = np.array(table["roc"]["fpr"]), np.array(table["roc"]["tpr"])
    out = []
    for n in known["negatives_per_night"]["values"]:
        for budget in BUDGETS:
            row = {"budget": budget, "negatives_per_night": n, "lensed_per_night": lensed}
            found = None
            if len(fpr):
                found = purity(lambda rate: float(np.interp(np.log(max(rate, 1e-12)), np.log(fpr), tpr)), lensed, n, budget)
            if found is None or found["fpr"] < fpr[0]:
                row |= {"fpr": None, "tpr": None, "purity": None}
            else:
                row |= found
            out.append(row)
    return out


def histograms(objects, judged, n_bins=60):
    """Distribution of log-odds by kind, over common edges, for plots."""
    finite_scores = judged.score[np.isfinite(judged.score)]
    if len(finite_scores) == 0:
        return {"edges": [], "kinds": {}}
    edges = np.linspace(*np.percentile(finite_scores, [0, 100]), n_bins + 1)
    kinds = {str(k): np.histogram(judged.score[judged.kind == k], edges)[0].tolist() for k in np.unique(judged.kind)}
    return {"edges": edges.tolist(), "kinds": kinds}


def census(objects, labels):
    """What the test set holds: alerts, objects and systems by class and kind, objects by number of detections."""
    by_kind = {}
    for kind in np.unique(objects.kind):
        pick = objects.kind == kind
        by_kind[str(kind)] = {
            "class": CLASSES[int(objects.label[pick][0])],
            "alerts": int(pick.sum()),
            "objects": int(len(np.unique(objects.object[pick]))),
            "systems": int(len(np.unique(objects.system[pick]))),
            "precut_passed": float((np.asarray(labels["precut"])[pick] != 0).mean()),
        }
    reach = {}
    for k in DETECTIONS:
        judged = objects.at_detection(k)
        reach[k] = {"negative": int((~judged.positive).sum()), "positive": int(judged.positive.sum())}
    return {"by_kind": by_kind, "objects_at_detection": reach}


def evaluate_alerts(scored, labels, survey, contaminants=None, n_draws=300, systems=True):
    """All measures of an alert bundle that need its scores alone.

    Parameters
    ----------
    scored : Scored
        Of the rows of the test set.
    labels : dict of arrays
        Of the same rows.
    survey : str
    contaminants : dict, optional
        Shares of the kinds in the mix that the probabilities refer to (the card's prior); without, no calibration is judged.

    Returns
    -------
    dict
        `census`, `by_detection`, `by_days`, `by_system`, `contaminants`, `purity`, `confusion`, `calibration`, `conformal`,
        `stability`, `histograms`, `missing_kinds`, `seconds`.
    """
    started = time.monotonic()
    objects = Objects(labels, scored.log_odds)
    detection = by_moment(objects, labels, survey, DETECTIONS, objects.at_detection, n_draws)
    out = {
        "census": census(objects, labels),
        "missing_kinds": {mix: mixes.missing_kinds(mix, survey, objects.kind) for mix in mixes.MIXES},
        "mixes": {"hard": mixes.tables()["hard"], "stream": mixes.sourced_rates(survey)},
        "by_detection": detection,
        "by_days": by_moment(objects, labels, survey, DAYS, objects.at_days, 0),
        "contaminants": contaminant_rates(objects, survey, detection),
        "purity": {str(t["at"]): purity_table(t, survey) for t in detection["stream"] if t["at"] in CONFUSION_AT},
        "confusion": {},
        "histograms": {str(k): histograms(objects, objects.at_detection(k)) for k in CONFUSION_AT},
    }
    if systems:
        out["by_system"] = by_moment(objects, labels, survey, DETECTIONS, objects.at_detection, 0, unit="systems")
    for k in CONFUSION_AT:
        judged = objects.at_detection(k)
        out["confusion"][str(k)] = checks.confusion_table(judged.label, scored.class_index[judged.row])
    if contaminants:
        out["calibration"] = checks.calibration(objects, scored, contaminants)
    threshold = stability_threshold(detection)
    out["stability"] = {"threshold": finite(threshold), "by_class": checks.stability(objects, threshold)}
    if scored.p_value is not None:
        out["conformal"] = conformal_check(objects, scored, labels, survey)
    out["seconds"] = round(time.monotonic() - started, 1)
    return out


def stability_threshold(detection):
    """The threshold at which an object is said to pass: of FPR 1e-3 in the stream at the 5th detection, or the next there."""
    for at in (5, 3, 7, 1):
        for fpr in (1e-3, 1e-2):
            for table in detection["stream"]:
                for rate in table["rates"]:
                    if table["at"] == at and rate["fpr"] == fpr and rate["measurable"] and rate["threshold"] is not None:
                        return rate["threshold"]
    return np.inf


def conformal_check(objects, scored, labels, survey):
    """Coverage of the p-values over negatives that the pre-cuts pass, in the stream's mix, every object of a kind alike."""
    rows = np.flatnonzero(~objects.positive & (np.asarray(labels["precut"]) != 0))
    rate = mixes.rates(survey)
    names, count = np.unique(objects.negative_kinds, return_counts=True)
    each = {str(k): rate.get(str(k), 0.0) / n for k, n in zip(names, count)}
    return checks.conformal(objects, scored, rows, np.array([each[str(k)] for k in objects.kind[rows]]))
