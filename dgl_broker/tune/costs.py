"""What each pre-cut costs in lost supernovae and saves in negatives, with all others and the threshold as they are."""

import numpy as np


def precut_costs(selected, threshold):
    """One dict a criterion, in the filter's order.

    Parameters
    ----------
    selected : dgl_broker.tune.counts.Selected
    threshold : float

    Returns
    -------
    list of dict
        `criterion`; `lost`: lensed objects that pass without it and not with it; `saved_per_night`: real alerts a night that
        it alone keeps from being candidates; `saved_negatives`: known negatives (objects) likewise; `stops_alone`: share of
        the real alerts that it alone keeps from the networks. Of all that more than one criterion stops, none is given to any.
    """
    ranked, alerts, precuts = selected.ranked, selected.alerts, selected.precuts
    passing = selected.passing(threshold)
    k = len(passing)
    only = selected.only[:k]
    n = len(precuts.names)
    real = ranked.stream[:k]
    saved = np.bincount(only[real & (only >= 0)], minlength=n)
    n_stream, n_nights = selected.n_stream, len(selected.real_nights)
    lost = _objects_lost(ranked.positives, passing, only, n)
    negatives = _objects_lost(ranked.negatives, passing, only, n)
    return [
        {
            "criterion": name,
            "lost": int(lost[c]),
            "saved_per_night": float(saved[c]) / n_nights / alerts.sampled if n_nights else None,
            "saved_negatives": int(negatives[c]),
            "stops_alone": float(selected.stopped_alone[c]) / n_stream if n_stream else None,
        }
        for c, name in enumerate(precuts.names)
    ]


def _objects_lost(objects, passing, only, n):
    """Objects that would be found without a criterion and are not with it, by criterion."""
    if not objects.n:
        return np.zeros(n, np.int64)
    found = objects.found(passing)
    mine = objects.place[: np.searchsorted(objects.place, len(passing))]
    owner, by = objects.object[: len(mine)], only[mine].astype(np.int64)
    missed = (by >= 0) & ~found[owner]
    pairs = np.unique(owner[missed] * n + by[missed])
    return np.bincount(pairs % n, minlength=n)


def refusals(selected):
    """Lensed objects none of whose alerts has a score, by the reason of their last refusal: what no threshold brings back."""
    alerts, ranked = selected.alerts, selected.ranked
    objects = ranked.positives
    scored = np.zeros(objects.n, bool)
    scored[objects.object] = True
    lost = ~scored[objects.owner]
    rows, owner, reasons = objects.alerts[lost], objects.owner[lost], {}
    for table, row, object_ in zip(alerts.table[rows], alerts.row[rows], owner):
        words = alerts.tables[table].words.get("reason")
        reasons[object_] = (words.one(row) if words is not None else None) or "no score of this bundle"
    counted = {}
    for reason in reasons.values():
        counted[reason] = counted.get(reason, 0) + 1
    return sorted(({"reason": r, "lost": n} for r, n in counted.items()), key=lambda x: (-x["lost"], x["reason"]))
