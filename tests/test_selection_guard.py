"""Guards of an activation, and the nights and completeness they count. Expected numbers by hand."""

import numpy as np
import pytest

from dgl_broker.errors import GuardRefused
from dgl_broker.selection import Filter
from dgl_broker.selection.guard import (
    Replayed,
    activation_refusals,
    bundle_refusal,
    completeness_refusal,
    guard_activation,
    night_of,
    rate_refusal,
)

BUNDLE, OTHER_BUNDLE = "a" * 64, "b" * 64


def a_filter(**keys):
    return Filter(name="f", version=1, threshold=5.0, **keys)


def reference(scores, nights, passed=None, **keys):
    passed = np.ones(len(scores), bool) if passed is None else np.array(passed)
    return Replayed(np.array(scores, float), passed, np.array(nights), **keys)


def test_a_night_of_rubin_is_one_night_though_midnight_utc_falls_into_it():
    # 2026-02-24T23:30 and 2026-02-25T09:00 UTC are one night in Chile; MJD 61095.0 is 2026-02-24 (astropy)
    mjd_tai = np.array([61095 + 23.5 / 24, 61096 + 9.0 / 24]) + 37 / 86400
    assert list(night_of("lsst", mjd_tai)) == [np.datetime64("2026-02-24")] * 2


def test_a_night_of_ztf_is_the_utc_date():
    from astropy.time import Time

    mjd = Time(["2026-02-24T23:59:59", "2026-02-25T00:00:01"], scale="utc").tai.mjd
    assert list(night_of("ztf", mjd)) == [np.datetime64("2026-02-24"), np.datetime64("2026-02-25")]


def test_candidates_are_counted_per_night_with_the_nights_that_have_none():
    nights = np.array(["2026-01-01"] * 3 + ["2026-01-02"] * 2, "M8[D]")
    seen = reference([6, 4, 5, 4.9, np.nan], nights)
    names, counts = seen.candidates_per_night(5.0)
    assert list(counts) == [2, 0]
    assert list(names) == [np.datetime64("2026-01-01"), np.datetime64("2026-01-02")]


def test_a_sampled_replay_is_scaled_up():
    seen = reference([6, 6], ["n", "n"], sampled=0.01)
    assert seen.candidates_per_night(5.0)[1] == [pytest.approx(200)]


def test_what_the_precuts_refuse_never_passes():
    assert list(reference([6, 6], ["n", "n"], [True, False]).candidates_per_night(5.0)[1]) == [1]


@pytest.mark.parametrize(("limit", "refused"), [(2, False), (1, True), (None, False), (0, True)])
def test_activation_is_refused_when_the_worst_night_is_over_the_budget(limit, refused):
    seen = reference([6, 7, 4, 6], ["a", "a", "a", "b"])
    why = rate_refusal(a_filter(max_candidates_per_night=limit), seen)
    assert (why is not None) is refused
    if refused:
        assert "2 candidates in the night a at log_odds >= 5, expected at most max_candidates_per_night" in why


def test_a_budget_without_a_reference_night_is_refused():
    limited = a_filter(max_candidates_per_night=10)
    assert "no reference night" in rate_refusal(limited, None)
    assert "no reference night" in rate_refusal(limited, reference([], []))


def test_an_injected_object_is_found_when_one_of_its_alerts_is():
    injected = reference([1, 6, 2, 9, np.nan], ["a", "a", "b", "c", "d"], [True, True, True, False, True])
    # a passes; b scores too low, c is cut, d was never scored
    assert injected.completeness(5.0) == (0.25, 4)


@pytest.mark.parametrize(("floor", "refused"), [(0.25, False), (0.26, True), (None, False)])
def test_activation_is_refused_when_completeness_is_under_the_floor(floor, refused):
    injected = reference([6, 2, 3, 4], ["a", "b", "c", "d"])
    why = completeness_refusal(a_filter(completeness_floor=floor), injected)
    assert (why is not None) is refused


def test_a_floor_without_injections_is_refused():
    assert "no injections" in completeness_refusal(a_filter(completeness_floor=0.1), None)


def test_a_filter_of_another_bundle_is_refused_naming_both():
    why = bundle_refusal(a_filter(bundle_sha256=OTHER_BUNDLE), BUNDLE)
    assert BUNDLE in why
    assert OTHER_BUNDLE in why
    assert bundle_refusal(a_filter(bundle_sha256=BUNDLE), BUNDLE) is None
    assert bundle_refusal(a_filter(), BUNDLE) is None


def test_every_reason_is_given():
    strict = a_filter(bundle_sha256=OTHER_BUNDLE, max_candidates_per_night=0, completeness_floor=1.0)
    seen, injected = reference([6], ["n"]), reference([1], ["o"])
    assert len(activation_refusals(strict, BUNDLE, seen, injected)) == 3
    with pytest.raises(GuardRefused) as caught:
        guard_activation(strict, BUNDLE, seen, injected)
    assert caught.value.exit_code == 7
    assert str(caught.value).count("expected") == 2
    guard_activation(a_filter(), BUNDLE)
