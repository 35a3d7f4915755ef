"""The evaluation as a few lines of text, for a terminal and a log."""


def percent(value, digits=1):
    """A share as text; a dash for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def with_interval(entry, name="tpr"):
    """`61.2 (58.0-64.1)`, of the bootstrap where there is one, else binomial."""
    if entry is None or entry.get(name) is None:
        return "-"
    lo, hi = entry.get("bootstrap") or entry.get("binomial") or entry["interval"]
    return f"{percent(entry[name])} ({percent(lo)}-{percent(hi)})"


def tpr_lines(tables, subset="all"):
    """Completeness [%] by detection at each rate, of one mix."""
    rates = [r["fpr"] for r in tables[0]["rates"]]
    lines = ["  k   n_pos   n_neg   " + "".join(f"FPR {fpr:<18g}" for fpr in rates)]
    for table in tables:
        cells = [with_interval(r["subsets"][subset]) if r["measurable"] else "-" for r in table["rates"]]
        n = next((r["subsets"][subset]["n"] for r in table["rates"] if r["measurable"]), table["n_positive"])
        counts = f"{table['at']:>3} {n:>7} {table['n_negative']:>7}   "
        lines.append(counts + "".join(f"{c:<22}" for c in cells))
    return lines


def summary(report):
    """The evaluation as text.

    Parameters
    ----------
    report : dict
        As `dgl-broker evaluate` writes it.
    """
    name = f"{report['bundle']['id']} {(report['bundle'].get('sha256') or '')[:12]}"
    lines = [f"bundle {name}, data {', '.join(report['data']['folders'])}"]
    alerts = report.get("alerts")
    if alerts:
        for mix in ("hard", "stream"):
            for subset in ("all", "separation_above_0.5"):
                lines += ["", f"completeness [%], {mix} mix, {subset}:", *tpr_lines(alerts["by_detection"][mix], subset)]
            missing = alerts["missing_kinds"][mix]
            if missing:
                lines.append(f"  no object in the test set of: {', '.join(missing)}")
        if "calibration" in alerts:
            lines += ["", f"ECE of p_lsn {alerts['calibration']['ece']:.4f} over {alerts['calibration']['n']} objects"]
    if "paper" in report:
        lines += ["", *paper_lines(report["paper"])]
    if "fusions" in report:
        lines += [
            "",
            "ways to fuse: accuracy [%] at the 7th detection (paper sets: all), TPR [%] hard at 1e-2, stream at 1e-3",
        ]
        for name, row in report["fusions"].items():
            accuracy = with_interval({"accuracy": row["accuracy"], "interval": row["accuracy_interval"]}, "accuracy")
            lines.append(f"  {name:14s} {accuracy:24s} {percent(row.get('hard'))} {percent(row.get('stream'))}")
    if "ablation" in report:
        lines += ["", "inputs taken away: TPR [%] at the 7th detection, hard at 1e-2, stream at 1e-3"]
        for name, row in report["ablation"].items():
            lines.append(f"  {name:20s} {percent(row.get('hard')):>6s} {percent(row.get('stream')):>6s}")
    if "abstention" in report:
        lines += ["", "abstention [%]: " + ", ".join(f"{k} {percent(v['share'])}" for k, v in report["abstention"].items())]
    if "goals" in report:
        lines += ["", "goals:"]
        for row in report["goals"]:
            met = {True: "met", False: "MISSED", None: "not measured"}[row["met"]]
            lines.append(f"  {row['goal']}: {row['found_text']} ({met})")
    return "\n".join(lines)


def paper_lines(paper):
    """Accuracy and class measures of a paper set."""
    confusion = paper["confusion"]
    whole = {"accuracy": confusion["accuracy"], "interval": confusion["accuracy_interval"]}
    lines = [f"accuracy {with_interval(whole, 'accuracy')} % of {confusion['n']}"]
    lensed = paper["among_lensed"]
    if lensed["accuracy"] is not None:
        lines.append(f"among the lensed classes {with_interval(lensed, 'accuracy')} %, chance {percent(lensed['chance'])} %")
    for name, row in zip(confusion["classes"], confusion["by_class"]):
        numbers = " ".join(f"{key} {percent(row[key])}" for key in ("precision", "recall", "f1"))
        lines.append(f"  {name:14s} {numbers} support {row['support']:.0f}")
    return lines
