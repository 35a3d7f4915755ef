"""Networks that the ensemble is compared with, trained on the same data by the same commands.

ZipperNet is of Morgan et al. 2022 (arXiv:2112.01541); the CNN+LSTM is a network that is often taken for DeepGraviLens. They see
image and light curve; numbers beside them (the context of alert bundles) have no place in them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dgl_broker.errors import InputUnavailable, StateError
from dgl_broker.evaluation.scoring import score_network, score_table
from dgl_broker.training.augment import Augmentation, Augmenter
from dgl_broker.training.checkpoint import load_weights, save_weights
from dgl_broker.training.sampler import draw_rows
from dgl_broker.training.stack import members_of

BASELINES = {
    "zippernet": {"epochs": 40, "batch": 128, "learning_rate": 1e-3, "weight_decay": 0.0},
    "cnn_lstm": {"epochs": 30, "batch": 64, "learning_rate": 1e-3, "weight_decay": 1e-5, "schedule": "plateau"},
}
COMMON = {"schedule": "constant", "warmup_epochs": 0, "patience": 10**6, "monitor": "loss", "balance": "loss", "clip": 0.0}


class ZipperNet(nn.Module):
    """Convolutions on the image, an LSTM on the light curve, a small network over both; (N, T, F), (N, C, S, S) -> (N, 4)."""

    def __init__(self, planes, side, features, classes=4):
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(planes, 48, 15, stride=3, padding=2), nn.ReLU(), nn.Conv2d(48, 96, 5, padding=2), nn.MaxPool2d(2),
            nn.Dropout2d(0.25), nn.Flatten(), nn.LazyLinear(408), nn.ReLU(), nn.Dropout(0.5), nn.Linear(408, 25),
            nn.LogSoftmax(1),
        )  # fmt: skip
        self.curve = nn.LSTM(features, 128, num_layers=2, batch_first=True)
        self.last = nn.Linear(128, 25)
        self.joined = nn.Sequential(nn.Linear(50, 8), nn.ReLU(), nn.Linear(8, classes))
        _measure(self.image, planes, side)

    def forward(self, light_curve, image, context=None):
        """Log-probabilities (N, 4)."""
        steps, _ = self.curve(light_curve)
        both = torch.cat([self.image(image), self.last(steps[:, -1])], 1)
        return torch.log_softmax(self.joined(both), 1)


class CnnLstm(nn.Module):
    """Four convolutions with batch normalisation and pooling, a two-layer LSTM, three dense layers over both."""

    def __init__(self, planes, side, features, classes=4):
        super().__init__()
        layers, n_in = [], planes
        for n_out, padding in ((32, 1), (64, 1), (128, 1), (256, 0)):
            side = side + 2 * padding - 2
            layers += [nn.Conv2d(n_in, n_out, 3, padding=padding), nn.BatchNorm2d(n_out), nn.ReLU()]
            if side >= 2:  # stamps of 30 px are one pixel wide before the last pooling
                layers.append(nn.MaxPool2d(2))
                side //= 2
            n_in = n_out
        self.image = nn.Sequential(*layers, nn.Flatten())
        self.curve = nn.LSTM(features, 128, num_layers=2, batch_first=True, dropout=0.3)
        self.joined = nn.Sequential(
            nn.Linear(256 * side * side + 128, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 128), nn.ReLU(),
            nn.Dropout(0.5), nn.Linear(128, classes),
        )  # fmt: skip

    def forward(self, light_curve, image, context=None):
        """Log-probabilities (N, 4)."""
        _, (hidden, _) = self.curve(light_curve)
        return torch.log_softmax(self.joined(torch.cat([self.image(image), hidden[-1]], 1)), 1)


NETWORKS = {"zippernet": ZipperNet, "cnn_lstm": CnnLstm}


def _measure(module, planes, side):
    """Give lazy layers their size."""
    module.eval()
    with torch.no_grad():
        module(torch.zeros(1, planes, side, side))
    module.train()


def build_baseline(name, card):
    """A baseline for a card's input, with fresh weights."""
    image, curve = card["input"]["image"], card["input"]["light_curve"]
    planes = image["planes"] if "planes" in image else image["bands"]
    features = curve["features"] if "features" in curve else curve["bands"]
    return NETWORKS[name](len(planes), image["side"], len(features))


@dataclass(frozen=True, eq=False)
class Baseline:
    """A trained single network in a folder: `baseline.json` and `weights.safetensors`."""

    name: str
    card: dict
    net: nn.Module
    about: dict

    @property
    def id(self):
        """Name and input, for reports."""
        return f"{self.card['id']}_{self.name}"

    def score(self, table, device, change=None, advance=None):
        """`Scored` of a table's rows."""
        return score_network(self.net, self.name, table, device, change, advance)


def save_baseline(path, name, card, net, about):
    """Write a baseline's folder."""
    path = Path(path)
    save_weights(path / "weights.safetensors", net.state_dict())
    try:
        (path / "baseline.json").write_text(json.dumps({"name": name, "card": card, "about": about}, indent=1) + "\n")
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error}") from error


def load_baseline(path):
    """The `Baseline` in a folder; InputUnavailable where there is none."""
    path = Path(path)
    try:
        said = json.loads((path / "baseline.json").read_text())
        net = build_baseline(said["name"], said["card"])
    except (OSError, ValueError, KeyError) as error:
        raise InputUnavailable(f"{path}: holds no baseline: {error}") from error
    try:
        net.load_state_dict(load_weights(path / "weights.safetensors"))
    except RuntimeError as error:
        raise StateError(f"{path}: weights do not fit the network: {error}") from error
    return Baseline(said["name"], said["card"], net.eval(), said["about"])


def fit_authors_svm(bare, train, validation, card, augmentation, device, seed, max_rows=15000):
    """The authors' SVM: fitted on outputs for the training set as augmented, chosen by accuracy on validation.

    Their code does so (run_svm_ensemble.py:79-131 at 2ecf054); that the networks were fitted on the same rows is what is
    compared with here. At most `max_rows` rows, drawn alike, enter: the time of an SVM goes with their square.

    Returns
    -------
    svm : dgl_broker.model.SvmArrays
    accuracy : float
        On validation.
    """
    from dgl_broker.model import fit_svm
    from dgl_broker.model.fitting import PUBLISHED_C
    from dgl_broker.model.svm import KERNELS

    rng = np.random.default_rng([seed, 11])
    augment = Augmenter(Augmentation.of(augmentation), card["input"])
    generator = torch.Generator().manual_seed(seed)

    def augmented(*arrays):
        return tuple(a.numpy() for a in augment(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays), generator))

    def outputs(table, change=None):
        n = min(len(table), max_rows)
        picked = table.select(np.sort(draw_rows(np.full(len(table), 1 / len(table)), n, rng)))
        found = score_table(bare, picked, device, "float32", change=change)
        return np.exp(members_of(found)).reshape(n, -1), picked.labels["class"].astype(int)

    (x, y), (x_seen, y_seen) = outputs(train, augmented), outputs(validation)
    best, best_accuracy = None, -1.0
    for c in PUBLISHED_C:
        for kernel in KERNELS:
            svm = fit_svm(x, y, kernel=kernel, C=c)
            called = svm.classify(svm.pairwise(torch.from_numpy(x_seen))).numpy()
            accuracy = float((called == y_seen).mean())
            if accuracy > best_accuracy:
                best, best_accuracy = svm, accuracy
    return best, best_accuracy
