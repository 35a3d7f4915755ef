"""Sections of the evaluation's page on contaminants, purity, the two mixes and the test set."""

from dgl_broker.evaluation.page_parts import (
    BELOW,
    MIX_NAMES,
    best_moment,
    class_name,
    count,
    fpr_name,
    headline_fpr,
    kind_name,
    nothing,
    numeric,
    percent,
    rate,
    rates_of,
)
from dgl_broker.html.axes import Axis
from dgl_broker.html.charts import plot_rates
from dgl_broker.html.markup import element
from dgl_broker.html.page import card, columns, fold, section
from dgl_broker.html.tables import Column, table


def contaminants(alerts):
    """False-positive rate of every kind at the thresholds of the mixes, at the detection nearest to the seventh."""
    blocks = []
    for mix, fpr in _working_points(alerts["by_detection"]):
        at = best_moment(alerts["by_detection"][mix], fpr)
        found = [r for r in alerts["contaminants"] if r["mix"] == mix and r["fpr"] == fpr]
        found = min(found, key=lambda r: (abs(r["at"] - (at or 7)), r["at"])) if found else None
        title = f"{MIX_NAMES[mix].capitalize()}, threshold of {fpr_name(fpr)}"
        if found is None or not found["kinds"]:
            blocks.append(card(nothing("The sample does not measure this rate."), title=title))
            continue
        kinds = sorted(found["kinds"].items(), key=lambda item: -(item[1]["rate"] or item[1]["interval"][1] * 1e-6))
        rows = [
            (kind_name(k), v["rate"], *v["interval"], f"{count(v['n_false'])} of {count(v['n'])}") for k, v in kinds if v["n"]
        ]
        low = min(min(r[2] for r in rows if r[1]) if any(r[1] for r in rows) else 1, min(r[3] for r in rows))
        x = Axis("share that passes", max(low / 2, 1e-6), 1.0, "log")
        blocks.append(card(plot_rates(rows, x, title, width=520), title=title, right=f"at detection {found['at']}"))
    note = (
        "Share of each kind's objects that pass, whatever its weight in the mix, with Clopper-Pearson intervals (95 %). Fewer "
        "than three that pass make no rate: an arrow at the upper bound. In the stream mix only objects that the pre-cuts pass."
    )
    return section("What is taken for a lensed supernova", columns(*blocks), id_="contaminants", note=note)


def _working_points(by_mix):
    """Of the hard mix its headline rate; of the stream mix the lower rates that the sample measures, else its highest."""
    low = [("stream", fpr) for fpr in (1e-3, 1e-4) if best_moment(by_mix["stream"], fpr) is not None]
    return [("hard", headline_fpr(by_mix["hard"], "hard")), *(low or [("stream", headline_fpr(by_mix["stream"], "stream"))])]


def purity(alerts, survey_year):
    """Purity for budgets of candidates a night.

    Parameters
    ----------
    alerts : dict
    survey_year : float
        Lensed supernovae a year.
    """
    body, budgets = [], sorted({r["budget"] for rows in alerts["purity"].values() for r in rows})
    for at, rows in alerts["purity"].items():
        cell = {(r["negatives_per_night"], r["budget"]): r for r in rows}
        for n in sorted({r["negatives_per_night"] for r in rows}):
            if any(cell[n, b]["purity"] is not None for b in budgets):
                body.append([f"detection {at}", count(n), *(_purity(cell[n, b]) for b in budgets)])
    heads = ["judged at", numeric("negatives a night"), *(numeric(f"{b} a night", "%") for b in budgets)]
    note = (
        f"At {survey_year:g} lensed supernovae a year in the survey, each judged once at this detection, among so many "
        "negatives of the stream mix a night: the threshold that fills the budget gives completeness and purity. Where it "
        "would need a false-positive rate below 3/n of this sample there is no number; moments without any are left out."
    )
    filled = table(heads, body, tight=True) if body else nothing("No budget can be filled at a rate that this sample measures.")
    return section("Purity of the candidates", card(filled), id_="purity", note=note)


def _purity(row):
    if row["purity"] is None:
        return element("span", BELOW, class_="soft")
    how = f"(finds {percent(row['tpr'], 0)} % at FPR {rate(row['fpr'])})"
    return element("span", f"{100 * row['purity']:.2g} ", element("span", how, class_="soft"))


def test_set(report):
    """What was judged: objects of each kind, and the weights of the two mixes with their sources."""
    alerts = report["alerts"]
    kinds = alerts["census"]["by_kind"]
    heads = ["kind", "class", numeric("alerts"), numeric("objects"), numeric("systems"), numeric("alerts past pre-cuts", "%")]
    rows = [
        [
            kind_name(k),
            class_name(v["class"]),
            count(v["alerts"]),
            count(v["objects"]),
            count(v["systems"]),
            percent(v["precut_passed"], 0),
        ]
        for k, v in kinds.items()
    ]
    reach = alerts["census"]["objects_at_detection"]
    reached = table(
        ["objects with k detections", *(numeric(f"k = {k}") for k in reach)],
        [[name, *(count(v[key]) for v in reach.values())] for name, key in (("lensed", "positive"), ("negative", "negative"))],
        tight=True,
    )
    stream = [
        [kind_name(k), rate(v["rate"]), v["source"]]
        for k, v in sorted(alerts["mixes"]["stream"].items(), key=lambda item: -item[1]["rate"])
    ]
    return section(
        "The test set and its two mixes",
        card(table(heads, rows, tight=True), fold("How many reach the k-th detection", reached), title="Objects"),
        card(
            fold(
                "Stream mix: objects a year after the pre-cuts, with sources",
                table(["kind", numeric("a year"), Column("source")], stream),
            ),
            fold(
                "Hard mix: kinds of equal weight",
                nothing(", ".join(kind_name(k) for k in alerts["mixes"]["hard"])),
            ),
            title="Weights",
        ),
        id_="data",
        note="Negatives of the two mixes overlap, their numbers never do: a figure belongs to one mix.",
    )


def missing(alerts):
    """What the banner says of kinds that no object stands for, or None."""
    parts = [
        f"{MIX_NAMES[mix]}: {', '.join(kind_name(k) for k in kinds)}"
        for mix, kinds in alerts["missing_kinds"].items()
        if kinds and rates_of(alerts["by_detection"][mix])
    ]
    return (
        f"The test set holds no object of some kinds of contaminants, which cost nothing here: {'; '.join(parts)}."
        if parts
        else None
    )
