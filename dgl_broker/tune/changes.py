"""What a proposed filter changes against the one in force: who comes in and who goes out."""

import numpy as np

LISTED = 25


def changes(before, threshold_before, after, threshold_after):
    """What passes after and not before, and the other way round.

    Parameters
    ----------
    before, after : dgl_broker.tune.counts.Selected
        Over the same alerts; the scores may be of two bundles.
    threshold_before, threshold_after : float

    Returns
    -------
    dict
        `entering` and `leaving`: `alerts` and `objects` (real), `lensed` (objects), and the best `rows` (of the alerts), one an
        object; `staying`: the alerts (real) of both. An object that passes before and after neither enters nor leaves.
    """
    alerts = after.alerts
    was, is_ = before.passing_rows(threshold_before), after.passing_rows(threshold_after)
    entering, kept = _side(alerts, is_, was)
    leaving, _ = _side(alerts, was, is_)
    return {"entering": entering, "leaving": leaving, "staying": kept}


def _side(alerts, mine, others):
    """(what is among `mine` and not among `others`, how many real alerts are among both); rows of alerts, best first."""
    there = np.zeros(len(alerts), bool)
    there[others] = True
    is_there = there[mine]
    new, both = mine[~is_there], mine[is_there]
    known = np.zeros(len(alerts.object_name), bool)
    known[alerts.object[others]] = True
    of_new = new[~known[alerts.object[new]]]
    real, lensed = of_new[alerts.stream[of_new]], of_new[alerts.positive[of_new]]
    return {
        "alerts": int(np.count_nonzero(alerts.stream[new])),
        "objects": _count_objects(alerts, real),
        "lensed": _count_objects(alerts, lensed),
        "rows": _best_of_each(alerts, of_new),
    }, int(np.count_nonzero(alerts.stream[both]))


def _count_objects(alerts, rows):
    seen = np.zeros(len(alerts.object_name), bool)
    seen[alerts.object[rows]] = True
    return int(np.count_nonzero(seen))


def _best_of_each(alerts, ordered):
    """The first rows of different objects, at most `LISTED`."""
    look = 4 * LISTED
    while True:
        _, first = np.unique(alerts.object[ordered[:look]], return_index=True)
        if len(first) >= LISTED or look >= len(ordered):
            return ordered[np.sort(first)][:LISTED]
        look *= 8
