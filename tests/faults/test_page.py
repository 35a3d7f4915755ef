"""The page of reliability says what the tests found, and no more."""

import getpass
import json
import re
import tempfile
from pathlib import Path

import pytest

from faults.count import Count
from faults.ledger import BOTH, FAULTS, Result, as_json, record
from faults.long import ROOT, without_places
from faults.page import page, read_results, table
from faults.test_cluster import CASES as CLUSTER
from faults.test_members import FAULTS as MEMBERS
from faults.test_services import FAULTS as SERVICES

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_results_say():
    text = (DOCS / "reliability.md").read_text()
    assert text == page(text, read_results(DOCS / "reliability")), "run: python docs/reliability.py"


def test_every_fault_of_the_list_has_its_test_under_both_deliveries():
    tested = {*MEMBERS, *SERVICES, *(fault for fault, _ in CLUSTER), "sigkill_100"}  # the last by faults.storm
    assert tested == set(FAULTS)
    assert {delivery for _, delivery in CLUSTER} == set(BOTH)


def test_results_on_the_page_kept_the_promises():
    for (fault, delivery), one in read_results(DOCS / "reliability").items():
        assert fault in FAULTS and delivery in BOTH
        assert (one["lost"], one["differ"], one["extra_ids"]) == (0, 0, 0), one
        assert delivery == "at_least_once" or one["twice"] == 0, one


def test_logs_tell_nothing_of_where_they_were_written():
    folder = f"{tempfile.gettempdir()}/pytest-of-{getpass.getuser()}/pytest-3/try0"
    assert without_places(f"{ROOT}/tests/a.py: PosixPath('{folder}')\n") == "tests/a.py: PosixPath('tmp/pytest-3/try0')\n"
    for path in (DOCS / "reliability").glob("*.log"):
        assert not re.search(r"pytest-of-|(?<![\w.])/(tmp|root|home|work|opt|usr)/", path.read_text()), path.name


def test_a_fault_without_a_result_stands_as_not_run():
    lines = table({})
    assert len(lines) == 2 + 2 * len(FAULTS) and all("not run" in line for line in lines[2:])


def test_results_are_added_up_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr("faults.ledger.RESULTS", str(tmp_path))
    one = Result("stalled", "exactly_once", 1, Count(100), [4.0], {"fenced for good": 1})
    two = Result("stalled", "exactly_once", 2, Count(200, twice=0), [9.0, 5.0], {})
    record(one + two)
    (path,) = tmp_path.glob("*.json")
    found = json.loads(path.read_text())
    assert (found["times"], found["inputs"], found["recover_median_s"], found["recover_longest_s"]) == (3, 300, 5.0, 9.0)
    assert found["notes"] == {"fenced for good": 1}
    (row,) = (line for line in table({("stalled", "exactly_once"): found}) if "fenced" in line)
    assert row.endswith("| exactly once | 3 | 300 | 0 | 0 | 0 | 5, at most 9 |")
    assert as_json(one)["form"] in ("fast", "long")


@pytest.mark.parametrize(
    ("delivery", "count"),
    [
        ("at_least_once", Count(10, lost=1)),
        ("at_least_once", Count(10, differ=1)),
        ("at_least_once", Count(10, twice=1, extra_ids=1)),
        ("exactly_once", Count(10, twice=1)),
        ("exactly_once", Count(0)),
    ],
)
def test_a_broken_promise_fails(delivery, count):
    with pytest.raises(AssertionError):
        Result("stalled", delivery, 1, count).check()


def test_at_least_once_may_repeat():
    Result("stalled", "at_least_once", 1, Count(10, twice=5)).check()
