"""A band has a colour and a shape, so that neither eye nor printer needs the colour.

Shapes are those of Rubin's guide to figures (RTN-045): u disc, g triangle, r triangle on its tip, i square, z star,
y pentagon. The colours are our own, one set for light and one for dark paper: under simulated protanopia, deuteranopia
and tritanopia (Machado et al. 2009, doi:10.1109/TVCG.2009.113) any two stay 25 or more apart in CIELAB, and each stands
off its paper by a contrast of 3 or more.
"""

import math

from dgl_broker.alert import BANDS
from dgl_broker.html.markup import element, number

LIGHT = {"u": "#6a2bef", "g": "#0f9f75", "r": "#f0561a", "i": "#5c3d00", "z": "#d160cf", "y": "#0b3441"}
DARK = {"u": "#cfe0ff", "g": "#4fe39a", "r": "#e0501c", "i": "#ffc927", "z": "#ee4df0", "y": "#6b7f86"}
LIGHT_PAPER, DARK_PAPER = "#ffffff", "#131820"
SHAPES = {"u": "disc", "g": "triangle", "r": "triangle on its tip", "i": "square", "z": "star", "y": "pentagon"}


def _polygon(x, y, radii, turn):
    points = []
    for n, r in enumerate(radii):
        angle = 2 * math.pi * n / len(radii) + turn
        points.append(f"{number(x + r * math.sin(angle))},{number(y - r * math.cos(angle))}")
    return " ".join(points)


def marker(band, x, y, size=4.0, title=None, **attributes):
    """The shape of a band as an SVG element about (x, y), of about equal area for all; its class carries the colour."""
    children = (element("title", title),) if title else ()
    attributes["class_"] = f"band-{band} " + attributes.pop("class_", "")
    if band == "u":
        return element("circle", *children, cx=float(x), cy=float(y), r=float(size), **attributes)
    if band == "i":
        side = 0.9 * size
        return element(
            "rect", *children, x=float(x - side), y=float(y - side), width=2 * side, height=2 * side, **attributes
        )  # fmt: skip
    radii, turn = {
        "g": ([1.3 * size] * 3, 0.0),
        "r": ([1.3 * size] * 3, math.pi),
        "z": ([1.5 * size, 0.62 * size] * 5, 0.0),
        "y": ([1.1 * size] * 5, 0.0),
    }[band]
    return element("polygon", *children, points=_polygon(x, y, radii, turn), **attributes)


def css():
    """The colours as custom properties, for `page`: (rules for light, rules for dark)."""
    light = "".join(f"--band-{b}:{c};" for b, c in LIGHT.items())
    dark = "".join(f"--band-{b}:{c};" for b, c in DARK.items())
    return light, dark


def swatch(band):
    """A band's marker with its letter, for running text and legends."""
    if band not in BANDS:
        return element("span", band, class_="band")
    mark = element(
        "svg", marker(band, 7, 7, 4.5, class_="fill"), viewBox="0 0 14 14", class_="swatch", aria_hidden="true"
    )  # fmt: skip
    return element("span", mark, band, class_="band")
