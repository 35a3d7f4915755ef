"""A bundle that scores beside the one in force: scores of its own, no verdict, and no alert lost by it."""

from types import SimpleNamespace

import pytest
from simulated import OWN_SCHEMAS, packets, scorer, untrained

from dgl_broker.errors import ConfigError
from dgl_broker.model import untrained_bundle
from dgl_broker.observe import Watch
from dgl_broker.outputs.records import score_record
from dgl_broker.scorer import Scorer
from dgl_broker.selection import Filter

MESSAGES = [value for value, _ in packets("lsst", 20)]


@pytest.fixture(scope="module")
def other():
    """A bundle of the same inputs with other weights."""
    return untrained_bundle("lsst", seed=4)


def test_a_shadow_gives_the_scores_that_its_bundle_gives_in_force(other):
    beside = scorer(shadow=other).score(MESSAGES)
    alone = Scorer(survey="lsst", bundle=other, schemas=OWN_SCHEMAS).score(MESSAGES)
    assert sum(o.status == "scored" for o in alone) > 10
    for ours, theirs in zip(beside, alone):
        if theirs.scores is None:
            assert ours.shadow is None or (ours.shadow.scores is None and ours.shadow.reason == theirs.reason)
        else:
            assert ours.shadow.scores == theirs.scores and ours.shadow.bundle_sha256 == other.sha256


def test_a_shadow_changes_nothing_of_what_is_said_in_force(other):
    everything = Filter("all", 1, -700.0)
    plain, shaded = (scorer(filters=[everything], **options).score(MESSAGES) for options in ({}, {"shadow": other}))
    for a, b in zip(plain, shaded):
        assert (a.status, a.reason, a.scores, a.verdicts, a.message_id) == (
            b.status,
            b.reason,
            b.scores,
            b.verdicts,
            b.message_id,
        )
        assert a.shadow is None
    record = score_record(next(o for o in shaded if o.status == "scored"))
    assert [v["filter"] for v in record["verdicts"]] == ["all"] and record["shadow_bundle_sha256"] == other.sha256


def test_examples_of_another_form_are_made_for_the_shadow(other):
    ours = scorer(shadow=other)
    assert ours.shadow.shares_examples
    card = {**other.card, "input": {**other.card["input"], "minimum": {"n_detections": 3}}}
    stricter = SimpleNamespace(card=card)
    assert ours.shadow.spec != type(ours.shadow.spec).from_card(stricter.card)
    ours.shadow.spec, ours.shadow.shares_examples = type(ours.shadow.spec).from_card(card), False
    found = ours.score(MESSAGES)
    few = [o for o in found if o.status == "scored" and o.alert.light_curve.n_detections < 3]
    enough = [o for o in found if o.status == "scored" and o.alert.light_curve.n_detections >= 3]
    assert few and {o.shadow.reason for o in few} == {"n_detections"} or {o.shadow.scores for o in few} == {None}
    assert enough and all(o.shadow.scores is not None for o in enough)


def test_a_shadow_that_fails_costs_no_alert_and_is_told(other, monkeypatch):
    ours = scorer(shadow=other)

    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ours.shadow.ensemble, "score", broken)
    found = ours.score(MESSAGES)
    assert [o.status for o in found] == [o.status for o in scorer().score(MESSAGES)]
    scored = [o for o in found if o.status == "scored"]
    assert {o.shadow.reason for o in scored} == {"failed"} and ours.shadow.problem == "RuntimeError: out of memory"
    watch = Watch()
    watch.take_scorer(ours)
    assert f'dgl_shadow_total{{outcome="failed"}} {float(len(scored))}' in watch.metrics.text().decode()


def test_one_odd_alert_does_not_take_the_others_scores(other, monkeypatch):
    ours, odd = scorer(shadow=other), []
    whole = ours.shadow.ensemble.score

    def picky(batch, strata):
        if len(strata) > 1 or not odd:
            odd.append(1)
            raise ValueError("odd")
        return whole(batch, strata)

    monkeypatch.setattr(ours.shadow.ensemble, "score", picky)
    reasons = [o.shadow.reason for o in ours.score(MESSAGES) if o.status == "scored"]
    assert set(reasons) == {None}


def test_the_bundle_in_force_is_no_shadow_of_itself_and_neither_is_another_surveys():
    with pytest.raises(ConfigError, match="is the bundle in force itself"):
        scorer(shadow=untrained("lsst"))
    with pytest.raises(ConfigError, match="shadow bundle .* is for ztf"):
        scorer(shadow=untrained("ztf"))
