"""Sums of docs/scaling.md follow from the figures that they name."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import sums  # noqa: E402
from benchmarks.page import read_results  # noqa: E402


def result(name, number, *measures):
    """A benchmark's file as `report.write` makes it."""
    machine = {"processor": "made up", "cores": 2, "memory_gib": 8.0, "system": "Linux", "load": [0.1, 0.1, 0.1]}
    return {
        "benchmark": name, "title": f"{number}. {name}", "when": "2026-11-22T12:00:00Z", "seconds": 60.0, "not_run": None,
        "machine": machine, "versions": {"python": "3.11"}, "decoder": "native", "options": {"alerts": "real", "quick": False},
        "measures": list(measures),
    }  # fmt: skip


def measure(what, ways=(), notes=()):
    """One measure."""
    return {"what": what, "unit": "alerts a second", "ways": {k: [v] * 3 for k, v in dict(ways).items()}, "ratios": {},
            "goals": {}, "notes": dict(notes)}  # fmt: skip


@pytest.fixture
def results():
    """400 alerts a second on two processes, 100 kB a message, 30 kB re-keyed, 5 kB an object in Redis."""
    notes = {"size of a message": "100.0 kB as sent, 30.0 kB re-keyed", "kept in Redis": "5.0 kB an object"}
    return [
        result(
            "visit", 6, measure("LSST, 20 earlier rows: 10000 at once", {"to drain": 25.0}, {"rate": "400 alerts a second"})
        ),
        result("members", 10, measure("companions in one Redis, and a topic by object", {"no companions": 400.0}, notes)),
        result("archives", 11, measure("ZTF, ungated", {"replay, 2 shards by source, packed": 1000.0})),
    ]


def test_sums_are_those_that_the_figures_give(results):
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in sums.sums({r["benchmark"]: r for r in results})}
    assert rows["cores for 10 million alerts in 10 h (278/s)"] == "2 (1.4)"  # 1e7 / 36000 s / 200 = 1.39
    assert rows["cores to be through with a visit of 10000 before the next (256/s)"] == "2 (1.3)"  # 10000 / 39 s / 200 = 1.28
    assert rows["core-years for 10 billion object-alerts"] == "1.58"  # 1e10 / 200 / 3.156e7 s
    assert rows["core-years to replay 10 billion packed ZTF alerts"] == "0.634"  # 1e10 / 500 / 3.156e7 s
    assert rows["network in, mean and while a visit comes"] == "222 and 205 Mbit/s"  # 278/s and 256/s times 0.8 Mbit
    assert rows["store for a night of the survey's topic"] == "1.00 TB a replica"
    assert rows["store for a night of the re-keyed topic, all alerts"] == "0.30 TB a replica"
    assert rows["memory of Redis for companions of 10 million objects"] == "50 GB"


def test_what_was_not_measured_has_a_dash_in_each_row(results):
    full, empty = sums.sums({r["benchmark"]: r for r in results}), sums.sums({})
    assert [line.split("|")[1] for line in empty] == [line.split("|")[1] for line in full] and len(empty) == 2 + 10
    assert all(line.split("|")[2].strip() == "-" and "not measured yet" in line for line in empty[2:])
    assert "Benchmarks 10 (members) and 11 (archives) are not measured yet." in sums.section([])


def test_a_page_is_written_between_its_marks_and_the_same_again(results):
    text = sums.page(f"# Scaling\n\nbefore\n\n{sums.BEGIN}\nold\n{sums.END}\nafter\n", results)
    assert text.startswith("# Scaling\n\nbefore\n") and text.endswith("after\n") and "old" not in text
    assert "### 10. members" in text and "| 1000 | 1000 to 1000 |" in text
    assert sums.page(text, results) == text


def test_committed_page_has_the_committed_results():
    path = ROOT / "docs/scaling.md"
    assert sums.page(path.read_text(), read_results(ROOT / "docs/performance")) == path.read_text()
