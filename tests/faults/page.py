"""The table of `docs/reliability.md`, from the JSON that the tests write: `python docs/reliability.py`."""

import json
from pathlib import Path

from faults.ledger import BOTH, FAULTS

BEGIN, END = "<!-- begin: written by docs/reliability.py -->", "<!-- end -->"
WORDS = {"at_least_once": "at least once", "exactly_once": "exactly once"}
HEAD = ("fault", "delivery", "times", "inputs", "lost", "twice", "scores that differ", "seconds to recover")


def read_results(folder):
    """(fault, delivery) -> what its file holds."""
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        one = json.loads(path.read_text())
        if "fault" in one:  # the mutation run's counts lie there too
            found[one["fault"], one["delivery"]] = one
    return found


def _seconds(one):
    if one["recover_median_s"] is None:
        return "-"
    if one["recover_median_s"] == one["recover_longest_s"]:
        return f"{one['recover_median_s']:g}"
    return f"{one['recover_median_s']:g}, at most {one['recover_longest_s']:g}"


def _notes(one):
    return "".join(f"; {name}: {value:,}" for name, value in one["notes"].items() if value)


def table(results):
    """The table's lines; a fault without a result stands as not run."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    for fault, what in FAULTS.items():
        for n, delivery in enumerate(BOTH):
            one = results.get((fault, delivery))
            name = what if n == 0 else "the same"
            if one is None:
                cells = [name, WORDS[delivery], "not run", "", "", "", "", ""]
            else:
                numbers = [f"{one[key]:,}" for key in ("times", "inputs", "lost", "twice", "differ")]
                cells = [name + _notes(one), WORDS[delivery], *numbers, _seconds(one)]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def provenance(results):
    """What the results were measured on, a line for each machine."""
    runs = {}
    for one in results.values():
        key = (one["machine"], one["kafka"], one["librdkafka"], one["form"])
        runs.setdefault(key, []).append(one)
    lines = []
    for (machine, kafka, librdkafka, form), found in sorted(runs.items()):
        days = " to ".join(sorted({min(one["date"] for one in found), max(one["date"] for one in found)}))
        loads = [one["load"] for one in found]
        busy = f"load average {min(loads):g} to {max(loads):g}, which makes seconds long"
        lines.append(f"{len(found)} results in the {form} form: {machine}; {kafka}, librdkafka {librdkafka}; {days}; {busy}.")
    return lines or ["No results yet."]


def page(text, results):
    """`text` of the page with its table from these results."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + "\n".join([BEGIN, *table(results), "", *provenance(results), END]) + after
