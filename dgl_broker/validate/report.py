"""A validation put together: the report as JSON, its pages, and the tracks of all objects."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dgl_broker import __version__
from dgl_broker.archive.one_row import find_rows
from dgl_broker.archive.sinks import write_columns
from dgl_broker.errors import StateError
from dgl_broker.html.page import write_page
from dgl_broker.validate import measured
from dgl_broker.validate.against import against
from dgl_broker.validate.best import N_BEST, best_candidates, filters_of
from dgl_broker.validate.candidates_page import candidates_page
from dgl_broker.validate.page import CANDIDATES, report_page

DECADES = (10.0, 1.0, 0.1)  # purity at the declared prevalence, ten times it, and a tenth


def make_report(table, packets, labels=None, other=None, given_filters=(), n_best=N_BEST):
    """(report, candidates, filters) of a judged table.

    Parameters
    ----------
    table : JudgedTable
    packets : dgl_broker.tune.packets.Packets
    labels : path, optional
        As they were given, for the record.
    other : JudgedTable, optional
        To compare with.
    given_filters : sequence of path
    n_best : int

    Returns
    -------
    dict, list of Candidate, list of Filter
    """
    filters, missing = filters_of(table, given_filters)
    prevalences = [table.prevalence * f for f in DECADES]
    everything = np.ones(len(table), bool)
    thresholds = [{"filter": f.name, "version": f.version, "score": f.score, "threshold": f.threshold} for f in filters]
    per_night = measured.nights(table)
    by_log_odds = [t["threshold"] for t in thresholds if t["score"] == "log_odds"]
    rows = find_rows(table.path, _best_ids(table, n_best))
    candidates = best_candidates(table, packets, lambda survey, alert_id: rows[survey, alert_id], n_best)
    report = {
        "format": 1,
        "about": _about(table, labels, missing, prevalences),
        "thresholds": thresholds,
        "distributions": measured.distributions(table),
        "overall": measured.passing(table.objects(everything), prevalences),
        "by_detection": measured.by_group(table, table.detection_bins(), prevalences),
        "by_stratum": measured.by_group(table, table.strata(), prevalences),
        "at_rates": measured.at_rates(table.objects(everything)),
        "nights": per_night,
        "nightly_mean": measured.nightly_mean(table, per_night),
        "refusals": measured.refusals(table),
        "precuts": measured.precut_costs(table),
        "steadiness": measured.steadiness(table, by_log_odds[0] if by_log_odds else np.inf),
        "tracks": measured.tracks(table),
        "best": [c.as_dict() for c in candidates],
        "against": None if other is None else against(table, other),
    }
    return plain(report), candidates, filters


def _best_ids(table, n):
    units = table.objects(table.alerts.stream & np.isfinite(table.score))
    return [int(table.alerts.alert_id[row]) for row in units.row[np.argsort(-units.score, kind="stable")[: 2 * n]]]


def _about(table, labels, missing, prevalences):
    manifest = table.manifest or {}
    status, counts = np.unique(table.status, return_counts=True)
    groups = {
        name: {
            "objects": len(np.unique(table.alerts.object[mask])),
            "alerts": int(mask.sum()),
            "scored": int((mask & np.isfinite(table.score)).sum()),
        }
        for name, mask in table.groups.items()
    }
    return {
        "name": table.path.name,
        "scores": str(table.path),
        "written_by": f"dgl-broker {__version__}",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "alerts": len(table),
        "objects": len(np.unique(table.alerts.object)),
        "status": {str(s): int(n) for s, n in zip(status, counts)},
        "repeated": table.n_repeated,
        "dead_lettered": manifest.get("accounts", {}).get("dead_lettered"),
        "groups": groups,
        "bundle": {"id": table.bundle.id, "sha256": table.bundle.sha256},
        "trained": _is_trained(table.bundle.sha256),
        "filters": [list(v) for v in table.verdicts],
        "missing_filters": missing,
        "judged_by": dict(table.judged_by),
        "prevalences": [f"{p:g}" for p in prevalences],
        "sampled": table.alerts.sampled,
        "labels": None if labels is None else str(labels),
        "replay": {k: manifest.get(k) for k in ("written_by", "finished")} if manifest else None,
    }


def _is_trained(sha256):
    """Whether the bundle of this hash is trained; True where it is none that ships, since then nobody knows."""
    from dgl_broker import model

    for survey in ("lsst", "ztf"):
        path = model.default_bundle(survey)
        if (path / "card.json").is_file() and (bundle := model.load_bundle(path)).sha256 == sha256:
            return bundle.trained
    return True


def plain(value):
    """A report as JSON holds it: what is not finite is null, keys are text, arrays lists."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_report(folder, table, report, candidates, filters):
    """`index.html`, `candidates.html`, `report.json` and `tracks.parquet` into a folder; the first page's path.

    Raises
    ------
    StateError
        If the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".report.json.part"
        partial.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, folder / "report.json")
    except OSError as error:
        raise StateError(f"{folder}: cannot be written: {error.strerror}") from error
    write_tracks(folder / "tracks.parquet", table)
    tracks = {track["object"]: track for track in report["tracks"]}
    write_page(folder / CANDIDATES, candidates_page(report, candidates, filters, tracks))
    return write_page(folder / "index.html", report_page(report))


def write_tracks(path, table):
    """Scores of all objects with two alerts or more, in order of object and time."""
    alerts = table.alerts
    several = np.flatnonzero(np.bincount(alerts.object)[alerts.object] > 1)
    order = several[np.lexsort((alerts.facts["mjd_tai"][several], alerts.object[several]))]
    survey = alerts.survey.text(order)
    columns = {
        "survey": survey.tolist(),
        "object_id": [alerts.object_name[k] for k in alerts.object[order]],
        "alert_id": alerts.alert_id[order].tolist(),
        "mjd_tai": alerts.facts["mjd_tai"][order],
        "status": table.status[order].tolist(),
        "log_odds": table.score[order],
        "n_detections": [int(k) if np.isfinite(k) else None for k in table.n_detections[order]],
        "passed": table.passed[order].tolist(),
    }
    write_columns(path, columns, {"n_detections": "int32", "passed": "bool"})
