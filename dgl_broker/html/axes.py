"""Scales, ticks and the frame that every plot of this package stands in, as SVG.

Lengths are CSS pixels at natural size. Colours come from the page's style sheet, so that one plot serves dark and light.
"""

import math
from dataclasses import dataclass

import numpy as np

from dgl_broker.html.markup import element, number

SCALES = ("linear", "log", "logit")


def _bend(scale):
    if scale == "log":
        return np.log10
    if scale == "logit":
        return lambda v: np.log10(np.asarray(v, float) / (1.0 - np.asarray(v, float)))
    return lambda v: np.asarray(v, float)


@dataclass(frozen=True)
class Axis:
    """What an axis measures: `label` with its unit, `low` and `high` in data units, `scale` of `SCALES`.

    Values beyond the ends are drawn at the ends.
    """

    label: str
    low: float
    high: float
    scale: str = "linear"

    def __post_init__(self):
        ends = (self.low, self.high)
        if self.scale not in SCALES:
            raise ValueError(f"{self.label}: scale {self.scale!r}, expected one of {', '.join(SCALES)}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self.label}: from {self.low} to {self.high}, expected two finite ends in order")
        if self.scale != "linear" and not (self.low > 0 and (self.scale == "log" or self.high < 1)):
            raise ValueError(f"{self.label}: {ends} do not lie on a {self.scale} scale")

    def fraction(self, values):
        """Places along the axis, 0 at `low` to 1 at `high`, clipped."""
        bend = _bend(self.scale)
        clipped = np.clip(np.asarray(values, float), self.low, self.high)
        low, high = float(bend(self.low)), float(bend(self.high))
        return (bend(clipped) - low) / (high - low)

    def ticks(self, about=6):
        """[(value, label)] at round places."""
        if self.scale == "log":
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            if last - first >= 1:
                step = max(1, math.ceil((last - first) / about))
                return [(10.0**k, power_label(k)) for k in range(first, last + 1, step)]
        if self.scale == "logit":
            return _logit_ticks(self.low, self.high)
        return _linear_ticks(self.low, self.high, about)


def power_label(exponent):
    """A power of ten as people write it: 0.01, 1, 100, 10⁻⁶."""
    if -3 <= exponent <= 3:
        return f"{10.0**exponent:g}"
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}"


def _linear_ticks(low, high, about):
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(k * step, f"{k * step + 0.0:.{decimals}f}".replace("-", "−")) for k in range(first, last + 1)]


def _logit_ticks(low, high):
    values = [10.0**k for k in range(-12, 0)] + [0.5] + [1 - 10.0**k for k in range(-1, -13, -1)]
    inside = [v for v in values if low * (1 - 1e-9) <= v <= high + (1 - high) * 1e-9]
    if len(inside) > 9:
        inside = [v for n, v in enumerate(inside) if v == 0.5 or (n - inside.index(0.5)) % 2 == 0 or 0.05 < v < 0.95]
    return [(v, power_label(round(math.log10(v))) if v < 0.2 else f"{v:.12g}") for v in inside]


def padded(values, fraction=0.06, minimum=1e-9):
    """(low, high) around finite values with some air; a single value gets a span of its own size."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    span = max(high - low, minimum, 1e-6 * max(abs(low), abs(high)))
    if high == low:
        span = max(abs(high), 1.0)
    return low - fraction * span, high + fraction * span


@dataclass(frozen=True)
class Frame:
    """A plot's rectangle on its sheet: outer `width` and `height`, and the margins that hold ticks and labels."""

    x: Axis
    y: Axis
    width: int = 520
    height: int = 300
    left: int = 58
    right: int = 16
    top: int = 14
    bottom: int = 44

    def px(self, values):
        """Horizontal places of data values."""
        return self.left + self.x.fraction(values) * (self.width - self.left - self.right)

    def py(self, values):
        """Vertical places of data values, growing downwards."""
        return self.height - self.bottom - self.y.fraction(values) * (self.height - self.top - self.bottom)

    def grid(self, x_ticks=6, y_ticks=5):
        """Grid lines, tick labels and axis labels."""
        parts = []
        base, end = self.height - self.bottom, self.width - self.right
        for value, label in self.x.ticks(x_ticks):
            at = float(self.px(value))
            parts.append(element("line", x1=at, x2=at, y1=self.top, y2=base, class_="grid"))
            parts.append(element("text", label, x=at, y=base + 15, class_="tick", text_anchor="middle"))
        for value, label in self.y.ticks(y_ticks):
            at = float(self.py(value))
            parts.append(element("line", x1=self.left, x2=end, y1=at, y2=at, class_="grid"))
            parts.append(element("text", label, x=self.left - 7, y=at + 3.5, class_="tick", text_anchor="end"))
        middle = (self.left + end) / 2
        parts.append(element("text", self.x.label, x=middle, y=self.height - 8, class_="label", text_anchor="middle"))
        across = (self.top + base) / 2
        turn = f"translate(13 {number(across)}) rotate(-90)"
        parts.append(element("text", self.y.label, transform=turn, class_="label", text_anchor="middle"))
        return element("g", parts, aria_hidden="true")

    def border(self):
        """The two axis lines, drawn over the data's edge."""
        base = self.height - self.bottom
        path = f"M{self.left} {self.top}V{base}H{self.width - self.right}"
        return element("path", d=path, class_="axis")

    def sheet(self, *parts, title, description=None, class_="plot"):
        """The finished `svg`, with what it shows in words for those who cannot see it."""
        return sheet(self.width, self.height, *parts, title=title, description=description, class_=class_)


def sheet(width, height, *parts, title, description=None, class_="plot"):
    """An `svg` of natural size `width` x `height` that shrinks with its column."""
    words = title if description is None else f"{title}. {description}"
    return element(
        "svg",
        parts,
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        aria_label=words,
        class_=class_,
    )


def path(xs, ys, closed=False):
    """`d` of a polyline through points."""
    d = "".join(f"{'L' if n else 'M'}{number(x)} {number(y)}" for n, (x, y) in enumerate(zip(xs, ys)))
    return d + ("Z" if closed else "")
