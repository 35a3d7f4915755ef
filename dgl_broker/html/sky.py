"""Stamps as one sees the sky: north up, east left, with a scale bar, a compass and a mark at the alert."""

from dataclasses import dataclass

import numpy as np

from dgl_broker.errors import PacketError
from dgl_broker.html.axes import sheet
from dgl_broker.html.markup import element, number
from dgl_broker.html.png import data_uri, picture
from dgl_broker.north_up import place_north_up
from dgl_broker.stamps import read_stamp

KINDS = ("science", "template", "difference")
_VIEW = 200  # user units of a picture's side
_BARS_ARCSEC = (0.2, 0.5, 1, 2, 5, 10, 20, 30, 60)


@dataclass(frozen=True, eq=False)
class Sky:
    """A north-up plane (S, S): `valid` has a value, `beyond` lies outside the stamp; `unit` is of a pixel's value."""

    plane: np.ndarray
    valid: np.ndarray
    beyond: np.ndarray
    pixel_scale_arcsec: float
    unit: str


def turn_north_up(stamp, side=None):
    """A stamp on a north-up grid of its own pixel scale, the alert on the centre.

    Parameters
    ----------
    stamp : dgl_broker.stamps.Stamp
    side : int, optional
        Of the grid [px]; by default the stamp's longer side.

    Returns
    -------
    Sky
    """
    side = side or max(stamp.pixels.shape)
    scale = float(np.sqrt(abs(np.linalg.det(stamp.matrix))))

    def place(valid):
        placed, sound = place_north_up(
            stamp.pixels[None, None], valid[None, None], stamp.matrix[None], np.array([(stamp.x0, stamp.y0)]), side, scale
        )
        return placed[0, 0], sound[0, 0]

    plane, valid = place(stamp.valid)
    _, inside = place(np.ones_like(stamp.valid))
    return Sky(plane, valid, ~inside, scale, "nJy" if stamp.in_njy else "counts")


def read_sky(alert, side=None):
    """The cutouts of an alert, north up.

    Returns
    -------
    dict of str to (Sky or str)
        For "science", "template", "difference": the plane, or why there is none.
    """
    out = {}
    for kind in KINDS:
        data = getattr(alert.cutouts, kind)
        try:
            stamp = read_stamp(data, kind, alert.cutouts)
        except PacketError as error:
            out[kind] = f"unreadable: {error.detail}"
            continue
        if stamp is None:
            out[kind] = "all zeros" if data else "not in the packet"
        else:
            out[kind] = turn_north_up(stamp, side)
    return out


def _scale_bar(width_arcsec):
    length = next((b for b in reversed(_BARS_ARCSEC) if b <= 0.34 * width_arcsec), _BARS_ARCSEC[0])
    px = _VIEW * length / width_arcsec
    d = f"M12 {_VIEW - 14}h{number(px)}"
    label = element("text", f"{length:g}″", x=12 + px / 2, y=_VIEW - 20, text_anchor="middle", class_="over-text")
    return [element("path", d=d, class_="over-halo"), element("path", d=d, class_="over"), label]


def _compass():
    x, y, arm = _VIEW - 14, _VIEW - 14, 22
    d = f"M{x} {y}v-{arm}m-3 5l3 -5l3 5M{x} {y}h-{arm}m5 -3l-5 3l5 3"
    return [
        element("path", d=d, class_="over-halo"),
        element("path", d=d, class_="over"),
        element("text", "N", x=x, y=y - arm - 5, text_anchor="middle", class_="over-text"),
        element("text", "E", x=x - arm - 8, y=y + 4, text_anchor="middle", class_="over-text"),
    ]


def _target():
    c = _VIEW / 2
    d = f"M{number(c + 14)} {number(c)}h14M{number(c)} {number(c - 14)}v-14"
    return [element("path", d=d, class_="over-halo"), element("path", d=d, class_="over")]


def _range(plane, valid, unit):
    """Least and greatest value of a plane, in words."""
    if not valid.any():
        return "no valid pixel"
    low, high = float(plane[valid].min()), float(plane[valid].max())
    if unit == "nJy" and max(abs(low), abs(high)) >= 1000:
        low, high, unit = low / 1000, high / 1000, "µJy"
    return f"{low:.3g} to {high:.3g} {unit}/px".replace("-", "−") if unit else f"{low:.2f} to {high:.2f}".replace("-", "−")


def show(sky, name, signed=False, curve="asinh", small=False, note=None):
    """One picture with its caption.

    Parameters
    ----------
    sky : Sky or str
        A string says why there is no picture.
    name : str
    signed : bool
        A difference: blue below zero, orange above.
    curve : "asinh" or "linear"
    small : bool
    note : str, optional
        Instead of the range of values.
    """
    class_ = "stamp small" if small else "stamp"
    if isinstance(sky, str):
        hole = element("text", "no picture", x=_VIEW / 2, y=_VIEW / 2 + 4, text_anchor="middle", class_="over-text")
        drawing = sheet(_VIEW, _VIEW, hole, title=f"{name}: {sky}", class_=None)
        return element("figure", drawing, element("figcaption", element("b", name), ": ", sky), class_=class_)
    side = sky.plane.shape[0]
    rgb = picture(sky.plane, sky.valid, signed, scale=max(1, round(240 / side)), curve=curve, beyond=sky.beyond)
    width = side * sky.pixel_scale_arcsec
    image = element("image", href=data_uri(rgb), width=_VIEW, height=_VIEW, style="image-rendering:pixelated")
    masked = int(np.count_nonzero(~sky.valid & ~sky.beyond))
    words = f"{name} stamp, {width:.3g} arcsec wide, north up, east left"
    words += f", {masked} pixels masked" if masked else ""
    drawing = sheet(_VIEW, _VIEW, image, _target(), _scale_bar(width), _compass(), title=words, class_=None)
    text = note or _range(sky.plane, sky.valid, sky.unit)
    if masked and note is None:
        text += f", {masked} px masked (hatched)"
    return element("figure", drawing, element("figcaption", element("b", name), " ", text), class_=class_)


def show_all(skies, small=False):
    """Science, template and difference side by side."""
    return element(
        "div", [show(sky, kind.capitalize(), kind == "difference", small=small) for kind, sky in skies.items()], class_="stamps"
    )  # fmt: skip
