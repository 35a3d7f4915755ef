"""The three single-mode networks of DeepGraviLens: image, light curve, and small image (Pinciroli Vago & Fraternali 2023).

Layer names are those of the published checkpoints (doi:10.1007/s00521-023-08766-9, github.com/nicolopinci/deepgravilens), so
these load unchanged. Axes: N batch, C plane, H, W pixels, T step, F light-curve feature, K context. Every network is called
as `net(light_curve, image, context)` with (N, T, F), (N, C, H, W), (N, K) and gives log-probabilities (N, 4); parts of the
input that a network does not look at are ignored. Each sample is scored by itself.
"""

import torch
from torch import nn

MAPS_BYTES = 4 << 20  # of a convolution's maps at a time, on a CPU: they stay in its cache, and in memory it has already


def match(values, layer):
    """`values` in the floating type of `layer`'s weights, so that half-precision parts can stand among others."""
    return values.to(layer.weight.dtype)


def informed_statistics(light_curve, context=None, mask=None):
    """Mean and standard deviation of each light-curve feature over time, then the context.

    Parameters
    ----------
    light_curve : tensor, shape (N, T, F)
    context : tensor, shape (N, K), or None
    mask : int or None
        Index of the feature that is 1 where a step holds data: only those steps enter (the mask itself: all steps).

    Returns
    -------
    tensor, shape (N, 2 F + K)
        Standard deviations have n - 1 in the denominator as in the published networks; 0 for fewer than two steps.
    """
    n_steps, n_features = light_curve.shape[1:]
    if mask is None:
        means = light_curve.mean(1)
        stds = light_curve.std(1) if n_steps > 1 else torch.zeros_like(means)
    else:
        weight = light_curve[:, :, mask : mask + 1].clamp(0, 1).expand(-1, -1, n_features).clone()
        weight[:, :, mask] = 1
        count = weight.sum(1)
        means = (light_curve * weight).sum(1) / count.clamp(min=1)
        squares = (weight * (light_curve - means[:, None]) ** 2).sum(1)
        stds = (squares / (count - 1).clamp(min=1)).sqrt()
    parts = (means, stds) if context is None else (means, stds, context)
    return torch.cat(parts, dim=1)


class Network(nn.Module):
    """A classifier with `features` and a `head` over them; `shape` says what it takes in."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def features(self, light_curve, image, context=None, cache=None):
        """Features (N, n) that the head classifies; `cache` keeps what networks of one ensemble share."""
        raise NotImplementedError

    def head(self, features):
        """Logits (N, 4) of features (N, n)."""
        raise NotImplementedError

    def forward(self, light_curve, image, context=None, cache=None):
        """Log-probabilities (N, 4) of the classes in the order of `dgl_broker.scores.CLASSES`."""
        return torch.log_softmax(self.head(self.features(light_curve, image, context, cache)), dim=1)


class DeepCNN(Network):
    """Image network: convolutions with batch normalisation, then dense layers; the last two have no activation between."""

    def __init__(self, shape):
        super().__init__(shape)
        w = shape.widths.cnn
        channels = (shape.planes, *w.channels)
        self.n_convolutions = len(w.channels)
        for i in range(self.n_convolutions):
            convolution = nn.Conv2d(channels[i], channels[i + 1], w.kernels[i], stride=w.strides[i], padding=w.paddings[i])
            self.add_module(f"conv{i + 1}", convolution)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(channels[i + 1]))
        largest = max(n * side**2 for n, side in zip(w.channels, w.sides_after(shape.side)))
        self.n_at_once = max(8, MAPS_BYTES // (4 * largest) // 8 * 8)
        self.dropout1 = nn.Dropout2d(w.dropout_maps)
        self.dropout2 = nn.Dropout(w.dropout)
        self.fc1 = nn.Linear(channels[-1] * w.side_after(shape.side) ** 2, w.hidden[0])
        self.fc2 = nn.Linear(w.hidden[0], w.hidden[1])
        self.fc3 = nn.Linear(w.hidden[1], w.features)
        self.fc4 = nn.Linear(w.features, shape.classes)

    def features(self, light_curve, image, context=None, cache=None):
        if image.device.type == "cpu" and not torch.is_grad_enabled():
            maps = torch.cat([self._maps(part) for part in image.split(self.n_at_once)])
        else:
            maps = self._maps(image)
        flat = self.dropout1(maps).flatten(1)
        hidden = self.dropout2(torch.relu(self.fc1(flat)))
        return self.fc3(self.fc2(match(hidden, self.fc2)))

    def _maps(self, image):
        maps = match(image, self.conv1)
        for i in range(1, self.n_convolutions + 1):
            maps = torch.relu_(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(maps)))  # in place: no second map in the cache
        return maps

    def head(self, features):
        return self.fc4(match(features, self.fc4))


class ShallowGRU(Network):
    """Light-curve network: stacked GRU; its last step, the alert itself, is classified."""

    def __init__(self, shape):
        super().__init__(shape)
        w = shape.widths.gru
        between = w.dropout if w.layers > 1 else 0.0
        self.rnn = nn.GRU(shape.features, w.hidden, num_layers=w.layers, batch_first=True, dropout=between)
        self.bn = nn.BatchNorm1d(w.hidden)
        self.classifier = nn.Sequential(nn.Linear(w.hidden, w.features))
        self.final_classifier = nn.Sequential(nn.ReLU(), nn.Linear(w.features, shape.classes))

    def features(self, light_curve, image=None, context=None, cache=None):
        steps, _ = self.rnn(light_curve.to(self.rnn.weight_ih_l0.dtype))
        return self.classifier(self.bn(steps[:, -1]))

    def head(self, features):
        return self.final_classifier(match(features, self.final_classifier[1]))


class SmallImageFC(Network):
    """Dense network over the pixels; four hidden layers give the features, the head has two more."""

    N_FEATURE_LAYERS = 4
    N_LAYERS = 7

    def __init__(self, shape):
        super().__init__(shape)
        w = shape.widths.fc
        widths = (shape.planes * shape.side**2, *w.hidden, w.features, *w.head, shape.classes)
        for i in range(self.N_LAYERS):
            self.add_module(f"fc{i + 1}", nn.Linear(widths[i], widths[i + 1]))
            self.add_module(f"bn{i + 1}", nn.BatchNorm1d(widths[i + 1]))

    def _layer(self, number, values):
        dense = getattr(self, f"fc{number}")
        return getattr(self, f"bn{number}")(dense(match(values, dense)))

    def features(self, light_curve, image, context=None, cache=None):
        values = image.flatten(1)
        for number in range(1, self.N_FEATURE_LAYERS + 1):
            values = torch.relu(self._layer(number, values))
        return values

    def head(self, features):
        values = features
        for number in range(self.N_FEATURE_LAYERS + 1, self.N_LAYERS):
            values = torch.relu(self._layer(number, values))
        return self._layer(self.N_LAYERS, values)
