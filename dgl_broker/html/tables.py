"""Tables, lists of facts and counters."""

from dataclasses import dataclass

from dgl_broker.html.markup import Markup, element, join

MISSING = Markup('<span class="soft" title="unknown">·</span>')


@dataclass(frozen=True)
class Column:
    """A column's heading, its unit, and whether it holds numbers (set to the right)."""

    title: str
    unit: str | None = None
    numeric: bool = False


def table(columns, rows, caption=None, heads=True, tight=False):
    """A table that scrolls sideways where the window is too narrow.

    Parameters
    ----------
    columns : sequence of Column or str
    rows : sequence of sequences
        One value a column; None is shown as unknown.
    caption : str, optional
    heads : bool
        Whether the first cell of a row names the row.
    tight : bool
        One line a row, whatever the width of the window.
    """
    columns = [Column(c) if isinstance(c, str) else c for c in columns]

    def heading(column):
        unit = element("span", f" {column.unit}", class_="unit") if column.unit else None
        return element("th", column.title, unit, scope="col", class_="n" if column.numeric else None)

    def cell(index, value):
        value = MISSING if value is None else value
        kind = "n" if columns[index].numeric else None
        if heads and index == 0:
            return element("th", value, scope="row", class_=kind)
        return element("td", value, class_=kind)

    body = []
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"row of {len(row)} cells, expected {len(columns)}")
        body.append(element("tr", [cell(n, v) for n, v in enumerate(row)]))
    inside = [
        element("caption", caption) if caption else None,
        element("thead", element("tr", [heading(c) for c in columns])),
        element("tbody", join(body, "\n")),
    ]
    whole = element("table", inside, class_="tight" if tight else None)
    # A part that scrolls must be reachable by keyboard.
    return element("div", whole, class_="scroll", tabindex="0", role="group", aria_label=caption or "table")


def facts(pairs):
    """(name, value) pairs as a list of definitions; a value of None is left out."""
    kept = [(name, value) for name, value in pairs if value is not None]
    return element("dl", [[element("dt", n), element("dd", v)] for n, v in kept], class_="facts")


_SIGNS = {"=": "equals", "+": "plus"}


def counters(items):
    """Numbers to be read from afar: (name, number), and between two of them "=" or "+" where they are an account."""
    cells = []
    for item in items:
        if isinstance(item, str):
            word = element("dt", element("span", _SIGNS[item], class_="hidden"))
            cells.append(element("div", word, element("dd", item, aria_hidden="true"), class_="sign"))
        else:
            name, value = item
            text = f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if isinstance(value, int) else value
            cells.append(element("div", element("dt", name), element("dd", text)))
    return element("dl", cells, class_="counters")
