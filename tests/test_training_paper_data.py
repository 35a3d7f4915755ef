"""The paper's sets: systems kept whole however they were copied, and the published splits on request."""

import csv

import numpy as np
import pytest

from dgl_broker.errors import ConfigError, InputUnavailable, StateError
from dgl_broker.sim.paper_layout import write_groups
from dgl_broker.training.make import check_tables
from dgl_broker.training.paper_data import FRACTIONS, open_paper_tables, systems_by_contents
from dgl_broker.training.presets import load_preset

CARD = load_preset("des_wide_paper")["card"]
STEPS = 7


def samples(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 4, 45, 45), np.float32), rng.random((n, STEPS, 4), np.float32), np.arange(n) % 4


def copies(images, curves, labels):
    """Each event eight times, turned and mirrored, with one and the same light curve: as the published chain writes them."""
    turned = [np.rot90(images, k, (2, 3)) for k in range(4)]
    turned += [t[:, :, :, ::-1] for t in turned]
    return np.concatenate(turned), np.tile(curves, (8, 1, 1)), np.tile(labels, 8)


def whole(tables):
    return {
        name: np.concatenate([t.labels[name] for t in tables.values()]) for name in ("system", "class", "split", "alert_id")
    }


def test_turned_copies_are_one_system_and_stay_in_one_split(tmp_path):
    write_groups(tmp_path, *copies(*samples(60)))
    tables = open_paper_tables([tmp_path], CARD)
    all_rows = whole(tables)
    _, count = np.unique(all_rows["system"], return_counts=True)
    assert (count == 8).all() and len(count) == 60
    _, leaks = check_tables(tables)
    assert leaks == {} and set(tables) == set(FRACTIONS)
    assert tables["train"].info["systems_by"] == "pixels and light curves"


def test_copies_with_one_light_curve_but_other_pixels_are_one_system():
    images, curves, _ = samples(6)
    curves[4] = curves[1]
    images[5] = images[2][:, ::-1]
    s = systems_by_contents(images, curves)
    assert s[4] == s[1] and s[5] == s[2] and len(set(s.tolist())) == 4


def test_numbers_of_systems_do_not_depend_on_order():
    images, curves, _ = samples(6)
    order = np.array([3, 1, 5, 0, 2, 4])
    assert systems_by_contents(images[order], curves[order]).tolist() == systems_by_contents(images, curves)[order].tolist()


def test_records_name_the_systems(tmp_path):
    images, curves, labels = samples(80)
    rows = write_groups(tmp_path, images, curves, labels)
    with open(tmp_path / "records.csv", "w", newline="") as out:
        writer = csv.DictWriter(out, ["group", "row", "galaxy_id"])
        writer.writeheader()
        for i, (label, row) in enumerate(zip(labels, rows)):
            writer.writerow({"group": label + 1, "row": row, "galaxy_id": i // 2})
    tables = open_paper_tables([tmp_path], CARD)
    _, count = np.unique(whole(tables)["system"], return_counts=True)
    assert (count == 2).all() and check_tables(tables)[1] == {}


def test_samples_are_scaled_and_unusable_ones_left_out(tmp_path):
    images, curves, labels = samples(80)
    images[0], curves[1] = 7.0, np.nan
    write_groups(tmp_path, 100 + 5 * images, curves, labels)
    tables = open_paper_tables([tmp_path], CARD)
    assert len(whole(tables)["class"]) == 78
    im, lc, _ = tables["train"].rows(np.arange(len(tables["train"])))
    assert im.min((1, 2, 3)).tolist() == [0] * len(im) and im.max((1, 2, 3)).tolist() == [1] * len(im)
    assert lc.min() == 0 and lc.max() == 1


def test_classes_are_the_groups_in_order(tmp_path):
    images, curves, labels = samples(80)
    write_groups(tmp_path / "full_data", images, curves, labels)
    tables = open_paper_tables([tmp_path], CARD)
    np.testing.assert_array_equal(np.bincount(whole(tables)["class"]), [20] * 4)


def published(tmp_path, meta):
    """Groups, and split files of records as the authors' code writes them; gives images and labels in the groups' order."""
    from sklearn.model_selection import train_test_split

    images, curves, labels = samples(100)
    write_groups(tmp_path, images, curves, labels)
    ordered = np.sort(labels)
    train, rest = train_test_split(np.arange(100), test_size=1 - 0.70, stratify=ordered, random_state=42)
    validation, test = train_test_split(rest, test_size=0.15 / 0.30, stratify=ordered[rest], random_state=42)
    for part, rows in (("train", train), ("validation", validation), ("test", test)):
        np.save(tmp_path / f"full_data_{part}_md_{STEPS}.npy", meta(rows), allow_pickle=True)
    return train, validation, test


def test_published_splits_are_those_of_their_code(tmp_path):
    train, validation, test = published(tmp_path, lambda rows: {i: {"z": 0.5} for i in range(len(rows))})
    tables = open_paper_tables([tmp_path], CARD, published_splits=True)
    assert sorted(tables["test"].labels["alert_id"].tolist()) == sorted(test.tolist())
    assert sorted(tables["validation"].labels["alert_id"].tolist()) == sorted(validation.tolist())
    ours = [tables[s].labels["alert_id"].tolist() for s in ("train", "stack", "calibration", "null")]
    assert sorted(sum(ours, [])) == sorted(train.tolist())
    assert tables["train"].info["splits"] == "published"


def test_split_files_of_another_data_set_are_refused(tmp_path):
    published(tmp_path, lambda rows: {i: {} for i in range(len(rows) + 3)})
    with pytest.raises(StateError, match="another data set"):
        open_paper_tables([tmp_path], CARD, published_splits=True)


def test_without_the_request_no_pickle_is_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path / "touched").touch, ()

    write_groups(tmp_path, *samples(80))
    for part in ("train", "validation", "test"):
        np.save(tmp_path / f"full_data_{part}_md_{STEPS}.npy", np.array(Bomb(), dtype=object), allow_pickle=True)
    open_paper_tables([tmp_path], CARD)
    with pytest.raises(ConfigError):
        open_paper_tables([tmp_path], CARD, published_splits=True)
    assert not (tmp_path / "touched").exists()


def test_a_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputUnavailable, match="GROUP_1_ims_7"):
        open_paper_tables([tmp_path], CARD)
    write_groups(tmp_path, *samples(8))
    with pytest.raises(InputUnavailable, match="more systems"):
        open_paper_tables([tmp_path], CARD)
    with pytest.raises(ConfigError, match="begins with none"):
        open_paper_tables([tmp_path], {**CARD, "id": "euclid"})
