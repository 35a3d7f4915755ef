"""The mutation run, in its short form: 50,000 hostile packets in processes of their own, as its command is run by anyone.

It takes a minute of one core. Most are read by the compiled decoder, where it was built, the rest by Python's. The long form is
the same command with more packets: `tox -e fuzz`, or
`python tests/fuzz/run.py --packets 1000000 --log fuzz.log --summary fuzz.json`.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import judge as judging
from fuzz import run
from fuzz.page import PAGE, page, read_runs

from dgl_broker import native

PARTS = {"default": (0, 44_000), "python": (44_000, 6_000)}  # decoder -> place of the first packet, packets
COMMAND = Path(run.__file__)


@pytest.fixture(scope="module")
def summaries(tmp_path_factory):
    """Decoder -> what the short form found with it."""
    folder, started, found = tmp_path_factory.mktemp("fuzz"), {}, {}
    for decoder, (start, packets) in PARTS.items():
        log, summary = folder / f"{decoder}.log", folder / f"{decoder}.json"
        options = ["--start", start, "--packets", packets, "--seed", 20261122, "--log", log, "--summary", summary]
        command = [str(part) for part in (sys.executable, COMMAND, *options)]
        environ = {**os.environ, "DGL_DECODER": "python"} if decoder == "python" else None
        started[decoder] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ)
    for decoder, process in started.items():
        error, log = process.communicate()[1], (folder / f"{decoder}.log").read_text()
        assert process.returncode == 0, f"{error[-3000:]}\n{log[-6000:]}"
        found[decoder] = json.loads((folder / f"{decoder}.json").read_text())
    return found


@pytest.mark.parametrize("decoder", PARTS)
def test_every_packet_has_one_outcome_and_no_harm_is_done(summaries, decoder):
    summary, (_, packets) = summaries[decoder], PARTS[decoder]
    assert summary["failures"] == 0
    assert summary["packets"] == packets == sum(summary["outcomes"].values())
    assert min(summary["outcomes"].values()) > packets / 20  # of each kind: scored, refused, dead letters
    assert summary["decoder"] == ("python" if decoder == "python" else native.decoder_name())


def test_they_are_fifty_thousand():
    assert sum(packets for _, packets in PARTS.values()) == 50_000


@pytest.mark.parametrize("decoder", PARTS)
def test_sane_packets_were_beside_and_networks_were_asked(summaries, decoder):
    summary, (_, packets) = summaries[decoder], PARTS[decoder]
    assert summary["sane_packets_beside"] > packets / run.CHUNK
    assert summary["through_the_whole_scorer"] > packets / 50


@pytest.mark.parametrize("decoder", PARTS)
def test_time_and_memory_are_bounded(summaries, decoder):
    summary = summaries[decoder]
    assert summary["slowest_batch_cpu_s"] < 10  # of some 60 packets, networks loaded in it; 4 s measured on a busy machine
    assert summary["memory_grown_mib"] < 1500  # torch among it


def test_reasons_are_many(summaries):
    found = {reason.partition(": ")[2] for summary in summaries.values() for reason in summary["reasons"]}
    assert found >= {
        "bad_block", "bad_cutout", "bad_header", "bad_schema", "bad_value", "constant_stamp", "empty", "implausible_time",
        "inexact_id", "many_records", "missing_field", "no_cutouts", "no_difference", "no_record", "no_source",
        "precut.n_detections", "solar_system", "sync_marker", "too_large", "trailing_bytes", "truncated", "undecodable",
        "unknown_codec", "unknown_framing", "unknown_schema", "wrong_survey", "wrong_type",
    }  # fmt: skip
    assert "unexpected" not in found


def test_run_that_hangs_is_killed_and_says_where():
    program = "import sys; sys.path.insert(0, sys.argv[1]); from fuzz import run; run.HANG_CPU_S = 1\n"
    program += "def endless(*_):\n    while True: pass\nrun.one_chunk = endless; run.main(['--packets', '10'])"
    done = subprocess.run([sys.executable, "-c", program, str(COMMAND.parents[1])], capture_output=True, text=True)
    assert done.returncode == -signal.SIGXCPU and "in endless" in done.stderr


SOUND = judging._pipeline


class Broken:
    """A pipeline with something wrong about it."""

    def __init__(self, change, survey, with_filter):
        self.change, self.sound = change, SOUND(survey, with_filter)

    def outcomes(self, messages):
        """The sound ones, changed."""
        return self.change(messages, self.sound.outcomes(messages))


def _raise(messages, outcomes):
    raise RuntimeError("left the pipeline")


def _move(outcomes):
    outcomes[0].message, outcomes[1].message = outcomes[1].message, outcomes[0].message
    return outcomes


def _shift(outcomes):
    for outcome in outcomes:
        if outcome.scores is not None:
            outcome.scores = judging.scores(outcome.scores.log_odds + 1.0)
    return outcomes


def _forget(outcomes):
    for outcome in outcomes:
        outcome.reason = None
    return outcomes


@pytest.mark.parametrize(
    "change, told",
    [
        (_raise, "left the pipeline"),
        (lambda messages, outcomes: outcomes[:-1], "outcomes of"),
        (lambda messages, outcomes: outcomes[::-1], "another message's"),
        (lambda messages, outcomes: _move(outcomes), "another message's"),
        (lambda messages, outcomes: _shift(outcomes), "the sane packet has"),
        (lambda messages, outcomes: _forget(outcomes), "with reason None"),
    ],
)
def test_run_notices_a_pipeline_that_is_broken(change, told, monkeypatch, tmp_path):
    judging._sane_alone.cache_clear()
    for with_filter in (False, True):
        judging._sane_alone("lsst", False, with_filter), judging._sane_alone("ztf", False, with_filter)
    monkeypatch.setattr(judging, "_pipeline", lambda *which: Broken(change, *which))
    log = tmp_path / "log"
    assert run.main(["--packets", "60", "--seed", "3", "--whole", "0", "--log", str(log)]) == 1
    assert told in log.read_text()


def test_page_says_what_the_last_long_run_counted():
    # Written by `python tests/fuzz/page.py`.
    assert PAGE.read_text(encoding="utf-8") == page(PAGE.read_text(encoding="utf-8"), read_runs())
