"""The demonstration: its night, its accounts, its page; end to end on the embedded Kafka with few alerts."""

import io
import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest
from make_alerts import lsst_alert
from rich.console import Console

from dgl_broker import surveys, wire
from dgl_broker.alert import Message
from dgl_broker.cli import main
from dgl_broker.demo import night as nights
from dgl_broker.demo import stage
from dgl_broker.demo.record import KEPT, Recorder, against_truth
from dgl_broker.demo.table import first_line, truth_words
from dgl_broker.errors import PacketError, ServiceFailed
from dgl_broker.scores import CLASSES, Outcome, Scores, Verdict
from dgl_broker.selection import load_filter
from dgl_broker.selection.why import criteria_rows, requirement
from dgl_broker.sim.packets import own_schemas
from dgl_broker.sim.system import CLASS_OF_KIND
from dgl_broker.stream.embedded import EmbeddedKafka
from dgl_broker.stream.stopping import Stop

SURVEYS = ("lsst", "ztf")


def take(survey, n, **options):
    return list(nights.night(survey, n, processes=0, **options))


@pytest.mark.parametrize("survey", SURVEYS)
def test_a_night_is_of_packets_that_the_real_reader_reads(survey):
    sent = take(survey, 60, seed=3)
    assert len(sent) == 60
    for value, labels in sent:
        if labels is None:
            with pytest.raises(PacketError):
                surveys.read_alert(wire.decode(value, survey, own_schemas(survey)))
        else:
            alert = surveys.read_alert(wire.decode(value, survey, own_schemas(survey)))
            assert (alert.alert_id, alert.object_id) == (labels["alert_id"], labels["object_id"])
            assert alert.mjd_tai == pytest.approx(labels["mjd_tai"], abs=2e-5)
    assert [labels is None for _, labels in sent].index(True) == nights.BROKEN_EVERY // 2
    classes = [labels["class"] for _, labels in sent if labels]
    assert {"lensed_sn_ia", "no_lens"} < set(classes) and classes.count("lensed_sn_ia") > 5


def test_a_seed_gives_the_same_bytes_and_another_seed_others():
    first = take("lsst", 8, seed=5)
    assert take("lsst", 8, seed=5) == first
    assert take("lsst", 8, seed=6) != first


def test_processes_change_nothing_of_a_night():
    assert list(nights.night("lsst", 30, seed=2, processes=1)) == take("lsst", 30, seed=2)


def test_the_mix_names_kinds_that_exist_and_a_third_is_lensed():
    assert set(nights.MIX) <= set(CLASS_OF_KIND)
    assert sum(nights.MIX.values()) == 100
    lensed = sum(n for kind, n in nights.MIX.items() if CLASS_OF_KIND[kind].startswith("lensed_sn"))
    assert lensed == 34


def scored(alert_id, log_odds, passed=False, object_id=None):
    alert = SimpleNamespace(alert_id=alert_id, object_id=object_id)
    scores = SimpleNamespace(log_odds=log_odds)
    verdicts = (Verdict("f", 1, passed),)
    return Outcome("scored", Message(b""), alert=alert, scores=scores, verdicts=verdicts)


class Fixed:
    """A scorer that gives what it was told to."""

    def __init__(self, outcomes):
        self.outcomes = outcomes
        self.bundle_id = "fixed"

    def score(self, messages):
        return self.outcomes


def test_the_best_are_one_an_object_and_what_passed_comes_first():
    outcomes = [
        scored(1, 2.0, object_id="a"), scored(2, 3.0, object_id="a"), scored(3, 9.0, object_id="b"),
        scored(4, 1.0, True, object_id="c"), Outcome("refused", Message(b""), "no_source", alert=SimpleNamespace(alert_id=5)),
        Outcome("dead_lettered", Message(b""), "truncated"),
    ]  # fmt: skip
    recorder = Recorder(Fixed(outcomes))
    assert recorder.score([None] * 6) is outcomes
    assert [o.alert_id for o in recorder.best()] == [4, 3, 2]
    assert recorder.bundle_id == "fixed"
    assert recorder.statuses == {
        1: ("scored", False), 2: ("scored", False), 3: ("scored", False), 4: ("scored", True), 5: ("refused", False),
    }  # fmt: skip
    labels = {n: {"class": "lens" if n < 4 else "lensed_sn_ia"} for n in range(1, 7)}
    counts = against_truth(recorder, labels)
    assert counts["lens"] == {"sent": 3, "scored": 3, "passed": 0}
    assert counts["lensed_sn_ia"] == {"sent": 3, "scored": 1, "refused": 1, "passed": 1}
    assert tuple(counts) == CLASSES


def test_only_the_best_are_kept_in_memory():
    recorder = Recorder(Fixed([]))
    for start in range(0, 40 * KEPT, KEPT):
        recorder._scorer.outcomes = [scored(n, float(n % 997), object_id=str(n)) for n in range(start, start + KEPT)]
        recorder.score([])
    assert len(recorder._best) <= 3 * KEPT
    assert [o.scores.log_odds for o in recorder.best(3)] == [996.0, 995.0, 994.0]


def test_every_criterion_is_told_with_what_was_found():
    chosen = load_filter("lensed_sn_lsst")
    facts = {"survey": "lsst", "is_positive": False, "galactic_latitude_deg": 45.0, "n_detections": 3, "reliability": 0.5}
    scores = Scores(*[0.25] * 4, 0.5, 0.0, 1e-6, 1e-6, None, None, None, (0.5,) * 3, 0.0, "b", "0" * 64, None, "cpu", "float32")
    rows = {name: (asks, found, met) for name, asks, found, met in criteria_rows(chosen, lsst_alert(facts=facts), scores)}
    assert rows["is_positive"] == ("yes; unknown passes", "no", False)
    assert rows["reliability"] == ("at least 0.02; unknown passes", "0.5", True)
    assert rows["is_injected"][1:] == ("unknown", True)
    assert rows[chosen.score] == (f"at least {chosen.threshold:g}", "0", False)
    off_the_plane = next(c for c in chosen.criteria if c.name == "off_the_plane")
    assert requirement(off_the_plane) == "galactic_latitude_deg at least 7 or galactic_latitude_deg at most -7; unknown passes"


def test_the_first_line_says_what_the_weights_are_worth():
    trained, random = SimpleNamespace(id="lsst", sha256="ab" * 32, trained=True), SimpleNamespace(id="z", trained=False)
    assert "UNTRAINED" in first_line([random]) and "UNTRAINED" in first_line([trained, random])
    assert "UNTRAINED" not in first_line([trained]) and "abababab" in first_line([trained])


def test_truth_in_words():
    label = {"class": "lensed_sn_ia", "kind": "lensed_sn_ia", "n_images": 4, "magnification": 21.27}
    assert truth_words(label) == "lensed SN Ia, 4 images, ×21.3"
    assert truth_words({"class": "no_lens", "kind": "cosmic_ray", "n_images": None, "magnification": None}) == "cosmic ray"
    assert truth_words(None) == "unknown"


@pytest.fixture
def untrained(monkeypatch):
    """The demonstration with random weights, whatever ships."""
    from dgl_broker.model import untrained_bundle

    monkeypatch.setattr(stage, "choose_bundle", untrained_bundle)


def balanced(text):
    """The counts of every `consumed a = scored b + refused c + dead-lettered d` in a text."""
    found = re.findall(r"consumed (\d+) = scored (\d+) \+ refused (\d+) \+ dead-lettered (\d+)", text)
    return [tuple(map(int, counts)) for counts in found]


@pytest.mark.parametrize("survey", SURVEYS)
def test_the_whole_demonstration(survey, capsys, tmp_path, untrained, monkeypatch):
    monkeypatch.setattr(stage, "night", lambda *args: nights.night(*args[:3], processes=0))
    assert main(["demo", "--survey", survey, "--alerts", "60", "--seed", "3", "--out", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("UNTRAINED WEIGHTS")
    ((consumed, n_scored, refused, dead),) = balanced(out)
    assert consumed == 60 == n_scored + refused + dead and dead == 1 and n_scored > 20
    page = tmp_path / "new" / "demo.html"
    assert lines[-1].endswith(str(page))
    assert "truth (simulator)" in out
    root = ET.fromstring(page.read_text(encoding="utf-8").removeprefix("<!doctype html>\n"))
    text = " ".join("".join(root.itertext()).split())
    assert "UNTRAINED WEIGHTS" in text and "Truth, from the simulator" in text
    counted = [int(dd.text) for dd in root.findall(".//dl[@class='counters']/div/dd") if dd.text.isdigit()]
    assert counted == [consumed, n_scored, refused, dead]
    # What a plain consumer found in the topics: every scored and refused alert, and the dead letter.
    assert f"{n_scored + refused} messages, {n_scored + refused} different ids" in text
    assert "1 messages, 1 different ids" in text
    svg = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f".//{svg}image")) >= 2 and len(root.findall(".//table")) >= 3


def test_a_simulator_that_fails_stops_the_filter(tmp_path, untrained, monkeypatch):
    def broken(*_):
        yield from nights.night("lsst", 3, processes=0)
        raise ZeroDivisionError("no such galaxy")

    monkeypatch.setattr(stage, "night", broken)
    with EmbeddedKafka() as kafka, pytest.raises(ServiceFailed, match="no such galaxy"):
        stage.play(kafka, "lsst", 10, 1, tmp_path, Stop())


def test_a_stop_ends_the_night_with_what_is_out_accounted_for(tmp_path, untrained, monkeypatch):
    monkeypatch.setattr(stage, "night", lambda *args: nights.night(*args[:3], processes=0))
    stop = Stop()

    def progress(accounts, lag):
        if accounts.consumed:
            stop.ask()

    with EmbeddedKafka() as kafka:
        show = stage.play(kafka, "lsst", 5000, 1, tmp_path, stop, progress)
    s = show.summary
    assert 0 < s["consumed"] == s["scored"] + s["refused"] + s["dead_lettered"] <= show.n_sent < 5000


def test_progress_is_a_line_where_there_is_no_terminal(monkeypatch):
    from dgl_broker.demo import progress as module
    from dgl_broker.observe.summary import Accounts

    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    out = io.StringIO()
    with module.DemoProgress(Console(file=out, width=120), "lsst", 10) as progress:
        progress(Accounts(), None)
    assert out.getvalue().startswith("lsst 0/10: 0 scored")
