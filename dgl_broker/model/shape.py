"""What a network takes in, and how wide it is: the card's `input` and `network` parts as checked values.

The defaults are the published widths (github.com/nicolopinci/deepgravilens, networks/networks.py).
"""

from dataclasses import asdict, dataclass, field
from typing import get_type_hints

from dgl_broker.errors import ConfigError
from dgl_broker.scores import CLASSES

MAX_WIDTH = 65536  # units of any one layer: a card beyond it is damaged or hostile
MAX_LAYERS = 16


@dataclass(frozen=True, slots=True)
class CnnWidths:
    """DeepCNN: one entry per convolution, then two hidden dense layers and the features."""

    channels: tuple[int, ...] = (64, 128, 256)
    kernels: tuple[int, ...] = (15, 5, 5)
    strides: tuple[int, ...] = (3, 2, 2)
    paddings: tuple[int, ...] = (2, 2, 2)
    hidden: tuple[int, ...] = (512, 128)
    features: int = 64
    dropout_maps: float = 0.25
    dropout: float = 0.5

    def side_after(self, side):
        """Side [px] of the last feature map for an image of `side` px; below 1 where the kernels do not fit."""
        return self.sides_after(side)[-1]

    def sides_after(self, side):
        """Side [px] of each feature map for an image of `side` px; the last is below 1 where the kernels do not fit."""
        sides = []
        for kernel, stride, padding in zip(self.kernels, self.strides, self.paddings, strict=True):
            side = (side + 2 * padding - kernel) // stride + 1
            sides.append(side)
            if side < 1:
                break
        return sides


@dataclass(frozen=True, slots=True)
class GruWidths:
    """ShallowGRU: stacked GRU layers, last step, then the features."""

    hidden: int = 16
    layers: int = 2
    features: int = 64
    dropout: float = 0.4


@dataclass(frozen=True, slots=True)
class FcWidths:
    """SmallImageFC: three hidden dense layers, the features, two more hidden layers in the head."""

    hidden: tuple[int, ...] = (256, 128, 64)
    features: int = 32
    head: tuple[int, ...] = (16, 8)


@dataclass(frozen=True, slots=True)
class GlonetWidths:
    """GloNet: hidden dense layers, the features, one hidden layer in the head."""

    hidden: tuple[int, ...] = (4096, 2048, 1024, 512, 256, 128, 64)
    features: int = 32
    head: tuple[int, ...] = (8,)
    dropout: float = 0.2


@dataclass(frozen=True, slots=True)
class TransformerWidths:
    """LoNet's encoder: layers, heads and units of the feed-forward part."""

    layers: int = 4
    heads: int = 4
    feedforward: int = 2048
    dropout: float = 0.1


@dataclass(frozen=True, slots=True)
class LonetWidths:
    """LoNet behind its encoder: one hidden layer, the features, the head."""

    hidden: int = 64
    features: int = 32
    head: tuple[int, ...] = (8,)
    dropout: float = 0.2


@dataclass(frozen=True, slots=True)
class MunetWidths:
    """MuNet behind its three trunks: what the CNN's features are narrowed to, one hidden layer, the features, the head."""

    cnn: int = 32
    hidden: int = 64
    features: int = 32
    head: tuple[int, ...] = (16, 8)
    dropout: float = 0.2


@dataclass(frozen=True, slots=True)
class Widths:
    """Widths of all parts; what a card leaves out has the published value."""

    cnn: CnnWidths = field(default_factory=CnnWidths)
    gru: GruWidths = field(default_factory=GruWidths)
    fc: FcWidths = field(default_factory=FcWidths)
    glonet: GlonetWidths = field(default_factory=GlonetWidths)
    transformer: TransformerWidths = field(default_factory=TransformerWidths)
    lonet: LonetWidths = field(default_factory=LonetWidths)
    munet: MunetWidths = field(default_factory=MunetWidths)

    @classmethod
    def from_dict(cls, values, where="network.widths"):
        """Widths as a card writes them; ConfigError names the key, what was found and what was expected."""
        parts = get_type_hints(cls)
        _check_keys(values, parts, where)
        widths = cls(**{name: _part(parts[name], part, f"{where}.{name}") for name, part in values.items()})
        cnn = widths.cnn
        lengths = {len(cnn.channels), len(cnn.kernels), len(cnn.strides), len(cnn.paddings)}
        if len(lengths) != 1:
            raise ConfigError(
                f"{where}.cnn: {len(cnn.channels)} channels, {len(cnn.kernels)} kernels, {len(cnn.strides)} strides and "
                f"{len(cnn.paddings)} paddings, expected one of each per convolution"
            )
        _check_length(cnn.hidden, 2, f"{where}.cnn.hidden")
        _check_length(widths.fc.hidden, 3, f"{where}.fc.hidden")
        _check_length(widths.fc.head, 2, f"{where}.fc.head")
        return widths

    def to_dict(self):
        """As a card writes them: plain dictionaries, lists and numbers."""
        return {name: {k: list(v) if isinstance(v, tuple) else v for k, v in p.items()} for name, p in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Everything that fixes the tensors of the networks.

    Image (planes, side, side), light curve (steps, features), context (context,). `mask` is the index of the light-curve
    feature that is 1 where a step holds data, or None where all do; a card names it, or calls a feature "mask".
    """

    planes: int
    side: int
    steps: int
    features: int
    context: int = 0
    widths: Widths = field(default_factory=Widths)
    mask: int | None = None
    classes: int = len(CLASSES)

    @property
    def informed(self):
        """Length of the informed vector: mean and standard deviation per feature, and the context."""
        return 2 * self.features + self.context

    @classmethod
    def paper(cls, n_steps):
        """The published input: griz image of 45 x 45 px, light curve of 14 or 7 steps in four bands."""
        if n_steps not in (7, 14):
            raise ConfigError(f"n_steps {n_steps!r}, expected 14 or 7, the lengths of the published light curves")
        return cls(planes=4, side=45, steps=n_steps, features=4, widths=paper_widths(n_steps))

    @classmethod
    def from_card(cls, card):
        """Shape that a bundle's card asks for; ConfigError names what is wrong in it."""
        where = f"bundle {card.get('id')}"
        inputs = _section(card, "input", where)
        image = _section(inputs, "image", f"{where}: input")
        curve = _section(inputs, "light_curve", f"{where}: input")
        paper = card.get("kind") == "paper"
        planes = _names(image, "bands" if paper else "planes", f"{where}: input.image")
        features = _names(curve, "bands" if paper else "features", f"{where}: input.light_curve")
        context = [] if paper else _names(inputs, "context", f"{where}: input", may_be_empty=True)
        mask = curve.get("mask", "mask" if "mask" in features else None)
        if mask is not None and mask not in features:
            raise ConfigError(f"{where}: input.light_curve.mask {mask!r}, expected one of the features {list(features)}")
        steps = _integer(curve.get("steps"), 1, 4096, f"{where}: input.light_curve.steps")
        network = card.get("network", {})
        widths = network.get("widths") if isinstance(network, dict) else None
        shape = cls(
            planes=len(planes),
            side=_integer(image.get("side"), 4, 512, f"{where}: input.image.side"),
            steps=steps,
            features=len(features),
            context=len(context),
            widths=paper_widths(steps) if widths is None else Widths.from_dict(widths, f"{where}: network.widths"),
            mask=None if mask is None else list(features).index(mask),
        )
        if shape.widths.cnn.side_after(shape.side) < 1:
            cnn = shape.widths.cnn
            raise ConfigError(f"{where}: network.widths.cnn: kernels {cnn.kernels} do not fit a side of {shape.side} px")
        return shape


def paper_widths(n_steps):
    """Published widths; the GRU has 8 hidden units for light curves of 7 steps and 16 otherwise."""
    return Widths(gru=GruWidths(hidden=8 if n_steps == 7 else 16))


def alert_widths(side=30):
    """Narrow widths for alert stamps of `side` px: small kernels, about a tenth of the published work.

    A published kernel of 15 px would span half an LSST stamp (30 px). Stamps above 40 px (ZTF: 63) are strided at once.
    """
    return Widths(
        cnn=CnnWidths(
            channels=(24, 48, 96),
            kernels=(5, 3, 3),
            strides=(1 if side <= 40 else 2, 2, 2),
            paddings=(2, 1, 1),
            hidden=(128, 64),
            dropout=0.3,
        ),
        gru=GruWidths(hidden=32, dropout=0.2),
        fc=FcWidths(hidden=(96, 64, 48)),
        glonet=GlonetWidths(hidden=(256, 128, 64)),
        transformer=TransformerWidths(layers=2, feedforward=256),
    )


def _section(values, key, where):
    found = values.get(key) if isinstance(values, dict) else None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {key} is {found!r}, expected a table")
    return found


def _names(values, key, where, may_be_empty=False):
    """Distinct names, as a list or as the letters of a string."""
    found = values.get(key)
    good = isinstance(found, str | list) and all(isinstance(n, str) for n in found) and len(set(found)) == len(found)
    if not good or len(found) > 1024 or not (found or may_be_empty):
        raise ConfigError(f"{where}.{key} is {found!r}, expected distinct names")
    return list(found)


def _integer(value, low, high, where):
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{where} {value!r}, expected an integer from {low} to {high}")
    return value


def _check_keys(values, known, where):
    if not isinstance(values, dict):
        raise ConfigError(f"{where} is {values!r}, expected a table")
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}, expected {', '.join(known)}")


def _check_length(values, length, where):
    if len(values) != length:
        raise ConfigError(f"{where} has {len(values)} entries, expected {length}")


def _part(kind, values, where):
    """One part of the widths, each value checked against the type that the part declares."""
    types = get_type_hints(kind)
    _check_keys(values, types, where)
    checked = {}
    for name, value in values.items():
        at = f"{where}.{name}"
        low = 0 if name == "paddings" else 1
        if types[name] is float:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < 1.0:
                raise ConfigError(f"{at} {value!r}, expected a share from 0 to below 1")
            checked[name] = float(value)
        elif types[name] is int:
            checked[name] = _integer(value, low, MAX_LAYERS if name in ("layers", "heads") else MAX_WIDTH, at)
        else:
            if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_LAYERS:
                raise ConfigError(f"{at} {value!r}, expected a list of 1 to {MAX_LAYERS} integers")
            checked[name] = tuple(_integer(v, low, MAX_WIDTH, at) for v in value)
    return kind(**checked)
