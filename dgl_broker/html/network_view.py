"""What a network takes in, made visible: planes as pictures, the light curve's matrix, the numbers beside them."""

import numpy as np

from dgl_broker.html.axes import sheet
from dgl_broker.html.markup import element
from dgl_broker.html.page import fold
from dgl_broker.html.png import data_uri, paint
from dgl_broker.html.sky import Sky, show
from dgl_broker.html.tables import Column, table

_LEFT, _CELL_W, _CELL_H = 118, 11, 13


def show_planes(image, planes, pixel_scale_arcsec):
    """The planes of an example side by side, on the scale that the network gets.

    Parameters
    ----------
    image : array, shape (C, S, S)
        Rows grow north, columns west.
    planes : sequence of str
        Name of each; a plane `x_mask` says where plane `x` holds something, and is shown as the hatch on it.
    pixel_scale_arcsec : float
    """
    masks = {p.removesuffix("_mask"): n for n, p in enumerate(planes) if p.endswith("_mask")}
    nothing = np.zeros(image.shape[1:], bool)
    pictures = []
    for n, name in enumerate(planes):
        if name.endswith("_mask"):
            continue
        valid = image[masks[name]] > 0.5 if name in masks else ~nothing
        words = name.replace(":", ", ")
        if not valid.any() or not image[n].any():
            pictures.append(show("nothing here: all zeros", words))
            continue
        sky = Sky(image[n], valid, nothing, pixel_scale_arcsec, "")
        pictures.append(show(sky, words, name.startswith("difference"), "linear"))
    return element("div", pictures, class_="stamps")


def show_steps(light_curve, features):
    """The (T, F) matrix of the light curve: a column a step, the trigger at the right; each row on a scale of its own."""
    steps, n = light_curve.shape
    largest = np.abs(light_curve).max(axis=0)
    level = (light_curve / np.where(largest > 0, largest, 1.0)).T
    rgb = np.repeat(np.repeat(paint(level, signed=True), 2, axis=0), 2, axis=1)
    width, height = steps * _CELL_W, n * _CELL_H
    image = element(
        "image",
        href=data_uri(rgb),
        x=_LEFT,
        y=0,
        width=width,
        height=height,
        preserveAspectRatio="none",
        style="image-rendering:pixelated",
    )
    names = [
        element("text", name, x=_LEFT - 8, y=_CELL_H * i + 10.5, text_anchor="end", class_="tick")
        for i, name in enumerate(features)
    ]
    values = [element("text", f"{largest[i]:.3g}", x=_LEFT + width + 8, y=_CELL_H * i + 10.5, class_="tick") for i in range(n)]
    ends = [
        element("text", "oldest", x=_LEFT, y=height + 14, class_="tick"),
        element("text", "trigger", x=_LEFT + width, y=height + 14, text_anchor="end", class_="tick"),
    ]
    n_filled = int(np.count_nonzero(np.abs(light_curve).sum(axis=1)))
    title = f"Light curve as the network takes it: {n_filled} of {steps} steps filled, {n} features each"
    drawing = sheet(_LEFT + width + 60, height + 20, image, names, values, ends, title=title)
    caption = (
        "Orange above zero, blue below; the number at the right is the row's largest value. Empty steps stand at the left."
    )
    return element("figure", drawing, element("figcaption", caption))


def show_context(context, names):
    """The context vector as a table to be opened; zeros are left out and counted."""
    rows = [(name, f"{value:.4g}".replace("-", "−")) for name, value in zip(names, context.tolist()) if value != 0.0]
    left = len(names) - len(rows)
    body = table(["number", Column("value", numeric=True)], rows, f"{left} further numbers are zero")
    return fold(f"{len(names)} numbers beside them", body)
