"""Pre-cuts judged on columns of a replay's table: for a million alerts in milliseconds what `Filter.precut` says of each.

A column is float64 with NaN where unknown (booleans are 0 and 1), or text with "" where unknown; all of shape (n,).
"""

import numpy as np


def judge_column(criterion, columns):
    """(met, unknown) of a criterion, two bool arrays of shape (n,).

    Parameters
    ----------
    criterion : dgl_broker.selection.criteria.Criterion
    columns : Mapping
        Fact's name to its column.

    Raises
    ------
    KeyError
        If a fact has no column.
    """
    met, unknown = None, None
    for tests in criterion.alternatives:
        held, unsure = _all_of(tests, columns)
        if met is None:
            met, unknown = held, unsure
        else:
            met, unknown = met | held, unknown | unsure
    return met, unknown & ~met


def accepts_column(criterion, columns):
    """Whether the criterion lets each alert pass, its rule for unknown values applied; shape (n,) bool."""
    met, unknown = judge_column(criterion, columns)
    return met | unknown if criterion.unknown == "pass" else met


def _all_of(tests, columns):
    met, failed = None, None
    for test in tests:
        values = np.asarray(columns[test.fact])
        known = values != "" if values.dtype.kind == "U" else ~np.isnan(values)
        held = known & _holds(test, values)
        met = held if met is None else met & held
        failed = known & ~held if failed is None else failed | (known & ~held)
    return met, ~met & ~failed


def _holds(test, values):
    if values.dtype.kind == "U":
        return np.isin(values, [str(c) for c in test.choices or ()])
    if test.choices is not None:
        return np.isin(values, [float(c) for c in test.choices if isinstance(c, (bool, int, float))])
    with np.errstate(invalid="ignore"):
        held = np.ones(len(values), bool) if test.low is None else values >= test.low
        return held if test.high is None else held & (values <= test.high)
