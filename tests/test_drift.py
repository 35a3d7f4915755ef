"""Drift of the scores against a reference night: the statistic by scipy, the file, the metric, what is of another bundle."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_scorer import BUNDLE, FakeScorer
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import ks_2samp

from dgl_broker.alert import Message
from dgl_broker.archive.sinks import table_schema
from dgl_broker.cli import main
from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.observe import Watch
from dgl_broker.observe.drift import LEAST, WINDOW, Drift, make_reference, read_reference
from dgl_broker.scores import Outcome

NIGHT = "2026-11-22"
MJD = 61366.25  # 2026-11-22T06:00 UTC, see test_reports


def reference(values, sha256=BUNDLE):
    return make_reference("ztf", NIGHT, "fake", sha256, values)


@pytest.fixture(scope="module")
def scores():
    """Scores of a night as they are: most far below zero, many alike at a clipped end."""
    rng = np.random.default_rng(20261122)
    return np.maximum(rng.normal(-5, 2, 20_000), -8.0)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 30.0])
def test_statistic_is_that_of_scipy(scores, shift):
    one = Drift(reference(scores))
    latest = np.random.default_rng(7).choice(scores, WINDOW) + shift
    one.add([99.0] * 100)  # pushed out of the window by what follows
    one.add(latest)
    assert one.distance == pytest.approx(ks_2samp(latest, one.reference.log_odds).statistic, abs=1e-12)
    # Against all the scores, not 1001 of them, it can differ by 1 / 1000 at most.
    assert one.distance == pytest.approx(ks_2samp(latest, scores).statistic, abs=1.1e-3)
    assert (one.distance < 0.028) == (shift == 0.0)


def test_nothing_is_said_of_a_few_scores(scores):
    one = Drift(reference(scores))
    one.add(scores[: LEAST - 1])
    assert one.distance is None
    one.add(scores[:1])
    assert one.distance is not None
    with pytest.raises(ConfigError, match="999 scores, expected at least 1000"):
        reference(scores[:999])
    with pytest.raises(ConfigError, match="finite"):
        reference([*scores, float("nan")])


def test_reference_comes_back_and_what_is_none_is_refused(scores, tmp_path):
    one, path = reference(scores), tmp_path / "reference.json"
    one.save(path)
    assert read_reference(path) == one and path.stat().st_size < 40_000
    said = json.loads(path.read_text())
    backwards, few = said | {"log_odds": said["log_odds"][::-1]}, said | {"log_odds": [1.0]}
    for broken in ("{}", "[]", "no JSON", json.dumps(few), json.dumps(backwards)):
        path.write_text(broken)
        with pytest.raises(ConfigError, match="reference.json"):
            read_reference(path)
    with pytest.raises(InputUnavailable):
        read_reference(tmp_path / "none.json")


def outcomes(values):
    return [
        Outcome("scored", Message(b""), scores=SimpleNamespace(log_odds=float(v))) for v in values
    ]  # as much of scores as the watch reads


def samples(watch, name):
    """Label values, `part` before `name`, to values."""
    families = text_string_to_metric_families(watch.metrics.text().decode())
    return {
        tuple(value for _, value in sorted(s.labels.items(), reverse=True)): s.value
        for f in families
        for s in f.samples
        if s.name == name
    }


def test_metric_is_there_when_there_is_enough_to_say_and_a_reference_of_another_bundle_is_a_mismatch(scores):
    watch = Watch()
    assert watch.hold_against(reference(scores), BUNDLE)
    for n in range(0, 1200, 300):
        these = outcomes(scores[n : n + 300] + 2.0)
        watch.settle(watch.tally(300, these, ()), these)
        assert (len(samples(watch, "dgl_score_drift")) == 1) == (n == 900)
    ((night, value),) = samples(watch, "dgl_score_drift").items()
    assert night == (NIGHT,) and 0.3 < value < 0.5  # a shift of one standard deviation: 2 Phi(1/2) - 1 = 0.383
    other = Watch()
    assert not other.hold_against(reference(scores, "cd" * 32), BUNDLE)
    other.take_scorer(FakeScorer())
    assert samples(other, "dgl_mismatch") == {("reference", NIGHT): 1.0} and not samples(other, "dgl_score_drift")


def test_filter_that_is_refused_or_untuned_is_a_mismatch_until_it_is_not():
    watch, scorer = Watch(), FakeScorer()

    class Filters(list):
        problems = {"bright": "a lower version 2"}
        untuned = ("blue",)

    scorer.filters = Filters(scorer.filters)
    watch.take_scorer(scorer)
    assert samples(watch, "dgl_mismatch") == {("filter", "bright"): 1.0, ("untuned", "blue"): 1.0}
    scorer.filters.problems, scorer.filters.untuned = {}, ()
    watch.take_scorer(scorer)
    assert samples(watch, "dgl_mismatch") == {}


def table(path, rows):
    schema = table_schema()
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def row(n, log_odds=0.0, **changes):
    record = {"survey": "ztf", "alert_id": n, "object_id": f"o{n}", "mjd_tai": MJD, "status": "scored", "log_odds": log_odds}
    return record | {"bundle_id": "fake", "bundle_sha256": BUNDLE} | changes


def test_reference_of_a_replayed_night_by_command(tmp_path, capsys):
    rows = [row(n, float(n)) for n in range(1500)]
    rows += [row(9000, None, status="refused"), row(9001, 1e6, mjd_tai=MJD + 1), row(9002, 1e6, injected=True)]
    table(tmp_path / "t.parquet", rows)
    out = tmp_path / "reference.json"
    command = ["reference", str(tmp_path / "t.parquet"), "--out", str(out)]
    assert main([*command, "--night", NIGHT]) == 0
    found = read_reference(out)
    assert (found.n, found.night, found.bundle_sha256) == (1500, NIGHT, BUNDLE)
    assert found.log_odds[0] == 0.0 and found.log_odds[-1] == 1499.0
    assert "1500 scores of ztf in the night 2026-11-22" in capsys.readouterr().out
    assert main(command) == 0 and read_reference(out).night == f"{NIGHT}/2026-11-23"
    assert main([*command, "--night", "2020-01-01"]) == 2
    table(tmp_path / "t.parquet", [*rows, row(9003, bundle_sha256="cd" * 32)])
    assert main(command) == 2 and "one bundle" in capsys.readouterr().err
    assert main(["reference", str(tmp_path / "none.parquet"), "--out", str(out)]) == 3
