"""Re-anchoring the null on a stream: what is left out, and that nothing but the null changes."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import CARD

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.model import Calibration, fit_null, untrained_bundle
from dgl_broker.model.calibration import DEFAULT_AXES
from dgl_broker.training.anchor import anchor_null, near, read_ids, read_places, read_scores, stratum_facts


@pytest.fixture(scope="module")
def bundle():
    return untrained_bundle("lsst", card={**CARD, "limits": []})


def columns(bundle, n=500):
    rng = np.random.default_rng(0)
    return {
        "alert_id": [10**18 + i for i in range(n)],
        "object_id": [f"o{i // 2}" for i in range(n)],
        "ra": (10 + np.arange(n) / 10).tolist(),
        "dec": [0.0] * n,
        "status": ["scored"] * n,
        "log_odds": rng.normal(size=n).tolist(),
        "stratum": ["n_detections<3" if i % 2 else "n_detections>=6" for i in range(n)],
        "bundle_sha256": [bundle.sha256] * n,
    }


def write(path, table):
    pq.write_table(pa.table(table), path)
    return path


def test_one_alert_of_an_object_and_stratum_makes_the_null(bundle, tmp_path):
    path = write(tmp_path / "s.parquet", columns(bundle))
    calibration, report = anchor_null(bundle, read_scores([path]), min_null=100)
    # 250 objects with one alert in each of two strata; together one an object.
    assert {name: len(null) for name, null in calibration.null.items()} == {
        "all": 250,
        "n_detections<3": 250,
        "n_detections>=6": 250,
    }
    assert report == {"scored": 500, "left_out": 0, "near_known": 0, "used": 500}
    assert calibration.scores_sha256 == bundle.scores_sha256


def test_what_is_left_out_takes_all_alerts_of_its_object_along(bundle, tmp_path):
    (tmp_path / "ids.txt").write_text("# injections\no3\n")
    (tmp_path / "known.csv").write_text(f"name, alert_id\nSN, {10**18 + 10}\n")
    table = columns(bundle)
    # Lensed supernovae of the stream: much higher scores, which must not enter.
    for i in (6, 7, 10, 11):
        table["log_odds"][i] = 50.0
    path = write(tmp_path / "s.parquet", table)
    calibration, report = anchor_null(bundle, read_scores([path]), [tmp_path / "ids.txt", tmp_path / "known.csv"], min_null=100)
    assert report["left_out"] == 4 and report["used"] == 496
    assert max(null.max() for null in calibration.null.values()) < 10


def test_known_positives_are_left_out_by_their_place(bundle, tmp_path):
    (tmp_path / "places.csv").write_text("ra, dec\n10.1001, 0.0\n")
    path = write(tmp_path / "s.parquet", columns(bundle))
    _, report = anchor_null(bundle, read_scores([path]), known=tmp_path / "places.csv", radius_arcsec=1.0)
    # 0.0001 deg is 0.36 arcsec: the second alert alone.
    assert report["near_known"] == 1


def test_only_scored_rows_count_and_refused_ones_may_have_no_score(bundle, tmp_path):
    table = columns(bundle)
    table["status"][0], table["log_odds"][0] = "refused", None
    assert len(read_scores([write(tmp_path / "s.parquet", table)])["alert_id"]) == 499


def test_scores_of_another_bundle_are_refused(bundle, tmp_path):
    table = columns(bundle)
    table["bundle_sha256"][3] = "f" * 64
    with pytest.raises(ConfigError, match="1 of 500"):
        anchor_null(bundle, read_scores([write(tmp_path / "s.parquet", table)]))


def test_nothing_left_is_an_error_and_so_is_a_table_without_scores(bundle, tmp_path):
    (tmp_path / "ids.txt").write_text("\n".join(f"o{i}" for i in range(250)))
    path = write(tmp_path / "s.parquet", columns(bundle))
    with pytest.raises(ConfigError, match="none is left"):
        anchor_null(bundle, read_scores([path]), [tmp_path / "ids.txt"])
    write(tmp_path / "x.parquet", {"alert_id": [1]})
    with pytest.raises(InputUnavailable, match="log_odds"):
        read_scores([tmp_path / "x.parquet"])


def test_the_name_of_a_stratum_tells_facts_that_lie_in_it():
    facts = [{"n_detections": k, "n_bands": b, "snr": s} for k in (1, 2, 3, 5, 6, 40) for b in (1, 2, 5) for s in (5.0, 10.0)]
    null = fit_null(np.zeros(len(facts)), facts, min_null=1)
    names = null.strata(facts)
    again = null.strata([stratum_facts(name, DEFAULT_AXES) for name in names])
    assert len(set(names)) == 12 and again.tolist() == names.tolist()
    assert stratum_facts("all", DEFAULT_AXES) == {} and stratum_facts(None, DEFAULT_AXES) == {}


def test_the_file_is_one_that_a_bundle_reads(bundle, tmp_path):
    path = write(tmp_path / "s.parquet", columns(bundle))
    calibration, _ = anchor_null(bundle, read_scores([path]), min_null=100)
    calibration.save(tmp_path / "calibration.json")
    assert Calibration.from_file(tmp_path / "calibration.json").calibration_id == calibration.calibration_id


def test_distance_on_the_sky_knows_the_pole_and_unknown_places():
    # At 89.999 deg an hour of right ascension is less than 1 arcsec.
    assert near([90.0, np.nan], [89.9999, 0.0], np.array([[75.0, 89.9999]]), 1.0).tolist() == [True, False]
    assert near([10.0], [0.0], np.array([[10.001, 0.0]]), 1.0).tolist() == [False]


def test_files_of_ids_and_places_that_are_wrong_are_named(tmp_path):
    (tmp_path / "p.csv").write_text("ra, decl\n1, 2\n")
    with pytest.raises(ConfigError, match="ra and dec"):
        read_places(tmp_path / "p.csv")
    with pytest.raises(InputUnavailable):
        read_ids(tmp_path / "none.txt")
