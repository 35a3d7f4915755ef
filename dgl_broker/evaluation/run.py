"""`evaluate`: a bundle or a baseline on a test set, everything that the report holds."""

import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dgl_broker.errors import StateError
from dgl_broker.evaluation import checks, mixes
from dgl_broker.evaluation.ablation import Changes
from dgl_broker.evaluation.fusions import fused
from dgl_broker.evaluation.garbage import abstention
from dgl_broker.evaluation.goals import alert_goals
from dgl_broker.evaluation.measures import tpr_at_fpr
from dgl_broker.evaluation.objects import Objects
from dgl_broker.evaluation.operating import in_mix
from dgl_broker.evaluation.page import report_page
from dgl_broker.evaluation.paper import PUBLISHED_ACCURACY, evaluate_paper
from dgl_broker.evaluation.report import evaluate_alerts
from dgl_broker.evaluation.scoring import score_table
from dgl_broker.evaluation.text import summary
from dgl_broker.html.page import write_page

WORKING_POINTS = (("hard", 1e-2), ("stream", 1e-3))
COMPARED_AT = (3, 7)  # detections at which inputs and ways to fuse are compared


def scores_of(predictor, table, device, precision=None, change=None, advance=None):
    """`Scored` of a table by a bundle or by a baseline (which has a `score` of its own)."""
    if hasattr(predictor, "score"):
        return predictor.score(table, device, change, advance)
    return score_table(predictor, table, device, precision, change, advance)


def working_tprs(labels, score, survey, at):
    """Completeness at the two working points over objects at their `at`-th detection; None where it cannot be measured."""
    objects = Objects(labels, score)
    out = {}
    for mix, fpr in WORKING_POINTS:
        judged, weight = in_mix(mix, survey, objects, objects.at_detection(at))
        found = tpr_at_fpr(judged.score, judged.positive, fpr, weight) if len(judged) else None
        out[mix] = found.tpr if found is not None and found.measurable and found.n_positive else None
    return out


def compare_inputs(predictor, card, table, device):
    """What each input is worth: {detection: {input left: TPR at both working points}}."""
    changes = Changes(card["input"]).all()
    out = {}
    for at in COMPARED_AT:
        here = table.select(np.asarray(table.labels["n_detections"]) == at)
        if len(here):
            scored = {name: scores_of(predictor, here, device, change=change) for name, change in changes.items()}
            out[at] = {n: working_tprs(here.labels, s.log_odds, card["survey"], at) for n, s in scored.items()}
    return out


def compare_fusions(bundle, calibration, scored, labels, device, at=7):
    """Each way to fuse and each network alone: accuracy, and for alert bundles TPR at both working points.

    Parameters
    ----------
    calibration : table
        The split that fusions are fitted on.
    scored : Scored
        Of the test set.
    """
    survey = bundle.survey
    prior = bundle.card["prior"]
    found = score_table(bundle, calibration, device)
    kinds = np.asarray(calibration.labels["kind"])
    if survey is None or "contaminants" not in prior:
        weight = np.full(len(kinds), 1 / len(kinds))
    else:
        weight = checks.weights_of_card(kinds, prior["contaminants"])
    rows = np.arange(len(scored)) if survey is None else np.flatnonzero(np.asarray(labels["n_detections"]) == at)
    here = {name: np.asarray(column)[rows] for name, column in labels.items()}
    ways = fused(bundle, found, calibration.labels["class"], weight, scored.select(rows))
    out = {}
    for name, (log_odds, called) in ways.items():
        table = checks.confusion_table(here["class"], called)
        out[name] = {"accuracy": table["accuracy"], "accuracy_interval": table["accuracy_interval"]}
        if survey is not None:
            out[name] |= working_tprs(here, log_odds, survey, at)
    return out


def evaluate(predictor, card, test, *, device="cpu", precision=None, calibration=None, folders=(), n_draws=300, n_garbage=300,
             ablate=True, refusals=None, advance=None):  # fmt: skip
    """The report of a bundle or baseline.

    Parameters
    ----------
    predictor : dgl_broker.model.Bundle or training.baselines.Baseline
    card : dict
        Of it.
    test : table
        The split `test`; `labels`, `select`, `batches`, `strata` as `training.shards.Table` has them.
    calibration : table, optional
        To compare the ways to fuse.
    n_draws : int
        Of the bootstrap.
    n_garbage : int
        Alerts for each kind of garbage; 0 leaves the check out (alert bundles only).
    ablate : bool
        Whether inputs are taken away.
    refusals : dict, optional
        Counts of the data set (`training.dataset.summed_counts`), for the share of good examples refused.

    Returns
    -------
    report : dict
        What JSON holds.
    scored : Scored
        Of the test set.
    """
    scored = scores_of(predictor, test, device, precision, advance=advance)
    labels, survey = test.labels, card["survey"]
    is_bundle = not hasattr(predictor, "score")
    report = {
        "format": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()} {platform.system()}, device {device}",
        "bundle": {"id": predictor.id, "sha256": getattr(predictor, "sha256", None), "kind": card["kind"], "survey": survey},
        "training": card.get("training") if is_bundle else predictor.about,
        "data": {"folders": [Path(f).name for f in folders], "rows": len(test), "counts": refusals},
    }
    if card["kind"] == "paper":
        report["paper"] = {**evaluate_paper(scored, labels), "published_accuracy": PUBLISHED_ACCURACY.get(_set_of(card["id"]))}
    else:
        prior = card.get("prior", {}).get("contaminants") if is_bundle else None
        report["alerts"] = evaluate_alerts(scored, labels, survey, prior, n_draws)
        if ablate:
            report["ablation_at"] = compare_inputs(predictor, card, test, device)
            report["ablation"] = report["ablation_at"].get(COMPARED_AT[-1], {})
        if is_bundle and n_garbage:
            threshold = report["alerts"]["stability"]["threshold"]
            # Where no threshold could be measured nothing lies below it: what abstains is what is refused.
            report["abstention_threshold"] = threshold
            report["abstention"] = abstention(predictor, -np.inf if threshold is None else threshold, n_garbage, device)
        report["goals"] = alert_goals(report)
    if is_bundle and calibration is not None:
        report["fusions"] = compare_fusions(predictor, calibration, scored, labels, device)
    return report, scored


def _set_of(bundle_id):
    return next((name for name in PUBLISHED_ACCURACY if bundle_id.startswith(name)), None)


def write_report(out, report, scored, labels):
    """Write `index.html`, `report.json`, `summary.txt` and `scores.npz` (by test row, to compare bundles) to a folder."""
    out, made = Path(out), plain(report)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(made, indent=1, allow_nan=False) + "\n")
        (out / "summary.txt").write_text(summary(report) + "\n")
        names = ("seed", "system", "object_id", "alert_id", "class", "kind", "n_detections", "precut")
        columns = {name: np.asarray(labels[name]) for name in names}
        np.savez_compressed(out / "scores.npz", log_odds=scored.log_odds, class_index=scored.class_index, **columns)
    except OSError as error:
        raise StateError(f"{out}: report cannot be written: {error}") from error
    write_page(out / "index.html", report_page(made))


def plain(value):
    """What JSON holds: numpy numbers as Python's, NaN and infinities as None, keys as strings."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def mix_shares(labels):
    """Shares of the kinds among the objects of a table: the mix of a test set as it is."""
    objects = Objects(labels, np.zeros(len(labels["class"])))
    kinds, count = np.unique(objects.kind_of_object, return_counts=True)
    return {str(k): float(n / count.sum()) for k, n in zip(kinds, count)}


def missing(labels, survey):
    """Kinds of both mixes that a table has no object of."""
    return {mix: mixes.missing_kinds(mix, survey, labels["kind"]) for mix in mixes.MIXES}
