"""The published checkpoints load unchanged, hostile ones do not, and the SVM comes from data or not at all."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from made_up_bundles import TINY_WIDTHS, randomise

from dgl_broker import cli
from dgl_broker.errors import ConfigError, InputUnavailable, StateError
from dgl_broker.model import Ensemble, NetworkShape, Widths, build_network, importer, load_bundle
from dgl_broker.model.importer import MEMBER_NETWORKS, import_weights, read_checkpoint
from dgl_broker.paper_example import PaperSpec, batch_from_arrays

NARROW = Widths.from_dict({**TINY_WIDTHS, "cnn": {**TINY_WIDTHS["cnn"], "strides": [3, 2, 2]}})


def narrow(n_steps):
    """The published input with narrow networks: the published GloNet alone has 45 million weights."""
    return NetworkShape(planes=4, side=45, steps=n_steps, features=4, widths=NARROW)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Checkpoints as the authors publish them, of LSST-wide, in a folder of their name for it."""
    monkeypatch.setattr(importer.NetworkShape, "paper", staticmethod(narrow))
    folder = tmp_path / "models" / "lsst_data"
    folder.mkdir(parents=True)
    for seed, name in enumerate(MEMBER_NETWORKS.values()):
        net = randomise(build_network(name, narrow(14)), seed)
        torch.save(net.state_dict(), folder / f"lsst_data_{name}_informed_network.pt")
    return tmp_path / "models"


def write_data(folder, n=24, n_steps=14, seed=0):
    """Arrays in the published layout; each light curve twice, as the published copies are."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for group in range(1, 5):
        curves = rng.normal(size=(n, n_steps, 4)).cumsum(1) + group
        images = rng.normal(size=(n, 4, 45, 45)) + group * np.linspace(0, 1, 45)
        np.save(folder / f"GROUP_{group}_lcs_{n_steps}.npy", np.repeat(curves, 2, axis=0))
        np.save(folder / f"GROUP_{group}_ims_{n_steps}.npy", np.repeat(images, 2, axis=0))
    return folder


def test_full_width_checkpoint_loads_with_the_published_keys(tmp_path):
    net = build_network("LoNet", NetworkShape.paper(7))
    torch.save(net.state_dict(), tmp_path / "full_data_LoNet_informed_network.pt")
    found = read_checkpoint(tmp_path / "full_data_LoNet_informed_network.pt", build_network("LoNet", NetworkShape.paper(7)))
    assert all(torch.equal(found[k], v) for k, v in net.state_dict().items())


def test_without_data_members_are_fused_by_their_mean_and_the_id_says_so(published, tmp_path):
    bundle = import_weights(published, "lsst_wide", tmp_path / "out")
    assert bundle.sha256 == load_bundle(tmp_path / "out").sha256
    assert bundle.id == "lsst_wide_mean_log_prob"
    assert bundle.card["fusion"]["way"] == "mean_log_prob"
    assert any("mean log-probability" in line for line in bundle.card["limits"])
    spec = PaperSpec.from_card(bundle.card)
    assert (spec.side, spec.steps, spec.bands, spec.pixel_scale_arcsec) == (45, 14, "griz", 0.2)
    images, curves = np.random.default_rng(1).random((5, 4, 45, 45), np.float32), np.random.default_rng(2).random((5, 14, 4))
    batch, _ = batch_from_arrays(images, curves.astype(np.float32), bundle.card)
    table = Ensemble(bundle).score(batch)
    nets = {m: randomise(build_network(n, narrow(14)), s).eval() for s, (m, n) in enumerate(MEMBER_NETWORKS.items())}
    with torch.inference_mode():
        for i, net in enumerate(nets.values()):
            expected = net(torch.from_numpy(batch.light_curves), torch.from_numpy(batch.images))
            np.testing.assert_allclose(table.member_log_prob[:, i], expected, atol=1e-5)
    assert table[0].bundle_id == "lsst_wide_mean_log_prob"


def test_files_may_lie_in_the_folder_itself(published, tmp_path):
    inner = import_weights(published / "lsst_data", "lsst_wide", tmp_path / "a")
    assert inner.sha256 == import_weights(published, "lsst_wide", tmp_path / "b").sha256


def test_data_fit_the_svm_on_one_half_of_the_systems_and_the_regression_on_the_other(published, tmp_path):
    data = write_data(tmp_path / "data" / "lsst_data")
    spoilt = np.load(data / "GROUP_2_ims_14.npy")
    spoilt[:2] = 1.0  # both copies of one system: constant
    np.save(data / "GROUP_2_ims_14.npy", spoilt)
    bundle = import_weights(published, "lsst_wide", tmp_path / "out", svm_data=tmp_path / "data")
    assert bundle.id == "lsst_wide"
    assert bundle.card["fusion"]["way"] == "svm+lr"
    said = bundle.card["metrics"]["fusion"]
    assert said["n_svm"] + said["n_regression"] == 4 * 48 - 2
    assert said["n_unusable"] == 2
    assert 60 < said["n_svm"] < 130
    assert said["n_svm"] % 2 == 0  # copies of a system are in one half
    again = import_weights(published, "lsst_wide", tmp_path / "again", svm_data=data)
    assert again.sha256 == bundle.sha256


def test_a_class_without_systems_is_told(published, tmp_path):
    with pytest.raises(ConfigError, match="SVM data: no system of .* more systems are needed"):
        import_weights(published, "lsst_wide", tmp_path / "out", svm_data=write_data(tmp_path / "data", n=1))


def test_missing_files_are_named(published, tmp_path):
    with pytest.raises(InputUnavailable, match="no des_deep_data_LoNet_informed_network.pt, nor des_deep_data/"):
        import_weights(published, "des_deep", tmp_path / "out")
    (published / "lsst_data" / "lsst_data_MuNet_informed_network.pt").unlink()
    with pytest.raises(InputUnavailable, match="lsst_data_MuNet_informed_network.pt: no such file"):
        import_weights(published, "lsst_wide", tmp_path / "out")
    with pytest.raises(ConfigError, match="set 'lsst', expected one of desi_dot, lsst_wide, des_wide, des_deep"):
        import_weights(published, "lsst", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_that_are_pickles_are_refused(published, tmp_path):
    data = write_data(tmp_path / "data")
    np.save(data / "GROUP_1_lcs_14.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputUnavailable, match="GROUP_1_lcs_14.npy: no plain numpy array"):
        import_weights(published, "lsst_wide", tmp_path / "out", svm_data=data)


class Hostile:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def hostile_checkpoint(path, trap):
    """A checkpoint as torch writes it, with code where the tensors were."""
    torch.save({"a": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {m.filename: archive.read(m) for m in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in parts.items():
            archive.writestr(name, pickle.dumps({"a": Hostile(trap)}, protocol=2) if name.endswith("data.pkl") else raw)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    hostile_checkpoint(tmp_path / "x.pt", tmp_path / "trap")
    with pytest.raises(StateError, match="not a checkpoint of tensors only"):
        read_checkpoint(tmp_path / "x.pt", build_network("ShallowGRU", narrow(14)))
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("raw", [b"", b"\x80\x02}q\x00.", b"PK\x03\x04 not a zip"])
def test_files_that_are_no_checkpoints_are_refused(tmp_path, raw):
    (tmp_path / "x.pt").write_bytes(raw)
    with pytest.raises(StateError, match="not a checkpoint of torch 1.6 or later"):
        read_checkpoint(tmp_path / "x.pt", build_network("ShallowGRU", narrow(14)))


def test_compressed_checkpoints_are_refused(tmp_path):
    """A zip bomb is small on disk; torch never compresses."""
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"0" * 1000)
    with pytest.raises(StateError, match="compressed or above"):
        read_checkpoint(tmp_path / "x.pt", build_network("ShallowGRU", narrow(14)))


def test_checkpoints_of_another_network_are_named(tmp_path):
    gru = build_network("ShallowGRU", narrow(14))
    state = gru.state_dict()

    def refused(values, message):
        torch.save(values, tmp_path / "x.pt")
        with pytest.raises(StateError, match=message):
            read_checkpoint(tmp_path / "x.pt", gru)

    refused(build_network("DeepCNN", narrow(14)).state_dict(), "not a ShallowGRU: 17 tensors missing")
    refused({**state, "bn.weight": torch.zeros(3)}, r"bn.weight is float32 \[3\], expected float32 \[4\]")
    refused({**state, "bn.weight": torch.zeros(4).double()}, "bn.weight is float64")
    refused({**state, "bn.weight": torch.full((4,), torch.nan)}, "bn.weight holds values that are not finite")
    refused({**state, "bn.weight": torch.zeros(4).to_sparse()}, "bn.weight is torch.sparse_coo, expected a dense tensor")
    refused({**state, 3: torch.zeros(1)}, "expected tensors by name")
    refused([1, 2], "holds a list, expected tensors by name")


def test_the_command_imports(published, tmp_path, capsys):
    argv = ["import-weights", str(published), "--set", "lsst_wide", "--out", str(tmp_path / "out")]
    assert cli.main(argv) == 0
    assert "lsst_wide_mean_log_prob" in capsys.readouterr().out
    assert cli.main(argv) == 6  # the folder is there already
    assert "exists already" in capsys.readouterr().err
    assert cli.main([*argv[:-1], str(tmp_path / "other"), "--svm-data", str(tmp_path)]) == 3
    with pytest.raises(SystemExit) as stop:
        cli.main(["import-weights", str(published), "--set", "sdss", "--out", "x"])
    assert stop.value.code == 2
