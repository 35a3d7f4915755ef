"""Bundles: what is saved is what loads, and what was tampered with does not."""

import hashlib
import json

import numpy as np
import pytest
import torch
from made_up_bundles import fitted_fusion, members, random_batch, tiny_bundle, tiny_card
from safetensors.torch import save as save_tensors

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.model import (
    Ensemble,
    Fusion,
    NetworkShape,
    build_members,
    default_bundle,
    fit_null,
    load_bundle,
    save_bundle,
    untrained_bundle,
)
from dgl_broker.model.bundle import CALIBRATION, CARD, SVM, WEIGHTS
from dgl_broker.scores import CLASSES

SHAPE = NetworkShape.from_card(tiny_card())


@pytest.fixture
def folder(tmp_path):
    save_bundle(tmp_path / "tiny", tiny_card(), members(SHAPE), fitted_fusion())
    return tmp_path / "tiny"


def edit_card(folder, change):
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))


def replace_file(folder, name, raw):
    """Put other bytes in place and make the card agree, as one who knows the format would."""
    (folder / name).write_bytes(raw)
    entry = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    edit_card(folder, lambda card: card["hashes"].update({name: entry}))


def all_weights(folder):
    """Every tensor of the members under its own name, nothing shared."""
    return {f"{m}/{k}": v.clone() for m, net in load_bundle(folder).networks.items() for k, v in net.state_dict().items()}


def replace_weight(folder, name, value):
    tensors = all_weights(folder)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    replace_file(folder, WEIGHTS, save_tensors(tensors))


def test_what_is_saved_is_what_loads(folder):
    made = tiny_bundle()
    loaded = load_bundle(folder)
    assert loaded.sha256 == made.sha256
    assert (loaded.id, loaded.kind, loaded.survey, loaded.trained) == ("tiny", "alert", "lsst", False)
    assert loaded.calibration is None
    assert not any(net.training for net in loaded.networks.values())
    batch = random_batch(SHAPE, 5)
    found, expected = Ensemble(loaded).score(batch), Ensemble(made).score(batch)
    np.testing.assert_array_equal(found.log_odds, expected.log_odds)


def test_card_is_filled_in(folder):
    card = load_bundle(folder).card
    assert card["classes"] == list(CLASSES)
    assert card["network"]["widths"]["gru"] == {"hidden": 4, "layers": 2, "features": 8, "dropout": 0.4}
    assert card["fusion"]["way"] == "svm+lr"
    assert card["fusion"]["svm"]["kernel"] == "rbf"
    assert sum(card["prior"]["class_mix"].values()) == pytest.approx(1)
    assert set(card["hashes"]) == {WEIGHTS, SVM}


def test_a_shared_trunk_is_stored_and_held_once(folder, tmp_path):
    save_bundle(tmp_path / "shared", tiny_card(), members(SHAPE, share_cnn=True), fitted_fusion())
    cnn = sum(v.numel() * v.element_size() for v in members(SHAPE)["lonet"].cnn.state_dict().values())
    saved = (folder / WEIGHTS).stat().st_size - (tmp_path / "shared" / WEIGHTS).stat().st_size
    assert saved > 0.9 * cnn
    loaded = load_bundle(tmp_path / "shared")
    assert loaded.networks["munet"].cnn is loaded.networks["lonet"].cnn
    apart = load_bundle(folder)
    assert apart.networks["munet"].cnn is not apart.networks["lonet"].cnn


def test_equal_tensors_that_are_no_shared_trunk_do_not_hang_together(tmp_path):
    nets = members(SHAPE)
    for net in nets.values():
        net.out_fc[-1].bias.data.zero_()  # three equal tensors, stored once
    loaded = save_bundle(tmp_path / "x", tiny_card(), nets, Fusion()).networks
    loaded["lonet"].out_fc[-1].bias += 1
    assert loaded["munet"].out_fc[-1].bias.abs().max() == 0


def test_sharing_changes_no_score():
    batch = random_batch(SHAPE, 7)
    nets = members(SHAPE, share_cnn=True)
    shared = Ensemble(tiny_bundle(share_cnn=True)).score(batch)
    arrays = [torch.from_numpy(a) for a in (batch.light_curves, batch.images, batch.contexts)]
    with torch.inference_mode():
        alone = torch.stack([nets[name].eval()(*arrays) for name in ("lonet", "glonet", "munet")], dim=1)
    np.testing.assert_allclose(shared.member_log_prob, alone, atol=1e-5)


def test_hash_covers_weights_svm_fusion_and_card_but_not_the_null(folder, tmp_path):
    base = load_bundle(folder)
    others = [
        tiny_bundle(card=tiny_card(limits=["other words"])),
        tiny_bundle(share_cnn=True),
        tiny_bundle(kernel="linear"),
        tiny_bundle(way="lr"),
    ]
    assert len({base.sha256, *(b.sha256 for b in others)}) == 5
    assert others[0].scores_sha256 == base.scores_sha256  # words change no score
    assert len({base.scores_sha256, *(b.scores_sha256 for b in others)}) == 4
    null = fit_null([0.0, 1.0], [{}, {}], scores_sha256=base.scores_sha256)
    null.save(folder / CALIBRATION)
    calibrated = load_bundle(folder)
    assert calibrated.sha256 == base.sha256
    assert calibrated.calibration.calibration_id == null.calibration_id


def test_calibration_of_another_bundle_is_refused(folder):
    fit_null([0.0, 1.0], [{}, {}], scores_sha256="other").save(folder / CALIBRATION)
    with pytest.raises(StateError, match="fitted on log-odds of other.*calibrate again"):
        load_bundle(folder)
    with pytest.raises(ConfigError, match="calibration is of other log-odds"):
        tiny_bundle(calibration=fit_null([0.0], [{}], scores_sha256="other"))


@pytest.mark.parametrize("name", [WEIGHTS, SVM])
def test_truncated_and_damaged_files_are_refused(folder, name):
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw[:-5])
    with pytest.raises(StateError, match=f"{name}: {len(raw) - 5} bytes, the card says {len(raw)}: truncated"):
        load_bundle(folder)
    (folder / name).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(StateError, match="sha256 .* the card says .*: damaged or replaced"):
        load_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(StateError, match=f"{name}: cannot be read: No such file"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "raw",
    [b"", b"12345", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]", b"\x80\x04N."],
)
def test_files_that_are_no_safetensors_are_refused(folder, raw):
    replace_file(folder, WEIGHTS, raw)
    with pytest.raises(StateError, match="weights.safetensors: not a whole safetensors file"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(4, 2, 3, 4), r"lonet/cnn.conv1.weight is float32 \[4, 2, 3, 4\], expected float32 \[4, 2, 3, 3\]"),
        (torch.zeros(4, 2, 3, 3).half(), r"lonet/cnn.conv1.weight is float16 .*, expected float32"),
        (torch.full((4, 2, 3, 3), torch.inf), "lonet/cnn.conv1.weight holds values that are not finite"),
        (None, "1 tensors missing .first lonet/cnn.conv1.weight., 0 unknown"),
    ],
)
def test_tensors_that_do_not_fit_the_card_are_refused(folder, value, message):
    replace_weight(folder, "lonet/cnn.conv1.weight", value)
    with pytest.raises(StateError, match=message):
        load_bundle(folder)


def test_negative_variances_are_refused(folder):
    replace_weight(folder, "glonet/fcn.2.running_var", -torch.ones(16))
    with pytest.raises(StateError, match="glonet/fcn.2.running_var holds variances below 0"):
        load_bundle(folder)


def test_unknown_tensors_are_refused(folder):
    replace_weight(folder, "lonet/extra", torch.zeros(1))
    with pytest.raises(StateError, match="0 tensors missing, 1 unknown .first lonet/extra."):
        load_bundle(folder)


@pytest.mark.parametrize("aliases", ['{"a": "b"}', '{"lonet/cnn.fc4.bias": "glonet/fcn.0.bias"}', "[1]", "{"])
def test_aliases_that_lead_nowhere_are_refused(folder, aliases):
    replace_file(folder, WEIGHTS, save_tensors(all_weights(folder)))
    load_bundle(folder)  # without aliases it is whole
    replace_file(folder, WEIGHTS, save_tensors(all_weights(folder), metadata={"aliases": aliases}))
    with pytest.raises(StateError, match="is said to be stored as|aliases are list|not a whole safetensors file"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(id="../x"), "id is '../x', expected letters"),
        (lambda c: c.update(kind="other"), "kind is 'other', expected alert or paper"),
        (lambda c: c.update(survey=None), "survey is None, expected lsst or ztf"),
        (lambda c: c.update(classes=["a", "b", "c", "d"]), "classes is"),
        (lambda c: c.update(trained="no"), "trained is 'no', expected true or false"),
        (lambda c: c.pop("fusion"), "fusion is None, expected a table"),
        (lambda c: c["fusion"].update(way=["lr"]), "fusion.way ['lr'], expected one of"),
        (lambda c: c["prior"]["class_mix"].update(lens=10**400), "not a JSON document: an integer of 401 digits"),
        (lambda c: c["input"].pop("minimum"), "input.minimum is None, expected a table"),
        (lambda c: c.update(hashes={WEIGHTS: "ab"}), "hashes is"),
        (lambda c: c["hashes"].pop(SVM), "hashes has no svm.safetensors"),
        (lambda c: c["network"]["widths"].update(glonet={"hidden": [65536] * 16}), "parameters, expected at most 500000000"),
    ],
)
def test_cards_that_do_not_say_what_they_must_are_refused(folder, change, message):
    edit_card(folder, change)
    with pytest.raises(ConfigError) as error:
        load_bundle(folder)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", '{"id": NaN}', "[" * 100_000])
def test_cards_that_are_no_tables_are_refused(folder, text):
    (folder / CARD).write_text(text)
    with pytest.raises(ConfigError, match="card.json"):
        load_bundle(folder)


def test_bundles_that_are_not_there_are_told(tmp_path):
    with pytest.raises(ConfigError, match="'nowhere': no such folder, and those that ship are"):
        load_bundle("nowhere")
    with pytest.raises(ConfigError, match="the folder holds no card.json"):
        load_bundle(tmp_path)
    with pytest.raises(ConfigError, match='"default": needs a survey'):
        load_bundle("default")
    with pytest.raises(ConfigError, match="none ships for survey 'panstarrs'"):
        load_bundle("default", survey="panstarrs")
    assert default_bundle("lsst").parts[-3:] == ("dgl_broker", "bundles", "lsst")


def test_folders_are_replaced_only_when_asked_and_only_bundles(folder, tmp_path):
    with pytest.raises(StateError, match="exists already"):
        save_bundle(folder, tiny_card(), members(SHAPE), Fusion())
    before = load_bundle(folder).sha256
    assert save_bundle(folder, tiny_card(), members(SHAPE), Fusion(), overwrite=True).sha256 != before
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("years of work")
    with pytest.raises(StateError, match="exists already and holds no bundle"):
        save_bundle(tmp_path / "papers", tiny_card(), members(SHAPE), Fusion(), overwrite=True)
    assert (tmp_path / "papers" / "thesis.tex").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["papers", "tiny"]  # nothing half-written stays


@pytest.mark.parametrize("survey", ["lsst", "ztf"])
def test_untrained_bundles_say_so_and_are_the_same_for_a_seed(survey):
    state = torch.random.get_rng_state()
    bundle = untrained_bundle(survey)
    assert torch.equal(state, torch.random.get_rng_state())
    assert bundle.trained is False
    assert bundle.card["limits"] == ["The weights are random: scores mean nothing."]
    assert bundle.fusion.way == "mean_log_prob"
    assert untrained_bundle(survey).sha256 == bundle.sha256
    assert untrained_bundle(survey, seed=1).sha256 != bundle.sha256


def test_members_must_be_the_cards(tmp_path):
    other = NetworkShape.from_card(tiny_card(input={**tiny_card()["input"], "context": ["trigger_snr"]}))
    with pytest.raises(StateError, match="expected float32"):
        save_bundle(tmp_path / "x", tiny_card(), build_members(other), Fusion())
    assert not (tmp_path / "x").exists()
