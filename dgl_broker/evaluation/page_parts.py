"""Words, numbers and tables that the pages of an evaluation share; what was not measured is said so and never shown as 0."""

from dgl_broker.html.markup import element
from dgl_broker.html.scores import CLASS_NAMES
from dgl_broker.html.tables import Column

MIX_NAMES = {"hard": "hard mix", "stream": "stream mix"}
HEADLINE_FPR = {"hard": 1e-2, "stream": 1e-3}
KIND_NAMES = {
    "sn_ia_host": "SN Ia in its host", "sn_cc_host": "SN CC in its host", "sn_ia_lrg": "SN Ia in a red galaxy",
    "sn_cc_lrg": "SN CC in a red galaxy", "sibling_sne": "sibling SNe", "agn": "AGN", "variable_star": "variable star",
    "tde": "TDE-like", "slsn": "superluminous", "moving_object": "moving object", "cosmic_ray": "cosmic ray",
    "bad_column": "bad column", "dipole": "subtraction dipole", "lensed_quasar": "lensed quasar",
    "sn_ia_in_lens": "SN Ia in a lens galaxy", "sn_cc_in_lens": "SN CC in a lens galaxy",
    "sn_outside_images": "SN outside the images", "agn_in_lens": "AGN in a lens galaxy",
    "lens_bad_subtraction": "lens with bad subtraction", "lensed_sn_ia": "lensed SN Ia", "lensed_sn_cc": "lensed SN CC",
}  # fmt: skip
SUBSET_NAMES = {
    "all": "all", "lensed_sn_ia": "lensed SN Ia", "lensed_sn_cc": "lensed SN CC", "separation_above_0.5": "separation > 0.5″",
    "separation_above_1.0": "separation > 1″", "separation_to_0.5": "separation ≤ 0.5″", "doubles": "doubles",
    "quads": "quads", "host_brighter_19.5": "host i < 19.5", "host_19.5_to_21": "host i 19.5 to 21",
    "host_fainter_21": "host i > 21",
}  # fmt: skip
BELOW = "below 3/n"


def percent(value, digits=1):
    """A share in per cent without the sign; None stays None."""
    return None if value is None else f"{100 * value:.{digits}f}"


def count(value):
    """A whole number with thin spaces between thousands."""
    return None if value is None else f"{round(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def rate(value):
    """A rate or a probability in as few digits as say it: 0.01, 2.3e-5."""
    if value is None:
        return None
    text = f"{value:.2g}"
    return text.replace("e-0", "e-").replace("e+0", "e")


def interval_of(entry):
    """The interval of a completeness: of the bootstrap where there is one (threshold drawn anew), else binomial."""
    return entry.get("bootstrap") or entry.get("binomial") or entry.get("interval")


def share_cell(entry, name="tpr"):
    """`61.2 (58.0 to 64.1)` in per cent, the interval small; None where there is no number."""
    value = None if entry is None else entry.get(name)
    if value is None:
        return None
    lo, hi = interval_of(entry)
    return element("span", percent(value), " ", element("span", f"({percent(lo)} to {percent(hi)})", class_="soft"))


def fpr_name(fpr):
    """`FPR 1e-3`."""
    return f"FPR {fpr:.0e}".replace("e-0", "e-")


def rates_of(tables):
    """The false-positive rates that tables of `report.by_moment` have rows for."""
    return [row["fpr"] for row in tables[0]["rates"]] if tables else []


def rate_row(table, fpr):
    """The row of one rate, or None where it cannot be measured there."""
    return next((row for row in table["rates"] if row["fpr"] == fpr and row["measurable"]), None)


def best_moment(tables, fpr, wanted=7):
    """The moment nearest to `wanted` at which a rate can be measured with positives; None for none."""
    found = [t["at"] for t in tables if (row := rate_row(t, fpr)) and row["subsets"]["all"]["n"]]
    return min(found, key=lambda at: (abs(at - wanted), at), default=None)


def headline_fpr(tables, mix):
    """The rate that a mix is shown at: its own, or the highest where the sample does not measure that."""
    own = HEADLINE_FPR[mix]
    return own if best_moment(tables, own) is not None else max(rates_of(tables), default=own)


def table_at(tables, at):
    """The table of one moment."""
    return next(t for t in tables if t["at"] == at)


def rate_cell(table, fpr, subset="all"):
    """Completeness of a subset at a rate; where the sample cannot measure the rate it says so."""
    row = rate_row(table, fpr)
    if row is None:
        return element("span", BELOW if table["n_negative"] and table["n_positive"] else "no object", class_="soft")
    return share_cell(row["subsets"][subset])


def numeric(title, unit=None):
    """A column of numbers."""
    return Column(title, unit, numeric=True)


def kind_name(kind):
    """A kind of object in words."""
    return KIND_NAMES.get(kind, kind.replace("_", " "))


def class_name(name):
    """A class in words."""
    return CLASS_NAMES.get(name, name)


def nothing(why):
    """A paragraph in the place of something that was not measured."""
    return element("p", why, class_="soft")
