"""What the package requires is pinned to what the tests run with, and the audit of the pins does not flatter."""

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest
from pip_audit import report

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")


def canonical(name):
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins():
    """name -> version."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    found = [PIN.fullmatch(line) for line in lines if line]
    assert all(found), "a line that is no exact pin"
    names = [canonical(one[1]) for one in found]
    assert len(names) == len(set(names)), "a package is pinned twice"
    return {canonical(one[1]): one[2] for one in found}


def required():
    """Names in setup.py, of the package and its extras, but for the hosts': their pins differ, and none goes with ours."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    tree.body = [n for n in tree.body if not (isinstance(n, ast.Assign) and n.targets[0].id == "HOSTS")]
    text = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    names = [re.fullmatch(r"([A-Za-z][\w.-]*)(\[[\w,]+\])?>=[\d.]+", t) for t in text if isinstance(t, str)]
    return {canonical(one[1]) for one in names if one} - {"python"}


def test_every_requirement_is_pinned():
    assert len(required()) > 20 and required() - set(pins()) == set()


def test_what_the_requirements_need_in_turn_is_pinned():
    pinned, missing, seen = pins(), set(), set()
    left = [name for name in required() if name in pinned]
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        for line in needs:
            need, _, marker = line.partition(";")
            if "extra" in marker or not _holds(marker):
                continue
            other = canonical(re.match(r"[A-Za-z0-9._-]+", need.strip())[0])
            if "==" in need and name == "torch":
                continue  # torch pins its CUDA libraries itself, and only where it has them
            left.append(other)
            if other not in pinned and _is_here(other):
                missing.add(f"{other} (of {name})")
    assert missing == set()


def _is_here(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _holds(marker):
    """Whether an environment marker holds here."""
    if not marker.strip():
        return True
    from packaging.markers import Marker

    return Marker(marker).evaluate({"extra": ""})


def test_audit_says_what_it_could_not_check_and_fails_on_what_it_found():
    good, unknown = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    assert report({"dependencies": [good]}, 0) == (["checked 1, vulnerabilities in 0"], 0)
    lines, code = report({"dependencies": [good, unknown]}, 0)
    assert code == 0 and lines[0] == "NOT CHECKED: 1 of 2: b"
    lines, code = report({"dependencies": [good, bad]}, 1)
    assert code == 1 and lines[0] == "c 2: PYSEC-1, mended in 3"
    assert report(None, 1) == (["NOT CHECKED: pip-audit gave no answer (exit 1)"], 0)


@pytest.mark.parametrize("file", [".ci/run", "tox.ini", "ops/Containerfile"])
def test_installs_go_by_the_pins(file):
    text = (ROOT / file).read_text()
    assert "constraints.txt" in text or "tox run" in text
