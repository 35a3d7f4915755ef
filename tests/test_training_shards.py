"""Shards: what is written is read back, whole or not at all."""

import numpy as np
import pytest

from dgl_broker.errors import InputUnavailable, StateError
from dgl_broker.training.packed import packed
from dgl_broker.training.shards import COLUMNS, Table, columns_of, shard_names, write_shard


def rows(n, split="train", start=0, scale=1.0):
    rng = np.random.default_rng(start)
    images = (scale * rng.normal(size=(n, 2, 4, 4))).astype(np.float32)
    curves = rng.normal(size=(n, 3, 5)).astype(np.float32)
    contexts = rng.normal(size=(n, 6)).astype(np.float32)
    labels = columns_of(
        [{"split": split, "alert_id": 2**62 + start + i, "class": i % 4, "bands_used": "gr", "snr": 5.0} for i in range(n)]
    )
    return images, curves, contexts, labels


def test_rows_come_back_in_the_order_asked_for_over_shards(tmp_path):
    a, b = rows(5), rows(4, start=100)
    write_shard(tmp_path, "x-00000", *a, {"kept": 5})
    write_shard(tmp_path, "x-00001", *b, {"kept": 4})
    table = Table.open(tmp_path)
    images, curves, contexts = table.rows([8, 0, 4, 5, 0])
    both = [np.concatenate([p, q]) for p, q in zip(a[:3], b[:3])]
    pick = [8, 0, 4, 5, 0]
    np.testing.assert_array_equal(curves, both[1][pick])
    np.testing.assert_array_equal(contexts, both[2][pick])
    # Images are kept as float16: 11 bits.
    np.testing.assert_allclose(images, both[0][pick], rtol=2**-11, atol=1e-6)
    assert table.labels["alert_id"][8] == 2**62 + 103


def test_images_that_half_precision_cannot_hold_stay_float32(tmp_path):
    arrays = rows(3, scale=1e6)
    write_shard(tmp_path, "x-00000", *arrays, {})
    np.testing.assert_array_equal(Table.open(tmp_path).rows([0, 1, 2])[0], arrays[0])


def test_only_the_split_asked_for_is_there(tmp_path):
    write_shard(tmp_path, "x-00000", *rows(5), {})
    write_shard(tmp_path, "x-00001", *rows(4, split="test", start=9), {})
    assert len(Table.open(tmp_path, "test")) == 4
    assert len(Table.open(tmp_path, ("train", "test"))) == 9
    with pytest.raises(InputUnavailable, match="no rows in split"):
        Table.open(tmp_path, "null")


def test_a_value_that_is_not_finite_is_refused_and_leaves_no_shard(tmp_path):
    images, curves, contexts, labels = rows(3)
    curves[1, 1, 1] = np.nan
    with pytest.raises(StateError, match="light_curves"):
        write_shard(tmp_path, "x-00000", images, curves, contexts, labels, {})
    assert shard_names(tmp_path) == []


def test_a_shard_cut_off_while_written_does_not_count(tmp_path):
    (tmp_path / "shards" / ".x-00000.77.part").mkdir(parents=True)
    assert shard_names(tmp_path) == []
    with pytest.raises(InputUnavailable):
        Table.open(tmp_path)


def test_labels_never_need_a_pickle():
    table = columns_of([{"kind": "agn"}, {"object_id": None, "precut": 1}])
    assert set(table) == set(COLUMNS)
    assert all(not column.dtype.hasobject for column in table.values())
    assert table["kind"].tolist() == ["agn", ""] and table["precut"].tolist() == [-1, 1]


def test_more_shards_than_are_mapped_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(Table, "open_shards", 2)
    for i in range(5):
        write_shard(tmp_path, f"x-{i:05d}", *rows(2, start=i), {})
    table = Table.open(tmp_path)
    order = [9, 0, 5, 2, 7, 1, 8]
    want = np.concatenate([rows(2, start=i)[1] for i in range(5)])[order]
    np.testing.assert_array_equal(table.rows(order)[1], want)
    assert len(table._open) == 2


def test_strata_are_the_facts_of_the_live_record(tmp_path):
    write_shard(tmp_path, "x-00000", *rows(2), {})
    facts = Table.open(tmp_path).strata()[0]
    assert facts["n_bands"] == 2 and facts["snr"] == 5.0 and set(facts) == {"n_detections", "n_bands", "flux_njy", "snr"}


def test_packed_rows_are_the_same_and_are_packed_once(tmp_path):
    for i in range(5):
        write_shard(tmp_path / "d", f"x-{i:05d}", *rows(4, start=10 * i), {})
    table = Table.open(tmp_path / "d").select(np.array([19, 3, 7, 0, 12]))
    made = packed(table, tmp_path / "p", few=2)
    for a, b in zip(table.rows([4, 0, 2]), made.rows([4, 0, 2])):
        np.testing.assert_array_equal(a, b)
    assert made.labels is table.labels and made._arrays(0)["images"].dtype == np.float16
    before = (tmp_path / "p" / "images.npy").stat().st_mtime_ns
    packed(table, tmp_path / "p", few=2)
    assert (tmp_path / "p" / "images.npy").stat().st_mtime_ns == before
    other = packed(table.select(np.array([1, 0])), tmp_path / "p", few=1)
    np.testing.assert_array_equal(other.rows([0])[1], table.rows([1])[1])


def test_packing_that_was_cut_off_is_done_again(tmp_path):
    for i in range(3):
        write_shard(tmp_path / "d", f"x-{i:05d}", *rows(4, start=10 * i), {})
    table = Table.open(tmp_path / "d")
    packed(table, tmp_path / "p", few=1)
    (tmp_path / "p" / "packed.json").unlink()
    np.save(tmp_path / "p" / "images.npy", np.zeros((1, 2, 4, 4), np.float16))
    np.testing.assert_array_equal(packed(table, tmp_path / "p", few=1).rows([11])[0], table.rows([11])[0])


def test_few_shards_stay_as_they_are(tmp_path):
    write_shard(tmp_path / "d", "x-00000", *rows(4), {})
    table = Table.open(tmp_path / "d")
    assert packed(table, tmp_path / "p") is table and not (tmp_path / "p").exists()
