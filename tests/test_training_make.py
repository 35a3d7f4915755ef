"""From made-up arrays to a bundle: each part is fitted on its own split, and the bundle that is read back scores the same."""

import numpy as np
import pytest
import torch
from made_up import CARD, split, table

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.evaluation.mixes import rates
from dgl_broker.evaluation.scoring import score_table
from dgl_broker.model import load_bundle
from dgl_broker.training.baselines import BASELINES, CnnLstm, ZipperNet, load_baseline
from dgl_broker.training.make import check_input, check_tables, make_baseline_from, make_bundle_from, smaller_epochs
from dgl_broker.training.presets import load_preset, preset_names
from dgl_broker.training.sampler import row_chances
from dgl_broker.training.shards import Table
from dgl_broker.training.stack import choose_null

PRESET = {
    "card": {**{k: CARD[k] for k in ("kind", "survey", "input", "network")}, "id": "tiny", "trained": True, "limits": []},
    "training": {"epochs": 2, "batch": 64, "learning_rate": 3e-3, "curve_rows": 100},
    "stack": {"svm_rows": 300, "min_null": 50},
}
FRACTIONS = {"train": 0.45, "validation": 0.1, "stack": 0.15, "calibration": 0.15, "null": 0.15}


def tables():
    made = table(900, fractions=FRACTIONS)
    return {name: split(made, name) for name in FRACTIONS}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    data = tables()
    lines = []
    bundle = make_bundle_from(PRESET, None, folder / "tiny", device="cpu", seed=2, tables=data, log=lines.append)
    return folder, bundle, data, lines


def test_the_bundle_on_disk_scores_as_the_one_in_memory(made):
    folder, bundle, data, _ = made
    read = load_bundle(folder / "tiny")
    assert read.sha256 == bundle.sha256 and read.trained
    a, b = score_table(bundle, data["null"]), score_table(read, data["null"])
    np.testing.assert_array_equal(a.log_odds, b.log_odds)


def test_lensed_supernovae_score_higher_on_systems_that_nothing_was_fitted_on(made):
    _, bundle, _, _ = made
    fresh = table(400, seed=77, fractions={"test": 1.0})
    found = score_table(bundle, fresh)
    positive = fresh.labels["class"] >= 2
    # Area under the curve by ranks (Mann-Whitney); the made-up contrast is plain, chance is 0.5.
    higher = (found.log_odds[positive][:, None] > found.log_odds[~positive][None, :]).mean()
    assert higher > 0.9


def test_the_card_says_mix_splits_and_training(made):
    _, bundle, data, lines = made
    card = bundle.card
    # Four classes alike: half of the weight is on lensed supernovae.
    assert card["prior"]["lsn_share"] == pytest.approx(0.5, abs=1e-6)
    assert sum(card["prior"]["contaminants"].values()) == pytest.approx(1, abs=1e-4)
    assert card["prior"]["mixes"]["stream"]["sn_ia_lrg"]["source"]
    systems = len(set(data["train"].labels["system"][data["train"].labels["class"] == 2].tolist()))
    assert card["training"]["splits"]["train"]["lensed_sn_ia"]["systems"] == systems
    assert set(card["training"]["stages"]) == {"deepcnn", "gru", "fc", "lonet", "munet", "glonet"}
    assert any(line.startswith("train: ") for line in lines)


def test_p_values_of_the_null_itself_are_uniform(made):
    _, bundle, data, _ = made
    rows, objects = choose_null(data["null"].labels, "lsst", 2)
    null = data["null"].select(rows)
    p = score_table(bundle, null).p_value
    # One alert of two of each object is in the null; over all rows P(p <= 0.2) stays near 0.2 (four sigma of a binomial).
    assert abs((p <= 0.2).mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / sum(objects.values()))
    assert p.min() > 0


def test_the_null_has_the_shares_of_the_stream_and_none_that_fails_the_pre_cuts():
    made = table(3000, kinds=("sn_ia_host", "agn", "sn_ia_lrg", "lensed_sn_ia"), alerts=1)
    made.labels["precut"][made.labels["kind"] == "agn"] = np.arange((made.labels["kind"] == "agn").sum()) % 10 == 0
    rows, objects = choose_null(made.labels, "lsst")
    assert (made.labels["precut"][rows] == 1).all() and (made.labels["class"][rows] < 2).all()
    rate = rates("lsst")
    # 750 SNe, 750 SNe in red galaxies and 75 AGN pass; the rates are after the pre-cuts, so the AGN set the scale.
    assert objects["agn"] == 75
    assert objects["sn_ia_host"] == round(75 * rate["sn_ia_host"] / rate["agn"])
    assert objects["sn_ia_lrg"] == round(75 * rate["sn_ia_lrg"] / rate["agn"])


def test_a_system_in_two_splits_stops_the_training(tmp_path):
    data = tables()
    data["null"].labels["system"][:2] = data["train"].labels["system"][0]
    with pytest.raises(StateError, match="more than one split"):
        make_bundle_from(PRESET, None, tmp_path / "x", device="cpu", tables=data, log=lambda line: None)


def test_data_made_for_another_input_are_refused():
    data = tables()
    other = {**CARD, "input": {**CARD["input"], "minimum": {}}}
    with pytest.raises(ConfigError, match="minimum"):
        check_input(data, other)


def test_the_card_says_which_data_the_simulator_drew_from(tmp_path):
    data = tables()
    data["train"].info = {**data["train"].info, "simulator_data": "0123456789ab"}
    bundle = make_bundle_from(PRESET, None, tmp_path / "x", device="cpu", tables=data, log=lambda line: None)
    assert load_bundle(str(bundle.path)).card["training"]["simulator_data"] == "0123456789ab"


def test_a_share_of_the_systems_makes_epochs_of_that_share():
    training = {
        "rows_per_epoch": 1000,
        "epochs": 3,
        "groups": {"image": {}, "fusion": {"rows_per_epoch": 10}, "glonet": {"epochs": 2}},
    }
    small = {
        "rows_per_epoch": 250,
        "epochs": 3,
        "groups": {"image": {}, "fusion": {"rows_per_epoch": 2}, "glonet": {"epochs": 2}},
    }
    assert smaller_epochs(training, 0.25) == small
    assert smaller_epochs(training, 1.0) == training
    assert smaller_epochs({"epochs": 3}, 0.25) == {"epochs": 3}  # an epoch is every row once


def test_check_tables_counts_classes():
    counts, leaks = check_tables(tables())
    assert leaks == {}
    assert set(counts) == set(FRACTIONS)
    assert counts["train"]["no_lens"]["objects"] == counts["train"]["no_lens"]["systems"]
    assert counts["train"]["no_lens"]["alerts"] == 2 * counts["train"]["no_lens"]["objects"]


def test_the_authors_recipe_calls_the_class_of_their_svm(tmp_path):
    preset = {
        **PRESET,
        "training": {**PRESET["training"], "balance": "loss", "augmentation": {"turn": "any"}},
        "stack": {"mode": "paper"},
    }
    data = tables()
    bundle = make_bundle_from(preset, None, tmp_path / "authors", device="cpu", tables=data, log=lambda line: None)
    assert bundle.calibration is None and bundle.card["fusion"]["mode"] == "paper"
    found = score_table(bundle, data["validation"])
    svm = bundle.svm
    want = svm.classify(torch.from_numpy(found.pairwise)).numpy()
    np.testing.assert_array_equal(found.class_index, want)
    right = (found.class_index == data["validation"].labels["class"]).mean()
    assert right == pytest.approx(bundle.card["training"]["svm_accuracy_on_validation"], abs=0.02)


def test_cnn_lstm_has_the_parameters_that_are_stated_for_it():
    # 722,340: issue text, from the network's own group.
    assert sum(p.numel() for p in CnnLstm(4, 45, 4).parameters()) == 722340


def test_zippernet_has_the_layers_that_are_published():
    net = ZipperNet(4, 45, 4)
    shapes = [tuple(p.shape) for p in net.parameters()]
    # 45 px: (45 + 4 - 15) / 3 + 1 = 12, the second convolution keeps 12, pooled 6: 96 * 36 = 3456 into 408.
    for shape in ((48, 4, 15, 15), (96, 48, 5, 5), (408, 3456), (25, 408), (512, 128), (25, 128), (8, 50), (4, 8)):
        assert shape in shapes
    out = net.eval()(torch.zeros(2, 14, 4), torch.zeros(2, 4, 45, 45))
    torch.testing.assert_close(out.exp().sum(1), torch.ones(2))


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_baseline_is_trained_saved_and_read_back(name, tmp_path, monkeypatch):
    monkeypatch.setitem(BASELINES, name, {**BASELINES[name], "epochs": 1})
    data = table(200, fractions=FRACTIONS)
    big = Table.of_arrays(
        np.pad(data.rows(range(len(data)))[0], ((0, 0), (0, 0), (9, 9), (9, 9))), *data.rows(range(len(data)))[1:], data.labels
    )
    data = {k: split(big, k) for k in FRACTIONS}
    card = {**PRESET["card"], "input": {**CARD["input"], "image": {**CARD["input"]["image"], "side": 30}}}
    out = make_baseline_from(name, {"card": card}, None, tmp_path / name, device="cpu", tables=data, log=lambda line: None)
    read = load_baseline(out)
    found = read.score(data["null"], "cpu")
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-6)
    assert read.about["epochs"] == 1


def test_presets_that_ship_can_be_read_and_say_what_a_card_must():
    from dgl_broker.model import NetworkShape
    from dgl_broker.training.plan import check_plan
    from dgl_broker.training.train_settings import Settings

    assert {"lsst_alert", "ztf_alert", "lsst_paper", "lsst_wide_paper", "lsst_wide_authors"} <= set(preset_names())
    for name in preset_names():
        preset = load_preset(name)
        assert NetworkShape.from_card(preset["card"]).side in (30, 33, 45)
        common = {k: v for k, v in preset["training"].items() if k not in ("groups", "stages", "shared_trunk")}
        for group in ({}, *preset["training"].get("groups", {}).values()):
            Settings.of({**common, **group})
        if "plan" in preset:
            check_plan(preset["plan"])
    with pytest.raises(ConfigError, match="lsst_alert"):
        load_preset("lsst_alrt")


def test_chances_of_a_mix_weigh_objects_alike():
    labels = table(70, alerts=3).labels
    p = row_chances(labels, {}, {}, object_power=1.0)
    per_object = {}
    for name, kind, chance in zip(labels["object_id"], labels["kind"], p):
        per_object.setdefault(str(kind), {}).setdefault(str(name), 0.0)
        per_object[str(kind)][str(name)] += chance
    for chances in per_object.values():
        values = list(chances.values())
        assert max(values) == pytest.approx(min(values))


def test_both_default_bundles_fit_in_thirty_megabytes_together():
    from dgl_broker.model import NetworkShape
    from dgl_broker.model.fusion_networks import build_members

    total = 0
    for name in ("lsst_alert", "ztf_alert"):
        preset = load_preset(name)
        members = build_members(NetworkShape.from_card(preset["card"]))
        sizes = {key: sum(v.numel() * v.element_size() for v in net.state_dict().values()) for key, net in members.items()}
        trunk = sum(v.numel() * v.element_size() for v in members["munet"].cnn.state_dict().values())
        assert preset["training"]["shared_trunk"] is True
        total += sum(sizes.values()) - trunk
        # Support vectors (12 values and 6 coefficients) of an SVM that keeps every row, in float64.
        total += preset["stack"]["svm_rows"] * 18 * 8
    assert total < 30e6
