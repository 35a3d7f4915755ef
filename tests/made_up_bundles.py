"""Made-up bundles for tests of the model: tiny networks with random weights, an SVM and a regression on made-up outputs."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dgl_broker.example import Batch
from dgl_broker.model import NetworkShape, build_members, fit_fusion, fit_svm
from dgl_broker.model.bundle import make_bundle

TINY_WIDTHS = {
    "cnn": {
        "channels": [4, 6, 8],
        "kernels": [3, 3, 3],
        "strides": [1, 2, 2],
        "paddings": [1, 1, 1],
        "hidden": [16, 8],
        "features": 8,
    },
    "gru": {"hidden": 4, "features": 8},
    "fc": {"hidden": [16, 12, 10], "features": 8, "head": [6, 5]},
    "glonet": {"hidden": [16, 12], "features": 8, "head": [6]},
    "transformer": {"layers": 2, "feedforward": 16},
    "lonet": {"hidden": 16, "features": 8, "head": [6]},
    "munet": {"cnn": 6, "hidden": 16, "features": 8, "head": [6, 5]},
}


def tiny_card(**changes):
    card = {
        "id": "tiny",
        "kind": "alert",
        "survey": "lsst",
        "trained": False,
        "input": {
            "image": {"side": 12, "pixel_scale_arcsec": 0.2, "planes": ["template", "difference"], "softening_njy": 20.0},
            "light_curve": {"steps": 5, "features": ["mask", "age", "flux"], "softening_njy": 100.0},
            "context": ["trigger_snr", "n_detections"],
            "minimum": {"n_detections": 1},
        },
        "network": {"widths": TINY_WIDTHS},
        "limits": ["made up"],
    }
    return {**card, **changes}


def randomise(net, seed):
    """Weights with life in every layer, batch-normalisation statistics included."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for key, value in net.state_dict().items():
            size = tuple(value.shape)
            if key.endswith("num_batches_tracked"):
                continue
            if key.endswith("running_var"):
                new = rng.uniform(0.5, 1.5, size)
            elif key.endswith(("running_mean", "bias")) or "bias_" in key:
                new = rng.normal(0, 0.1, size)
            elif len(size) == 1:
                new = rng.uniform(0.5, 1.5, size)
            else:
                new = rng.normal(0, 1.4, size) / np.sqrt(np.prod(size[1:]))
            value.copy_(torch.from_numpy(np.asarray(new, np.float32)))
    return net


def members(shape, share_cnn=False):
    nets = {name: randomise(net, seed) for seed, (name, net) in enumerate(build_members(shape).items())}
    if share_cnn:
        nets["munet"].cnn.load_state_dict(nets["lonet"].cnn.state_dict())
    return nets


def member_outputs(n, seed=0, spread=1.5):
    """Log-probabilities (n, 3, 4) of three members that are right more often than not, and labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    labels[:4] = range(4)
    logits = rng.normal(size=(n, 3, 4))
    logits[np.arange(n), :, labels] += spread
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), labels


def fitted_fusion(way="svm+lr", kernel="rbf", **options):
    log_prob, labels = member_outputs(300)
    svm = fit_svm(np.exp(log_prob).reshape(-1, 12), labels, kernel=kernel)
    return fit_fusion(log_prob, labels, svm=svm, way=way, **options)


def tiny_bundle(card=None, share_cnn=False, calibration=None, **fusion):
    card = tiny_card() if card is None else card
    return make_bundle(card, members(NetworkShape.from_card(card), share_cnn), fitted_fusion(**fusion), calibration)


def random_batch(shape, n, seed=9):
    """A `Batch` of n examples of normal numbers, with the mask feature 0 or 1."""
    rng = np.random.default_rng(seed)
    curves = rng.normal(size=(n, shape.steps, shape.features)).astype(np.float32)
    if shape.mask is not None:
        curves[:, :, shape.mask] = rng.integers(0, 2, (n, shape.steps))
        curves *= curves[:, :, shape.mask : shape.mask + 1]
    images = rng.normal(size=(n, shape.planes, shape.side, shape.side)).astype(np.float32)
    return Batch(images, curves, rng.normal(size=(n, shape.context)).astype(np.float32))


def part(batch, rows):
    return Batch(batch.images[rows], batch.light_curves[rows], batch.contexts[rows])


def parity_folder():
    """The authors' outputs, see its README; skips the test without."""
    root = os.environ.get("DGL_SHARED")
    if not root:
        pytest.skip("DGL_SHARED is not set: the authors' outputs for parity are in its data/parity")
    return Path(root) / "data" / "parity"


def published_weights(name, shapes):
    """The weights that the README of the parity data prescribes for network `name` ("T14/LoNet")."""
    weights = {}
    for key, size in shapes.items():
        digest = hashlib.sha256(f"{name}/{key}".encode()).digest()
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.tensor(1)
            continue
        if key.endswith("running_var"):
            value = rng.uniform(0.5, 1.5, size)
        elif key.endswith(("running_mean", "bias")) or "bias_" in key:
            value = rng.normal(0, 0.1, size)
        elif len(size) == 1:
            value = rng.uniform(0.5, 1.5, size)
        else:
            value = rng.normal(0, 1, size) / np.sqrt(np.prod(size[1:]))
        weights[key] = torch.from_numpy(value.astype(np.float32))
    return weights
