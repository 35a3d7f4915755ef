"""The section of a validation's page on another table: ranks, who enters and leaves, drift."""

from dgl_broker.evaluation.page_parts import count, nothing, numeric, percent, rate
from dgl_broker.html.alert_words import signed
from dgl_broker.html.markup import element
from dgl_broker.html.page import card, columns, fold
from dgl_broker.html.tables import facts, table
from dgl_broker.validate.charts import plot_pairs


def against_section(found):
    """(note, blocks) of `against.against`."""
    note = element("span", "Before: ", element("code", found["other"]), "; after: the table that is validated here.")
    blocks = [card(columns(_summary(found), _plot(found)))]
    blocks.append(card(_drift(found["drift"]), title="Drift of the real alerts"))
    if found["status"]:
        rows = [(s["before"], s["after"], count(s["alerts"])) for s in found["status"]]
        blocks.append(card(table(["before", "after", numeric("alerts")], rows), title="Scored in one, refused in the other"))
    blocks.append(card(*_sides(found), title="Who enters and who leaves"))
    if found["ranks"].get("listed"):
        blocks.append(card(*_ranks(found["ranks"]), title="Ranks"))
    return note, blocks


def _summary(found):
    s, a = found["scores"], found["alerts"]
    pairs = [
        ("alerts in both", f"{count(a['both'])}; only after {count(a['only_after'])}, only before {count(a['only_before'])}"),
        ("bundle", _pair(found["bundles"], lambda b: f"{b['id']} {b['sha256'][:8]}")),
        ("filters", _pair(found["filters"], lambda f: ", ".join(f"{n} {v}" for n, v in f) or "none")),
    ]
    if s["n"]:
        pairs += [
            ("scored in both", count(s["n"])),
            ("equal to 1e-4", f"{percent(s['equal']['value'], 2)} %"),
            ("largest change", f"{s['largest']:.3g}"),
            ("change, median", signed(s["quantiles"]["0.5"], "+.3g")),
            ("change, 5 to 95 %", f"{signed(s['quantiles']['0.05'], '+.3g')} to {signed(s['quantiles']['0.95'], '+.3g')}"),
            ("rank correlation", None if s["rank_correlation"] is None else f"{s['rank_correlation']:.4f} (Spearman)"),
            ("signed-rank test", None if s["signed_rank_p"] is None else f"p = {rate(s['signed_rank_p'])} (Wilcoxon)"),
        ]
    if found["completeness"]:
        c = found["completeness"]
        lo, hi = c["interval"]
        text = f"{signed(100 * c['difference'], '+.1f')} ({signed(100 * lo, '+.1f')} to {signed(100 * hi, '+.1f')}) points"
        pairs.append(("completeness, after less before", f"{text}, over {c['n']} lensed supernovae"))
    return facts(pairs)


def _pair(both, say):
    before, after = say(both["before"]), say(both["after"])
    return before if before == after else f"{before} → {after}"


def _plot(found):
    points = found["points"]
    if not points["after"]:
        return nothing("No alert was scored in both.")
    return plot_pairs(points["after"], points["before"], points["moved"])


def _drift(drift):
    rows = []
    for name in ("alerts", "objects"):
        if name in drift:
            d = drift[name]
            rows.append(
                (f"log-odds of {name}", f"{count(d['n_after'])} against {count(d['n_before'])}",
                 f"KS {d['ks']:.4f}, p = {rate(d['ks_p'])}; distance {d['wasserstein']:.3g}; "
                 f"medians {signed(d['medians'][0], '+.2f')} and {signed(d['medians'][1], '+.2f')}")
            )  # fmt: skip
    for name, words in (("refused", "share refused"), ("candidates", "share passing")):
        d = drift[name]
        after, before = (f"{percent(d[k]['value'], 3)} % ({d[k]['k']}/{count(d[k]['n'])})" for k in ("after", "before"))
        test = "" if d["fisher_p"] is None else f"; p = {rate(d['fisher_p'])} (Fisher)"
        rows.append((words, "", f"{after} against {before}{test}"))
    note = "Alerts of one object are alike: by objects the tests are fair, by alerts their p-values are too small."
    return element("div", table(["of", "number", "after against before"], rows), element("p", note, class_="soft"))


def _sides(found):
    blocks = []
    for kind, words in (("entering", "enter"), ("leaving", "leave")):
        d = found[kind]
        text = f"{count(d['objects'])} objects {words}, {count(d['real'])} of them real."
        blocks.append(element("p", element("strong", text)))
        if d["listed"]:
            rows = [
                (element("code", r["object"]), element("code", r["alert_id"]), _score(r["score"]), _score(r["other_score"]),
                 r["other_said"], "injected" if r["injected"] else "")
                for r in d["listed"]
            ]  # fmt: skip
            sides = ("after", "before") if kind == "entering" else ("before", "after")
            heads = ["object", "alert", *(numeric(f"log-odds {s}") for s in sides), f"what it was {sides[1]}", ""]
            shown = table(heads, rows, tight=True)
            blocks.append(shown if len(rows) <= 10 else fold(f"the first {len(rows)}", shown))
    return blocks


def _ranks(ranks):
    shared = ", ".join(f"{n} of the best {k}" for k, n in ranks["shared"].items())
    rows = [
        (str(r["rank"]), _moved(r), element("code", r["object"]), element("code", r["alert_id"]), _score(r["score"]),
         _score(r["other_score"]))
        for r in ranks["listed"]
    ]  # fmt: skip
    heads = [numeric("rank"), numeric("before"), "object", "alert", numeric("log-odds"), numeric("before")]
    words = element("p", f"Of {count(ranks['n'])} real alerts scored in both, in both lists: {shared or 'too few'}.")
    return [words, fold(f"the best {len(rows)} and where they stood", table(heads, rows, heads=False, tight=True))]


def _moved(r):
    change = r["other_rank"] - r["rank"]
    if not change:
        return element("span", str(r["other_rank"]), class_="soft")
    arrow = "↑" if change > 0 else "↓"
    return element("span", f"{r['other_rank']} {arrow}{abs(change)}")


def _score(value):
    return None if value is None else signed(value, "+.3f")
