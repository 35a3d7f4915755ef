"""What is there to choose from, for the page and for `tune show`: filters, bundles, alerts, and what the tables cannot say."""

from dgl_broker.selection.criteria import write_criteria
from dgl_broker.selection.facts import ALL_FACTS, kind_of, range_of
from dgl_broker.selection.filter_files import SCORE_RANGES
from dgl_broker.selection.words import requirement
from dgl_broker.tune.packets import NOT_KEPT


def filter_state(file):
    """One filter as it is in force, with who judges by it."""
    now = file.in_force
    point = now.operating_point
    history, broken = file.history()
    return {
        "name": now.name,
        "version": now.version,
        "description": now.description,
        "survey": now.survey,
        "score": now.score,
        "score_range": list(SCORE_RANGES[now.score]),
        "threshold": now.threshold,
        "bundle_sha256": now.bundle_sha256,
        "operating_point": None if point is None else dict(vars(point)),
        "completeness_floor": now.completeness_floor,
        "max_candidates_per_night": now.max_candidates_per_night,
        "require": write_criteria(now.require),
        "criteria": [
            {"name": c.name, "words": requirement(c), "why": c.why, "facts": [_fact(f) for f in c.facts]} for c in now.require
        ],
        "file": str(file.path),
        "shipped": file.is_shipped,
        "workers": worker_states(file),
        "last_change": history[0] if history else None,
        "broken_lines": broken,
    }


def worker_states(file):
    """Workers that run a filter, each with the version that it judges by."""
    name = file.name
    return [
        {
            "worker": w.worker,
            "version": w.versions[name],
            "since": w.since[name],
            "seen": w.seen,
            "silent": w.silent,
            "problem": w.problems.get(name),
            "bundle_sha256": w.bundle_sha256,
        }
        for w in file.workers()
    ]


def _fact(name):
    unit, words = ALL_FACTS[name]
    low, high = range_of(name)
    return {
        "fact": name,
        "unit": unit if unit not in ("bool", "text") else "",
        "words": words,
        "kind": kind_of(name),
        "low": None if low == float("-inf") else low,
        "high": None if high == float("inf") else high,
    }


def desk_state(desk, packets, access, who):
    """All that the page needs to begin with."""
    alerts = desk.alerts
    return {
        "filters": [filter_state(file) for file in desk.files.values()],
        "bundles": [] if alerts is None else [_bundle(b) for b in alerts.bundles.values()],
        "alerts": None if alerts is None else _alerts(desk),
        "prevalence": desk.prevalence,
        "missing": missing(desk, packets),
        "read_only": access.read_only,
        "who": who,
    }


def _bundle(bundle):
    n = max(int((column == column).sum()) for column in bundle.scores.values())
    return {"id": bundle.id, "sha256": bundle.sha256, "shadow": bundle.shadow, "scores": sorted(bundle.scores), "alerts": n}


def _alerts(desk):
    alerts = desk.alerts
    return {
        "n": len(alerts),
        "real": int(alerts.stream.sum()),
        "lensed": len(set(alerts.object[alerts.positive].tolist())),
        "negatives": len(set(alerts.object[alerts.class_ == 1].tolist())),
        "nights": [alerts.nights[i] for i in alerts.real_nights.tolist()],
        "sampled": alerts.sampled,
        "ungated": desk.judge.is_ungated,
        "tables": [str(t.path) for t in alerts.tables],
    }


def missing(desk, packets):
    """What the page cannot show with what it was given, a sentence each, with how to get it."""
    alerts = desk.alerts
    if alerts is None:
        return ["no scores were given: --scores scores.parquet"]
    out = []
    if not alerts.stream.any():
        out.append("no real alerts in the tables: candidates a night and purity are unknown")
    if not alerts.positive.any():
        out.append("no lensed supernovae in the tables: completeness is unknown; give --labels, or replay with --inject")
    elif "n_detections" not in alerts.facts:
        out.append("the tables do not say numbers of detections, which older replays did not write: completeness has no split")
    if not desk.judge.is_ungated:
        out.append(
            "pre-cuts cannot be changed here: what they refused has no score in these tables; replay with --ungated to see "
            "what each costs in lost supernovae and saves in negatives"
        )
    if not packets:
        out.append(f"no stamps and light curves: {NOT_KEPT}")
    return out
