"""The authors' way of training on small made-up arrays: it learns, goes on where it stopped, and starts from what it should."""

import csv
import json

import numpy as np
import pytest
import torch
from made_up import CARD, split, table

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.model import NetworkShape, build_network
from dgl_broker.training.checkpoint import load_state, load_weights
from dgl_broker.training.stages import freeze, start_from, train_stages
from dgl_broker.training.train import Trainer, takes_half
from dgl_broker.training.train_settings import Settings

TRAINING = {
    "epochs": 3,
    "batch": 64,
    "learning_rate": 3e-3,
    "patience": 5,
    "curve_rows": 200,
    "augmentation": {"turn": "quarters", "drop_points": 0.2},
    "groups": {"fusion": {"learning_rate": 2e-3, "epochs": 4}},
}
FRACTIONS = {"train": 0.7, "validation": 0.3}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    made = table(500, fractions=FRACTIONS)
    return split(made, "train"), split(made, "validation")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    networks, summary = train_stages(*data, CARD, TRAINING, folder, CPU, seed=5)
    return folder, networks, summary


def test_all_six_are_trained_in_the_authors_order(trained):
    _, networks, summary = trained
    assert list(summary) == ["deepcnn", "gru", "fc", "lonet", "munet", "glonet"]
    assert sorted(networks) == ["glonet", "lonet", "munet"]
    assert not any(net.training for net in networks.values())


def test_a_network_beats_chance_on_systems_it_never_saw(trained, data):
    _, networks, summary = trained
    # Chance is 0.25 of four balanced classes; the made-up contrast is plain.
    assert summary["lonet"]["validation"]["accuracy"] > 0.5
    assert summary["munet"]["validation"]["accuracy"] > 0.5


def test_curves_have_a_row_an_epoch_for_train_and_validation(trained):
    folder, _, summary = trained
    with open(folder / "lonet" / "curves.csv", newline="") as held:
        rows = list(csv.DictReader(held))
    assert [int(r["epoch"]) for r in rows] == list(range(summary["lonet"]["epochs"]))
    assert all(float(r["train_loss"]) > 0 and 0 <= float(r["validation_accuracy"]) <= 1 for r in rows)


def test_lonet_starts_with_the_trained_cnn_and_gru(trained):
    folder, _, _ = trained
    net = build_network("LoNet", NetworkShape.from_card(CARD))
    cnn = load_weights(folder / "deepcnn" / "best.safetensors")
    start_from(net, "cnn", cnn)
    assert torch.equal(net.cnn.conv1.weight, cnn["conv1.weight"])
    with pytest.raises(StateError, match="do not fit"):
        start_from(net, "gru", cnn)


def test_finished_training_is_read_and_not_done_again(trained, data):
    folder, networks, summary = trained
    before = (folder / "lonet" / "curves.csv").stat().st_mtime_ns
    again, second = train_stages(*data, CARD, TRAINING, folder, CPU, seed=5)
    assert (folder / "lonet" / "curves.csv").stat().st_mtime_ns == before
    assert second["lonet"]["best_epoch"] == summary["lonet"]["best_epoch"]
    for name, value in networks["lonet"].state_dict().items():
        assert torch.equal(value, again["lonet"].state_dict()[name])


def test_a_run_cut_off_goes_on_to_the_same_weights(data, tmp_path):
    def fit(folder, epochs):
        torch.manual_seed(0)
        net = build_network("ShallowGRU", NetworkShape.from_card(CARD))
        settings = Settings.of({"epochs": epochs, "schedule": "constant", "batch": 64, "average": 0.9, "seed": 3})
        Trainer(*data, CARD, CPU).fit("gru", net, settings, folder)
        return load_state(folder / "gru")

    whole = fit(tmp_path / "whole", 4)
    fit(tmp_path / "parts", 2)
    parts = fit(tmp_path / "parts", 4)
    assert parts["progress"]["epoch"] == 4
    for key, value in whole["model"].items():
        assert torch.equal(value, parts["model"][key]), key
    for key, value in whole["average"].items():
        assert torch.equal(value, parts["average"][key]), key


def test_the_same_seed_gives_the_same_weights_and_another_does_not(data, tmp_path):
    training = {**TRAINING, "epochs": 1, "stages": ["gru"]}
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        networks, _ = train_stages(*data, CARD, training, tmp_path / name, CPU, seed=seed)
        states.append(networks["gru"].state_dict()["classifier.0.weight"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_state_of_another_training_is_not_gone_on_with(trained, data):
    with pytest.raises(ConfigError, match="another training"):
        train_stages(*data, CARD, {**TRAINING, "batch": 32}, trained[0], CPU, seed=5)


def test_damaged_state_is_named_and_not_trusted(data, tmp_path):
    training = {**TRAINING, "epochs": 1, "stages": ["gru"]}
    train_stages(*data, CARD, training, tmp_path, CPU)
    state = json.loads((tmp_path / "gru" / "state.json").read_text())
    (tmp_path / "gru" / state["tensors"]).write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(StateError, match="cannot be trusted"):
        train_stages(*data, CARD, training, tmp_path, CPU)


def test_a_shared_trunk_is_the_same_in_both_networks(data, tmp_path):
    training = {**TRAINING, "epochs": 1, "groups": {}, "shared_trunk": True}
    networks, _ = train_stages(*data, CARD, training, tmp_path, CPU)
    lonet, munet = networks["lonet"].state_dict(), networks["munet"].state_dict()
    trunk = [k for k in lonet if k.startswith("cnn.")]
    assert trunk and all(torch.equal(lonet[k], munet[k]) for k in trunk)
    assert not torch.equal(lonet["gru.rnn.weight_ih_l0"], munet["gru.rnn.weight_ih_l0"])


def test_a_frozen_part_keeps_its_running_statistics():
    net = build_network("MuNet", NetworkShape.from_card(CARD))
    freeze(net.cnn)
    before = {k: v.clone() for k, v in net.cnn.state_dict().items()}
    net.train()
    made = table(40)
    net(*(torch.from_numpy(a) for a in (made.rows(range(40))[1], made.rows(range(40))[0], made.rows(range(40))[2])))
    assert all(torch.equal(v, before[k]) for k, v in net.cnn.state_dict().items())
    assert not net.cnn.training and net.fcn.training


def test_class_weights_are_those_of_scikit_learn(data):
    from sklearn.utils.class_weight import compute_class_weight

    label = data[0].labels["class"].astype(int)
    want = compute_class_weight("balanced", classes=np.arange(4), y=label)
    got = Trainer(*data, CARD, CPU)._class_weights(Settings.of({"balance": "loss"}))
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)


def test_early_stopping_keeps_the_best_epoch(data, tmp_path):
    net = build_network("ShallowGRU", NetworkShape.from_card(CARD))
    settings = Settings.of({"epochs": 40, "batch": 64, "schedule": "constant", "learning_rate": 0.05, "patience": 2})
    found = Trainer(*data, CARD, CPU).fit("gru", net, settings, tmp_path)
    with open(tmp_path / "gru" / "curves.csv", newline="") as held:
        losses = [float(r["validation_loss"]) for r in csv.DictReader(held)]
    assert found["epochs"] == len(losses) < 40
    assert found["best_epoch"] == int(np.argmin(losses)) == len(losses) - 3
    assert found["validation"]["loss"] == pytest.approx(min(losses))


def test_settings_that_are_wrong_are_named():
    with pytest.raises(ConfigError, match="learn_rate"):
        Settings.of({"learn_rate": 1})
    with pytest.raises(ConfigError, match="schedule"):
        Settings.of({"schedule": "cosin"})


def test_half_precision_trains_as_single_does_to_within_its_rounding(data, tmp_path):
    found = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        net = build_network("LoNet", NetworkShape.from_card(CARD))
        settings = Settings.of({"epochs": 2, "batch": 64, "precision": precision, "learning_rate": 3e-3})
        found[precision] = Trainer(*data, CARD, CPU).fit("lonet", net, settings, tmp_path / precision)["validation"]["loss"]
        assert all(v.dtype == torch.float32 for v in net.state_dict().values() if v.dtype.is_floating_point)
    # bfloat16 has 8 bits: a hundredth of a loss near 1 is noise, a tenth would be a fault.
    assert found["bfloat16"] == pytest.approx(found["float32"], abs=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_same_weights_twice(data, tmp_path):
    device = torch.device("cuda")
    states = []
    for name in "ab":
        torch.manual_seed(0)
        net = build_network("MuNet", NetworkShape.from_card(CARD))
        Trainer(*data, CARD, device).fit("munet", net, Settings.of({"epochs": 2, "batch": 64}), tmp_path / name)
        states.append({k: v.cpu() for k, v in net.state_dict().items()})
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize(
    "precision, on_cpu, on_gpu", [("float32", False, False), ("auto", False, True), ("bfloat16", True, True)]
)
def test_precision_means_the_same_wherever_it_is_asked_for(precision, on_cpu, on_gpu):
    assert (takes_half(precision, "cpu"), takes_half(precision, "cuda")) == (on_cpu, on_gpu)


def test_fast_is_half_precision_only_where_the_device_multiplies_it(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native, raising=False)
        assert takes_half("fast", "cpu") is native
    assert takes_half("fast", "cuda")
