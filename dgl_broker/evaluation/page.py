"""The page of an evaluation, from its JSON alone: opens from disk, loads nothing."""

from dgl_broker.evaluation import page_checks, page_completeness, page_contaminants
from dgl_broker.evaluation.mixes import tables as mix_tables
from dgl_broker.evaluation.page_parts import (
    MIX_NAMES,
    count,
    fpr_name,
    nothing,
    numeric,
    percent,
    share_cell,
)
from dgl_broker.html.axes import Axis
from dgl_broker.html.charts import Series, plot_lines
from dgl_broker.html.markup import element
from dgl_broker.html.page import card, columns, fold, page, section
from dgl_broker.html.tables import counters, facts, table

VERDICTS = {True: ("met", "good"), False: ("missed", "bad"), None: ("not measured", "soft")}


def report_page(report):
    """The page of one report.

    Parameters
    ----------
    report : dict
        As `report.json` holds it (`evaluation.run.plain`).

    Returns
    -------
    str
        HTML.
    """
    bundle = report["bundle"]
    alerts = report.get("alerts")
    parts = _alert_parts(report) if alerts else _paper_parts(report)
    parts.append(("how", "How it was made", _provenance(report)))
    kind = "alert" if alerts else "paper"
    lead = (
        f"{kind.capitalize()} bundle"
        + (f" for {bundle['survey'].upper()}" if bundle.get("survey") else "")
        + f", judged on {count(report['data']['rows'])} examples of {', '.join(report['data']['folders']) or 'its test set'}."
    )
    return page(
        bundle["id"],
        *(block for _, _, block in parts),
        kicker="Evaluation",
        lead=lead,
        banner=page_contaminants.missing(alerts) if alerts else None,
        links=[(target, name) for target, name, _ in parts],
        footer=f"Made {report['made']} on {report['machine']}; bundle {(bundle.get('sha256') or 'without hash')[:16]}.",
    )


def _alert_parts(report):
    alerts = report["alerts"]
    survey = report["bundle"]["survey"]
    year = mix_tables()["lensed_sne_per_year"][survey]["rate"]
    parts = [
        ("goals", "Goals", goals(report["goals"])),
        ("detections", "By detection", page_completeness.by_detection(alerts)),
        ("days", "By days", page_completeness.by_days(alerts)),
        ("parts", "Which are found", page_completeness.by_parts(alerts)),
        ("roc", "ROC", page_completeness.roc(alerts)),
        ("contaminants", "Contaminants", page_contaminants.contaminants(alerts)),
        ("purity", "Purity", page_contaminants.purity(alerts, year)),
    ]
    if "calibration" in alerts:
        parts.append(("calibration", "Calibration", page_checks.calibration(alerts["calibration"])))
    if alerts.get("conformal"):
        parts.append(("conformal", "p-values", page_checks.conformal(alerts["conformal"])))
    if "abstention" in report:
        parts.append(("abstention", "Abstention", page_checks.abstention(report)))
    parts.append(("stability", "Stability", page_checks.stability(alerts["stability"])))
    if report.get("ablation"):
        parts.append(("inputs", "Inputs", page_checks.inputs(report)))
    if "fusions" in report:
        parts.append(("fusions", "Fusion", page_checks.fusions(report["fusions"], alert=True)))
    confused = {f"Detection {at}": found for at, found in alerts["confusion"].items()}
    parts.append(("confusion", "Confusion", page_checks.confusion(confused)))
    parts.append(("scores", "Scores", page_checks.histograms(alerts)))
    if "comparison" in report:
        parts.append(("comparison", "Comparison", comparison(report["comparison"])))
    parts.append(("data", "Test set", page_contaminants.test_set(report)))
    return parts


def _paper_parts(report):
    paper = report["paper"]
    parts = [("accuracy", "Accuracy", accuracy(paper))]
    if "fusions" in report:
        parts.append(("fusions", "Fusion", page_checks.fusions(report["fusions"], alert=False)))
    parts.append(("confusion", "Confusion", page_checks.confusion({"All systems": paper["confusion"]})))
    parts.append(("roc", "ROC", paper_rates(paper)))
    parts.append(("calibration", "Calibration", page_checks.calibration(paper["calibration"])))
    if "comparison" in report:
        parts.append(("comparison", "Comparison", comparison(report["comparison"])))
    return parts


def goals(rows):
    """What was set out to be reached: met, or missed and by how much."""
    body = []
    for row in rows:
        word, colour = VERDICTS[row["met"]]
        found = row["found"]
        if row["met"] is False:
            word += f" by {missed_by(row)}"
        ends = row.get("interval")
        interval = f"{_share(ends[0], row['goal'])} to {_share(ends[1], row['goal'])}" if ends and found is not None else None
        bound = "at most " if row["target"] <= 0.05 else "at least "
        cells = [row["goal"], bound + _share(row["target"], row["goal"]), None if found is None else _share(found, row["goal"])]
        body.append([*cells, interval, element("b", word, class_=colour)])
    heads = ["goal", numeric("wanted"), numeric("found"), numeric("95 % interval"), "verdict"]
    note = (
        "The figures of 60 and 80 % are those of HOLISMOKES XXI (Bag et al. 2026), on image time series of resolved systems in "
        "other data: an anchor, no comparison. “Not measured” means a sample too small for the rate, or a check left out."
    )
    return section("Goals", card(table(heads, body)), id_="goals", note=note)


def missed_by(row):
    """How far a goal is missed: points of per cent, or the number itself for the ECE."""
    off = abs(row["found"] - row["target"])
    return f"{off:.4f}" if row["goal"].startswith("ECE") else f"{percent(off)} points"


def _share(value, goal):
    return f"{value:.4f}" if goal.startswith("ECE") else f"{percent(value)} %"


def accuracy(paper):
    """Accuracy of four classes, and of the lensed ones alone, beside what the authors published on other data."""
    found, lensed = paper["confusion"], paper["among_lensed"]
    whole = share_cell({"accuracy": found["accuracy"], "interval": found["accuracy_interval"]}, "accuracy")
    items = [("accuracy, %", whole), ("systems", count(found["n"]))]
    parts = [counters(items)]
    if lensed["accuracy"] is not None:
        said = share_cell(lensed, "accuracy")
        parts.append(
            element(
                "p", "Among the three lensed classes, each weighing alike: ", said, f" %; chance {percent(lensed['chance'])} %."
            )
        )
    if paper.get("published_accuracy"):
        text = (
            f"The authors published {percent(paper['published_accuracy'])} % on their own, other data, of a chain "
            "that lets classes be told from the galaxies alone: the two figures are not to be compared."
        )
        parts.append(element("p", text, class_="soft"))
    return section("Accuracy", card(*parts), id_="accuracy")


def paper_rates(paper):
    """Completeness at false-positive rates over all negatives of a paper set."""
    parts, curve = [], paper["roc"]
    if curve["fpr"]:
        x, y = Axis("false-positive rate", min(0.1, curve["fpr"][0]), 1.0, "log"), Axis("completeness", 0.0, 1.0)
        parts.append(plot_lines([Series("all", curve["fpr"], curve["tpr"])], x, y, "ROC", dots=False))
    rows = [[fpr_name(r["fpr"]), share_cell(r) if r["measurable"] else "below 3/n"] for r in paper["rates"]]
    parts.append(table(["rate", numeric("completeness", "%")], rows))
    return section("Lensed supernovae against the rest", card(columns(*parts)), id_="roc")


def comparison(found):
    """This bundle less another on the same rows."""
    if "accuracy" in found:
        row = found["accuracy"]
        lo, hi = row["interval"]
        text = (
            f"Accuracy less that of {found['other']}: "
            f"{100 * row['difference']:+.2f} points ({100 * lo:+.2f} to {100 * hi:+.2f}), "
            f"paired bootstrap over {count(row['n_systems'])} systems."
        )
        return section("Comparison", card(element("p", text)), id_="comparison")
    rows = [
        [
            f"{MIX_NAMES[r['mix']]}, {fpr_name(r['fpr'])}, detection {r['at']}",
            percent(r["before"]),
            percent(r["after"]),
            f"{100 * r['difference']:+.1f} ({100 * r['interval'][0]:+.1f} to {100 * r['interval'][1]:+.1f})",
        ]
        for r in found["tpr"]
    ]
    heads = ["working point", numeric("the other", "%"), numeric("this", "%"), numeric("difference", "points")]
    body = card(table(heads, rows)) if rows else nothing("No working point could be measured.")
    return section("Comparison", body, id_="comparison", note=f"With {found['other']}, paired bootstrap over objects.")


def _provenance(report):
    training = report.get("training") or {}
    known = facts(
        [
            ("bundle", f"{report['bundle']['id']} {report['bundle'].get('sha256') or ''}"),
            ("data", ", ".join(report["data"]["folders"]) or None),
            ("judged on", report["machine"]),
            ("recipe", training.get("about") or None),
            ("seed", training.get("seed")),
            ("share of the training systems", training.get("share")),
            ("trained on", training.get("device")),
            ("training took", f"{training['minutes']} minutes" if "minutes" in training else None),
        ]
    )
    parts = [card(known)]
    if training.get("stages"):
        rows = [
            [
                name,
                count(s["parameters"]),
                s["epochs"],
                s["best_epoch"],
                percent(s["validation"].get("accuracy")),
                f"{s['seconds']:.0f}",
            ]
            for name, s in training["stages"].items()
        ]
        heads = [
            "stage",
            numeric("parameters"),
            numeric("epochs"),
            numeric("best"),
            numeric("validation accuracy", "%"),
            numeric("took", "s"),
        ]
        parts.append(card(table(heads, rows, tight=True), title="Stages of training"))
    if training.get("splits"):
        rows = [
            [split, count(sum(c["systems"] for c in classes.values())), count(sum(c["alerts"] for c in classes.values()))]
            for split, classes in training["splits"].items()
        ]
        parts.append(card(table(["split", numeric("systems"), numeric("alerts")], rows), title="Splits of the training data"))
    counts = report["data"].get("counts") or {}
    for folder, found in counts.items():
        rows = [[name, count(n)] for name, n in sorted(found.items())]
        parts.append(fold(f"Counts of {folder}", table(["count", numeric("alerts")], rows)))
    return section("How it was made", *parts, id_="how")
