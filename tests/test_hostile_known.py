"""Known attacks, one by one and by either decoder: the outcome that each must have, soon, in little memory, no harm done."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from decoders import BUILT
from fuzz import known
from fuzz.known import KINDS, attacks

SECONDS = 2.0  # of CPU for one between two sane packets: 0.75 at most measured, by Python's decoder
DECODERS = ("python",) if BUILT is None else ("python", "native")
GROWN_MIB = 64  # 8 at most measured
pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux how much memory was used")


@cache
def _started(decoder):
    environ = {**os.environ, "DGL_DECODER": decoder}
    return subprocess.Popen(
        [sys.executable, known.__file__], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )


@cache
def found(decoder):
    """(kind, name) -> (status, reason, id, seconds, MiB, problem) by one decoder, in a process of its own."""
    for one in DECODERS:
        _started(one)  # side by side
    out, error = _started(decoder).communicate()
    assert _started(decoder).returncode == 0, error
    told = json.loads(out)
    assert told["decoder"] == decoder
    return {(kind, name): rest for kind, name, *rest in told["found"]}


@pytest.fixture(params=["python", "native"])
def outcomes(request):
    """What became of the attacks."""
    if request.param == "native" and BUILT is None:
        pytest.skip("the compiled decoder was not built")
    return found(request.param)


@cache
def listed():
    """(kind, name) -> reasons that there may be."""
    wanted = {}
    for kind, name, _, _, reason in attacks():
        assert (kind, name) not in wanted
        wanted[kind, name] = reason if isinstance(reason, tuple) else (reason,)
    return wanted


@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
def test_each_attack_has_its_outcome_soon_in_little_memory_and_harms_nobody(kind, outcomes):
    wanted = {place: reasons for place, reasons in listed().items() if place[0] == kind}
    assert len(wanted) >= 8
    for place, reasons in wanted.items():
        status, reason, _, seconds, grown_mib, problem = outcomes[place]
        assert problem is None, (place, problem)
        assert reason in reasons and (status == "scored") == (reason is None), (place, status, reason)
        assert seconds < SECONDS and grown_mib < GROWN_MIB, (place, seconds, grown_mib)


def test_ids_at_the_ends_of_int64_are_exact(outcomes):
    for its_id in known.ENDS:
        for survey in ("lsst", "ztf"):
            status, _, found_id, *_ = outcomes["numbers", f"{survey}: id {its_id}"]
            assert (status, found_id) == ("scored", str(its_id))


def test_both_decoders_say_the_same():
    if BUILT is None:
        pytest.skip("the compiled decoder was not built")
    said = [{place: rest[:3] for place, rest in found(decoder).items()} for decoder in ("python", "native")]
    said = [{place: rest for place, rest in one.items() if place != ("containers", "a million blocks of none")} for one in said]
    assert said[0] == said[1]
