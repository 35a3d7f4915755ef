"""The results pages of the repository in Markdown, from the small results in one folder; what was not run stands as not run.

The folder holds `NAME.json` as `dgl-broker evaluate --result` writes it, NAME one of `results.ROWS` (others are shown with
them); for the controls from the template `{"template_control": ...}` of `training.controls.template_control`; for real alerts
`{"real_alerts": {"n", "scored", "threshold", "bundle", "above": [{"alert_id", "log_odds", "what"}]}}`. Prose stands in
`notes/SECTION.md` (`NOTES`) and is put where it belongs.
"""

from pathlib import Path

from dgl_broker.errors import InputUnavailable
from dgl_broker.evaluation import results_tables as tables
from dgl_broker.evaluation.page_parts import MIX_NAMES, count, fpr_name
from dgl_broker.evaluation.results import ROWS, is_further, load_results
from dgl_broker.evaluation.results_paper import control_section, paper_section
from dgl_broker.evaluation.results_tables import NOT_RUN, markdown

NOTHING_RUN = "Nothing has been run yet: no figure of ours stands below. "
NOTES = ("goals_lsst", "goals_ztf", "lsst", "ztf", "paper", "controls", "real")
WORKING_POINTS = (("hard", 1e-2, 3), ("hard", 1e-2, 7), ("stream", 1e-3, 7), ("stream", 1e-4, 7), ("stream", 1e-4, 10))


def pages(folder):
    """All pages: name of the file -> its text.

    Parameters
    ----------
    folder : path
        With the results.
    """
    results, notes = load_results(folder), load_notes(folder)
    return {"results.md": results_page(results, notes), "results_ztf.md": ztf_page(results, notes)}


def load_notes(folder):
    """Prose by section; InputUnavailable for a file that is of no section."""
    found = {path.stem: path.read_text().strip() for path in sorted((Path(folder) / "notes").glob("*.md"))}
    unknown = sorted(set(found) - set(NOTES))
    if unknown:
        raise InputUnavailable(f"{folder}/notes: {unknown[0]}.md, expected one of {', '.join(NOTES)}")
    return found


def results_page(results, notes):
    """docs/results.md."""
    wanted = {row.name for row in ROWS}
    done = len(wanted & set(results))
    intro = [
        "# Results",
        "Written by `python docs/results.py` from the JSON in [results/](results/) that `dgl-broker evaluate --result` writes, "
        "not edited by hand. Everything is measured on simulated systems unless it says otherwise. Intervals are 95 %. "
        "Completeness (TPR) is in per cent of objects; a rate below 3 over the effective number of negatives is never printed. "
        "The *hard* mix (every hard kind equally often) and the *stream* mix (all kinds by their rates in the sky, after the "
        "shipped pre-cuts) are never mingled.",
        f"**{done} of {len(wanted)} results are in.** {'' if results else NOTHING_RUN}What is not in is listed at the end.",
    ]
    blocks = [
        *intro,
        "## LSST alert bundle",
        *alert_section("lsst", results, notes),
        "## ZTF alert bundle",
        "On a page of its own: [results_ztf.md](results_ztf.md). ZTF resolves no lens.",
        "## The paper's sets",
        *paper_section(results, notes),
        "## Controls",
        *control_section(results, notes),
        "## Real alerts as negatives",
        *real_section(results, notes),
        "## Settings, machines and times",
        training_table(results),
        "## Not run",
        missing_list(results),
    ]
    return "\n\n".join(b for b in blocks if b) + "\n"


def ztf_page(results, notes):
    """docs/results_ztf.md: what light curve, host and blend can do when no lens is resolved."""
    blocks = [
        "# Results: ZTF",
        "Written like [results.md](results.md), which explains the measures. ZTF's pixels of 1.01″ resolve no lens: the image "
        "branch sees a host and a blend, and scores rest on light curve and host. The table of inputs below says how much each "
        "of them carries.",
        *alert_section("ztf", results, notes),
    ]
    return "\n\n".join(b for b in blocks if b) + "\n"


def alert_section(survey, results, notes):
    """Everything on the alert bundles of one survey, as paragraphs."""
    found = results.get(survey)
    rows = [row for row in ROWS if row.part == survey]
    overview = ["### Bundles and baselines", alert_rows(rows, results, survey)]
    if found is None:
        return [f"The shipped bundle's evaluation was {NOT_RUN}.", notes.get(survey), *overview]
    alerts, sha256, ships = found["alerts"], found["bundle"].get("sha256") or "", found["bundle"].get("sha256_with_figures")
    name = f"`{found['bundle']['id']}` {sha256[:12]}" + (f" (with these figures on its card {ships[:12]})" if ships else "")
    out = [
        f"Bundle {name}, {count(found['data']['rows'])} test alerts.",
        _missing_kinds(alerts),
        "### Goals",
        tables.goals(found["goals"]),
        notes.get(f"goals_{survey}") or _no_reason(found["goals"]),
        notes.get(survey),
        *overview,
    ]
    for mix, name in MIX_NAMES.items():
        out += [f"### Completeness, {name}", tables.detections(alerts["by_detection"][mix])]
        out += ["By days since first detection:", tables.days(alerts["by_days"][mix])]
        out += [tables.parts(alerts["by_detection"][mix], mix), tables.contaminants(alerts, mix)]
    out += [
        "### Purity, stream mix [%]",
        tables.purity(alerts) or "No budget can be filled at a rate that the test set measures.",
    ]
    if "calibration" in alerts:
        ece = f"ECE of `p_lsn` {alerts['calibration']['ece']:.4f}, 15 bins of equal mass, at the mix of the card."
        out += ["### Calibration", ece]
    if alerts.get("conformal"):
        out += ["Share of negatives [%] with a p-value at or below a level:", tables.conformal(alerts["conformal"])]
    if "abstention" in found:
        out += ["### Abstention", tables.abstention(found["abstention"])]
    if "ablation_at" in found:
        out += ["### What each input is worth", "Completeness [%], inputs taken away.", tables.inputs(found["ablation_at"])]
    if "fusions" in found:
        out += ["### Ways to fuse", "At the 7th detection.", tables.fusions(found["fusions"], alert=True)]
    kept = [at for at in ("7", "5", "3", "1") if alerts["confusion"].get(at, {}).get("n")]
    if kept:
        out += [f"### Confusion at detection {kept[0]}", tables.confusion(alerts["confusion"][kept[0]])]
    return out


def _missing_kinds(alerts):
    """A warning where kinds of a mix have no object in the test set."""
    parts = [f"{MIX_NAMES[mix]}: {', '.join(kinds)}" for mix, kinds in alerts["missing_kinds"].items() if kinds]
    return f"**The test set holds no object of some kinds, which cost nothing here** ({'; '.join(parts)})." if parts else None


def _no_reason(goals):
    missed = any(row["met"] is False for row in goals)
    return "Why goals are missed, and what was tried, is not written down yet." if missed else None


def alert_rows(rows, results, survey):
    """Alert bundles and baselines side by side at a few working points."""
    heads = ["", *(f"{mix}, {fpr_name(fpr)}, k = {at}" for mix, fpr, at in WORKING_POINTS), "ECE"]
    body = []
    further = [n for n, r in results.items() if is_further(n) and "alerts" in r and r["bundle"]["survey"] == survey]
    for name, what in [(row.name, row.what) for row in rows] + [(n, f"further: {n}") for n in further]:
        found = results.get(name)
        if found is None:
            body.append([what, *[NOT_RUN] * (len(WORKING_POINTS) + 1)])
            continue
        cells = []
        for mix, fpr, at in WORKING_POINTS:
            table = next(t for t in found["alerts"]["by_detection"][mix] if t["at"] == at)
            cells.append(tables.rate_cell(table, fpr))
        ece = found["alerts"].get("calibration", {}).get("ece")
        body.append([what, *cells, "-" if ece is None else f"{ece:.4f}"])
    return markdown(heads, body) + _differences(rows, results)


def _differences(rows, results):
    """Paired differences on the same test rows, where evaluations were made with `--compare`."""
    lines = []
    for row in rows:
        comparison = results.get(row.name, {}).get("comparison", {})
        for r in comparison.get("tpr", ()):
            lo, hi = r["interval"]
            point = f"{MIX_NAMES[r['mix']]}, {fpr_name(r['fpr'])}, k = {r['at']}"
            lines.append(
                [row.what, comparison["other"], point, f"{100 * r['difference']:+.1f} ({100 * lo:+.1f} to {100 * hi:+.1f})"]
            )
    heads = ["", "less", "at", "points of TPR, paired"]
    return "\n\nOn the same test rows:\n\n" + markdown(heads, lines) if lines else ""


def real_section(results, notes):
    """Truly observed alerts scored as negatives, and every one above the threshold by name."""
    out = []
    for row in ROWS:
        if row.part != "real":
            continue
        found = results.get(row.name, {}).get("real_alerts")
        if found is None:
            out.append(f"{row.what}: {NOT_RUN}.")
            continue
        n = f"{count(found['n'])} alerts, {count(found['scored'])} scored"
        out.append(
            f"{row.what}: {n}, {len(found['above'])} above the threshold of {found['threshold']:.2f} (`{found['bundle']}`)."
        )
        if found["above"]:
            named = [[str(a["alert_id"]), f"{a['log_odds']:.2f}", a["what"]] for a in found["above"]]
            out.append(markdown(["alert", "log-odds", "what it is"], named))
    return [*out, notes.get("real")]


def training_table(results):
    """Seed, size, machine and time of everything that was trained, from the cards."""
    body = []
    for name, found in results.items():
        training = found.get("training")
        if not training:
            continue
        train = training.get("splits", {}).get("train", {})
        systems = sum(c["systems"] for c in train.values()) or None
        stages = training.get("stages", {}).values()
        cells = [training.get("seed"), None if systems is None else count(systems), training.get("share")]
        parameters = count(sum(s["parameters"] for s in stages)) if stages else None
        epochs = ", ".join(str(s["epochs"]) for s in stages) or None
        body.append([name, *cells, parameters, epochs, training.get("device"), training.get("minutes"), training.get("about")])
    heads = ["result", "seed", "systems trained on", "share of them", "parameters of all stages", "epochs by stage", "device",
             "minutes", "recipe"]  # fmt: skip
    return markdown(heads, body) if body else "Nothing has been trained for this page yet."


def missing_list(results):
    """The wanted results that are not in."""
    rest = [f"- `{row.name}`: {row.what}" for row in ROWS if row.name not in results]
    return "\n".join(rest) if rest else "Everything on the list was run."
