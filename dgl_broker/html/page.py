"""The page every report stands on: one file, opened from disk, without script, font or address outside itself."""

from functools import cache
from pathlib import Path

from dgl_broker import __version__
from dgl_broker.errors import StateError
from dgl_broker.html import bands
from dgl_broker.html.markup import Markup, element, join

# Nothing may be loaded and nothing run, whatever data brought in: pictures inside the file and its own style are all.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@cache
def _style():
    light, dark = bands.css()
    text = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    # Paper is white whatever the screen is: the dark colours hold on screens alone.
    text = text.replace("(prefers-color-scheme: dark)", "screen and (prefers-color-scheme: dark)")
    return Markup(text.replace("LIGHT_BANDS", light).replace("DARK_BANDS", dark))


def page(title, *blocks, kicker=None, lead=None, banner=None, links=(), footer=None):
    """A whole HTML document.

    Parameters
    ----------
    title : str
    blocks : Markup or str
        What stands in `main`, in order.
    kicker, lead, banner, footer : str or Markup, optional
        A line over the title, a paragraph below it, a warning that must not be missed, the last line.
    links : sequence of (str, str)
        (id of a section, its name), for finding one's way.

    Returns
    -------
    str
    """
    icon = "data:,"  # else browsers ask the page's folder for one
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"dgl-broker {__version__}"),
        element("link", rel="icon", href=icon),
        element("title", title),
        element("style", _style()),
    ]
    top = [
        element("p", kicker, class_="kicker") if kicker else None,
        element("h1", title),
        element("p", lead, class_="lead") if lead else None,
        element("p", banner, class_="banner", role="note") if banner else None,
    ]
    if links:
        items = [element("li", element("a", name, href=f"#{target}")) for target, name in links]
        top.append(element("nav", element("ul", items), aria_label="Sections"))
    body = [
        element("header", top, class_="top"),
        element("main", join(blocks, "\n")),
        element("footer", footer or f"Written by dgl-broker {__version__}."),
    ]
    return "<!doctype html>\n" + element("html", element("head", head), "\n", element("body", body), lang="en") + "\n"


def section(title, *blocks, id_=None, note=None):
    """A part of the page under its own heading."""
    return element(
        "section", element("h2", title, id=id_), element("p", note, class_="soft") if note else None, join(blocks, "\n")
    )  # fmt: skip


def card(*blocks, title=None, right=None, id_=None):
    """A framed part of a section; `right` stands at the right of its title."""
    head = None
    if title is not None:
        side = element("span", right, class_="right") if right is not None else None
        head = element("header", element("h3", title), side)
    return element("article", head, join(blocks, "\n"), class_="card", id=id_)


def columns(*blocks):
    """Blocks side by side where there is room."""
    return element("div", [element("div", b) for b in blocks], class_="columns")


def fold(summary, *blocks, opened=False):
    """Something to be opened on demand."""
    return element("details", element("summary", summary), join(blocks, "\n"), open="open" if opened else None)


def write_page(path, text):
    """Write a page by a new file and a rename, so that a reader never sees half of one.

    Raises
    ------
    StateError
        If the folder cannot be written.
    """
    path = Path(path)
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise StateError(f"{path}: the page cannot be written: {error.strerror or error}") from error
    return path
