"""Conformal p-values: their formula, their strata, their validity, and a file that says what it is."""

import base64
import json
import subprocess
import sys
import zlib

import numpy as np
import pytest

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.model import Calibration, fit_null

AXES = (("n_detections", (3,)), ("snr", (10.0,)))


def facts(n_detections, snr):
    return {"n_detections": n_detections, "snr": snr}


def null_of(values, **options):
    return fit_null(values, [{}] * len(values), **options)


def test_p_value_by_hand():
    """Null 1, 2, 2, 3: of s = 2 three are at least s, so p = (1 + 3) / 5."""
    calibration = null_of([3.0, 1.0, 2.0, 2.0])
    p, floor, stratum = calibration.p_value(np.array([2.0, 0.5, 3.5, 3.0]), [{}] * 4)
    np.testing.assert_allclose(p, [0.8, 1.0, 0.2, 0.4])
    np.testing.assert_allclose(floor, 0.2)
    assert list(stratum) == ["all"] * 4


def test_a_null_alert_counts_itself_though_stored_in_single_precision():
    values = np.random.default_rng(0).normal(size=2001) * 7
    p, _, _ = null_of(values).p_value(values, [{}] * len(values))
    ranks = len(values) - np.argsort(np.argsort(values))  # 1 for the largest
    np.testing.assert_allclose(p, (1 + ranks) / 2002)


def test_p_values_of_exchangeable_negatives_are_valid():
    """Over nulls and negatives of one distribution, P(p <= a) is at most a, and near it."""
    rng = np.random.default_rng(1)
    calibration = null_of(rng.normal(size=4000))
    p, _, _ = calibration.p_value(rng.normal(size=20000), [{}] * 20000)
    for a in (0.01, 0.1, 0.5):
        assert (p <= a).mean() == pytest.approx(a, abs=4 * np.sqrt(a * (1 - a) / 4000))


def test_strata_have_their_own_null_and_small_ones_are_pooled_upward():
    known = [facts(1, 5.0)] * 30 + [facts(1, 50.0)] * 5 + [facts(4, 5.0)] * 3
    log_odds = np.concatenate([np.full(30, 0.0), np.full(5, 10.0), np.full(3, 20.0)])
    calibration = fit_null(log_odds, known, axes=AXES, min_null=20)
    assert {k: len(v) for k, v in calibration.null.items()} == {"all": 38, "n_detections<3": 35, "n_detections<3,snr<10": 30}
    asked = [facts(1, 5.0), facts(1, 50.0), facts(4, 5.0), facts(1, None), {}, facts(2, np.nan), facts(None, 5.0)]
    p, floor, stratum = calibration.p_value(np.full(7, 5.0), asked)
    assert list(stratum) == [
        "n_detections<3,snr<10", "n_detections<3", "all", "n_detections<3", "all", "n_detections<3", "all",
    ]  # fmt: skip
    np.testing.assert_allclose(p, [1 / 31, 6 / 36, 9 / 39, 6 / 36, 9 / 39, 6 / 36, 9 / 39])
    np.testing.assert_allclose(floor, [1 / 31, 1 / 36, 1 / 39, 1 / 36, 1 / 39, 1 / 36, 1 / 39])


def test_edges_belong_to_the_bin_above():
    calibration = fit_null([1.0, 2.0], [facts(3, 10.0)] * 2, axes=AXES, min_null=1)
    assert set(calibration.null) == {"all", "n_detections>=3", "n_detections>=3,snr>=10"}


def test_one_alert_per_object_and_stratum_enters():
    known = [facts(1, 5.0)] * 3 + [facts(5, 5.0)] * 2
    objects, alerts = ["a", "a", "b", "a", "b"], [11, 12, 13, 14, 15]
    calibration = fit_null(np.arange(5.0), known, axes=AXES, min_null=1, object_ids=objects, alert_ids=alerts)
    assert len(calibration.null["n_detections<3,snr<10"]) == 2
    assert len(calibration.null["n_detections>=3,snr<10"]) == 2
    assert len(calibration.null["all"]) == 2  # pooled: still one of each object
    shuffled = [4, 2, 0, 3, 1]
    again = fit_null(
        np.arange(5.0)[shuffled],
        [known[i] for i in shuffled],
        axes=AXES,
        min_null=1,
        object_ids=[objects[i] for i in shuffled],
        alert_ids=[alerts[i] for i in shuffled],
    )
    assert again.calibration_id == calibration.calibration_id


def test_file_round_trip(tmp_path):
    rng = np.random.default_rng(2)
    known = [facts(int(n), float(s)) for n, s in zip(rng.integers(1, 9, 500), rng.uniform(3, 30, 500))]
    calibration = fit_null(rng.normal(size=500), known, axes=AXES, min_null=50, scores_sha256="ab", about={"from": "test"})
    calibration.save(tmp_path / "calibration.json")
    again = Calibration.from_file(tmp_path / "calibration.json")
    assert again.calibration_id == calibration.calibration_id
    assert again.about == {"from": "test"}
    assert set(again.null) == set(calibration.null)
    assert all(np.array_equal(again.null[k], calibration.null[k]) for k in again.null)


def test_id_follows_null_and_bundle_but_not_the_words():
    base = null_of([1.0, 2.0], scores_sha256="a")
    assert base.calibration_id == null_of([2.0, 1.0], scores_sha256="a", about={"x": 1}).calibration_id
    assert base.calibration_id != null_of([1.0, 2.5], scores_sha256="a").calibration_id
    assert base.calibration_id != null_of([1.0, 2.0], scores_sha256="b").calibration_id


def broken(change):
    values = json.loads(json.dumps(null_of(np.arange(5.0)).to_dict()))
    change(values)
    return values


def packed(values):
    return base64.b64encode(zlib.compress(np.asarray(values, "<f4").tobytes())).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format=2), "format 2, expected 1"),
        (lambda v: v.update(null={}), "no stratum 'all'"),
        (lambda v: v["null"].update({"snr<7": v["null"]["all"]}), "stratum 'snr<7' is not among those of its axes"),
        (lambda v: v["null"]["all"].update(n=6), "holds 20 bytes or more, expected 24"),
        (lambda v: v["null"]["all"].update(n=-1), "n is -1"),
        (lambda v: v["null"]["all"].update(log_odds="?"), "cannot be unpacked"),
        (lambda v: v["null"]["all"].update(log_odds=packed([5, 4, 3, 2, 1])), "not finite and ascending"),
        (lambda v: v["null"]["all"].update(log_odds=packed([0, 1, 2, 3, np.nan])), "not finite and ascending"),
        (lambda v: v["null"]["all"].update(log_odds=packed(np.zeros(10_000_000))), "holds 21 bytes or more, expected 20"),
        (lambda v: v["null"]["all"].update(log_odds=packed([0, 1, 2, 3, 5])), "but its contents give"),
        (lambda v: v.update(axes=[{"fact": "snr", "edges": [2, 1]}]), "expected a fact and ascending numbers"),
        (lambda v: v.update(axes=[{"fact": "snr", "edges": list(range(12))}]), "13 strata"),
        (lambda v: v.update(axes=None), "expected a list of fact and edges"),
    ],
)
def test_damaged_files_are_refused(change, message):
    with pytest.raises(StateError, match=message):
        Calibration.from_dict(broken(change))


def test_unreadable_files_are_told(tmp_path):
    with pytest.raises(StateError, match="cannot be read"):
        Calibration.from_file(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"format": 1')
    with pytest.raises(StateError, match="not a JSON document"):
        Calibration.from_file(tmp_path / "half.json")


def test_data_that_make_no_null_are_told():
    with pytest.raises(ConfigError, match="1 of 2 log-odds are not finite"):
        null_of([1.0, np.inf])
    with pytest.raises(ConfigError, match="expected one value and one dict an alert"):
        fit_null([], [])
    with pytest.raises(ConfigError, match="object_ids need alert_ids"):
        null_of([1.0], object_ids=["a"])
    with pytest.raises(ConfigError, match="expected distinct facts, at most 12"):
        null_of([1.0], axes=(("snr", tuple(range(12))),))


def test_calibration_starts_without_torch():
    code = "import sys; from dgl_broker.model.calibration import Calibration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
