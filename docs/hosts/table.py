"""Writes the tables of docs/hosts/index.md from docs/hosts/measured.json: `python docs/hosts/table.py`.

Given a file of JSON lines that the hosts' tests have left (`tox run -m hosts`), it brings measured.json up to date from it
before: `python docs/hosts/table.py .tox/hosts.jsonl`.
"""

import json
import os
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
SURVEYS = {"ztf": "ZTF", "lsst": "Rubin"}
# page, name: (pixels, history, batch, scored, lost)
HOSTS = {
    ("fink", "Fink"): (
        "science, template, difference",
        "detections; Rubin's forced photometry",
        "Arrow batches",
        "the packet's content, in Spark's workers",
        "ZTF's forced photometry",
    ),
    ("spark", "Spark"): (
        "all of the packet",
        "all of the packet",
        "Arrow batches, whole archives",
        "packets or their columns, in Spark's workers",
        "nothing",
    ),
    ("ampel", "AMPEL"): (
        "none at T0 and T2",
        "the state's points",
        "one state",
        "the filter's score, looked up",
        "alerts that pre-cuts refuse",
    ),
    ("antares", "ANTARES"): ("none", "the locus", "one locus", "the filter's score, looked up", "alerts that pre-cuts refuse"),
    ("alerce", "ALeRCE"): ("all of the packet", "all of the packet", "up to 1,000", "packets, by the service", "nothing"),
    ("lasair", "Lasair"): (
        "none",
        "object id alone is taken",
        "a filter's stream",
        "the filter's scores of an object, looked up",
        "alerts that pre-cuts refuse",
    ),
    ("babamul", "Babamul"): (
        "by its API",
        "more than the packet's, cut",
        "100",
        "a packet made of the alert, by the service",
        "flux under each epoch, Rubin's object record",
    ),
    ("boom", "BOOM `Alert`"): (
        "in the alert",
        "fluxes and limits",
        "100",
        "a packet made of the alert, by the service",
        "besides: real-bogus, catalogues, ZTF's zero point",
    ),
    ("pittgoogle", "Pitt-Google"): (
        "`alerts`: all; `lite`: none",
        "all of the packet",
        "one message, many requests at once",
        "packets by the service, or its score looked up",
        "nothing; `lite`: alerts that pre-cuts refuse",
    ),
}
PAGES = {"boom": "babamul"}
# Compared on other alerts, and with `replay`, which is held to the stream.
WITH_REPLAY = {"fink": "Fink's own tables, with `replay`: ", "spark": "archives, with `replay`: "}
# page, name: (what goes out, of what, lost)
OUT = {
    ("desc", "DESC `BrokerMessage`"): (
        "the alert with p_lsn",
        "every scored Rubin alert of v10.0",
        "other versions; log-odds, verdicts",
    ),
    ("hopskotch", "Hopskotch, GCN-like"): ("the report, or a notice", "reports", "JSON: nothing; notice: filters, bundle"),
    ("tom", "TOM Toolkit"): ("targets, scores of their alerts", "reports, and the service", "photometry"),
    ("skyportal", "SkyPortal"): ("candidates, scores of their alerts", "reports, and the service", "photometry, cutouts"),
}


def link(host, name):
    """A host's name with its page."""
    return f"[{name}]({PAGES.get(host, host)}.md)"


def compared(lines):
    """How many of the stream's scored alerts a host scored as well, and by how much log-odds differ."""
    said = []
    for survey, one in lines.items():
        worst = one["largest_difference"]
        differ = "equal to the bit" if worst == 0 else f"largest difference {worst:.1g}"
        if worst is not None and worst > 1e-3:
            differ = f"median {one['median_difference']:.2f}, 9 of 10 below {one['nine_of_ten_below']:.2f}, largest {worst:.1f}"
        if one.get("rank_correlation") is not None:
            differ += f", of a spread of {one['spread']:.1f}; rank correlation {one['rank_correlation']:.3f}"
        more = f"; {one['host_only']} the stream refuses" if one["host_only"] else ""
        said.append(f"{SURVEYS[survey]} {one['both']} of {one['stream']}, {differ}{more}")
    return "; ".join(said)


def latency(lines):
    """Milliseconds of one alert, or seconds of a batch with all around it."""
    said = []
    for survey, one in lines.items():
        if one.get("median_ms") is not None:
            said.append(f"{SURVEYS[survey]} {one['median_ms']:.0f} ms")
        elif one.get("batch_s") is not None:
            said.append(f"{SURVEYS[survey]} {one['packets']} in {one['batch_s']:.0f} s")
    return ", ".join(said)


def table(rows, head):
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def tables(measured):
    """The text between the marks of the page."""
    by_host = {}
    for one in measured["hosts"]:
        by_host.setdefault(one["host"], {})[one.get("survey", "")] = one
    rows = []
    for (host, name), facts in HOSTS.items():
        lines = by_host.get(host)
        if lines is None and not (HERE / f"{PAGES.get(host, host)}.md").exists():
            continue
        rows.append(
            [
                link(host, name),
                *facts,
                WITH_REPLAY.get(host, "") + compared(lines) if lines else "not measured here",
                latency(lines) if lines else "",
            ]
        )
    head = [
        "host",
        "pixels",
        "history",
        "batch",
        "scored is",
        "lost",
        "against the stream, log-odds of the same alerts",
        "latency",
    ]
    out = []
    for (host, name), facts in OUT.items():
        one = by_host.get(host, {}).get("")
        out.append(
            [
                link(host, name),
                *facts,
                "in the filter's batch"
                if host == "desc"
                else f"{one['median_ms']:.0f} ms {one.get('of', 'a report')}"
                if one
                else "",
            ]
        )
    when = f"Measured {measured['date']} on {measured['machine']}"
    what = f"with {measured['alerts']} real alerts of {measured['source']} that the stream scored"
    about = f"{when} {what}, beside other work (load up to {measured['load']:.0f}): latencies are upper bounds."
    return "\n\n".join([about, table(rows, head), table(out, ["reports out", "goes out", "of", "lost", "latency"])])


def read_measured(path, lines_file=None):
    """measured.json, brought up to date from a file of JSON lines where one is given."""
    measured = json.loads(path.read_text()) if path.exists() else {"hosts": []}
    if lines_file is None:
        return measured
    newest = {(one["host"], one.get("survey", "")): one for one in measured["hosts"]}
    for line in Path(lines_file).read_text().splitlines():
        one = json.loads(line)
        newest[one["host"], one.get("survey", "")] = one
    scored = {one["survey"]: one["stream"] for one in newest.values() if one["host"] == "pittgoogle"}
    measured = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores ({platform.machine()})",
        "load": max((one.get("load", 0.0) for one in newest.values()), default=0.0),
        "alerts": sum(scored.values()),
        "source": "the collected set" if os.environ.get("DGL_SHARED") else "tests/data/alerts",
        "hosts": [newest[key] for key in sorted(newest)],
    }
    path.write_text(json.dumps(measured, indent=1) + "\n")
    return measured


def page(text, measured):
    """The page with its tables made anew."""
    return re.sub(r"(<!-- tables -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}\n{tables(measured)}\n\n{m[2]}", text, flags=re.S)


if __name__ == "__main__":
    found = read_measured(HERE / "measured.json", *sys.argv[1:2])
    file = HERE / "index.md"
    file.write_text(page(file.read_text(encoding="utf-8"), found), encoding="utf-8")
