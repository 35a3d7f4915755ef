"""Splits by system: what each promises is checked on names and sky positions made up here."""

import numpy as np
import pytest

from dgl_broker.errors import ConfigError
from dgl_broker.training.splits import SPLITS, check_fractions, group_by_sky, leakage, split_of, unit_hash


def test_a_system_has_its_split_whatever_else_is_drawn():
    alone = split_of(7, 12345)
    assert [split_of(7, i) for i in range(12340, 12350)][5] == alone


def test_shares_of_splits_are_those_asked_for():
    fractions = {"train": 0.5, "test": 0.3, "null": 0.2}
    names = [split_of(3, i, fractions) for i in range(20000)]
    for name, share in fractions.items():
        # Four sigma of a binomial share of 20,000.
        assert abs(names.count(name) / 20000 - share) < 4 * np.sqrt(share * (1 - share) / 20000)
    assert set(names) == set(fractions)


def test_hash_is_blake2b_of_the_name_and_never_changes():
    # b2sum -l 64 of "split\x1f1\x1f2", its first 53 bits over 2^53; a changed hash would move systems between splits.
    assert unit_hash("split", 1, 2) == pytest.approx(0xD40D6650720E106F / 2**64, abs=2**-52)


@pytest.mark.parametrize("fractions", [{"train": 0.5}, {"train": 1.2, "test": -0.2}, {"train": 0.5, "tset": 0.5}])
def test_shares_that_are_wrong_are_refused(fractions):
    with pytest.raises(ConfigError):
        check_fractions(fractions)


def test_images_of_a_lens_are_one_system_and_neighbours_are_chained():
    arcsec = 1 / 3600
    ra = [10.0, 10.0, 10.0, 10.0, 200.0]
    dec = [0.0, 4 * arcsec, 8 * arcsec, 30 * arcsec, 0.0]
    assert group_by_sky(ra, dec, radius_arcsec=5.0).tolist() == [0, 0, 0, 1, 2]


def test_grouping_knows_the_meridian_and_the_pole():
    arcsec = 1 / 3600
    ra = [0.0, 360.0 - 2 * arcsec, 0.0, 180.0]
    dec = [0.0, 0.0, 90.0 - arcsec, 90.0 - arcsec]
    assert group_by_sky(ra, dec, radius_arcsec=5.0).tolist() == [0, 0, 1, 1]


def labels(**columns):
    n = len(columns["split"])
    base = {"seed": np.ones(n, int), "system": np.arange(n), "galaxy_run": np.ones(n, int), "galaxy_id": np.arange(n),
            "object_id": np.array([str(i) for i in range(n)]), "alert_id": np.arange(n), "class": np.zeros(n, int)}  # fmt: skip
    return {**base, **{k: np.asarray(v) for k, v in columns.items()}}


def test_leakage_counts_what_stands_in_two_splits():
    table = labels(split=["train", "test", "train", "null"], galaxy_id=[5, 5, -1, -1], system=[1, 2, 3, 3])
    found = leakage(table)
    assert (found["galaxies"], found["systems"], found["objects"], found["alerts"]) == (1, 1, 0, 0)
    assert found["examples"]["galaxies"] == ["1/5"]


def test_balance_is_counted_by_split_and_class():
    found = leakage(labels(split=["train", "train", "test"], **{"class": [0, 2, 2]}))
    assert found["balance"] == {"train": {0: 1, 2: 1}, "test": {2: 1}}
    assert set(found["balance"]) <= set(SPLITS)
