"""Pre-cuts on columns say of every alert what the filter itself says of it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgl_broker.selection import Filter, parse_criteria
from dgl_broker.selection.columns import accepts_column, judge_column

NUMBERS = ("snr", "reliability", "magnitude", "n_detections")
VALUES = st.one_of(st.none(), st.just(math.nan), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
ALERT = st.fixed_dictionaries(
    {
        **dict.fromkeys(NUMBERS, VALUES),
        "is_positive": st.sampled_from([True, False, None]),
        "band": st.sampled_from(["g", "r", None]),
        "programid": st.sampled_from([1, 2, 3, None]),
    }
)
LIMITS = st.sampled_from([0.0, 0.2, 0.5, 1.0])
TEST = st.one_of(
    st.tuples(st.sampled_from(NUMBERS), st.fixed_dictionaries({"min": LIMITS})),
    st.tuples(st.sampled_from(NUMBERS), st.fixed_dictionaries({"max": LIMITS})),
    st.tuples(st.just("is_positive"), st.fixed_dictionaries({"equals": st.booleans()})),
    st.tuples(st.just("band"), st.fixed_dictionaries({"in": st.lists(st.sampled_from(["g", "r", "i"]), min_size=1)})),
    st.tuples(st.just("programid"), st.fixed_dictionaries({"equals": st.sampled_from([1, 2])})),
)
CRITERION = st.tuples(
    st.lists(st.lists(TEST, min_size=1, max_size=2, unique_by=lambda t: t[0]), min_size=1, max_size=3),
    st.sampled_from(["pass", "fail"]),
)


def columns_of(alerts):
    """Alerts' facts as columns."""
    out = {}
    for name in alerts[0]:
        values = [a[name] for a in alerts]
        if name == "band":
            out[name] = np.array([v or "" for v in values])
        else:
            out[name] = np.array([math.nan if v is None else float(v) for v in values])
    return out


@settings(max_examples=200, deadline=None)
@given(st.lists(ALERT, min_size=1, max_size=20), CRITERION)
def test_a_column_is_judged_as_each_of_its_alerts(alerts, asked):
    options, policy = asked
    body = {"any": [dict(tests) for tests in options], "unknown": policy}
    (criterion,) = parse_criteria({"c": body})
    columns = columns_of(alerts)
    met, unknown = judge_column(criterion, columns)
    one_by_one = [criterion.compiled()(facts, {}) for facts in alerts]
    assert met.tolist() == [m is True for m in one_by_one]
    assert unknown.tolist() == [m is None for m in one_by_one]
    filter_ = Filter("f", 1, 0.0, require=(criterion,))
    assert accepts_column(criterion, columns).tolist() == [bool(filter_.precut(facts).passed) for facts in alerts]


def test_a_fact_without_a_column_is_named():
    (criterion,) = parse_criteria({"snr": {"min": 5}})
    with pytest.raises(KeyError, match="snr"):
        accepts_column(criterion, {"magnitude": np.zeros(3)})


def test_limits_are_inclusive():
    (criterion,) = parse_criteria({"snr": {"min": 5, "max": 7, "unknown": "fail"}})
    assert accepts_column(criterion, {"snr": np.array([4.9, 5, 7, 7.1, np.nan])}).tolist() == [False, True, True, False, False]
