"""Two tables of one archive, or of one night live and replayed: what moved, who enters, who leaves, whether it drifts.

`after` is the table that is validated, `before` the other. An alert is the same where survey and id are.
"""

import numpy as np
from scipy import stats

from dgl_broker.evaluation.intervals import paired_bootstrap
from dgl_broker.tune.alerts import LENSED
from dgl_broker.validate.measured import share

SAME = 1e-4  # log-odds: what other batches may move (design, property 2)
LISTED = 50
TOPS = (10, 50, 100)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SCATTERED = 1500
EXACT_KS = 10_000


def against(after, before):
    """The comparison as a dict for JSON.

    Parameters
    ----------
    after, before : JudgedTable
    """
    here, there = matched(after, before)
    both = np.isfinite(after.score[here]) & np.isfinite(before.score[there])
    a, b = after.score[here[both]], before.score[there[both]]
    out = {
        "other": str(before.path),
        "bundles": {"after": _bundle(after), "before": _bundle(before)},
        "filters": {"after": [list(v) for v in after.verdicts], "before": [list(v) for v in before.verdicts]},
        "alerts": {"both": len(here), "only_after": len(after) - len(here), "only_before": len(before) - len(there)},
        "scores": _scores(a, b),
        "status": _status(after, before, here, there),
        "entering": _moved(after, before, here, there, enters=True),
        "leaving": _moved(after, before, here, there, enters=False),
        "ranks": _ranks(after, before, here[both], there[both]),
        "drift": drift(after, before),
        "completeness": _completeness(after, before, here, there),
        "points": _points(after, before, here[both], there[both]),
    }
    return out


def matched(after, before):
    """(rows of `after`, rows of `before`) of the alerts that both have."""
    there = {key: row for row, key in enumerate(zip(before.alerts.survey.text().tolist(), before.alerts.alert_id.tolist()))}
    keys = zip(after.alerts.survey.text().tolist(), after.alerts.alert_id.tolist())
    pairs = [(row, there[key]) for row, key in enumerate(keys) if key in there]
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _bundle(table):
    return {"id": table.bundle.id, "sha256": table.bundle.sha256}


def _scores(a, b):
    """How the scores of the same alerts differ."""
    change = a - b
    if not len(change):
        return {"n": 0}
    out = {
        "n": len(change),
        "equal": share(int((np.abs(change) <= SAME).sum()), len(change)),
        "largest": float(np.abs(change).max()),
        "mean": float(change.mean()),
        "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(change, QUANTILES))},
        "rank_correlation": None,
        "signed_rank_p": None,
    }
    if len(change) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0:
        out["rank_correlation"] = float(stats.spearmanr(a, b).statistic)
    moved = change[change != 0]
    if len(moved) >= 10:
        out["signed_rank_p"] = float(stats.wilcoxon(moved).pvalue)
    return out


def _status(after, before, here, there):
    """Alerts that are scored in one and refused in the other, by the reasons."""
    rows = {}
    for i, j in zip(here, there):
        then, now = _said(before, j), _said(after, i)
        if then != now:
            rows[then, now] = rows.get((then, now), 0) + 1
    return [{"before": k[0], "after": k[1], "alerts": n} for k, n in sorted(rows.items(), key=lambda item: -item[1])]


def _said(table, row):
    return f"refused: {table.reason[row]}" if table.status[row] == "refused" else str(table.status[row])


def _moved(after, before, here, there, enters):
    """Objects that pass in one and not in the other, the best first: how many, and the first of them."""
    now, then = _passing_objects(after, here), _passing_objects(before, there)
    moved = (now.keys() - then.keys()) if enters else (then.keys() - now.keys())
    table = after if enters else before
    rows = sorted((now if enters else then)[name] for name in moved)
    rows.sort(key=lambda row: -np.nan_to_num(table.score[row], nan=-np.inf))
    other = dict(zip(here.tolist(), there.tolist())) if enters else dict(zip(there.tolist(), here.tolist()))
    listed = []
    for row in rows[:LISTED]:
        twin = other[row]
        x, y = (after, before) if enters else (before, after)
        listed.append(
            {
                **_named(x, row),
                "score": _finite(x.score[row]),
                "other_score": _finite(y.score[twin]),
                "other_said": _said(y, twin),
            }
        )
    real = sum(bool(table.alerts.stream[row]) for row in rows)
    return {"objects": len(rows), "real": real, "listed": listed}


def _passing_objects(table, rows):
    """(survey, object) of those that pass to the best of their passing alerts, among some rows."""
    found = {}
    for row in rows[table.passed[rows]]:
        key = (table.alerts.survey.one(row), table.alerts.object_name[table.alerts.object[row]])
        if key not in found or table.score[row] > table.score[found[key]]:
            found[key] = int(row)
    return found


def _named(table, row):
    return {
        "survey": table.alerts.survey.one(row),
        "alert_id": str(table.alerts.alert_id[row]),
        "object": table.alerts.object_name[table.alerts.object[row]],
        "injected": bool(table.alerts.injected[row]),
    }


def _finite(value):
    return float(value) if np.isfinite(value) else None


def _ranks(after, before, here, there):
    """Where the best real alerts of one stand in the other."""
    real = after.alerts.stream[here]
    here, there = here[real], there[real]
    n = len(here)
    if not n:
        return {"n": 0}
    rank_after, rank_before = np.empty(n, np.int64), np.empty(n, np.int64)
    rank_after[np.lexsort((after.alerts.alert_id[here], -after.score[here]))] = np.arange(1, n + 1)
    rank_before[np.lexsort((before.alerts.alert_id[there], -before.score[there]))] = np.arange(1, n + 1)
    listed = []
    for i in np.argsort(rank_after)[:LISTED]:
        scores = {"score": _finite(after.score[here[i]]), "other_score": _finite(before.score[there[i]])}
        listed.append({**_named(after, here[i]), "rank": int(rank_after[i]), "other_rank": int(rank_before[i]), **scores})
    shared = {str(k): int(((rank_after <= k) & (rank_before <= k)).sum()) for k in TOPS if k <= n}
    return {"n": n, "shared": shared, "listed": listed}


def drift(after, before):
    """Tests of whether the real alerts' scores, refusals and candidates are drawn from one distribution.

    Alerts of one object are alike, so p-values are too small where objects have many: `objects` judges each by its best alert.
    """
    out = {}
    for name, a, b in (
        ("alerts", after.score[after.alerts.stream], before.score[before.alerts.stream]),
        ("objects", _best(after), _best(before)),
    ):
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        if len(a) and len(b):
            # The exact distribution has no numbers for large samples, and is that of the limit there.
            found = stats.ks_2samp(a, b, method="exact" if len(a) * len(b) <= EXACT_KS else "asymp")
            out[name] = {
                "n_after": len(a),
                "n_before": len(b),
                "ks": float(found.statistic),
                "ks_p": float(found.pvalue),
                "wasserstein": float(stats.wasserstein_distance(a, b)),
                "medians": [float(np.median(a)), float(np.median(b))],
            }
    for name, of in (("refused", lambda t: t.status == "refused"), ("candidates", lambda t: t.passed)):
        counts = [(int((of(t) & t.alerts.stream).sum()), int(t.alerts.stream.sum())) for t in (after, before)]
        (k1, n1), (k2, n2) = counts
        p = float(stats.fisher_exact([[k1, n1 - k1], [k2, n2 - k2]]).pvalue) if n1 and n2 else None
        out[name] = {"after": share(k1, n1), "before": share(k2, n2), "fisher_p": p}
    return out


def _best(table):
    return table.objects(table.alerts.stream).score


def _completeness(after, before, here, there, n_draws=1000):
    """Completeness of one less that of the other, over the same lensed supernovae, by a paired bootstrap; None without any."""
    positive = after.alerts.class_[here] >= LENSED
    if not positive.any():
        return None
    names, at = np.unique(after.alerts.object[here[positive]], return_inverse=True)
    now, then = np.zeros(len(names)), np.zeros(len(names))
    np.maximum.at(now, at, after.passed[here[positive]].astype(float))
    np.maximum.at(then, at, before.passed[there[positive]].astype(float))
    everyone = [np.arange(len(names))]
    change, lo, hi, above = paired_bootstrap(lambda i: then[i].mean(), lambda i: now[i].mean(), everyone, n_draws)
    return {"n": len(names), "after": share(int(now.sum()), len(names)), "before": share(int(then.sum()), len(names)),
            "difference": change, "interval": [lo, hi], "share_above_0": above}  # fmt: skip


def _points(after, before, here, there):
    """Scores of both for a plot: all that change sides, and an even sample of the others."""
    moved = after.passed[here] != before.passed[there]
    step = max(1, int(np.ceil(np.count_nonzero(~moved) / SCATTERED)))
    pick = np.concatenate([np.flatnonzero(moved)[:SCATTERED], np.flatnonzero(~moved)[::step]])
    return {
        "after": after.score[here[pick]].tolist(),
        "before": before.score[there[pick]].tolist(),
        "moved": moved[pick].tolist(),
    }
