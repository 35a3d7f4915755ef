"""Feeding a device in chunks; the GPU itself where there is one."""

import numpy as np
import pytest
import torch
from made_up_bundles import random_batch, tiny_bundle

from dgl_broker.errors import DeviceUnavailable
from dgl_broker.model import Ensemble, untrained_bundle
from dgl_broker.model.device import CpuFeed, choose_device

gpu = pytest.mark.gpu


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def test_chunks_are_padded_with_zeros_and_cut_again():
    seen = []

    def compute(a, b):
        seen.append((a.clone(), b.clone()))
        return torch.cat([a, b.flatten(1)], dim=1)

    a, b = np.arange(10, dtype=np.float32).reshape(5, 2), np.ones((5, 1, 3), np.float32)
    out = CpuFeed(compute).run([a, b], [(0, 3, 4), (3, 5, 4)])
    np.testing.assert_array_equal(out, np.hstack([a, b[:, 0]]))
    assert [tuple(x.shape) for x, _ in seen] == [(4, 2), (4, 2)]
    assert seen[0][0][3].tolist() == [0, 0]
    assert seen[1][0][2:].abs().max() == 0


@gpu
def test_a_gpu_in_single_precision_agrees_with_the_cpu(cuda):
    bundle = tiny_bundle()
    batch = random_batch(bundle.shape, 3000)
    cpu, found = Ensemble(bundle).score(batch), Ensemble(bundle, device="cuda", precision="float32").score(batch)
    np.testing.assert_allclose(found.log_odds, cpu.log_odds, rtol=0, atol=1e-3)
    assert found[0].device.startswith("cuda:0 ")


@gpu
@pytest.mark.parametrize("survey", ["lsst", "ztf"])
def test_a_gpu_in_half_precision_stays_within_the_designs_bound(cuda, survey):
    bundle = tiny_bundle(card=untrained_bundle(survey).card)
    batch = random_batch(bundle.shape, 2500)
    cpu, found = Ensemble(bundle).score(batch), Ensemble(bundle, device="cuda").score(batch)
    assert found[0].precision == "float16"
    moved = np.abs(found.log_odds - cpu.log_odds)
    assert (moved <= np.maximum(0.02, 0.01 * np.abs(cpu.log_odds))).all()


@gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_company_does_not_matter_on_a_gpu(cuda, precision):
    bundle = tiny_bundle()
    batch = random_batch(bundle.shape, 2600)
    ensemble = Ensemble(bundle, device="cuda", precision=precision)
    whole = ensemble.score(batch)
    for start, size in ((0, 1), (5, 7), (100, 256), (1000, 1100), (2599, 1)):
        rows = slice(start, start + size)
        part = type(batch)(batch.images[rows], batch.light_curves[rows], batch.contexts[rows])
        found = ensemble.score(part)
        atol = 1e-4 if precision == "float32" else 0.02
        np.testing.assert_allclose(found.log_odds, whole.log_odds[rows], rtol=0, atol=atol)


@gpu
def test_a_gpu_that_is_not_there_is_told(cuda):
    with pytest.raises(DeviceUnavailable, match="CUDA devices, counted from 0"):
        choose_device(f"cuda:{torch.cuda.device_count()}")
