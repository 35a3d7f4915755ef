"""Tables of the results pages in Markdown, from slim results; what was not measured says so."""

from dgl_broker.evaluation.page import missed_by
from dgl_broker.evaluation.page_checks import FUSION_NAMES, GARBAGE_NAMES, INPUT_NAMES
from dgl_broker.evaluation.page_parts import (
    MIX_NAMES,
    SUBSET_NAMES,
    best_moment,
    count,
    fpr_name,
    headline_fpr,
    kind_name,
    rate,
    rate_row,
    rates_of,
    table_at,
)
from dgl_broker.evaluation.text import percent, with_interval

BELOW = "below 3/n"
NOT_RUN = "not run"


def markdown(heads, rows):
    """A table in Markdown; bars in cells are escaped, None is a dash."""

    def line(cells):
        return "| " + " | ".join("-" if c is None else str(c).replace("|", "\\|") for c in cells) + " |"

    return "\n".join([line(heads), line(["---"] * len(heads)), *(line(r) for r in rows)])


def rate_cell(table, fpr, subset="all"):
    """Completeness [%] with its interval, or that the sample does not measure the rate."""
    row = rate_row(table, fpr)
    if row is None:
        return BELOW if table["n_negative"] and table["n_positive"] else "no object"
    entry = row["subsets"].get(subset)
    return "-" if entry is None else with_interval(entry)


def detections(tables):
    """Completeness by detection of one mix: all, and separations above 0.5"."""
    fprs = rates_of(tables)
    heads = ["k", "lensed", "negatives", "effective"]
    heads += [f"{fpr_name(f)}{part}" for part in ("", ', > 0.5"') for f in fprs]
    rows = []
    for t in tables:
        cells = [rate_cell(t, f, s) for s in ("all", "separation_above_0.5") for f in fprs]
        rows.append([t["at"], count(t["n_positive"]), count(t["n_negative"]), count(t["n_effective"]), *cells])
    return markdown(heads, rows)


def days(tables):
    """Completeness by days since first detection of one mix."""
    fprs = rates_of(tables)
    rows = [[t["at"], count(t["n_positive"]), count(t["n_negative"]), *(rate_cell(t, f) for f in fprs)] for t in tables]
    return markdown(["days", "lensed", "negatives", *(fpr_name(f) for f in fprs)], rows)


def parts(tables, mix):
    """Completeness of the parts of the lensed population at the detection nearest to the seventh; None where not measured."""
    at = best_moment([t for t in tables if t["at"] in (7, 10)], headline_fpr(tables, mix))
    if at is None:
        return None
    here = table_at(tables, at)
    fprs = [r["fpr"] for r in here["rates"] if r["measurable"]]
    names = rate_row(here, fprs[0])["subsets"]
    rows = [[SUBSET_NAMES.get(n, n), count(e["n"]), *(rate_cell(here, f, n) for f in fprs)] for n, e in names.items()]
    return f"At detection {at}:\n\n" + markdown(["part", "n", *(fpr_name(f) for f in fprs)], rows)


def contaminants(alerts, mix):
    """False-positive rate of each kind at the mix's own threshold, at the seventh detection; None where not measured."""
    fpr = headline_fpr(alerts["by_detection"][mix], mix)
    found = sorted((r for r in alerts["contaminants"] if r["mix"] == mix and r["fpr"] == fpr), key=lambda r: r["at"])
    if not found:
        return None
    rows = []
    for kind, v in sorted(found[0]["kinds"].items(), key=lambda item: -(item[1]["rate"] or item[1]["interval"][1] * 1e-6)):
        lo, hi = v["interval"]
        cell = f"below {rate(hi)}" if v["rate"] is None else f"{rate(v['rate'])} ({rate(lo)}-{rate(hi)})"
        rows.append([kind_name(kind), count(v["n"]), count(v["n_false"]), cell])
    head = f"At the threshold of {fpr_name(fpr)} of the {MIX_NAMES[mix]}, detection {found[0]['at']}:\n\n"
    return head + markdown(["kind", "objects", "pass", "rate (95 %)"], rows)


def purity(alerts):
    """Purity of the stream mix by budget; None where no budget can be filled at a measurable rate."""
    rows = []
    for at, found in alerts["purity"].items():
        budgets = sorted({r["budget"] for r in found})
        cell = {(r["negatives_per_night"], r["budget"]): r for r in found}
        for n in sorted({r["negatives_per_night"] for r in found}):
            row = [cell[n, b] for b in budgets]
            if any(r["purity"] is not None for r in row):
                rows.append([at, count(n), *(BELOW if r["purity"] is None else f"{100 * r['purity']:.2g}" for r in row)])
    heads = ["k", "negatives a night", "1 a night", "10 a night", "100 a night"]
    return markdown(heads, rows) if rows else None


def confusion(found):
    """Counts and shares with intervals, and precision, recall, F1 and support of each class."""
    names = found["classes"]
    heads = ["true class", *(f"said {n}" for n in names), "precision", "recall", "F1", "support"]
    rows = []
    for i, name in enumerate(names):
        cells = []
        for n, share, ends in zip(found["counts"][i], found["share"][i], found["interval"][i]):
            shown = "-" if share is None else f"{percent(share)} ({percent(ends[0])}-{percent(ends[1])})"
            cells.append(f"{shown}, {n}")
        own = found["by_class"][i]
        rows.append([name, *cells, *(percent(own[key]) for key in ("precision", "recall", "f1")), count(own["support"])])
    return markdown(heads, rows)


def conformal(rows):
    """Share of negatives at or below each level of the p-value, by stratum."""
    levels = list(rows[0]["levels"])
    out = []
    for row in rows:
        cells = []
        for level in levels:
            entry = row["levels"][level]
            lo, hi = entry["interval"]
            known = float(level) >= max(row["floor"], 3 / row["n_effective"])
            cells.append(f"{percent(entry['share'], 2)} ({percent(lo, 2)}-{percent(hi, 2)})" if known else "too few")
        out.append([row["stratum"], count(row["n_effective"]), *cells])
    return markdown(["stratum", "effective", *(f"p ≤ {level}" for level in levels)], out)


def inputs(moments):
    """Completeness with inputs taken away."""
    names = list(dict.fromkeys(name for rows in moments.values() for name in rows))
    heads = ["input left", *(f"{said}, k = {at}" for at in moments for said in ("hard mix at 1e-2", "stream mix at 1e-3"))]
    cells = {n: [percent(r.get(n, {}).get(mix)) for r in moments.values() for mix in ("hard", "stream")] for n in names}
    return markdown(heads, [[INPUT_NAMES.get(n, n), *cells[n]] for n in names])


def fusions(found, alert):
    """The ways to fuse and the single networks."""
    heads = ["way", "accuracy", *(("hard mix at 1e-2", "stream mix at 1e-3") if alert else ())]
    rows = []
    for name, row in found.items():
        accuracy = with_interval({"accuracy": row["accuracy"], "interval": row["accuracy_interval"]}, "accuracy")
        mixes = [percent(row.get("hard")), percent(row.get("stream"))] if alert else []
        rows.append([FUSION_NAMES.get(name, name), accuracy, *mixes])
    return markdown(heads, rows)


def abstention(found):
    """Share of garbage held back, and of good examples refused."""
    rows = [[GARBAGE_NAMES.get(n, n), count(v["n"]), with_interval(v, "share")] for n, v in found.items()]
    return markdown(["stamp", "alerts", "held back (good: refused) [%]"], rows)


def goals(rows):
    """Goals with met, or missed by how much."""
    out = []
    for row in rows:
        ece = row["goal"].startswith("ECE")

        def said(value, ece=ece):
            return f"{value:.4f}" if ece else f"{percent(value)} %"

        found, ends = row["found"], row.get("interval")
        verdict = {True: "met", None: "not measured"}.get(row["met"]) or f"**missed by {missed_by(row)}**"
        shown = "-" if found is None else said(found) + (f" ({said(ends[0])} to {said(ends[1])})" if ends else "")
        out.append([row["goal"], said(row["target"]), shown, verdict])
    return markdown(["goal", "wanted", "found", "verdict"], out)
