"""The networks compute what the authors' do, each sample by itself."""

import json

import numpy as np
import pytest
import torch
from made_up_bundles import parity_folder, published_weights, random_batch, randomise, tiny_card

from dgl_broker.errors import ConfigError
from dgl_broker.model import NetworkShape, build_members, build_network, build_paper_network
from dgl_broker.model.fusion_networks import Encoder
from dgl_broker.model.networks import informed_statistics
from dgl_broker.model.shape import TransformerWidths

NAMES = ("DeepCNN", "ShallowGRU", "SmallImageFC", "LoNet", "GloNet", "MuNet")
# Both sides are float32. Against our networks in float64 the authors' features are off by up to 1.2e-6 by rounding alone.
FEATURE_ROUNDING = 3e-6


@pytest.fixture(scope="module")
def parity():
    folder = parity_folder()
    return json.loads((folder / "state_dict_keys.json").read_text()), np.load(folder / "parity.npz")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_steps", [14, 7])
def test_outputs_are_the_authors(parity, name, n_steps):
    keys, expected = parity
    at = f"T{n_steps}/{name}"
    net = build_paper_network(name, n_steps=n_steps).eval()
    net.load_state_dict(published_weights(at, keys[at]))
    curves, images = (torch.from_numpy(expected[f"T{n_steps}/{k}"]) for k in ("light_curve", "image"))
    with torch.inference_mode():
        alone = torch.cat([net(curves[i : i + 1], images[i : i + 1]) for i in range(8)]).numpy()
        features = torch.cat([net.features(curves[i : i + 1], images[i : i + 1]) for i in range(8)]).numpy()
        together = net(curves, images).numpy()
    np.testing.assert_allclose(alone, expected[f"{at}/log_prob"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(together, expected[f"{at}/log_prob"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(features, expected[f"{at}/features"], rtol=0, atol=FEATURE_ROUNDING)


@pytest.mark.parametrize("name", ["LoNet", "SmallImageFC"])
def test_features_in_double_precision_are_the_authors(parity, name):
    keys, expected = parity
    net = build_paper_network(name, n_steps=14).eval()
    net.load_state_dict(published_weights(f"T14/{name}", keys[f"T14/{name}"]))
    curves, images = (torch.from_numpy(expected[f"T14/{k}"]).double() for k in ("light_curve", "image"))
    with torch.inference_mode():
        features = net.double().features(curves, images).numpy()
    np.testing.assert_allclose(features, expected[f"T14/{name}/features"], rtol=0, atol=1.2e-6)


@pytest.mark.parametrize("at", ["T14/LoNet", "T7/LoNet", "T14/GloNet", "T7/MuNet", "T7/ShallowGRU"])
def test_state_dict_keys_are_the_authors(parity, at):
    steps, name = at[1:].split("/")
    found = {k: list(v.shape) for k, v in build_paper_network(name, int(steps)).state_dict().items()}
    assert found == parity[0][at]


def test_other_numbers_of_steps_are_refused():
    with pytest.raises(ConfigError, match="n_steps 12, expected 14 or 7"):
        build_paper_network("LoNet", n_steps=12)
    with pytest.raises(ConfigError, match="network 'LoNets', expected one of DeepCNN"):
        build_paper_network("LoNets", n_steps=14)


def test_encoder_is_a_transformer_over_sequences_of_one():
    """torch's own encoder, given each sample as a sequence of one step, is the oracle."""
    torch.manual_seed(3)
    layer = torch.nn.TransformerEncoderLayer(d_model=24, nhead=4, dim_feedforward=32, batch_first=True)
    oracle = torch.nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False).eval()
    ours = Encoder(24, TransformerWidths(layers=2, feedforward=32)).eval()
    randomise(ours, 5)
    oracle.load_state_dict({k.removeprefix("transformer_encoder."): v for k, v in ours.state_dict().items()})
    x = torch.randn(7, 24)
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), oracle(x[:, None])[:, 0], rtol=0, atol=1e-6)


def test_attention_dropout_acts_on_whole_heads():
    torch.manual_seed(0)
    attention = Encoder(8, TransformerWidths(layers=1, heads=4, dropout=0.5)).transformer_encoder.layers[0].self_attn
    with torch.no_grad():
        attention.in_proj_weight.fill_(0)
        attention.in_proj_bias.fill_(1)  # every value is 1
        attention.out_proj.weight.copy_(torch.eye(8))
        out = attention.train()(torch.zeros(500, 8))
    heads = out.view(500, 4, 2)
    assert torch.equal(heads[..., 0], heads[..., 1])
    assert set(heads.unique().tolist()) == {0.0, 2.0}  # 1 / (1 - 0.5)
    assert abs(float(heads.mean()) - 1) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_alert_networks_take_the_cards_shape(name):
    shape = NetworkShape.from_card(tiny_card())
    net = randomise(build_network(name, shape), 1).eval()
    batch = random_batch(shape, 6)
    arrays = [torch.from_numpy(a) for a in (batch.light_curves, batch.images, batch.contexts)]
    with torch.inference_mode():
        log_prob = net(*arrays)
    assert log_prob.shape == (6, 4)
    np.testing.assert_allclose(log_prob.exp().sum(1), 1, atol=1e-6)
    assert log_prob.std(0).min() > 1e-4  # it looks at its input


@pytest.mark.parametrize("name", ["LoNet", "GloNet", "MuNet"])
def test_fusion_networks_look_at_the_context(name):
    shape = NetworkShape.from_card(tiny_card())
    net = randomise(build_network(name, shape), 1).eval()
    batch = random_batch(shape, 3)
    curves, images, contexts = (torch.from_numpy(a) for a in (batch.light_curves, batch.images, batch.contexts))
    with torch.inference_mode():
        assert (net(curves, images, contexts) - net(curves, images, contexts + 1)).abs().min() > 1e-6


def test_statistics_by_hand():
    curve = torch.tensor([[[1.0], [2.0], [6.0]]])
    # mean 3; deviations -2, -1, 3: variance 14 / 2
    np.testing.assert_allclose(informed_statistics(curve), [[3.0, 7.0**0.5]], rtol=1e-6)


def test_statistics_leave_masked_steps_out():
    curve = torch.tensor([[[0.0, 99.0], [1.0, 2.0], [1.0, 6.0]]])
    # feature 1 over its two valid steps: mean 4, standard deviation sqrt(8); the mask itself over all three: 2/3, sqrt(1/3)
    found = informed_statistics(curve, torch.tensor([[5.0]]), mask=0)
    np.testing.assert_allclose(found, [[2 / 3, 4.0, (1 / 3) ** 0.5, 8.0**0.5, 5.0]], rtol=1e-6)


@pytest.mark.parametrize("mask", [None, 0])
def test_one_step_has_no_spread_and_no_nan(mask):
    found = informed_statistics(torch.tensor([[[1.0, 2.5]]]), mask=mask)
    np.testing.assert_array_equal(found, [[1.0, 2.5, 0.0, 0.0]])


def test_no_valid_step_gives_zeros():
    found = informed_statistics(torch.zeros(1, 4, 2), mask=0)
    np.testing.assert_array_equal(found, np.zeros((1, 4)))


def test_random_weights_differ_between_members():
    shape = NetworkShape.from_card(tiny_card())
    nets = build_members(shape)
    assert not torch.equal(nets["lonet"].cnn.conv1.weight, nets["munet"].cnn.conv1.weight)


def test_training_reaches_every_parameter_that_matters():
    """One step of each network gives gradients; query and key projections, which cannot matter, get zeros."""
    shape = NetworkShape.from_card(tiny_card())
    batch = random_batch(shape, 8)
    arrays = [torch.from_numpy(a) for a in (batch.light_curves, batch.images, batch.contexts)]
    for net in build_members(shape).values():
        torch.manual_seed(1)
        (-net.train()(*arrays)[:, 0].mean()).backward()
        for key, parameter in net.named_parameters():
            if ".".join(key.split(".")[:2]) in {"cnn.fc4", "gru.final_classifier"} or key.startswith(
                ("fc.fc5", "fc.fc6", "fc.fc7", "fc.bn5", "fc.bn6", "fc.bn7")
            ):
                assert parameter.grad is None  # heads of the trunks are not used
            elif "in_proj_weight" in key:
                width = parameter.shape[1]
                assert parameter.grad[: 2 * width].abs().max() == 0
                assert parameter.grad[2 * width :].abs().max() > 0
            else:
                assert parameter.grad is not None, key
