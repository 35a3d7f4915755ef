"""The tables of `docs/performance.md`, from the JSON that the benchmarks write: `python docs/performance.py`."""

import json
from pathlib import Path

from benchmarks.__main__ import BENCHMARKS
from benchmarks.report import met, shown

BEGIN, END = "<!-- begin: written by docs/performance.py -->", "<!-- end -->"
GOALS = ("benchmark", "of", "what", "goal", "found", "spread", "")


def read_results(folder):
    """What the files of a folder hold, in the order of the benchmarks' titles."""
    found = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
    return sorted((one for one in found if "benchmark" in one), key=lambda one: int(one["title"].partition(".")[0]))


def goals(results):
    """Lines of the table of all that has a goal."""
    lines = _head(GOALS)
    for one in results:
        for measure in one["measures"]:
            for name, goal in measure["goals"].items():
                is_ratio = name in measure["ratios"]
                low, median, high = (measure["ratios"] if is_ratio else measure["ways"])[name]
                verdict = "met" if met(goal, median) else "**missed**"
                unit = "x" if is_ratio else f" {measure['unit']}"
                sign = "at least" if goal[0] == ">=" else "at most"
                number = one["title"].partition(".")[0]
                cells = (
                    number,
                    measure["what"],
                    name,
                    f"{sign} {goal[1]:g}{unit}",
                    shown(median) + unit,
                    _between(low, high),
                    verdict,
                )
                lines.append(_row(cells))
    return lines


def tables(results):
    """Lines of a section for each benchmark, with all that it measured."""
    lines = []
    for one in results:
        lines += ["", f"### {one['title']}", ""]
        if one["not_run"]:
            lines.append(f"not run: {one['not_run']}")
        for number, measure in enumerate(one["measures"]):
            lines += [""] if number else []
            lines += _head((f"{measure['what']} [{measure['unit']}]", "median", "spread"))
            for unit, values in (("", measure["ways"]), ("x", measure["ratios"])):
                lines += [
                    _row((name, shown(median) + unit, _between(low, high))) for name, (low, median, high) in values.items()
                ]
            notes = [f"{name}: {note}" for name, note in measure["notes"].items()]
            lines += ["", "; ".join(notes) + "."] if notes else []
    return lines


def provenance(results):
    """What the results were measured on: a line for each machine, and the versions."""
    runs = {}
    for one in (one for one in results if one["measures"]):
        machine, versions = one["machine"], one["versions"]
        where = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB, {machine['system']}"
        with_what = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        runs.setdefault((where, with_what, one["decoder"]), []).append(one)
    lines = []
    for (where, with_what, decoder), found in runs.items():
        days = " to ".join(sorted({min(one["when"] for one in found)[:10], max(one["when"] for one in found)[:10]}))
        loads = [one["machine"]["load"][0] for one in found]
        busy = f"load average {min(loads):g} to {max(loads):g}" + (", others' work beside it" if max(loads) > 2.5 else "")
        names = ", ".join(one["benchmark"] + (" (--long)" if one["options"].get("long") else "") for one in found)
        alerts = " and ".join(sorted({one["options"]["alerts"] for one in found}))
        seconds = sum(one["seconds"] for one in found)
        run = f"{days}; {busy}; {alerts} alerts; decoder: {decoder}; {seconds / 60:.0f} minutes"
        lines.append(f"- {names}: {where}; {run}. With {with_what}.")
    return lines or ["No results yet."]


def not_measured(results):
    """Lines that name each benchmark of which there is no result; none where all have one."""
    there = {one["benchmark"] for one in results}
    missing = [name for name in BENCHMARKS if name not in there]
    return ["", "### Not measured yet", "", *(f"- {name}: not measured yet" for name in missing)] if missing else []


def page(text, results):
    """`text` of the page with its tables from these results."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = [
        "## Goals",
        "",
        *goals(results),
        "",
        "Measured on:",
        "",
        *provenance(results),
        "",
        "## All that was measured",
        *tables(results),
        *not_measured(results),
    ]
    return before + "\n".join([BEGIN, *parts, "", END]) + after


def _head(cells):
    return [_row(cells), "|" + " --- |" * len(cells)]


def _row(cells):
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _between(low, high):
    return f"{shown(low)} to {shown(high)}"
