"""Sections of the evaluation's page on completeness at false-positive rates: by detection, by days, by parts, and the ROC."""

from dgl_broker.evaluation.page_parts import (
    MIX_NAMES,
    SUBSET_NAMES,
    best_moment,
    count,
    fpr_name,
    headline_fpr,
    interval_of,
    nothing,
    numeric,
    rate,
    rate_cell,
    rate_row,
    rates_of,
    table_at,
)
from dgl_broker.html.axes import Axis
from dgl_broker.html.charts import Series, plot_lines
from dgl_broker.html.markup import element
from dgl_broker.html.page import card, columns, fold, section
from dgl_broker.html.tables import Column, table

SHARE = Axis("completeness", 0.0, 1.0)
MIX_NOTES = {
    "hard": "Every hard kind of contaminant equally often; no pre-cuts.",
    "stream": "All kinds, weighted by their rates in the sky; objects that the shipped pre-cuts pass, lensed ones as well.",
}
DETECTION_NOTE = (
    "An object is judged at its k-th detection and enters k only if it has one. Intervals are 95 %: a bootstrap over objects "
    "within kinds with the threshold drawn anew, or Clopper-Pearson at the threshold where none was drawn. A rate below 3 "
    "over the effective number of negatives has no number."
)
PARTS = (
    ("By separation of the images", ("separation_above_1.0", "separation_above_0.5", "separation_to_0.5")),
    ("By class and number of images", ("lensed_sn_ia", "lensed_sn_cc", "doubles", "quads")),
    ("By brightness of the host", ("host_brighter_19.5", "host_19.5_to_21", "host_fainter_21")),
)


def series(name, tables, fpr, subset="all"):
    """Completeness over the moments of `tables`; None where nothing was measured."""
    x, y, lo, hi = [], [], [], []
    for at in tables:
        entry = (rate_row(at, fpr) or {"subsets": {}})["subsets"].get(subset)
        known = entry is not None and entry["tpr"] is not None
        ends = interval_of(entry) if known else (float("nan"),) * 2
        x.append(at["at"])
        y.append(entry["tpr"] if known else float("nan"))
        lo.append(ends[0])
        hi.append(ends[1])
    return Series(name, x, y, lo, hi) if any(v == v for v in y) else None


def curves(tables, x_axis, title, wanted):
    """A plot of the series that have points; `wanted` gives (name, fpr, subset)."""
    found = [s for name, fpr, subset in wanted if (s := series(name, tables, fpr, subset)) is not None]
    if not found:
        return nothing(f"{title}: no number, the sample measures none of these rates.")
    caption = found[0].name if len(found) == 1 else None
    return plot_lines(found, x_axis, SHARE, title, caption, width=520, height=300)


def moments_table(tables, first, subset="all", caption=None):
    """One row a moment: numbers of objects, the least rate that they measure, completeness at each rate."""
    fprs = rates_of(tables)
    titles = [first, numeric("lensed"), numeric("negatives"), numeric("effective"), numeric("least rate")]
    titles += [numeric(fpr_name(f), "%") for f in fprs]
    rows = []
    for at in tables:
        n = next((r["subsets"][subset]["n"] for r in at["rates"] if r["measurable"]), None)
        n = at["n_positive"] if n is None and subset == "all" else n
        least = at["least_rate"] if at["least_rate"] is not None and at["least_rate"] <= 1 else None
        numbers = [count(n), count(at["n_negative"]), count(at["n_effective"]), rate(least)]
        rows.append([f"{at['at']:g}", *numbers, *(rate_cell(at, f, subset) for f in fprs)])
    return table(titles, rows, caption, tight=True)


def by_detection(alerts):
    """Completeness by the number of detections, each mix apart; objects, then systems."""
    x = Axis("detection at which objects are judged", 0.7, 10.3)
    blocks = []
    for mix, tables in alerts["by_detection"].items():
        wanted = [(fpr_name(f), f, "all") for f in rates_of(tables)]
        wide = [(fpr_name(f), f, "separation_above_0.5") for f in rates_of(tables)]
        inside = [
            columns(
                card_plot("All lensed supernovae", curves(tables, x, f"Completeness by detection, {MIX_NAMES[mix]}", wanted)),
                card_plot(
                    "Separation above 0.5″",
                    curves(tables, x, f"Completeness by detection above 0.5″, {MIX_NAMES[mix]}", wide),
                ),
            ),
            moments_table(tables, "k", caption="All lensed supernovae: completeness [%]"),
            fold(
                "Separation above 0.5″",
                moments_table(tables, "k", "separation_above_0.5", "Separation above 0.5″: completeness [%]"),
            ),
        ]
        if mix in alerts.get("by_system", {}):
            by_system = moments_table(alerts["by_system"][mix], "k", caption="A system passes where any of its objects does")
            inside.append(fold("Systems instead of objects (the images of one lens together)", by_system))
        blocks.append(card(*inside, title=f"{MIX_NAMES[mix].capitalize()}", right=MIX_NOTES[mix]))
    return section("Completeness by number of detections", *blocks, id_="detections", note=DETECTION_NOTE)


def card_plot(title, plot):
    """A plot under a small heading."""
    return element("div", element("h4", title), plot)


def by_days(alerts):
    """Completeness by days since first detection, each mix apart."""
    blocks = []
    for mix, tables in alerts["by_days"].items():
        x = Axis("days since first detection", 0.0, max(t["at"] for t in tables) * 1.03)
        wanted = [(fpr_name(f), f, "all") for f in rates_of(tables)]
        plot = curves(tables, x, f"Completeness by days, {MIX_NAMES[mix]}", wanted)
        blocks.append(
            card(
                plot,
                fold("The numbers", moments_table(tables, "days", caption="Completeness [%]")),
                title=MIX_NAMES[mix].capitalize(),
            )
        )
    note = "Each object at its latest alert within so many days of its first detection. Intervals: Clopper-Pearson."
    return section("Completeness by days since first detection", columns(*blocks), id_="days", note=note)


def by_parts(alerts):
    """Completeness of the parts of the lensed population at the threshold of the whole, each mix apart."""
    x = Axis("detection at which objects are judged", 0.7, 10.3)
    blocks = []
    for mix, tables in alerts["by_detection"].items():
        fpr = headline_fpr(tables, mix)
        at = best_moment(tables, fpr)
        head = f"{MIX_NAMES[mix].capitalize()}, {fpr_name(fpr)}"
        if at is None:
            blocks.append(card(nothing("The sample measures this rate at no detection."), title=head))
            continue
        plots = [
            card_plot(title, curves(tables, x, f"{title}, {head}", [(SUBSET_NAMES[s], fpr, s) for s in subsets]))
            for title, subsets in PARTS
        ]
        blocks.append(card(columns(*plots, card_plot(f"At detection {at}", parts_table(tables, at))), title=head))
    note = (
        "The threshold is that of the mix, the same for every part; only which lensed supernovae are counted differs. Host "
        "brightness is the catalogue's i magnitude."
    )
    return section("Which lensed supernovae are found", *blocks, id_="parts", note=note)


def parts_table(tables, at):
    """Completeness of every part at one detection and each rate."""
    here = table_at(tables, at)
    fprs = [row["fpr"] for row in here["rates"] if row["measurable"]]
    first = rate_row(here, fprs[0])["subsets"]
    rows = [
        [SUBSET_NAMES.get(name, name), count(entry["n"]), *(rate_cell(here, f, name) for f in fprs)]
        for name, entry in first.items()
    ]
    return table([Column("part"), numeric("n"), *(numeric(fpr_name(f), "%") for f in fprs)], rows, tight=True)


def roc(alerts):
    """ROC curves at some detections, down to the rate that the sample measures, each mix apart."""
    blocks = []
    for mix, tables in alerts["by_detection"].items():
        found, least = [], 0.1
        for at in tables:
            curve = at.get("roc") or {"fpr": []}
            if at["at"] in (1, 3, 5, 7, 10) and curve["fpr"] and curve["fpr"][0] < 1:
                found.append(Series(f"detection {at['at']}", curve["fpr"], curve["tpr"]))
                least = min(least, curve["fpr"][0])
        if not found:
            blocks.append(
                card(nothing("Too few negatives, or no lensed supernovae, at these detections."), title=MIX_NAMES[mix])
            )
            continue
        x = Axis("false-positive rate", least, 1.0, "log")
        plot = plot_lines(found, x, SHARE, f"ROC, {MIX_NAMES[mix]}", dots=False, height=340)
        blocks.append(card(plot, title=MIX_NAMES[mix].capitalize()))
    note = "Each curve ends at 3 over the effective number of negatives: to the left of it nothing is known."
    return section("ROC curves", columns(*blocks), id_="roc", note=note)
