"""Truly observed alerts against a threshold: each counts once, those left out do not, the threshold itself passes."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dgl_broker.cli import main
from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.evaluation.real_alerts import real_alerts
from dgl_broker.selection import load_filter

BUNDLE = "ab" * 32


def table(path, rows):
    names = ("source", "alert_id", "object_id", "status", "log_odds")
    columns = {n: [row[i] for row in rows] for i, n in enumerate(names)}
    columns |= {"bundle_id": ["lsst"] * len(rows), "bundle_sha256": [BUNDLE] * len(rows)}
    pq.write_table(pa.table(columns), path)
    return path


ROWS = [
    ("a.avro", 2**62 + 1, "1", "scored", 3.0),
    ("a.avro", 2**62 + 1, "1", "scored", 9.0),
    ("a.avro", 2, "1", "refused", None),
    ("b.avro", 3, "2", "scored", 4.5),
    ("b.avro", 4, "2", "scored", 2.9),
    ("made_up.avro", 5, "3", "scored", 8.0),
    ("a.avro", None, None, "dead_lettered", None),
]


@pytest.fixture
def at_three():
    return dataclasses.replace(load_filter("lensed_sn_lsst"), threshold=3.0, bundle_sha256=BUNDLE)


def test_each_alert_counts_once_and_one_at_the_threshold_passes(tmp_path, at_three):
    found = real_alerts(table(tmp_path / "s.parquet", ROWS), at_three, ["made_up"])
    assert (found["n"], found["scored"]) == (4, 3)
    assert [a["alert_id"] for a in found["above"]] == ["3", str(2**62 + 1)]
    assert found["quantiles"]["0.5"] == 3.0
    assert found["bundle"] == f"lsst {BUNDLE[:12]}"


def test_scores_of_another_bundle_are_refused(tmp_path, at_three):
    path = table(tmp_path / "s.parquet", ROWS)
    with pytest.raises(ConfigError, match=f"scored by bundle {BUNDLE[:12]}; filter lensed_sn_lsst is for cdcdcd"):
        real_alerts(path, dataclasses.replace(at_three, bundle_sha256="cd" * 32))


def test_a_table_without_scored_alerts_is_no_control(tmp_path, at_three):
    with pytest.raises(InputUnavailable, match="no scored alert"):
        real_alerts(table(tmp_path / "s.parquet", [ROWS[2]]), at_three)
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(InputUnavailable, match="no table of scores"):
        real_alerts(tmp_path / "x.parquet", at_three)


def test_the_verb_says_which_bundle_does_not_fit(tmp_path, capsys):
    path = table(tmp_path / "s.parquet", ROWS)
    assert (
        main(["control", "real", "--scores", str(path), "--filter", "lensed_sn_lsst", "--result", str(tmp_path / "r.json")])
        == 2
    )
    assert "scored by bundle abab" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()
