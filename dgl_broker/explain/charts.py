"""Drawings of what moved a score: signed bars, a map of blocks over a stamp, and stems under the light curve's nights."""

import numpy as np

from dgl_broker.html.alert_words import signed
from dgl_broker.html.axes import Axis, Frame, sheet
from dgl_broker.html.bands import swatch
from dgl_broker.html.markup import element, number
from dgl_broker.html.png import data_uri, paint
from dgl_broker.html.sky import show

_FOR, _AGAINST = "fill s2", "fill s1"


def _reach(values):
    """A symmetric scale that holds all values; of nothing, one of 1."""
    known = [abs(v) for v in values if v is not None and np.isfinite(v)]
    return max(max(known, default=0.0), 1e-3)


def signed_bars(worths, title, width=560):
    """Worths as bars to the right (for a lensed supernova) and to the left (against), the number at each.

    Parameters
    ----------
    worths : sequence of dgl_broker.explain.occlusion.Worth
    """
    worths = list(worths)
    left, room, step = 208, 74, 24
    reach = _reach([w.delta for w in worths])
    middle, half = left + (width - left - room) / 2, (width - left - room) / 2
    parts = [element("line", x1=middle, x2=middle, y1=0, y2=step * len(worths) + 4, class_="zero")]
    spoken = []
    for n, worth in enumerate(worths):
        y = step * n
        parts.append(element("text", worth.name, x=left - 10, y=y + 16, text_anchor="end"))
        if worth.delta is None:
            words = f"refused without it: {worth.reason}"
            parts.append(element("text", words, x=middle + 6, y=y + 16, class_="tick"))
            spoken.append(f"{worth.name}: {words}")
            continue
        length = half * abs(worth.delta) / reach
        x = middle if worth.delta >= 0 else middle - length
        style = _FOR if worth.delta >= 0 else _AGAINST
        parts.append(element("rect", x=float(x), y=y + 5, width=max(float(length), 1.0), height=14, class_=style, rx=2))
        text = signed(worth.delta, "+.2f")
        parts.append(element("text", text, x=width - room + 10, y=y + 16, class_="tick"))
        spoken.append(f"{worth.name} {text}")
    return element("figure", sheet(width, step * len(worths) + 6, parts, title=title, description="; ".join(spoken)))


def pixel_map(occlusion, sky, name):
    """The stamp, and over the same square which blocks moved the score.

    Parameters
    ----------
    occlusion : Occlusion
    sky : dgl_broker.html.sky.Sky or str
        The plane that the network saw, on its grid.
    name : str
    """
    reach, block, side = _reach(occlusion.pixels.ravel()), occlusion.block_px, occlusion.side
    # Pixel by pixel, so that the blocks lie where they were masked: the last of a row may be cut off.
    level = np.nan_to_num(occlusion.pixels / reach).repeat(block, axis=0).repeat(block, axis=1)[:side, :side]
    rgb = paint(level[::-1], signed=True).repeat(8, axis=0).repeat(8, axis=1)
    image = element("image", href=data_uri(rgb), width=200, height=200, style="image-rendering:pixelated")
    ends = f"brightest blue {signed(-reach, '+.2f')}, brightest orange {signed(reach, '+.2f')}"
    drawing = sheet(200, 200, image, _cross(), title=f"Blocks of {block} by {block} pixels that moved the score", class_=None)
    caption = element("figcaption", element("b", "Worth"), f" of blocks of {block} × {block} px: {ends}")
    figure = element("figure", drawing, caption, class_="stamp")
    return element("div", show(sky, name, name.startswith("Difference"), "linear"), figure, class_="stamps")


def _cross():
    d = "M100 86v-14M114 100h14"
    return [element("path", d=d, class_="over-halo"), element("path", d=d, class_="over")]


def epoch_stems(epochs, width=900, height=200):
    """What each night of the light curve was worth, as stems against days from the trigger."""
    epochs = list(epochs)
    days = [e.days for e in epochs]
    reach = _reach([e.worth.delta for e in epochs])
    span = max(-min(days), 1.0)
    x = Axis("days from the trigger", -1.05 * span, 0.03 * span)
    frame = Frame(x, Axis("worth [log-odds]", -1.15 * reach, 1.15 * reach), width, height, left=62)
    zero = float(frame.py(0.0))
    parts = [frame.grid(8, 4), element("path", d=f"M{frame.left} {number(zero)}H{width - frame.right}", class_="zero")]
    spoken = []
    for epoch in epochs:
        at = float(frame.px(epoch.days))
        worth = epoch.worth
        words = f"{signed(epoch.days, '+.1f')} d, {epoch.bands}: "
        words += f"refused without it ({worth.reason})" if worth.delta is None else signed(worth.delta, "+.3f")
        spoken.append(words)
        y = zero if worth.delta is None else float(frame.py(worth.delta))
        style = "s2" if (worth.delta or 0.0) >= 0 else "s1"
        parts.append(element("path", d=f"M{number(at)} {number(zero)}V{number(y)}", class_=f"bar {style}"))
        parts.append(element("circle", element("title", words), cx=at, cy=y, r=4, class_=f"fill {style}"))
    parts.append(frame.border())
    drawing = frame.sheet(parts, title="Worth of each night", description="; ".join(spoken[:60]))
    keys = [
        element("span", _block("s2"), " spoke for a lensed supernova"),
        element("span", _block("s1"), " spoke against it"),
        *(swatch(b) for b in dict.fromkeys("".join(e.bands for e in epochs))),
    ]
    return element("figure", drawing, element("div", keys[:2], class_="legend"))


def _block(style):
    dot = element("circle", cx=7, cy=7, r=4, class_="fill")
    return element("svg", dot, viewBox="0 0 14 14", width=14, height=14, class_=style, aria_hidden="true")
