"""Packets to outcomes: one each, in order, the same in any company; nothing from the future; refusals with the same reasons."""

import copy
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from packets import DATA, Schemas, lsst_forced, lsst_message, lsst_record, lsst_source, ztf_message
from simulated import packets, scorer, untrained

from dgl_broker import Message, Scorer, wire
from dgl_broker.errors import ConfigError, DeviceUnavailable, ServiceFailed
from dgl_broker.model import untrained_bundle
from dgl_broker.pipeline import Pipeline
from dgl_broker.selection import FilterSet, parse_filter

GARBAGE = [b"", b"\x00", b"\x00\x00\x00\x00\x07nonsense", b"Obj\x01", b"Obj\x01" + bytes(40), b"hello", b"\xff" * 200]
CUT = """
name: bright
version: 3
description: only for this test
survey: lsst
require:
  snr: {min: 8}
  n_detections: {min: 2}
score: log_odds
threshold: -100
"""


def same(a, b):
    """Equal status, reason, example's record; log-odds to 1e-4 and probabilities to 1e-6 (property 2 of the design)."""
    assert (a.status, a.reason, a.alert_id, a.object_id) == (b.status, b.reason, b.alert_id, b.object_id)
    assert a.completeness == b.completeness
    if a.scores is not None:
        assert a.scores.log_odds == pytest.approx(b.scores.log_odds, abs=1e-4)
        assert a.scores.p_lsn == pytest.approx(b.scores.p_lsn, abs=1e-6)
        assert a.message_id == b.message_id


def test_one_outcome_a_message_in_order():
    good = [value for value, _ in packets("lsst", 12)]
    mixed = [x for pair in zip(good, GARBAGE * 2) for x in pair]
    outcomes = scorer().score(mixed)
    assert len(outcomes) == len(mixed)
    assert [o.status for o in outcomes[::2]].count("dead_lettered") == 0
    assert {o.status for o in outcomes[1::2]} == {"dead_lettered"}
    for message, outcome in zip(mixed, outcomes):
        assert outcome.message.value == message and (outcome.reason is None) == (outcome.status == "scored")
    labels = [label for _, label in packets("lsst", 12)]
    assert [o.alert_id for o in outcomes[::2]] == [label["alert_id"] for label in labels]
    assert [o.object_id for o in outcomes[::2]] == [str(label["object_id"]) for label in labels]


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_scores_do_not_depend_on_company_or_order(batch_size):
    good = [value for value, _ in packets("lsst", 30)]
    whole = dict(zip(good, scorer().score(good)))
    assert sum(o.status == "scored" for o in whole.values()) > 15
    shuffled = good + GARBAGE
    random.Random(batch_size).shuffle(shuffled)
    for value, outcome in zip(shuffled, scorer(batch_size=batch_size).score(shuffled)):
        if value in whole:
            same(outcome, whole[value])


def test_rows_later_than_the_trigger_change_nothing():
    import packets as made

    def record(**more):
        past = [lsst_source(-5.0, visit=90, diaSourceId=5), lsst_source(-2.0, visit=95, diaSourceId=6)]
        forced = [lsst_forced(-9.0, 80), lsst_forced(-5.0, 90)]
        later = [lsst_source(1.0, visit=200, diaSourceId=9), lsst_source(40.0, visit=300, diaSourceId=10)] if more else []
        after = [lsst_forced(1.0, 200, flux=1e6), lsst_forced(40.0, 300, flux=1e7)] if more else []
        return made.lsst_record(prv=past + later, forced=forced + after)

    from dgl_broker import surveys, wire

    def alert(packet):
        return surveys.read_alert(wire.decode(lsst_message(packet), "lsst", Schemas()))

    then, now = alert(record()), alert(record(later=True))
    for name in ("mjd_tai", "band", "flux_njy", "kind", "total_njy"):
        assert np.array_equal(getattr(then.light_curve, name), getattr(now.light_curve, name), equal_nan=True)
    assert len(now.light_curve) == 4  # -9 forced, -5, -2, trigger: the forced point at -5 is that visit's detection
    assert then.first_detection_mjd_tai == now.first_detection_mjd_tai


@pytest.mark.parametrize(
    "survey, file, histories, times",
    [
        ("ztf", "2475433850315015009.avro", ("prv_candidates", "fp_hists"), {"jd": 1.0}),
        ("lsst", "fink_transfer_20260305.avro", ("prvDiaSources", "prvDiaForcedSources"), {"midpointMjdTai": 1.0}),
    ],
)
def test_rows_later_than_the_trigger_change_no_score_of_a_real_alert(survey, file, histories, times):
    packet = next(wire.decode_all((DATA / file).read_bytes(), survey))[0]
    grown = copy.deepcopy(packet.record)
    trigger = grown["candidate" if survey == "ztf" else "diaSource"]
    loud = {"magpsf": 12.0, "forcediffimflux": 1e6, "psfFlux": 1e8, "visit": 2**40, "scienceFlux": 1e8}
    added = 0
    for history in histories:
        rows = grown[history] or []
        model = rows[-1] if rows else trigger if history == histories[0] else None
        for days in (0.5, 30.0) if model else ():
            when = {name: trigger[name] + days for name in times}
            rows = [*rows, {**model, **{k: v for k, v in loud.items() if k in model}, **when}]
            added += 1
        grown[history] = rows
    assert added
    messages = [Message(b"", packet=wire.Packet(survey, packet.schema, record)) for record in (packet.record, grown)]
    then, now = scorer(survey).score(messages)
    assert then.status == now.status == "scored"
    assert then.scores == now.scores and then.completeness == now.completeness and then.message_id == now.message_id


def test_filters_refuse_early_and_late_for_the_same_reason():
    cut = FilterSet([parse_filter(CUT, "filters/bright.yaml")])
    good = [value for value, _ in packets("lsst", 30)]
    gated, ungated = scorer(filters=cut).score(good), scorer(filters=cut, ungated=True).score(good)
    free = scorer().score(good)
    reasons = {o.reason for o in gated if o.reason}
    assert {"precut.snr", "precut.n_detections"} <= reasons
    for g, u, f in zip(gated, ungated, free):
        assert u.status == f.status
        if g.status == "scored":
            same(g, f)
            assert g.verdicts[0].passed == (g.scores.log_odds >= -100) and g.verdicts[0].version == 3
        elif g.reason.startswith("precut."):
            assert u.cuts[f"bright.{g.reason.removeprefix('precut.')}"] is False
            assert (g.alert.ra, g.alert.mjd_tai, g.alert.band) == (u.alert.ra, u.alert.mjd_tai, u.alert.band)


def test_a_packet_that_breaks_the_example_does_not_break_its_batch(monkeypatch):
    good = [value for value, _ in packets("lsst", 8)]
    whole = scorer().score(good)
    victim = next(o for o in whole if o.status == "scored").alert_id
    target = scorer()
    real = target._pipeline.build

    def build(alerts, companions):
        if any(a.alert_id == victim for a in alerts):
            raise ZeroDivisionError("odd packet")
        return real(alerts, companions)

    target._pipeline.build = build
    for before, after in zip(whole, target.score(good)):
        if before.alert_id == victim:
            assert (after.status, after.reason) == ("dead_lettered", "unexpected") and "ZeroDivisionError" in after.traceback
        else:
            same(before, after)


def test_a_failing_device_stops_the_batch(monkeypatch):
    target = scorer()

    def fail(examples):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    target._pipeline.score = fail
    with pytest.raises(RuntimeError, match="illegal memory"):
        target.score([value for value, _ in packets("lsst", 8)])


def test_a_registry_that_fails_is_nobodys_dead_letter():
    class Down:
        def writer_schema(self, number):
            raise ServiceFailed("registry: no answer")

    pipeline = Pipeline("lsst", Down(), FilterSet(), None, None, "0" * 64)
    with pytest.raises(ServiceFailed):
        pipeline.outcomes([Message(packets("lsst", 1)[0][0])])


def test_cuda_that_is_not_there_is_not_replaced():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(DeviceUnavailable):
        scorer(device="cuda")


def test_a_bundle_of_the_other_survey_is_refused():
    with pytest.raises(ConfigError, match="lsst"):
        Scorer(survey="ztf", bundle=untrained("lsst"))


def test_the_wrong_survey_is_a_dead_letter():
    assert scorer().score([ztf_message()])[0].reason == "wrong_survey"


def test_alerts_of_other_programmes_are_refused():
    target = scorer("ztf", programids=[1])
    from packets import ztf_record

    mine, theirs = target.score([ztf_message(ztf_record(programid=1)), ztf_message(ztf_record(programid=2))])
    assert mine.reason != "programid" and theirs.reason == "programid"


@pytest.mark.parametrize("survey", ["lsst", "ztf"])
def test_what_is_refused_unscored_is_refused_by_its_id_and_garbage_is_a_dead_letter(survey):
    values = [value for value, _ in packets(survey, 3)]
    one = scorer(survey)
    outcomes = one.refuse([Message(v) for v in [*values, b"hello"]], "too_old", "older than 60 s")
    assert [(o.status, o.reason) for o in outcomes] == [*[("refused", "too_old")] * 3, ("dead_lettered", "unknown_framing")]
    scored = one.score(values)
    assert [(o.alert_id, o.object_id) for o in outcomes[:3]] == [(o.alert_id, o.object_id) for o in scored]
    assert outcomes[0].error == f"{survey} {outcomes[0].alert_id}: older than 60 s"


def test_solar_system_alerts_are_refused_as_such():
    packet = lsst_record(ssObjectId=123456, diaObjectId=None)
    outcome = scorer(schemas=Schemas()).score([lsst_message(packet)])[0]
    assert (outcome.status, outcome.reason, outcome.object_id) == ("refused", "solar_system", None)


def test_what_the_cuts_say_stays_with_an_alert_that_cannot_be_scored():
    cut = FilterSet([parse_filter(CUT, "filters/bright.yaml")])
    target = scorer(schemas=Schemas(), filters=cut, ungated=True)
    asteroid, bare = lsst_record(ssObjectId=123456, diaObjectId=None), lsst_record()
    found = target.score([lsst_message(asteroid), lsst_message(bare)])
    assert [o.reason for o in found] == ["solar_system", "bad_cutout"]
    for outcome in found:
        assert outcome.cuts == {"bright.survey": True, "bright.snr": True, "bright.n_detections": True}


def test_a_message_without_a_value_is_a_dead_letter_and_what_is_no_message_a_type_error():
    assert [o.reason for o in scorer().score([None, b"", bytearray()])] == ["empty"] * 3
    for odd in ("text", 7):
        with pytest.raises(TypeError):
            scorer().score([odd])


def test_what_cannot_be_put_in_time_comes_last(monkeypatch):
    value = packets("lsst", 1)[0][0]
    target = scorer()
    assert target.when(Message(value))[1] == packets("lsst", 1)[0][1]["alert_id"]
    assert target.when(Message(b"nonsense")) == (math.inf, 0)

    def fail(opened):
        raise ZeroDivisionError("odd packet")

    monkeypatch.setattr("dgl_broker.pipeline.surveys.read_head", fail)
    assert target.when(Message(value)) == (math.inf, 0)


def test_scores_say_where_they_come_from():
    target = scorer()
    outcome = next(o for o in target.score([value for value, _ in packets("lsst", 8)]) if o.status == "scored")
    s = outcome.scores
    assert (s.bundle_id, s.bundle_sha256, s.device) == (target.bundle_id, target.bundle_sha256, target.device_name)
    assert s.precision == "float32" and s.p_value is None and len(s.member_p_lsn) == 3
    total = s.p_no_lens + s.p_lens + s.p_lensed_sn_ia + s.p_lensed_sn_cc
    assert total == pytest.approx(1, abs=1e-9) and s.p_lsn == pytest.approx(s.p_lensed_sn_ia + s.p_lensed_sn_cc, abs=1e-12)
    assert outcome.completeness.n_epochs >= 1 and outcome.completeness.bands_used


def test_the_same_alert_twice_has_one_message_id():
    value = next(o for o in scorer().score([v for v, _ in packets("lsst", 8)]) if o.status == "scored").message.value
    first, second = scorer().score([value, value])
    assert first.message_id == second.message_id
    other = scorer(bundle=replace(untrained("lsst"), sha256="f" * 64)).score([value])[0]
    assert other.message_id != first.message_id


def test_companions_are_those_from_before_and_change_nothing_else():
    """With equal companions equal scores: in one batch, one by one, and from another order of arrival put in order of time."""
    from dgl_broker.companions import open_store

    bundle = with_companion_planes()
    alerts = [value for value, _ in packets("lsst", 30)]
    target = scorer(bundle=bundle, companions=open_store("memory"))
    alerts.sort(key=target.when)
    together = target.score(alerts)
    alone = scorer(bundle=bundle, companions=open_store("memory"), batch_size=1).score(alerts)
    used = 0
    by_id = {o.alert_id: o for o in together}
    for a, b in zip(together, alone):
        same(a, b)
        for earlier in a.completeness.companion_alert_ids if a.completeness else ():
            used += 1
            other = by_id[earlier].alert
            assert (other.object_id, other.mjd_tai < a.alert.mjd_tai) == (a.alert.object_id, True)
            assert other.band != a.alert.band
    assert used > 0


def with_companion_planes():
    """The bundle with a plane for the template of each other band."""
    card = untrained("lsst").card
    image = card["input"]["image"]
    planes = [*image["planes"], *(f"template:{b}" for b in "ugrizy")]
    changed = {**card, "input": {**card["input"], "image": {**image, "planes": planes}}}
    return untrained_bundle("lsst", card=changed)
