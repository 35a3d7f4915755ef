"""The overview page of a validation, from its report alone."""

import math

from dgl_broker.evaluation.page_parts import count, nothing, numeric, percent, rate, share_cell
from dgl_broker.html.alert_words import signed
from dgl_broker.html.axes import Axis, power_label
from dgl_broker.html.charts import Series, bars, plot_histogram, plot_lines, plot_rates
from dgl_broker.html.markup import element
from dgl_broker.html.page import card, fold, page, section
from dgl_broker.html.tables import counters, facts, table
from dgl_broker.validate.charts import plot_tracks
from dgl_broker.validate.page_against import against_section

CANDIDATES = "candidates.html"
SHARE = Axis("completeness", 0.0, 1.0)
UNIT_NOTE = (
    "Over objects: one counts in a row if it has an alert there, and passes if any of those alerts does. Intervals are 95 % "
    "(Clopper-Pearson). The stream's false-positive rate takes every real object of which nothing is known for a negative."
)


def report_page(report):
    """The overview.

    Parameters
    ----------
    report : dict
        As `report.json` holds it.
    """
    parts = [
        ("what", "What was validated", what(report)),
        ("scores", "Scores", scores(report)),
        ("completeness", "Completeness and false positives", completeness(report)),
        ("nights", "Candidates a night", nightly(report)),
        ("refusals", "Refusals", refused(report)),
        ("tracks", "Objects over time", over_time(report)),
        ("best", "The best", best(report)),
    ]
    if report.get("against"):
        parts.append(("against", "Against another", against_section(report["against"])))
    about = report["about"]
    return page(
        f"Validation of {about['name']}",
        *(section(title, *blocks, id_=id_, note=note) for id_, title, (note, blocks) in parts),
        kicker="dgl-broker validate",
        lead=f"{count(about['alerts'])} alerts of {count(about['objects'])} objects in {len(report['nights'])} nights, "
        f"scored by {about['bundle']['id']} ({about['bundle']['sha256'][:12]}).",
        banner=_banner(report),
        links=[(id_, title) for id_, title, _ in parts],
        footer=f"Written by {about['written_by']} on {about['made']}.",
    )


def _banner(report):
    groups = report["about"]["groups"]
    if not groups["injected"]["objects"] and not groups["known lensed supernovae"]["objects"]:
        return (
            "No lensed supernova is known among these alerts, so completeness is not measured. "
            "Replay with --inject, or give --labels."
        )
    if not report["about"]["trained"]:
        return "The weights of this bundle are untrained: its scores mean nothing."
    return None


def what(report):
    about = report["about"]
    status = about["status"]
    balance = [
        ("consumed", sum(status.values()) + (about["dead_lettered"] or 0)), "=", ("scored", status.get("scored", 0)), "+",
        ("refused", status.get("refused", 0)), "+", ("dead-lettered", about["dead_lettered"] or 0),
    ]  # fmt: skip
    rows = [(name, count(g["objects"]), count(g["alerts"]), count(g["scored"])) for name, g in about["groups"].items()]
    filters = ", ".join(f"{name} version {version}" for name, version in about["filters"]) or "none"
    pairs = [
        ("table", element("code", about["scores"])),
        ("repeated", f"{count(about['repeated'])} rows left out: their alerts stand before" if about["repeated"] else None),
        ("filters", filters + (f" (not at hand: {', '.join(about['missing_filters'])})" if about["missing_filters"] else "")),
        ("judged by", ", ".join(f"{k or 'unknown'} ({count(n)})" for k, n in about["judged_by"].items())),
        ("labels", about["labels"]),
        ("share of the stream", f"{about['sampled']:g}" if about["sampled"] < 1 else None),
        ("replay", f"{about['replay']['written_by']}, finished {about['replay']['finished']}" if about["replay"] else None),
    ]
    heads = ["group", numeric("objects"), numeric("alerts"), numeric("scored")]
    return None, [card(counters(balance), element("hr"), facts(pairs)), card(table(heads, rows), title="What is known of them")]


def scores(report):
    found, thresholds = report["distributions"], report["thresholds"]
    if not found["edges"]:
        return None, [card(nothing("No alert was scored."))]
    marks = [(t["threshold"], t["filter"]) for t in thresholds if t["score"] == "log_odds"]
    marks = [m for m in marks if found["edges"][0] <= m[0] <= found["edges"][-1]]
    counts = {f"{name} ({count(found['n'][name])})": c for name, c in found["counts"].items() if found["n"][name]}
    drawing = plot_histogram(
        found["edges"],
        counts,
        "log-odds of a lensed supernova",
        "Scores by group",
        log_y=True,
        marks=marks,
        width=1080,
        height=320,
    )
    return "Alerts, not objects; the number axis is logarithmic.", [card(drawing)]


def completeness(report):
    groups = {"all alerts": report["overall"]}
    blocks = [card(_group_table(groups), title="Any alert of an object"), card(_purities(report["overall"]), title="Purity")]
    by = report["by_detection"]
    if by:
        blocks.append(card(_group_table(by, "detections"), _completeness_plot(by), title="By number of detections"))
    if report["by_stratum"]:
        blocks.append(card(_group_table(report["by_stratum"], "stratum"), title="By stratum of the null"))
    blocks.append(card(*_at_rates(report["at_rates"]), title="Completeness at false-positive rates"))
    return UNIT_NOTE, blocks


def _completeness_plot(by):
    rows = []
    for name, row in by.items():
        c = row["completeness"]["all"]
        if c["n"]:
            rows.append((f"{name} detection{'s' if name != '1' else ''}", c["value"], *c["interval"], f"{c['k']} of {c['n']}"))
    return plot_rates(rows, SHARE, "Completeness by number of detections", width=760) if rows else None


def _group_table(groups, first="group"):
    heads = [first, numeric("objects"), numeric("completeness", "%"), numeric("Ia", "%"), numeric("CC", "%"),
             numeric("FPR, known negatives"), numeric("FPR, stream")]  # fmt: skip
    rows = []
    for name, row in groups.items():
        c = row["completeness"]
        shares = [_share(c.get(key)) for key in ("all", "lensed SN Ia", "lensed SN CC")]
        rows.append([name, count(row["n_objects"]), *shares, _rate(row["fpr_known"]), _rate(row["fpr_stream"])])
    return table(heads, rows, tight=True)


def _purities(overall):
    """Purity at each declared prevalence, where both rates were measured."""
    rows = [(_power(p), _purity(entry)) for p, entry in overall["purity"].items() if entry is not None]
    if not rows:
        return nothing("Purity needs lensed supernovae and real objects.")
    note = "Share of lensed supernovae among what passes, at declared shares of them in the stream, by both rates (Bayes)."
    return element("div", table(["prevalence", numeric("purity", "%")], rows), element("p", note, class_="soft"))


def _power(text):
    return power_label(round(math.log10(float(text)))) if math.log10(float(text)).is_integer() else text


def _share(entry):
    if entry is None or not entry["n"]:
        return None
    return element("span", share_cell(entry, "value"), element("small", f" {entry['k']}/{entry['n']}", class_="soft"))


def _rate(entry):
    if not entry["n"]:
        return None
    lo, hi = entry["interval"]
    words = f"{rate(entry['value'])}" if entry["k"] >= 3 else f"< {rate(hi)}"
    return element("span", words, element("small", f" {entry['k']}/{count(entry['n'])}", class_="soft"))


def _purity(entry):
    if entry["value"] is None:
        return element("span", f"at least {_small(entry['at_least'])}", class_="soft")
    lo, hi = entry["interval"]
    return element("span", _small(entry["value"]), element("small", f" ({_small(lo)} to {_small(hi)})", class_="soft"))


def _small(share):
    """A share in per cent, in as many digits as it needs."""
    return f"{100 * share:.2g}".replace("e-0", "e-")


def _at_rates(found):
    if not found:
        return [nothing("Lensed supernovae and negatives are both needed.")]
    rows = []
    for name, at in found.items():
        for row in at["rates"]:
            cells = [name, f"{row['fpr']:g}"]
            if not row["measurable"]:  # nor is any rate below it
                words = element("span", f"below 3/n of {count(at['n_negative'])}", class_="soft")
                rows.append([name, f"{row['fpr']:g} and less", words, None, None, None])
                break
            parts = row["subsets"]
            threshold = "all pass" if row["threshold"] is None else signed(row["threshold"], "+.2f")
            rows.append([*cells, threshold, *(share_cell(parts[s]) for s in ("all", "lensed_sn_ia", "lensed_sn_cc"))])
    heads = [
        "negatives",
        numeric("FPR"),
        numeric("threshold"),
        numeric("completeness", "%"),
        numeric("Ia", "%"),
        numeric("CC", "%"),
    ]
    drawn = [Series(name, at["roc"]["fpr"], at["roc"]["tpr"]) for name, at in found.items() if at["roc"]["fpr"]]
    note = "An object by its best alert; intervals by a bootstrap over objects, the threshold drawn anew."
    blocks = [element("p", note, class_="soft"), table(heads, rows)]
    if drawn:
        least = max(min(min(s.x) for s in drawn), 1e-7)
        axis = Axis("false-positive rate", min(least, 0.5), 1.0, "log")
        blocks.append(plot_lines(drawn, axis, SHARE, "Completeness against false-positive rate", dots=False))
    return blocks


def nightly(report):
    rows = report["nights"]
    if not rows:
        return None, [card(nothing("No real alert has a time."))]
    mean = report["nightly_mean"]
    lo, hi = mean["interval"]
    text = f"{mean['mean']:.2f} candidates a night ({lo:.2f} to {hi:.2f}) over {mean['nights']} nights"
    if mean["sampled"] < 1:
        text += f", scaled from a share of {mean['sampled']:g} of the stream"
    heads = ["night", numeric("alerts"), numeric("scored"), numeric("candidates"), numeric("interval"), numeric("their alerts")]
    body = [
        (r["night"], count(r["alerts"]), count(r["scored"]), count(r["candidates"]),
         f"{r['interval'][0]:.1f} to {r['interval'][1]:.1f}", count(r["candidate_alerts"]))
        for r in rows
    ]  # fmt: skip
    blocks = [element("p", element("strong", text), ".")]
    if len(rows) > 1:
        edges = [n + 0.5 for n in range(len(rows) + 1)]
        bars_ = {"candidates": [r["candidates"] for r in rows]}
        blocks.append(
            plot_histogram(edges, bars_, "night of the replay, in order", "Candidates a night", width=1080, height=220)
        )
    shown = table(heads, body)
    blocks.append(shown if len(rows) <= 12 else fold(f"{len(rows)} nights", shown))
    return "Real objects of which an alert passes; injected ones never count. Interval: Poisson (Garwood 1936).", [
        card(*blocks)
    ]


def refused(report):
    rows = report["refusals"]
    if not rows:
        return None, [card(nothing("Nothing was refused."))]
    heads = ["reason", numeric("real alerts"), numeric("share", "%"), numeric("lensed, alerts"), numeric("negatives, alerts"),
             numeric("lensed objects lost", "%")]  # fmt: skip
    body = [
        (r["reason"], count(r["stream"]), percent(r["share"]["value"], 2), count(r["positive_alerts"]),
         count(r["negative_alerts"]), _share(r["lost"]))
        for r in rows
    ]  # fmt: skip
    note = "Lost: lensed supernovae all of whose alerts were refused, under their most frequent reason."
    blocks = [card(bars([(r["reason"], r["stream"]) for r in rows[:14]], "Refusals by reason", width=900), table(heads, body))]
    if report["precuts"]:
        cut_heads = ["criterion", numeric("lensed objects it would lose", "%"), numeric("of the stream it would stop", "%"),
                     numeric("unknown")]  # fmt: skip
        cuts = [
            (r["criterion"], _share(r["lost"]), percent(r["stopped"]["value"], 2), count(r["unknown"]))
            for r in report["precuts"]
        ]
        blocks.append(card(table(cut_heads, cuts), title="Pre-cuts, each alone (this table is ungated)"))
    return note, blocks


def over_time(report):
    blocks = []
    if report["tracks"]:
        threshold = next((t["threshold"] for t in report["thresholds"] if t["score"] == "log_odds"), None)
        blocks.append(card(plot_tracks(report["tracks"], threshold)))
    if report["steadiness"]:
        heads = ["group", numeric("steps"), numeric("median change"), numeric("90th percentile"),
                 numeric("crossings an object"), numeric("passed once, not at last", "%")]  # fmt: skip
        rows = [
            (name, count(r["n"]), _number(r["median_change"]), _number(r["p90_change"]), _number(r["flips_per_object"]),
             percent(r["lost"]))
            for name, r in report["steadiness"].items()
        ]  # fmt: skip
        blocks.append(card(table(heads, rows), title="How steady a score is from one detection to the next"))
    text = "All objects with two alerts or more stand in tracks.parquet; here the best live ones and those that are known."
    return text, blocks or [card(nothing("No object has two alerts here."))]


def _number(value):
    return None if value is None else f"{value:.3g}"


def best(report):
    rows = []
    for c in report["best"]:
        name = element("a", element("code", c["object"]), href=f"{CANDIDATES}#a{c['alert_id']}")
        passed = element("b", "passed", class_="good") if c["passed"] else element("span", "no", class_="soft")
        rows.append(
            [str(c["rank"]), name, element("code", c["alert_id"]), signed(c["score"], "+.2f"), passed, c["known"] or ""]
        )
    if not rows:
        return None, [card(nothing("No real alert was scored."))]
    heads = [numeric("rank"), "object", "alert", numeric("log-odds"), "passed", "what is known"]
    link = element("p", element("a", "Stamps, light curves and criteria of each", href=CANDIDATES))
    return "Real objects, each by its best alert.", [card(link, table(heads, rows, heads=False, tight=True))]
