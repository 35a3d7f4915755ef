"""Folded networks compute the same, and the count of operations is that of the published widths."""

import numpy as np
import pytest
import torch
from made_up_bundles import members, random_batch, randomise, tiny_card
from torch.utils.flop_counter import FlopCounterMode

from dgl_broker.model import NetworkShape, build_members, build_network, flops, fold_batch_norm
from dgl_broker.model.ensemble import Members
from dgl_broker.model.fusion_networks import NETWORKS

SHAPE = NetworkShape.from_card(tiny_card())


def arrays(n=16):
    batch = random_batch(SHAPE, n)
    return [torch.from_numpy(a) for a in (batch.light_curves, batch.images, batch.contexts)]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_folding_moves_scores_by_rounding_only(name):
    net = randomise(build_network(name, SHAPE), 4).eval()
    folded = fold_batch_norm(net)
    with torch.inference_mode():
        np.testing.assert_allclose(folded(*arrays()), net(*arrays()), atol=1e-5)
        np.testing.assert_allclose(fold_batch_norm(net.double())(*_double()), net(*_double()), atol=1e-12)


def _double():
    return [a.double() for a in arrays()]


def test_maps_in_the_cache_are_those_of_all_images_at_once_to_the_bit():
    net = fold_batch_norm(randomise(build_network("LoNet", SHAPE), 4))
    found = {}
    with torch.inference_mode():
        for net.cnn.n_at_once in (8, 16, 1000):
            found[net.cnn.n_at_once] = net.cnn(*arrays(40))
    assert torch.equal(found[8], found[1000]) and torch.equal(found[16], found[1000])


def test_folding_leaves_the_original_alone():
    net = randomise(build_network("LoNet", SHAPE), 4).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    fold_batch_norm(net)
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_shared_trunks_stay_shared_and_are_folded_once():
    nets = members(SHAPE)
    nets["munet"].add_module("cnn", nets["lonet"].cnn)
    folded = fold_batch_norm(nets)
    assert folded["munet"].cnn is folded["lonet"].cnn
    with torch.inference_mode():
        for name, net in nets.items():
            np.testing.assert_allclose(folded[name](*arrays()), net.eval()(*arrays()), atol=1e-5)


def test_operations_of_the_published_cnn_by_hand():
    """45 px: maps of 12, 6, 3 px; 2 x (144*64*4*225 + 36*128*64*25 + 9*256*128*25 + 2304*512 + 512*128 + 128*64 + 64*4)."""
    by_hand = 2 * (144 * 64 * 900 + 36 * 128 * 1600 + 9 * 256 * 3200 + 2304 * 512 + 512 * 128 + 128 * 64 + 64 * 4)
    net = build_network("DeepCNN", NetworkShape.paper(14))
    assert flops(net) == by_hand == 48_587_264


@pytest.mark.parametrize("name", ["DeepCNN", "SmallImageFC", "GloNet"])
def test_operations_agree_with_torchs_own_counter(name):
    net = build_network(name, SHAPE).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*(a[:1] for a in arrays()))
    assert flops(net) == counter.get_total_flops()


def test_operations_of_a_gru_by_hand():
    """Five steps, hidden 4, over 3 features, then over 4: 3 gates x 4 x (3 + 4) and 3 x 4 x (4 + 4); then 4 x 8 and 8 x 4."""
    assert flops(build_network("ShallowGRU", SHAPE)) == 2 * (5 * (84 + 96) + 32 + 32)


def test_the_published_ensemble_is_196_million_operations():
    """Measured elsewhere as DeepCNN 48.6, LoNet 53.7, GloNet 89.3, MuNet 52.9 million (with attention of four products)."""
    nets = build_members(NetworkShape.paper(14))
    found = {name: flops(net) / 1e6 for name, net in nets.items()}
    assert found["lonet"] == pytest.approx(53.7 - 0.3, abs=0.1)  # no query, no key: 4 layers x 2 x 2 x 136^2
    assert found["glonet"] == pytest.approx(89.3, abs=0.1)
    assert found["munet"] == pytest.approx(52.9, abs=0.1)


def test_a_shared_trunk_is_counted_once():
    nets = members(SHAPE)
    apart = flops(Members(nets))
    cnn = flops(build_network("DeepCNN", SHAPE)) - 2 * SHAPE.widths.cnn.features * SHAPE.classes
    nets["munet"].add_module("cnn", nets["lonet"].cnn)
    assert flops(Members(nets)) == apart - cnn


def test_counting_leaves_no_hooks_and_the_mode_as_it_was():
    net = build_network("MuNet", SHAPE).train()
    flops(net)
    assert net.training
    assert not any(m._forward_hooks for m in net.modules())
