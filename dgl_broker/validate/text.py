"""A validation in some lines, for the terminal."""

from dgl_broker.evaluation.page_parts import percent, rate


def report_text(report):
    """The report in short."""
    about, overall = report["about"], report["overall"]
    lines = [f"{about['alerts']} alerts of {about['objects']} objects: "
             + ", ".join(f"{n} {status}" for status, n in about["status"].items())]  # fmt: skip
    c = overall["completeness"]["all"]
    if c["n"]:
        lo, hi = c["interval"]
        lines.append(
            f"completeness {percent(c['value'])} % ({percent(lo)} to {percent(hi)}): {c['k']} of {c['n']} lensed supernovae"
        )
    else:
        lines.append(
            "completeness not measured: no lensed supernova is known among these alerts (--labels, or replay --inject)"
        )
    for key, words in (("fpr_known", "known negatives"), ("fpr_stream", "the real stream")):
        f = overall[key]
        if f["n"]:
            value = rate(f["value"]) if f["k"] >= 3 else f"below {rate(f['interval'][1])}"
            lines.append(f"false positives of {words}: {value} ({f['k']} of {f['n']} objects)")
    mean = report["nightly_mean"]
    if mean is not None:
        lo, hi = mean["interval"]
        lines.append(f"candidates a night {mean['mean']:.2f} ({lo:.2f} to {hi:.2f}) over {mean['nights']} nights")
    if report["refusals"]:
        lines.append("refused: " + ", ".join(f"{r['reason']} {r['alerts']}" for r in report["refusals"][:8]))
    other = report["against"]
    if other:
        s, moved = other["scores"], [other[side]["objects"] for side in ("entering", "leaving")]
        lines.append(f"against {other['other']}: {other['alerts']['both']} alerts in both")
        lines.append(f"  {moved[0]} objects enter, {moved[1]} leave")
        if s["n"]:
            equal = percent(s["equal"]["value"], 2)
            lines.append(f"  log-odds equal to 1e-4 in {equal} % of {s['n']}, largest change {s['largest']:.3g}")
        d = other["drift"].get("objects")
        if d:
            lines.append(f"  drift over objects: KS {d['ks']:.4f}, p = {rate(d['ks_p'])}")
    return "\n".join(lines)
