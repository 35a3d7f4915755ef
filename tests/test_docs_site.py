"""docs/ as a site: every page in its navigation, also those that come later; commands on the pages are the program's own."""

import importlib.util
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dgl_broker.cli import VERBS, _parser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = ROOT / "ops/site"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "notes" not in p.relative_to(DOCS).parts)


def navigation(names):
    """`navigation` of the hook, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("site_navigation", SITE / "navigation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.navigation(names)


def pages_of(nav):
    return [page for entry in nav for pages in entry.values() for page in ([pages] if isinstance(pages, str) else pages)]


def test_every_page_is_in_the_navigation_once():
    names = [p.relative_to(DOCS).as_posix() for p in PAGES]
    nav = navigation(names)
    assert sorted(pages_of(nav)) == sorted(names) and nav[0] == {"Home": "index.md"}
    assert next(iter(nav[1])) == "Operate"


def test_page_that_nobody_planned_is_in_the_navigation_too():
    nav = navigation(["index.md", "operating.md", "zebra.md", "hosts/new_broker.md", "odd/folder/page.md"])
    other, more = {"Hosts": ["hosts/new_broker.md"]}, {"More": ["odd/folder/page.md", "zebra.md"]}
    assert nav == [{"Home": "index.md"}, {"Operate": ["operating.md"]}, other, more]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(DOCS).as_posix())
def test_page_begins_with_its_title_and_its_links_within_the_docs_are_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    assert text.startswith("# ")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def commands():
    """(page, words) of each `dgl-broker ...` line in a shell block, comments and what a shell would do to it left out."""
    for page in PAGES:
        for block in re.findall(r"^```(?:sh|bash)?\n(.*?)^```", page.read_text(), re.S | re.M):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("dgl-broker "):
                    words = shlex.split(line, comments=True)[1:]
                    yield page, words[: next((n for n, w in enumerate(words) if w in "|><&&2>"), len(words))]


@pytest.mark.parametrize(("page", "words"), list(commands()), ids=lambda x: x.stem if isinstance(x, Path) else " ".join(x)[:50])
def test_command_on_a_page_is_one_of_the_programs(page, words):
    if page.name in ("operating.md", "reports.md", "metrics.md", "deadletters.md"):
        _parser(words[0]).parse_args(words)
    else:
        assert words[0] in VERBS or words[0] == "--version"  # in full by the tests of those pages


class Loads(HTMLParser):
    """What a page loads when it is opened."""

    def __init__(self):
        super().__init__()
        self.places = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.places.append(given["src"])
        if tag == "link" and given.get("rel") != "canonical" and given.get("href"):
            self.places.append(given["href"])


def test_site_builds_without_warnings_and_loads_nothing_from_elsewhere(tmp_path):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("no mkdocs here; `tox run -e docs` builds the site in an environment of its own")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(SITE / "mkdocs.yml"), "-d", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    front = (tmp_path / "index.html").read_text()
    for page in PAGES:
        made = page.relative_to(DOCS).with_suffix(".html").as_posix().replace("README.html", "index.html")
        assert (tmp_path / made).is_file() and (f'href="{made}"' in front or made == "index.html"), made
        loads = Loads()
        loads.feed((tmp_path / made).read_text())
        assert loads.places and not [place for place in loads.places if re.match(r"(https?:)?//", place)]
