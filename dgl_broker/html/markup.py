"""Elements of HTML and SVG as text in which everything that is not markup already has been escaped.

`element` is the only maker of tags in this package: what comes from data goes through it as plain `str` and cannot become
a tag, an attribute or an entity.
"""

import html
import math
import re

# What XML 1.0 section 2.2 does not admit, not even escaped, and lone surrogates, which no encoding can write.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VOID = ("br", "col", "hr", "img", "input", "link", "meta")
_SHAPES = ("circle", "ellipse", "image", "line", "path", "polygon", "polyline", "rect", "use")
_CLOSED = frozenset(_VOID + _SHAPES)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9:-]*\Z")


class Markup(str):
    """Text that is HTML already; everything else is escaped where it is put in."""

    __slots__ = ()


def escape(value):
    """Any value as `Markup`: `Markup` itself unchanged, all else as text, `None` as nothing."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup("")
    return Markup(html.escape(_NOT_XML.sub("�", str(value)), quote=True))


def join(parts, between=""):
    """Parts, nested lists included, as one piece of `Markup`."""
    flat = []
    for part in parts:
        flat.append(join(part) if isinstance(part, list | tuple) else escape(part))
    return Markup(escape(between).join(flat))


def number(value, digits=2):
    """A coordinate in as few characters as say it.

    Raises
    ------
    ValueError
        If it is not finite: a plot with NaN in a path shows nothing, and says nothing.
    """
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"coordinate {value}, expected a finite number")
    text = f"{value:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def element(name, /, *children, **attributes):
    """One element.

    Parameters
    ----------
    name : str
    children : str, Markup, list or None
        Plain text is escaped, lists are joined, `None` is left out.
    attributes : str, int, float or None
        `class_` is `class`, `stroke_width` is `stroke-width`; `None` leaves one out, floats are rounded to 0.01.
    """
    out = [f"<{name}"]
    for key, value in attributes.items():
        if value is None:
            continue
        key = key.rstrip("_").replace("_", "-")
        if not _NAME.match(key):
            raise ValueError(f"attribute {key!r}, expected a name")
        text = number(value) if isinstance(value, float) else html.escape(_NOT_XML.sub("�", str(value)), quote=True)
        out.append(f' {key}="{text}"')
    if name in _CLOSED and not children:
        return Markup("".join(out) + "/>")
    return Markup("".join(out) + ">" + join(children) + f"</{name}>")
