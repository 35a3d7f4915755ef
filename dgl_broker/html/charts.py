"""Plots for evaluation: curves with intervals, histograms, rates with whiskers, shares as bars."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dgl_broker.html.axes import Axis, Frame, path, sheet
from dgl_broker.html.markup import Markup, element, join, number

_DASHES = (None, "7 3", "2 3", "9 3 2 3", "5 2 1 2 1 2", "12 4")
N_STYLES = 6


@dataclass(frozen=True)
class Series:
    """One curve: `x`, `y` and, where known, an interval `lo`..`hi`, all of shape (n,). Points that are not finite break it."""

    name: str
    x: Any
    y: Any
    lo: Any = None
    hi: Any = None


def _runs(good):
    """Stretches of True, as slices."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    return [slice(a, b) for a, b in zip(edges[::2], edges[1::2])]


def _figure(drawing, caption, legend=()):
    key = element("div", legend, class_="legend") if legend else None
    return element("figure", drawing, key, element("figcaption", caption) if caption else None)


def _line_key(style, name, dots=True):
    dash = _DASHES[style]
    line = element("path", d="M0 7h26", class_="line", stroke_dasharray=dash)
    dot = element("circle", cx=13, cy=7, r=3, class_="fill") if dots else None
    drawing = element("svg", line, dot, viewBox="0 0 26 14", width=26, height=14, class_=f"s{style + 1}", aria_hidden="true")
    return element("span", drawing, " ", name)


def plot_lines(series, x, y, title, caption=None, marks=(), dots=True, width=520, height=320, diagonal=False):
    """Curves with shaded intervals.

    Parameters
    ----------
    series : sequence of Series
        At most six, each with a colour and a dash of its own.
    x, y : Axis
    title : str
        What the plot shows, for those who cannot see it.
    caption : str or Markup, optional
    marks : sequence of (float, str)
        Places on the x axis to mark, with a word each.
    dots : bool
        Mark the points of a curve.
    diagonal : bool
        Draw y = x.
    """
    if len(series) > N_STYLES:
        raise ValueError(f"{len(series)} curves in one plot, expected at most {N_STYLES}")
    frame = Frame(x, y, width, height)
    parts = [frame.grid()]
    if diagonal:
        ends = np.linspace(max(x.low, y.low), min(x.high, y.high), 50)
        parts.append(element("path", d=path(frame.px(ends), frame.py(ends)), class_="reference"))
    for at, word in marks:
        px = float(frame.px(at))
        parts.append(element("path", d=f"M{number(px)} {frame.top}V{height - frame.bottom}", class_="trigger"))
        parts.append(element("text", word, x=px + 4, y=frame.top + 11, class_="tick trigger-text"))
    for style, one in enumerate(series):
        parts.append(element("g", _curve(frame, one, style, dots), class_=f"s{style + 1}"))
    parts.append(frame.border())
    drawing = frame.sheet(parts, title=title, description=_spoken(series))
    legend = [_line_key(n, s.name, dots) for n, s in enumerate(series)] if len(series) > 1 else ()
    return _figure(drawing, caption, legend)


def _curve(frame, one, style, dots):
    xs, ys = np.asarray(one.x, float), np.asarray(one.y, float)
    good = np.isfinite(xs) & np.isfinite(ys)
    parts = []
    if one.lo is not None:
        lo, hi = np.asarray(one.lo, float), np.asarray(one.hi, float)
        for run in _runs(good & np.isfinite(lo) & np.isfinite(hi)):
            px = frame.px(xs[run])
            if len(px) == 1:
                ends = frame.py([lo[run][0], hi[run][0]])
                parts.append(element("path", d=f"M{number(px[0])} {number(ends[0])}V{number(ends[1])}", class_="bar"))
                continue
            around = path(np.concatenate([px, px[::-1]]), np.concatenate([frame.py(hi[run]), frame.py(lo[run])[::-1]]), True)
            parts.append(element("path", d=around, class_="area"))
    for run in _runs(good):
        d = path(frame.px(xs[run]), frame.py(ys[run]))
        parts.append(element("path", d=d, class_="line", stroke_dasharray=_DASHES[style], stroke_linejoin="round"))
    if dots:
        for n in np.flatnonzero(good):
            text = f"{one.name}: {ys[n]:.4g} at {xs[n]:.4g}"
            if one.lo is not None and np.isfinite(one.lo[n]) and np.isfinite(one.hi[n]):
                text += f" ({one.lo[n]:.4g} to {one.hi[n]:.4g})"
            at = {"cx": float(frame.px(xs[n])), "cy": float(frame.py(ys[n]))}
            parts.append(element("circle", element("title", text), r=3, class_="fill", **at))
    return parts


def _spoken(series):
    words = []
    for one in series:
        ys = np.asarray(one.y, float)
        ys = ys[np.isfinite(ys)]
        words.append(f"{one.name} from {ys[0]:.3g} to {ys[-1]:.3g}" if ys.size else f"{one.name} has no point")
    return "; ".join(words)


def plot_histogram(edges, counts, x_label, title, caption=None, log_y=False, x_scale="linear", marks=(), width=520, height=280):
    """Histograms over the same bins, drawn as steps over one another.

    Parameters
    ----------
    edges : array, shape (n + 1,)
    counts : dict of str to array of shape (n,)
        At most six, by name.
    x_label, title : str
    log_y : bool
    """
    if len(counts) > N_STYLES:
        raise ValueError(f"{len(counts)} histograms in one plot, expected at most {N_STYLES}")
    edges = np.asarray(edges, float)
    most = max((float(np.max(c)) for c in counts.values() if len(c)), default=0.0) or 1.0
    floor = 0.5 if log_y else 0.0
    y = Axis("number", floor, most * (1.6 if log_y else 1.06), "log" if log_y else "linear")
    frame = Frame(Axis(x_label, float(edges[0]), float(edges[-1]), x_scale), y, width, height)
    parts = [frame.grid()]
    for style, (name, values) in enumerate(counts.items()):
        values = np.asarray(values, float)
        xs = np.concatenate([[edges[0]], np.repeat(edges[1:-1], 2), [edges[-1]]])
        px, py = frame.px(xs), frame.py(np.maximum(np.repeat(values, 2), floor))
        base = height - frame.bottom
        around = path(np.concatenate([[px[0]], px, [px[-1]]]), np.concatenate([[base], py, [base]]), True)
        parts.append(
            element("g", element("path", element("title", name), d=around, class_="tinted"), class_=f"s{style + 1}")
        )  # fmt: skip
    for at, word in marks:
        px = float(frame.px(at))
        parts.append(element("path", d=f"M{number(px)} {frame.top}V{height - frame.bottom}", class_="trigger"))
        parts.append(element("text", word, x=px + 4, y=frame.top + 11, class_="tick trigger-text"))
    parts.append(frame.border())
    spoken = "; ".join(f"{name}: {int(np.sum(v))} in all" for name, v in counts.items())
    legend = [_block_key(n, name) for n, name in enumerate(counts)] if len(counts) > 1 else ()
    return _figure(frame.sheet(parts, title=title, description=spoken), caption, legend)


def _block_key(style, name):
    block = element("rect", x=1, y=2, width=12, height=10, class_="tinted")
    drawing = element("svg", block, viewBox="0 0 14 14", width=14, height=14, class_=f"s{style + 1}", aria_hidden="true")
    return element("span", drawing, " ", name)


def plot_rates(rows, x, title, caption=None, width=620):
    """Rates with intervals, one a line, such as the false-positive rate of each kind of contaminant.

    Parameters
    ----------
    rows : sequence of (name, value, lo, hi, note)
        A value of None is an upper bound `hi` alone, drawn as an arrow; `note` stands at the right (the count, say).
    x : Axis
    title : str
    """
    rows = list(rows)
    frame = Frame(x, Axis("", 0.0, 1.0), width, 26 * len(rows) + 58, left=190, right=120, top=8, bottom=44)
    base, parts = frame.height - frame.bottom, []
    for value, label in x.ticks():
        at = float(frame.px(value))
        parts.append(element("line", x1=at, x2=at, y1=frame.top, y2=base, class_="grid"))
        parts.append(element("text", label, x=at, y=base + 15, class_="tick", text_anchor="middle"))
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(element("text", x.label, x=middle, y=frame.height - 8, class_="label", text_anchor="middle"))
    spoken = []
    for n, (name, value, lo, hi, note) in enumerate(rows):
        y = frame.top + 26 * n + 16
        parts.append(element("text", name, x=frame.left - 10, y=y + 4, text_anchor="end"))
        parts.append(element("text", note, x=frame.width - frame.right + 12, y=y + 4, class_="tick"))
        low, high = (float(v) for v in frame.px([x.low if lo is None else lo, hi]))
        words = f"{name}: below {hi:.3g}" if value is None else f"{name}: {value:.3g} ({lo:.3g} to {hi:.3g})"
        spoken.append(words)
        if value is None:
            d = f"M{number(high)} {y - 4}v8M{number(high)} {y}H{number(max(high - 22, frame.left))}m4 -3l-4 3l4 3"
            parts.append(element("path", element("title", words), d=d, class_="bar s1"))
        else:
            parts.append(element("path", d=f"M{number(low)} {y}H{number(high)}", class_="bar s1"))
            dot = element("circle", element("title", words), cx=float(frame.px(value)), cy=y, r=4, class_="fill s1")
            parts.append(dot)
    parts.append(element("path", d=f"M{frame.left} {frame.top}V{base}H{frame.width - frame.right}", class_="axis"))
    return _figure(frame.sheet(parts, title=title, description="; ".join(spoken)), caption)


def bars(rows, title, total=None, width=560, style=1):
    """Counts by name as horizontal bars, the number written at each.

    Parameters
    ----------
    rows : sequence of (name, count)
    title : str
    total : int, optional
        What the whole length stands for; by default the greatest count.
    """
    rows = list(rows)
    whole = float(total or max((c for _, c in rows), default=1) or 1)
    left, step, room = 190, 24, 70
    parts = []
    for n, (name, count) in enumerate(rows):
        y = step * n
        length = (width - left - room) * min(count / whole, 1.0)
        parts.append(element("text", name, x=left - 10, y=y + 16, text_anchor="end"))
        parts.append(element("rect", x=left, y=y + 5, width=width - left - room, height=14, class_="track", rx=2))
        parts.append(element("rect", x=left, y=y + 5, width=max(float(length), 1.5), height=14, class_=f"block s{style}", rx=2))
        parts.append(element("text", f"{count:,}".replace(",", " "), x=width - room + 10, y=y + 16, class_="tick"))
    spoken = "; ".join(f"{name} {count}" for name, count in rows)
    return element("figure", sheet(width, step * len(rows) + 6, parts, title=title, description=spoken))


def note(*parts):
    """A caption of several pieces, escaped."""
    return Markup(join(parts, " "))
