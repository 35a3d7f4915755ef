"""Sums for a whole survey from what was measured: the part of docs/scaling.md between its marks (`python docs/scaling.py`)."""

from benchmarks.page import provenance, tables
from benchmarks.report import shown

BEGIN, END = "<!-- begin: written by docs/scaling.py -->", "<!-- end -->"
USED = ("members", "archives", "end_to_end", "visit", "night", "device")
ALERTS_A_NIGHT, NIGHT_H, VISIT, RHYTHM_S = 10_000_000, 10.0, 10_000, 39.0
OBJECT_ALERTS_A_YEAR = 10_000_000_000
NOTHING = ["", "Benchmarks 10 (members) and 11 (archives) are not measured yet."]
YEAR_S = 365.25 * 86_400
RUBIN_OBJECTS = 10_000_000  # that companions are kept of at a time, where all are remembered


def section(results):
    """Lines between the marks: the sums, and the tables of members and archives that only this page has in full."""
    by_name = {one["benchmark"]: one for one in results}
    own = [by_name[name] for name in ("members", "archives") if name in by_name]
    used = [by_name[name] for name in USED if name in by_name]
    return [
        "## Sums",
        "",
        *sums(by_name),
        "",
        "Measured on:",
        "",
        *provenance(used),
        "",
        "## Measured",
        *(tables(own) or NOTHING),
    ]


def sums(by_name):
    """Lines of a table: what is needed, by which measured figure; a dash where that was not measured."""
    mean = ALERTS_A_NIGHT / (NIGHT_H * 3600.0)
    burst = VISIT / RHYTHM_S
    core = _per_core(by_name)
    lines = ["| what | needs | from |", "| --- | --- | --- |"]

    def row(what, needs, source):
        lines.append(f"| {what} | {needs} | {source} |")

    def of(what, found, needs, source, number):
        """A row of what follows from a figure that was found, or a dash."""
        if found is None:
            row(what, "-", f"not measured yet (benchmark {number})")
        else:
            row(what, needs(found), source(found))

    def by_core(found):
        return f"{shown(found)} alerts/s a core, ungated, LSST with 20 earlier rows (benchmark 6)"

    def same(found):
        return "the same"

    of(f"cores for 10 million alerts in {NIGHT_H:g} h ({mean:.0f}/s)", core, lambda found: _up(mean / found), by_core, 6)
    of(f"cores to be through with a visit of {VISIT} before the next ({burst:.0f}/s)", core,
       lambda found: _up(burst / found), same, 6)  # fmt: skip
    of("core-years for 10 billion object-alerts", core, lambda found: shown(OBJECT_ALERTS_A_YEAR / YEAR_S / found), same, 6)
    gated = _way(by_name, "end_to_end", "LSST", "default bundle, shipped pre-cuts on: 2 processes")
    of("cores for a visit before the next, pre-cuts on", gated, lambda found: _up(burst / (found / 2)),
       lambda found: f"{shown(found)} alerts/s on two cores (benchmark 5)", 5)  # fmt: skip
    packed = _way(by_name, "archives", "ZTF", "replay, 2 shards by source, packed")
    of("core-years to replay 10 billion packed ZTF alerts", packed,
       lambda found: shown(OBJECT_ALERTS_A_YEAR / (found / 2) / YEAR_S),
       lambda found: f"{shown(found)} alerts/s in two shards (benchmark 11)", 11)  # fmt: skip
    of("GPUs for the mean rate, networks alone", _gpu(by_name), lambda found: _up(mean / found),
       lambda found: f"{shown(found)} alerts/s (benchmark 8)", 8)  # fmt: skip
    sent, slim, kept = _sizes(by_name)
    of("network in, mean and while a visit comes", sent,
       lambda found: f"{mean * found / 125e3:.0f} and {burst * found / 125e3:.0f} Mbit/s",
       lambda found: f"{found / 1000:.0f} kB a message, before compression (benchmark 10)", 10)  # fmt: skip
    of(
        "store for a night of the survey's topic",
        sent,
        lambda found: f"{ALERTS_A_NIGHT * found / 1e12:.2f} TB a replica",
        same,
        10,
    )
    of("store for a night of the re-keyed topic, all alerts", slim,
       lambda found: f"{ALERTS_A_NIGHT * found / 1e12:.2f} TB a replica",
       lambda found: f"{found / 1000:.0f} kB a message re-keyed (benchmark 10)", 10)  # fmt: skip
    of("memory of Redis for companions of 10 million objects", kept, lambda found: f"{RUBIN_OBJECTS * found / 1e9:.0f} GB",
       lambda found: f"{found / 1000:.1f} kB an object in three bands (benchmark 10)", 10)  # fmt: skip
    return lines


def _up(number):
    """Cores or GPUs: whole ones, with what was found."""
    return f"{int(-(-number // 1))} ({number:.2g})"


def _measures(by_name, name):
    return by_name[name]["measures"] if name in by_name else []


def _per_core(by_name):
    """Alerts a second of one of the two processes of a visit."""
    found = [m for m in _measures(by_name, "visit") if "20 earlier rows" in m["what"] and "to drain" in m["ways"]]
    return None if not found else float(found[0]["notes"]["rate"].split()[0]) / 2


def _way(by_name, name, what, way):
    found = [m["ways"][way][1] for m in _measures(by_name, name) if m["what"].startswith(what) and way in m["ways"]]
    return found[0] if found else None


def _gpu(by_name):
    """The most alerts a second of any way that is told in them."""
    found = [m for m in _measures(by_name, "device") if m["unit"] == "alerts/s"]
    return max((v[1] for m in found for v in m["ways"].values()), default=None)


def _sizes(by_name):
    """Bytes of a message as sent and re-keyed, and of an object in Redis; None for what was not measured."""
    for measure in _measures(by_name, "members"):
        notes = measure["notes"]
        if "size of a message" in notes:
            sent, _, _, _, slim, *_ = notes["size of a message"].split()
            kept = notes.get("kept in Redis")
            return float(sent) * 1000, float(slim) * 1000, None if kept is None else float(kept.split()[0]) * 1000
    return None, None, None


def page(text, results):
    """`text` of the page with its section from these results."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + "\n".join([BEGIN, *section(results), "", END]) + after
