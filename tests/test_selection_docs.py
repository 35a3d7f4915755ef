"""The page on filters names every key and every fact, and its examples are filters."""

import re
from pathlib import Path

import pytest
import yaml

from dgl_broker.companions import COUNTERS
from dgl_broker.selection import parse_criteria
from dgl_broker.selection.facts import ALL_FACTS
from dgl_broker.selection.filter_files import KEYS
from dgl_broker.yaml_reader import read_yaml_text

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "filters.md").read_text()


def test_every_key_is_described():
    assert [key for key in KEYS if f"| `{key}` |" not in PAGE] == []


def test_every_fact_is_listed_with_its_own_words():
    families = re.compile(r"ps1_\d_.*|[ugrizy]_science_flux_mean_njy")
    missing = [
        n for n, (unit, doc) in ALL_FACTS.items() if not families.fullmatch(n) and f"| `{n}` | {unit} | {doc} |" not in PAGE
    ]
    assert missing == []


@pytest.mark.parametrize("block", [b for b in re.findall(r"```yaml\n(.*?)```", PAGE, re.S) if "filters:" not in b])
def test_examples_are_criteria(block):
    indented = block.startswith("  ")
    data = read_yaml_text("require:\n" + block if indented else block)
    assert parse_criteria(data["require"])


def test_every_counter_of_companions_is_described():
    page = (DOCS / "companions.md").read_text()
    assert [name for name in COUNTERS if f"`{name}`" not in page] == []
    for block in re.findall(r"```yaml\n(.*?)```", page, re.S):
        assert parse_criteria(yaml.safe_load(block)["companions"]["remember"])
