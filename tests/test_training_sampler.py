"""Which rows an epoch shows, against shares computed by hand."""

import numpy as np
import pytest

from dgl_broker.errors import ConfigError
from dgl_broker.training.sampler import RowsOnDevice, draw_rows, row_chances
from dgl_broker.training.shards import Table

LABELS = {
    "class": np.array([0, 0, 0, 0, 0, 1, 2, 2]),
    "kind": np.array(["agn"] * 4 + ["sn_ia_lrg", "lensed_quasar", "lensed_sn_ia", "lensed_sn_ia"]),
    "seed": np.ones(8, int),
    "object_id": np.array(["a", "a", "a", "b", "c", "d", "e", "e"]),
}


def test_chances_by_class_then_kind_then_row():
    # No row in lensed_sn_cc: three classes share alike. In no_lens sn_ia_lrg has weight 3 against 1: 1/3 * 3/4 for its one row.
    p = row_chances(LABELS, kind_weight={"sn_ia_lrg": 3.0})
    np.testing.assert_allclose(p, [1 / 48] * 4 + [1 / 4, 1 / 3, 1 / 6, 1 / 6])


def test_without_kinds_rows_of_a_class_count_alike():
    np.testing.assert_allclose(row_chances(LABELS, kind_weight=None), [1 / 15] * 5 + [1 / 3, 1 / 6, 1 / 6])


def test_objects_count_alike_however_many_alerts_they_have():
    p = row_chances(LABELS, kind_weight={"sn_ia_lrg": 0.0}, object_power=1.0)
    np.testing.assert_allclose(p[:5], [1 / 18, 1 / 18, 1 / 18, 1 / 6, 0])


def test_class_shares_are_kept():
    p = row_chances(LABELS, class_share={"no_lens": 2.0, "lens": 1.0, "lensed_sn_ia": 1.0}, kind_weight=None)
    assert p[LABELS["class"] == 0].sum() == pytest.approx(0.5)


def test_unknown_class_and_empty_mix_are_refused():
    with pytest.raises(ConfigError, match="nolens"):
        row_chances(LABELS, class_share={"nolens": 1.0})
    with pytest.raises(ConfigError, match="no row"):
        row_chances(LABELS, class_share={"no_lens": 0, "lens": 0, "lensed_sn_ia": 0, "lensed_sn_cc": 0})


def test_equal_chances_and_all_rows_make_a_permutation():
    rows = draw_rows(np.full(1000, 1e-3), 1000, np.random.default_rng(1))
    assert sorted(rows) == list(range(1000)) and rows.tolist() != list(range(1000))


def test_each_row_comes_as_often_as_its_chance_says_to_within_one():
    p = row_chances(LABELS, kind_weight={})
    count = np.bincount(draw_rows(p, 500, np.random.default_rng(2)), minlength=8)
    assert (np.abs(count - 500 * p) < 1).all() and count.sum() == 500


@pytest.mark.parametrize("keep", [True, False])
def test_rows_come_to_the_device_in_order(keep):
    n = 37
    images = np.arange(n, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), np.float32)
    table = Table.of_arrays(images, images[:, 0], images[:, 0, 0], {"split": np.full(n, "train")})
    rows = np.random.default_rng(0).permutation(n)
    got = list(RowsOnDevice(table, "cpu", keep=keep).batches(rows, 8))
    assert [len(part) for part, *_ in got] == [8, 8, 8, 8, 5]
    assert np.concatenate([i[:, 0, 0, 0].numpy() for _, i, _, _ in got]).tolist() == rows.tolist()
    assert got[0][3].shape == (8, 2)


def test_an_error_of_the_reader_reaches_the_training():
    table = Table.of_arrays(np.zeros((4, 1, 2, 2), np.float32), np.zeros((4, 2, 2)), None, {"split": np.full(4, "train")})
    with pytest.raises(IndexError):
        list(RowsOnDevice(table, "cpu", keep=False).batches(np.array([0, 9]), 2))


def test_a_reader_left_early_ends_its_thread():
    import threading

    table = Table.of_arrays(np.zeros((4000, 1, 2, 2), np.float32), np.zeros((4000, 2, 2)), None, {"split": np.zeros(4000)})
    batches = RowsOnDevice(table, "cpu", keep=False).batches(np.arange(4000), 2)
    before = threading.active_count()
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before
