"""Labels of alerts and objects: whose word counts, exact ids, and what a misspelt class must not do."""

import numpy as np
import pytest

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.evaluation.labels import read_labels

BIG = 2**62 + 1


def written(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_an_alerts_own_label_comes_before_its_objects(tmp_path):
    labels = read_labels(
        written(
            tmp_path,
            f"survey,alert_id,object_id,class,source\nlsst,{BIG},,lensed_sn_ia,injected\nlsst,,o1,agn,TNS\n,,o2,bogus,eye\n",
        )
    )
    found = labels.of(["lsst"] * 3 + ["ztf"] * 2, [BIG, 2, 3, BIG, 5], ["o1", "o1", "o3", "o1", "o2"])
    assert found.class_.tolist() == ["lensed_sn_ia", "no_lens", "", "", "no_lens"]
    assert found.kind.tolist() == ["lensed_sn_ia", "agn", "", "", "bogus"]
    assert found.positive.tolist() == [True, False, False, False, False]
    assert found.negative.tolist() == [False, True, False, False, True]
    assert found.simulated.tolist() == [True, False, False, False, False]


def test_ids_beyond_the_exact_range_of_a_double_are_told_apart(tmp_path):
    labels = read_labels(written(tmp_path, f"alert_id,class\n{BIG},lensed_sn\n{BIG + 1},no_lens\n"))
    assert labels.of(["ztf"] * 3, [BIG, BIG + 1, BIG + 2], [""] * 3).class_.tolist() == ["lensed_sn", "no_lens", ""]


def test_the_simulators_own_file_is_simulated(tmp_path):
    text = "survey,alert_id,object_id,class,kind,n_detections,system,seed\nztf,7,SIM,no_lens,agn,1,4,1\n"
    found = read_labels(written(tmp_path, text)).of(["ztf"], [7], ["SIM"])
    assert (found.class_[0], found.kind[0], bool(found.simulated[0])) == ("no_lens", "agn", True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("alert_id,class\n1,lensed_sn_1a\n", r":2: class 'lensed_sn_1a', did you mean 'lensed_sn_ia'"),
        ("alert_id,class\n1.0,lens\n", "alert_id '1.0', expected a whole number"),
        ("alert_id,object_id,class\n,,lens\n", "neither alert_id nor object_id"),
        ("alert_id,class\n1,lens\n1,no_lens\n", ":3: 1 is no_lens here and lens above"),
        ("name,class\nx,lens\n", "columns name, class, expected"),
        ("", "columns none"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        read_labels(written(tmp_path, text))


def test_no_file_is_told(tmp_path):
    with pytest.raises(InputUnavailable, match="nothing.csv"):
        read_labels(tmp_path / "nothing.csv")


def test_no_rows_have_no_labels(tmp_path):
    found = read_labels(written(tmp_path, "object_id,class\nx,\n")).of([], [], [])
    assert len(found.class_) == 0 and found.positive.dtype == bool and not np.any(found.negative)
