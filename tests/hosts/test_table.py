"""The table of docs/hosts/index.md: of all hosts that have a page, and as measured.json has it."""

import importlib.util
import json
from pathlib import Path

import pytest

from dgl_broker.model.card import CARD, bundle_sha256, default_bundle

HERE = Path(__file__).parents[2] / "docs/hosts"


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("hosts_table", HERE / "table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_the_one_of_what_was_measured(table):
    text = (HERE / "index.md").read_text()
    assert table.page(text, json.loads((HERE / "measured.json").read_text())) == text


def test_figures_are_of_the_bundles_that_ship():
    """A bundle that changes makes the table stale: measure again, `tox run -m hosts`."""
    shipped = {survey: bundle_sha256(json.loads((default_bundle(survey) / CARD).read_text())) for survey in ("ztf", "lsst")}
    compared = [one for one in json.loads((HERE / "measured.json").read_text())["hosts"] if "survey" in one]
    assert compared and [one for one in compared if one.get("bundle_sha256") != shipped[one["survey"]]] == []


def test_every_page_of_a_host_stands_in_the_table(table):
    text = (HERE / "index.md").read_text()
    for page in HERE.glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in text


def test_newer_measurements_take_the_place_of_older_ones(table, tmp_path):
    line = {"host": "lasair", "survey": "ztf", "stream": 3, "both": 3, "host_only": 0, "median_difference": 0.0}
    lines = [{**line, "largest_difference": worst, "median_ms": 2.0} for worst in (0.5, 2e-6)]
    (tmp_path / "lines").write_text(
        "".join(json.dumps(one) + "\n" for one in [*lines, {"host": "tom", "median_ms": 7.4, "load": 3.0}])
    )
    (tmp_path / "measured.json").write_text(json.dumps({"hosts": [{**line, "host": "ampel", "largest_difference": 0.0}]}))
    measured = table.read_measured(tmp_path / "measured.json", tmp_path / "lines")
    assert [(one["host"], one.get("largest_difference")) for one in measured["hosts"]] == [
        ("ampel", 0.0),
        ("lasair", 2e-6),
        ("tom", None),
    ]
    text = table.tables(measured)
    assert (
        "ZTF 3 of 3, largest difference 2e-06" in text
        and "ZTF 3 of 3, equal to the bit" in text
        and "7 ms" in text
        and "load up to 3)" in text
    )
    assert json.loads((tmp_path / "measured.json").read_text()) == measured
