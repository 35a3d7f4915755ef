"""The generator of hostile packets: the same bytes everywhere, from sane seeds, and all kinds of harm."""

import hashlib
import subprocess
import sys
from pathlib import Path

from fuzz import of_bytes, of_containers, of_records, of_stamps
from fuzz.mutations import Schemas, mutant, mutants, seeds
from simulated import scorer


def test_seeds_are_scored_as_they_are():
    for survey in ("ztf", "lsst"):
        of_survey = [s for s in seeds() if s.survey == survey]
        outcomes = scorer(survey, schemas=Schemas()).score([s.value for s in of_survey])
        odd = {s.name: o.error for s, o in zip(of_survey, outcomes) if o.status != "scored" and not s.is_real}
        assert odd == {}
        assert sum(o.status == "scored" for o in outcomes) > len(of_survey) / 2


def test_mutants_are_the_same_in_every_process():
    program = "import hashlib; from fuzz.mutations import mutants; h = hashlib.sha256()\n"
    program += "for n, v, s in mutants(3, 300): h.update(f'{n} {s} '.encode() + v)\nprint(h.hexdigest())"
    found = hashlib.sha256()
    for name, value, survey in mutants(3, 300):
        found.update(f"{name} {survey} ".encode() + value)
    env = {"PYTHONPATH": str(Path(__file__).parent), "PYTHONHASHSEED": "77", "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == found.hexdigest(), done.stderr


def test_mutants_can_be_made_again_one_by_one():
    whole = list(mutants(4, 40))
    assert list(mutants(4, 15, start=25)) == whole[25:]
    assert mutant(4, 31) == whole[31]
    assert {value for _, value, _ in mutants(5, 40)}.isdisjoint(v for n, v, _ in whole if not n.endswith("as it is"))


def test_every_kind_of_harm_is_done():
    names = " ".join(name for name, _, _ in mutants(6, 3000))
    for module in (of_bytes, of_containers, of_records, of_stamps):
        assert [change.__name__ for change in module.ALL if change.__name__ not in names] == []
