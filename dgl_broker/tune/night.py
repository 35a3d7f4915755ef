"""One night as it would have been: the objects that pass, and those that pass now and would not."""

import numpy as np

from dgl_broker.errors import ConfigError

LISTED = 100


def night_objects(before, threshold_before, after, threshold_after, night):
    """Objects of a night, the best first.

    Parameters
    ----------
    before, after : dgl_broker.tune.counts.Selected
        As the filter is in force, and as it is proposed.
    threshold_before, threshold_after : float
    night : str

    Returns
    -------
    objects : list of (row, alerts, change)
        Row of its best alert, how many of its alerts pass in this night, and `new`, `kept` or `gone`; at most `LISTED`.
    n : int
        How many there are.

    Raises
    ------
    ConfigError
        If no alert is of that night.
    """
    alerts = after.alerts
    if night not in alerts.nights:
        raise ConfigError(f"night {night!r}, expected one of {alerts.nights[0]} to {alerts.nights[-1]}")
    code = alerts.nights.index(night)
    was, is_ = (_rows(s, t, code) for s, t in ((before, threshold_before), (after, threshold_after)))
    of_old, of_new = set(alerts.object[was].tolist()), set(alerts.object[is_].tolist())
    out = [(row, n, "kept" if o in of_old else "new") for row, n, o in _by_object(alerts, is_)]
    out += [(row, n, "gone") for row, n, o in _by_object(alerts, was) if o not in of_new]
    return out[:LISTED], len(out)


def _rows(selected, threshold, code):
    """Real alerts of the night that pass, best first."""
    rows = selected.passing_rows(threshold)
    return rows[(selected.alerts.night[rows] == code) & selected.alerts.stream[rows]]


def _by_object(alerts, rows):
    """(best row, number of alerts, object) of each object, the best first."""
    objects, first, count = np.unique(alerts.object[rows], return_index=True, return_counts=True)
    order = np.argsort(first)
    return [(int(rows[first[i]]), int(count[i]), int(objects[i])) for i in order]
