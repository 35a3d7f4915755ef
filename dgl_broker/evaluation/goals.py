"""What the project set out to reach, beside what was found; a goal that is missed says by how much."""


def _find(tables, at, fpr, subset):
    for table in tables:
        if table["at"] == at:
            for rate in table["rates"]:
                if rate["fpr"] == fpr and rate["measurable"]:
                    return rate["subsets"][subset]
    return None


def _row(goal, target, found, at_most=False, interval=None):
    met = None if found is None else bool(found <= target if at_most else found >= target)
    text = "not measured" if found is None else f"{found:.4g}"
    if found is not None and not met:
        text += f", off by {abs(found - target):.4g}"
    return {"goal": goal, "target": target, "found": found, "interval": interval, "met": met, "found_text": text}


def alert_goals(report):
    """Goals of an alert bundle: rows of `goal`, `target`, `found`, `interval`, `met`, `found_text`."""
    alerts = report["alerts"]
    rows = []
    for subset, said in (("separation_above_0.5", 'separation > 0.5"'), ("all", "all")):
        for at, target in ((7, 0.6), (10, 0.8)):
            found = _find(alerts["by_detection"]["stream"], at, 1e-4, subset) or {}
            goal = f"TPR at FPR 1e-4 of the stream mix at detection {at}, {said}"
            rows.append(_row(goal, target, found.get("tpr"), interval=found.get("bootstrap")))
    found = _find(alerts["by_detection"]["hard"], 7, 1e-2, "all") or {}
    rows.append(_row("TPR at FPR 1e-2 of the hard mix at detection 7", 0.6, found.get("tpr"), interval=found.get("bootstrap")))
    ece = alerts.get("calibration", {}).get("ece")
    rows.append(_row("ECE of p_lsn", 0.02, ece, at_most=True))
    held = report.get("abstention")
    if held:
        rows.append(_row("abstention on garbage", 0.99, held["all_garbage"]["share"], interval=held["all_garbage"]["interval"]))
        rows.append(_row("good examples refused", 0.05, held["good"]["share"], at_most=True, interval=held["good"]["interval"]))
    return rows


def headline(report):
    """The few numbers that a card carries, with the test set they are of.

    Returns
    -------
    dict
        Alert bundles: `tpr` by mix, rate and detection (all, and separations above 0.5") with intervals, `ece`,
        `abstention`; paper sets: `accuracy` with interval and number. `data` names the folders.
    """
    out = {"data": report["data"]["folders"], "made": report["made"]}
    if "paper" in report:
        confusion = report["paper"]["confusion"]
        return out | {"accuracy": confusion["accuracy"], "interval": confusion["accuracy_interval"], "n": confusion["n"]}
    out["tpr"] = [
        {"mix": mix, "fpr": rate["fpr"], "at": table["at"], "subset": subset, **rate["subsets"][subset]}
        for mix, tables in report["alerts"]["by_detection"].items()
        for table in tables
        for rate in table["rates"]
        if table["at"] in (1, 3, 5, 7, 10) and rate["measurable"]
        for subset in ("all", "separation_above_0.5")
    ]
    if "calibration" in report["alerts"]:
        out["ece"] = report["alerts"]["calibration"]["ece"]
    if "abstention" in report:
        out["abstention"] = {name: report["abstention"][name]["share"] for name in ("all_garbage", "good")}
    return out
