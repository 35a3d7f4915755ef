"""Training data of packets that our own writer made: labels read, objects whole, counts balanced."""

import csv

import numpy as np
import pytest

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.sim.packets import simulate_packets
from dgl_broker.sim.population import draw_system
from dgl_broker.training.packets import dataset_of_packets, read_label_table
from dgl_broker.training.shards import Table
from dgl_broker.training.splits import leakage

KINDS = ("lensed_sn_ia", "agn", "sn_ia_lrg", "lensed_quasar")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of LSST packets of some systems, and their labels."""
    folder = tmp_path_factory.mktemp("packets")
    rows, index = [], 0
    while len({r["system"] for r in rows}) < 8:
        for alert in simulate_packets(draw_system("lsst", 5, index, kind=KINDS[index % 4]), "lsst", max_alerts=3):
            (folder / f"{alert.alert_id}.avro").write_bytes(alert.value)
            rows.append(alert.labels)
        index += 1
    (folder / "broken.avro").write_bytes(b"\0\0\0\0\0not avro")
    return folder, rows


def label_file(path, rows, columns=None):
    columns = columns or list(rows[0])
    with open(path, "w", newline="") as out:
        writer = csv.DictWriter(out, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_labels_and_packets_meet_and_accounts_balance(written, tmp_path):
    folder, rows = written
    labels = label_file(tmp_path / "labels.csv", rows[1:] + [{**rows[0], "alert_id": 17}])
    counts = dataset_of_packets(folder, labels, tmp_path / "out")
    kept, refused = counts["kept"], sum(n for name, n in counts.items() if name.startswith("refused."))
    unreadable = sum(n for name, n in counts.items() if name.startswith("unreadable."))
    assert counts["messages"] == len(rows) + 1 and unreadable == 1 and counts["unlabelled"] == 1 and counts["absent"] == 1
    assert kept + refused == len(rows) - 1
    table = Table.open(tmp_path / "out")
    truth = {r["alert_id"]: r for r in rows}
    for i in range(len(table)):
        row = {k: v[i] for k, v in table.labels.items()}
        want = truth[int(row["alert_id"])]
        assert (
            row["kind"] == want["kind"]
            and row["object_id"] == want["object_id"]
            and row["n_detections"] == want["n_detections"]
        )
        if want["separation_arcsec"]:
            assert row["separation_arcsec"] == pytest.approx(want["separation_arcsec"])


def test_what_belongs_together_stays_in_one_split(written, tmp_path):
    folder, rows = written
    labels = label_file(tmp_path / "labels.csv", rows)
    dataset_of_packets(folder, labels, tmp_path / "out", splits={"train": 0.5, "test": 0.5})
    table = Table.open(tmp_path / "out")
    found = leakage(table.labels)
    assert found["systems"] == found["objects"] == found["alerts"] == 0
    truth = {r["alert_id"]: r["system"] for r in rows}
    split_of_system = {}
    for alert_id, split in zip(table.labels["alert_id"].tolist(), table.labels["split"].tolist()):
        split_of_system.setdefault(truth[alert_id], set()).add(split)
    assert all(len(splits) == 1 for splits in split_of_system.values())
    assert set(np.unique(table.labels["split"])) == {"train", "test"}


def test_two_columns_are_enough(written, tmp_path):
    folder, rows = written
    labels = label_file(tmp_path / "labels.csv", [{"survey": "lsst", **r} for r in rows], ["survey", "alert_id", "class"])
    dataset_of_packets(folder, labels, tmp_path / "out")
    table = Table.open(tmp_path / "out")
    assert set(np.unique(table.labels["kind"])) <= {"lensed_sn_ia", "no_lens", "lens"}
    assert np.isnan(table.labels["z_lens"]).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alert_id,class\n1,lensed\n", "row 2: class 'lensed'"),
        ("alert_id,class\nZTF1,lens\n", "row 2: alert_id 'ZTF1'"),
        ("alert_id,kind\n1,agn\n", "no column class"),
        ("alert_id,class\n1,lens\n1,no_lens\n", "row 3: alert 1"),
        ("alert_id,class,z_lens\n1,lens,far\n", "row 2: z_lens 'far'"),
        ("", "no rows"),
    ],
)
def test_a_label_file_that_is_wrong_is_named(text, said, tmp_path):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_label_table(tmp_path / "labels.csv")


def test_labels_of_other_packets_make_no_data_set(written, tmp_path):
    labels = label_file(tmp_path / "labels.csv", [{"alert_id": 1, "class": "lens", "survey": "lsst"}])
    with pytest.raises(InputUnavailable, match="no packet"):
        dataset_of_packets(written[0], labels, tmp_path / "out")
