"""The three networks that see image and light curve together: LoNet, GloNet, MuNet (Pinciroli Vago & Fraternali 2023).

Layer names are those of the published checkpoints. The published LoNet runs its transformer over the batch axis, so that a
score depends on the alerts beside it; here every sample is its own sequence of length one.
"""

import math

import torch
from torch import nn

from dgl_broker.errors import ConfigError
from dgl_broker.model.networks import DeepCNN, Network, ShallowGRU, SmallImageFC, informed_statistics, match
from dgl_broker.model.shape import NetworkShape

GLONET_LAYER_WITHOUT_DROPOUT = 5  # of the published layers, counted from 1


class SingleStepAttention(nn.Module):
    """Self-attention over a sequence of one: the one weight is 1, so what remains is value and output projection.

    Keys as `torch.nn.MultiheadAttention`; the query and key parts of `in_proj_weight` never matter. Dropout of the one
    weight of each head acts as there.
    """

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = math.gcd(width, heads)
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    @property
    def weight(self):
        """Value projection (d, d)."""
        return self.in_proj_weight[-self.in_proj_weight.shape[1] :]

    def forward(self, x):
        """(N, d) to (N, d)."""
        width = x.shape[1]
        value = nn.functional.linear(x, self.weight, self.in_proj_bias[-width:])
        if self.training and self.dropout > 0:
            kept = nn.functional.dropout(value.new_ones(len(x), self.heads, 1), self.dropout)
            value = (value.view(len(x), self.heads, -1) * kept).flatten(1)
        return self.out_proj(value)


class EncoderLayer(nn.Module):
    """Post-norm transformer layer on sequences of one step; keys as `torch.nn.TransformerEncoderLayer`."""

    def __init__(self, width, widths):
        super().__init__()
        self.self_attn = SingleStepAttention(width, widths.heads, widths.dropout)
        self.linear1 = nn.Linear(width, widths.feedforward)
        self.dropout = nn.Dropout(widths.dropout)
        self.linear2 = nn.Linear(widths.feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout1 = nn.Dropout(widths.dropout)
        self.dropout2 = nn.Dropout(widths.dropout)

    def forward(self, x):
        """(N, d) to (N, d)."""
        x = self.norm1(x + self.dropout1(self.self_attn(x)))
        hidden = self.dropout(torch.relu(self.linear1(match(x, self.linear1))))
        return self.norm2(x + match(self.dropout2(self.linear2(hidden)), self.norm2))


class Encoder(nn.Module):
    """A stack of layers under the published names."""

    def __init__(self, width, widths):
        super().__init__()
        self.transformer_encoder = nn.Module()
        self.transformer_encoder.layers = nn.ModuleList(EncoderLayer(width, widths) for _ in range(widths.layers))

    def forward(self, x):
        """(N, d) to (N, d)."""
        for layer in self.transformer_encoder.layers:
            x = layer(x)
        return x


def _features_block(n_in, widths):
    """Two dense layers, each with ReLU and batch normalisation, dropout between."""
    return nn.Sequential(
        nn.Linear(n_in, widths.hidden),
        nn.ReLU(),
        nn.BatchNorm1d(widths.hidden),
        nn.Dropout(widths.dropout),
        nn.Linear(widths.hidden, widths.features),
        nn.ReLU(),
        nn.BatchNorm1d(widths.features),
    )


def _head_block(widths, classes):
    """Hidden layers of dense, ReLU, batch normalisation and dropout, then the logits."""
    layers, n_in = [], widths.features
    for width in widths.head:
        layers += [nn.Linear(n_in, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Dropout(widths.dropout)]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, classes))


class FusionNetwork(Network):
    """A network over several trunks: `fcn` gives the features, `out_fc` the logits."""

    def head(self, features):
        return self.out_fc(match(features, self.out_fc[0]))

    def informed(self, light_curve, context, cache):
        """The informed vector, computed once where networks of one ensemble share a `cache`."""
        if cache is None:
            return informed_statistics(light_curve, context, self.shape.mask)
        if "informed" not in cache:
            cache["informed"] = informed_statistics(light_curve, context, self.shape.mask)
        return cache["informed"]

    @staticmethod
    def trunk(network, light_curve, image, context, cache):
        """Features of a trunk, computed once where two networks hold the same one."""
        if cache is None:
            return network.features(light_curve, image, context)
        if id(network) not in cache:
            cache[id(network)] = network.features(light_curve, image, context)
        return cache[id(network)]

    def joined(self, parts, layer):
        """Parts (N, n) side by side in the floating type of `layer`."""
        return torch.cat([match(part, layer) for part in parts], dim=1)


class LoNet(FusionNetwork):
    """Local fusion: features of the image and light-curve trunks through a transformer encoder."""

    def __init__(self, shape):
        super().__init__(shape)
        w = shape.widths
        width = shape.informed + w.gru.features + w.cnn.features
        self.cnn = DeepCNN(shape)
        self.gru = ShallowGRU(shape)
        self.Transformer1d = Encoder(width, w.transformer)
        self.fcn = _features_block(width, w.lonet)
        self.out_fc = _head_block(w.lonet, shape.classes)

    def features(self, light_curve, image, context=None, cache=None):
        gru = self.trunk(self.gru, light_curve, image, context, cache)
        cnn = self.trunk(self.cnn, light_curve, image, context, cache)
        parts = (self.informed(light_curve, context, cache), gru, cnn)
        return self.fcn(self.Transformer1d(self.joined(parts, self.fcn[0])))


class GloNet(FusionNetwork):
    """Global fusion: statistics, light curve and pixels through dense layers."""

    def __init__(self, shape):
        super().__init__(shape)
        w = shape.widths.glonet
        n_in = shape.informed + shape.steps * shape.features + shape.planes * shape.side**2
        layers = []
        for number, width in enumerate(w.hidden, start=1):
            layers += [nn.Linear(n_in, width), nn.ReLU(), nn.BatchNorm1d(width)]
            if number != GLONET_LAYER_WITHOUT_DROPOUT:
                layers.append(nn.Dropout(w.dropout))
            n_in = width
        self.fcn = nn.Sequential(*layers, nn.Linear(n_in, w.features))
        heads, n_in = [], w.features
        for width in w.head:
            heads += [nn.Linear(n_in, width), nn.ReLU()]
            n_in = width
        self.out_fc = nn.Sequential(*heads, nn.Linear(n_in, shape.classes))

    def features(self, light_curve, image, context=None, cache=None):
        parts = (self.informed(light_curve, context, cache), light_curve.flatten(1), image.flatten(1))
        values = self.joined(parts, self.fcn[0])
        for layer in self.fcn:
            values = layer(match(values, layer) if isinstance(layer, nn.Linear) else values)
        return values


class MuNet(FusionNetwork):
    """Multi-modal fusion: features of all three trunks, the CNN's narrowed, with the statistics."""

    def __init__(self, shape):
        super().__init__(shape)
        w = shape.widths
        self.fc = SmallImageFC(shape)
        self.cnn = DeepCNN(shape)
        self.gru = ShallowGRU(shape)
        self.fc_cnn = nn.Linear(w.cnn.features, w.munet.cnn)
        self.fcn = _features_block(w.fc.features + w.munet.cnn + w.gru.features + shape.informed, w.munet)
        self.out_fc = _head_block(w.munet, shape.classes)

    def features(self, light_curve, image, context=None, cache=None):
        fc = self.trunk(self.fc, light_curve, image, context, cache)
        gru = self.trunk(self.gru, light_curve, image, context, cache)
        cnn = self.trunk(self.cnn, light_curve, image, context, cache)
        cnn = self.fc_cnn(match(cnn, self.fc_cnn))
        return self.fcn(self.joined((fc, cnn, gru, self.informed(light_curve, context, cache)), self.fcn[0]))


NETWORKS = {n.__name__: n for n in (DeepCNN, ShallowGRU, SmallImageFC, LoNet, GloNet, MuNet)}


def build_network(name, shape):
    """Network `name` (as in the paper: "LoNet", ...) for `shape`, with fresh weights; ConfigError for an unknown name."""
    if name not in NETWORKS:
        raise ConfigError(f"network {name!r}, expected one of {', '.join(NETWORKS)}")
    return NETWORKS[name](shape)


def build_paper_network(name, n_steps):
    """Network `name` at its published width for light curves of `n_steps` (14 or 7): `net(light_curve, image)`."""
    return build_network(name, NetworkShape.paper(n_steps))


def build_members(shape):
    """The ensemble's members, {"lonet": ..., "glonet": ..., "munet": ...}, with fresh weights, in evaluation mode."""
    return {name.lower(): NETWORKS[name](shape).eval() for name in ("LoNet", "GloNet", "MuNet")}
