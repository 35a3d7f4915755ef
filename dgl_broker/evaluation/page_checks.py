"""Sections of the evaluation's page on what a bundle claims beside its ranking, and on what its parts are worth."""

import numpy as np

from dgl_broker.evaluation.intervals import wilson
from dgl_broker.evaluation.page_parts import class_name, count, kind_name, nothing, numeric, percent, rate, share_cell
from dgl_broker.html.charts import plot_histogram
from dgl_broker.html.diagnostics import confusion_matrix, reliability_diagram
from dgl_broker.html.markup import element
from dgl_broker.html.page import card, columns, fold, section
from dgl_broker.html.tables import table

INPUT_NAMES = {
    "complete": "everything", "image_only": "image alone", "light_curve_only": "light curve alone",
    "no_template": "no template", "trigger_band_only": "one band alone", "no_host_facts": "no facts of the host",
    "no_companions": "no companions",
}  # fmt: skip
FUSION_NAMES = {
    "svm+lr": "SVM and logistic regression", "lr": "logistic regression alone", "svm": "SVM alone, its pairwise values",
    "mean_log_prob": "mean of the log-probabilities", "svm_votes": "SVM alone, its votes (as published)",
    "lonet": "LoNet alone", "glonet": "GloNet alone", "munet": "MuNet alone",
}  # fmt: skip
GARBAGE_NAMES = {
    "good": "good examples", "noise": "noise", "cosmic_ray": "cosmic ray", "constant": "constant",
    "wrong_pixel_scale": "wrong pixel scale", "not_finite": "not finite", "all_garbage": "all garbage",
}  # fmt: skip


def calibration(found):
    """Reliability of p_lsn, linear and logit, and the ECE with the mix it is of."""
    bins = found["bins"]
    predicted, observed = [b["probability"] for b in bins], [b["share"] for b in bins]
    n = [b["n"] for b in bins]
    lo, hi = zip(*(wilson(b["share"] * b["n"], b["n"]) for b in bins)) if bins else ((), ())
    drawn = [
        element(
            "div",
            element("h4", f"{name} scale"),
            reliability_diagram(predicted, observed, lo, hi, n, "Reliability of p_lsn", name, size=330),
        )
        for name in ("linear", "logit")
    ]
    parts = [
        element("p", "Expected calibration error ", element("b", f"{found['ece']:.4f}"), f" over {len(bins)} bins."),
        columns(*drawn),
    ]
    if "mix" in found:
        mix = [[kind_name(k), percent(v)] for k, v in sorted(found["mix"].items(), key=lambda item: -item[1])]
        parts.append(fold("The mix that the probabilities refer to", table(["kind", numeric("share", "%")], mix)))
    note = (
        "Bins of equal mass. Whiskers: Wilson at the number of objects of a bin, which are too short where weights differ "
        "much; blocks below: that number."
    )
    return section("Calibration of p_lsn", card(*parts), id_="calibration", note=note)


def conformal(rows):
    """Share of negatives at or below each level of the p-value, by stratum."""
    levels = list(rows[0]["levels"])
    heads = ["stratum", numeric("objects"), numeric("effective"), *(numeric(f"p ≤ {level}", "%") for level in levels)]
    body = []
    for row in rows:
        cells = [row["stratum"], count(row["n"]), count(row["n_effective"])]
        body.append([*cells, *(_coverage(row, level) for level in levels)])
    note = (
        "Share of negatives (stream mix) whose p-value is at or below a level: at most the level if the null holds. Red: the "
        "whole 95 % interval lies above it. “Floor”: the null is too small to reach the level."
    )
    return section("Conformal p-values", card(table(heads, body, tight=True)), id_="conformal", note=note)


def _coverage(row, level):
    if float(level) < row["floor"]:
        return element("span", "floor", class_="soft", title=f"least p-value {rate(row['floor'])}")
    entry = row["levels"][level]
    if float(level) < 3 / row["n_effective"]:
        return element("span", "below 3/n", class_="soft")
    lo, hi = entry["interval"]
    text = percent(entry["share"], 2), " ", element("span", f"({percent(lo, 2)} to {percent(hi, 2)})", class_="soft")
    return element("span", text, class_="bad" if lo > float(level) else None)


def abstention(report):
    """Garbage that is refused or scores below the threshold, and good examples that are refused."""
    found, threshold = report["abstention"], report.get("abstention_threshold")
    rows = [
        [
            GARBAGE_NAMES.get(name, name),
            count(row["n"]),
            count(row.get("refused")),
            count(row.get("below")),
            share_cell(row, "share"),
        ]
        for name, row in found.items()
    ]
    heads = [
        "stamp",
        numeric("alerts"),
        numeric("refused"),
        numeric("below threshold"),
        numeric("abstained (good: refused)", "%"),
    ]
    reasons = ", ".join(f"{name} {n}" for name, n in found["good"].get("reasons", {}).items()) or "none was"
    where = "no threshold was measured: only refusals count" if threshold is None else f"threshold {threshold:.2f} in log-odds"
    note = (
        "Alerts of simulated lensed supernovae whose stamps were replaced, light curve and host facts left as they were: the "
        f"worst that a broken stamp can come with; {where}. Good examples refused: {reasons}."
    )
    return section("Abstention on garbage", card(table(heads, rows)), id_="abstention", note=note)


def stability(found):
    """How scores of one object move from detection to detection."""
    heads = [
        "class", numeric("steps"), numeric("median change"), numeric("90th percentile"), numeric("crossings an object"),
        numeric("passed once, not at the last", "%"),
    ]  # fmt: skip
    rows, threshold = [], found["threshold"]
    for name, row in found["by_class"].items():
        lost = share_cell({"lost": row["lost"], "interval": row["lost_interval"]}, "lost")
        crossings = None if threshold is None else f"{row['flips_per_object']:.2f}"
        numbers = [f"{row[key]:.2f}" if row[key] is not None else None for key in ("median_change", "p90_change")]
        rows.append([class_name(name), count(row["n"]), *numbers, crossings, lost])
    said = (
        "No threshold was measured." if threshold is None else f"Crossings of {threshold:.2f}, the threshold in the stream mix."
    )
    note = f"|change| of log-odds from one detection to the next of the same object, detections 1 to 10. {said}"
    return section("Stability of an object's score", card(table(heads, rows)), id_="stability", note=note)


def inputs(report):
    """What each input is worth: parts taken away from the same bundle."""
    moments = report.get("ablation_at") or {"7": report["ablation"]}
    names = list(dict.fromkeys(name for rows in moments.values() for name in rows))
    heads = ["input left"]
    for at in moments:
        heads += [numeric(f"hard mix at 1e-2, k = {at}", "%"), numeric(f"stream mix at 1e-3, k = {at}", "%")]
    body = [
        [INPUT_NAMES.get(n, n), *(percent(rows.get(n, {}).get(mix)) for rows in moments.values() for mix in ("hard", "stream"))]
        for n in names
    ]
    note = (
        "Completeness of the same bundle with inputs taken away, as a packet would lack them. What a network trained without "
        "them could do is another question. Each column is of one mix; a dot: not measured."
    )
    return section("What each input is worth", card(table(heads, body)), id_="inputs", note=note)


def fusions(found, alert):
    """The ways to fuse and the single networks, side by side."""
    heads = ["way", numeric("accuracy", "%")]
    heads += [numeric("hard mix at 1e-2", "%"), numeric("stream mix at 1e-3", "%")] if alert else []
    rows = []
    for name, row in found.items():
        accuracy = share_cell({"accuracy": row["accuracy"], "interval": row["accuracy_interval"]}, "accuracy")
        mixes = [percent(row.get("hard")), percent(row.get("stream"))] if alert else []
        rows.append([FUSION_NAMES.get(name, name), accuracy, *mixes])
    note = "All fitted on the calibration split, the SVM on the stack split; judged on the test set" + (
        " at the 7th detection." if alert else "."
    )
    return section("Ways to fuse", card(table(heads, rows)), id_="fusions", note=note)


def confusion(tables):
    """Confusion of classes, by title: counts and shares with intervals, and precision, recall, F1."""
    kept = {title: t for title, t in tables.items() if t["n"]}
    if not kept:
        return section("Confusion", nothing("No object to judge."), id_="confusion")
    shown = min(kept, key=lambda title: abs(int("".join(c for c in title if c.isdigit()) or 5) - 5))
    blocks = [card(*_confused(kept[shown]), title=shown)]
    blocks += [fold(title, card(*_confused(t))) for title, t in kept.items() if title != shown]
    note = "Counts of the test set as it is, unweighted: precision is of its mix of classes, not of the sky. Wilson intervals."
    return section("Confusion", *blocks, id_="confusion", note=note)


def _confused(found):
    names = [class_name(c) for c in found["classes"]]
    ends = np.array(found["interval"], float)
    matrix = confusion_matrix(found["counts"], names, ends[..., 0], ends[..., 1])
    heads = ["class", numeric("precision", "%"), numeric("recall", "%"), numeric("F1", "%"), numeric("support")]
    rows = [
        [name, *(percent(row[key]) for key in ("precision", "recall", "f1")), count(row["support"])]
        for name, row in zip(names, found["by_class"])
    ]
    lo, hi = found["accuracy_interval"]
    text = f"Accuracy {percent(found['accuracy'])} % ({percent(lo)} to {percent(hi)}) of {count(found['n'])}."
    return element("p", text), columns(matrix, table(heads, rows))


def histograms(alerts):
    """Distribution of log-odds by class at some detections."""
    kinds, blocks = alerts["census"]["by_kind"], []
    for at, found in alerts["histograms"].items():
        by_class = {}
        for kind, counts in found["kinds"].items():
            name = class_name(kinds[kind]["class"])
            by_class[name] = by_class.get(name, 0) + np.array(counts)
        if not by_class:
            continue
        order = [class_name(c) for c in ("no_lens", "lens", "lensed_sn_ia", "lensed_sn_cc")]
        by_class = {name: by_class[name] for name in order if name in by_class}
        drawn = plot_histogram(found["edges"], by_class, "log-odds", f"Log-odds at detection {at}", log_y=True)
        blocks.append(element("div", element("h4", f"At detection {at}"), drawn))
    note = "Objects of the test set as it is, unweighted, on a logarithmic scale."
    return section("Scores by class", card(columns(*blocks)) if blocks else nothing("No scores."), id_="scores", note=note)
