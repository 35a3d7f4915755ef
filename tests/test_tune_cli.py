"""`dgl-broker tune` in a terminal: what the page does, with exit codes; and the page started as a process."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import requests
from fake_scorer import BUNDLE as FAKE
from fake_scorer import FakeScorer
from tune_server import TOKEN
from tune_tables import BUNDLE, OTHER, columns, write_all, write_filter, write_labels, write_table

from dgl_broker.cli import _parser, main
from dgl_broker.selection import load_filter
from dgl_broker.selection.status import WorkerStatus
from dgl_broker.settings import load_settings
from dgl_broker.stream.embedded import Feeder
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.worker import Worker

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """(table, labels) of a made-up night with a shadow's scores."""
    folder = tmp_path_factory.mktemp("night")
    made = columns(n_real=600, n_lensed=40, n_negative=20)
    n = len(made["alert_id"])
    made |= {
        "shadow_bundle_sha256": np.full(n, OTHER),
        "shadow_bundle_id": np.full(n, "fresh"),
        "shadow_log_odds": made["log_odds"] - 1.0,
    }
    return write_table(folder / "scores.parquet", made), write_labels(folder / "labels.csv", made)


@pytest.fixture
def tune(night, tmp_path, capsys):
    """(run, filter's file): `run("preview", ...)` gives exit code, output and errors."""
    path = write_filter(tmp_path / "f")

    def run(action, *options, scores=True):
        given = ["--scores", str(night[0]), "--labels", str(night[1])] if scores else []
        code = main(["tune", action, "--filter", str(path), *given, *map(str, options)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run, path


def test_show_says_what_is_in_force(tune):
    run, path = tune
    code, out, _ = run("show", scores=False)
    assert code == 0 and out.startswith("bright version 1: log_odds at least 3, tuned for bundle abababab")
    assert str(path) in out and "at most 200 candidates a night, completeness at least 0.1" in out
    code, out, _ = run("show", "--json", scores=False)
    assert code == 0 and json.loads(out)[0]["require"]["reliability"]["min"] == 0.2


def test_preview_tells_both_sides_and_changes_nothing(tune):
    run, path = tune
    code, out, _ = run("preview", "--threshold", "1.5")
    assert code == 0 and re.search(r"threshold +3 +1.5\n", out) and "ok      nightly budget: worst night" in out
    assert load_filter(path).version == 1 and not (path.parent / "audit.jsonl").exists()
    code, out, _ = run("preview", "--completeness", "0.5", "--json")
    assert json.loads(out)["proposed"]["completeness"]["value"] >= 0.5
    code, _, err = run("preview", "--fpr", "1e-6")
    assert code == 2 and "can show none below" in err
    code, _, err = run("preview", scores=False)
    assert code == 2 and "no --scores" in err


def test_activate_rollback_history(tune):
    run, path = tune
    code, out, _ = run("activate", "--candidates", "5", "--reason", "a cloudy week", "--who", "ana")
    assert code == 0 and "version 2 written" in out and "no worker runs this filter now" in out
    threshold = load_filter(path).threshold
    code, out, _ = run("rollback", "--reason", "it lost one", "--who", "bo", scores=False)
    assert code == 0 and load_filter(path).threshold == 3.0
    code, out, _ = run("history", scores=False)
    assert re.search(rf"version 3 .* bo +roll_back to 1\n +threshold {threshold:g} → 3\n +why: it lost one", out)
    assert json.loads(run("history", "--json", scores=False)[1])["changes"][1]["who"] == "ana"
    code, _, err = run("activate", "--threshold", "2", "--expected-version", "1", "--reason", "late")
    assert code == 7 and "version 3 is in force, the change was made for version 1" in err


def test_the_guard_ends_with_exit_code_7(night, tmp_path, capsys):
    path = write_filter(tmp_path / "f", budget=0)
    args = ["--scores", str(night[0]), "--labels", str(night[1]), "--filter", str(path), "--threshold", "-2", "--reason", "x"]
    assert main(["tune", "activate", *args]) == 7
    out = capsys.readouterr()
    assert "max_candidates_per_night 0" in out.err and "REFUSED nightly budget" in out.out and load_filter(path).version == 1


def test_pre_cuts_come_from_a_filters_file(tune, tmp_path):
    run, path = tune
    other = tmp_path / "stricter.yaml"
    other.write_text(path.read_text().replace("min: 0.2", "min: 0.7"))
    code, out, _ = run("activate", "--precuts", other, "--threshold", "3", "--reason", "stricter")
    assert code == 0 and load_filter(path).require[0].alternatives[0][0].low == 0.7
    assert "reliability: at least 0.2; unknown passes → at least 0.7; unknown passes" in run("history", scores=False)[1]


def test_carry_writes_the_filter_of_the_other_bundle(tune):
    run, path = tune
    code, out, _ = run("carry", "--to", "fresh", "--reason", "the autumn's bundle")
    where = path.with_name(f"bright.{OTHER[:8]}.yaml")
    new = load_filter(where)
    assert code == 0 and str(where) in out and new.bundle_sha256 == OTHER and new.version == 2
    assert new.threshold == pytest.approx(2.0, abs=0.3)  # the shadow's log-odds are lower by 1
    assert load_filter(path).bundle_sha256 == BUNDLE
    assert run("carry", "--to", "nothing", "--reason", "x")[0] == 2


def test_without_scores_or_filter_it_says_what_is_missing(night, capsys, tmp_path):
    assert main(["tune"]) == 2 and "no --scores" in capsys.readouterr().err
    assert main(["tune", "show"]) == 2 and "--filter" in capsys.readouterr().err
    assert main(["tune", "preview", "--scores", str(night[0]), "--filter", str(tmp_path / "none.yaml")]) == 3
    assert main(["tune", "preview", "--scores", "kafka:dgl.ztf.scores", "--filter", "lensed_sn_ztf"]) == 2
    assert "without --config" in capsys.readouterr().err


def test_a_configuration_names_filters_bundle_status_and_prevalence(night, tmp_path, capsys):
    path = write_filter(tmp_path / "f", bundle="null")
    config = tmp_path / "broker.yaml"
    config.write_text(
        f"survey: ztf\nkafka: {{bootstrap.servers: localhost:1}}\ninput: {{topics: [in]}}\n"
        f"filters: [{path}]\nprevalence: 1e-5\nstatus: {tmp_path / 'status'}\n"
    )
    assert main(["tune", "preview", "--config", str(config), "--scores", str(night[0]), "--labels", str(night[1])]) == 0
    out = capsys.readouterr().out
    # The configured bundle is the shipped one, whose scores these are not: what is in force would refuse them.
    assert "purity at 1e-05" in out and "the bundle in use is" in out


def test_what_the_filter_published_is_tuned_on_as_it_is(tmp_path, capsys, mock_kafka):
    for topic in ("in", "dgl.ztf.scores", "dgl.ztf.candidates", "dgl.ztf.deadletters"):
        mock_kafka.create_topic(topic, 1)
    config = tmp_path / "broker.yaml"
    path = write_filter(tmp_path / "f", bundle=FAKE, floor="null")
    path.write_text(re.sub("require:.*threshold", "threshold", path.read_text(), flags=re.S))
    kafka = f"kafka: {{bootstrap.servers: '{mock_kafka.bootstrap_servers}'}}"
    config.write_text(f"survey: ztf\n{kafka}\ninput: {{topics: [in]}}\nfilters: [{path}]\nbatch: {{max_wait_s: 0.05}}\n")
    settings = load_settings(config)
    feeder = Feeder(mock_kafka, "in", 1, settings.group_id)
    for n in range(30):
        feeder.send(f"{n} scored".encode())
    feeder.close()
    Worker(settings, Stop(), scorer=FakeScorer()).run(max_alerts=30)
    WorkerStatus(path.parent / "status", "w", FAKE).write([load_filter(path)], {})
    code = main(["tune", "preview", "--config", str(config), "--scores", "kafka:dgl.ztf.scores", "--candidates", "0", "--json"])
    out = json.loads(capsys.readouterr().out)
    # All 30 score 1.5, in one night.
    assert code == 0 and out["in_force"]["candidates"]["worst"] == 0 and out["threshold"] == pytest.approx(1.51, abs=0.011)
    assert out["proposed"]["stream"]["n"] == 30 and out["refused"] == []


def started(night, path, *options, **environment):
    """The page as a process, and its address."""
    command = [
        sys.executable,
        "-m",
        "dgl_broker",
        "tune",
        "--scores",
        night[0],
        "--labels",
        night[1],
        "--filter",
        path,
        "--port",
        0,
    ]
    env = {k: v for k, v in os.environ.items() if k != "DGL_TUNE_TOKEN"} | environment
    process = subprocess.Popen(
        [str(c) for c in (*command, *options)], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip().rstrip("/")


def test_the_page_starts_serves_and_ends_with_a_signal(night, tmp_path):
    path = write_filter(tmp_path / "f")
    process, url = started(night, path, DGL_TUNE_TOKEN=TOKEN)
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        assert "Move the line" in requests.get(f"{url}/", timeout=120).text
        body = {"filter": "bright", "threshold": 2.5, "expected_version": 1, "reason": "x"}
        answer = requests.post(f"{url}/api/v1/activate", json=body, headers={"authorization": f"Bearer {TOKEN}"}, timeout=120)
        assert answer.status_code == 200 and load_filter(path).version == 2
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert "activated by" in said and TOKEN not in said and "Traceback" not in said


def test_the_page_does_not_start_open_to_others_without_a_token(night, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DGL_TUNE_TOKEN", raising=False)
    path = write_filter(tmp_path / "f")
    assert main(["tune", "--scores", str(night[0]), "--filter", str(path), "--host", "0.0.0.0"]) == 2
    assert "DGL_TUNE_TOKEN must be set" in capsys.readouterr().err


def test_preview_of_all_of_it_over_shipped_filter(tmp_path, capsys):
    table, _, _, _ = write_all(tmp_path, n_real=50, n_lensed=0, n_negative=0)
    assert main(["tune", "preview", "--scores", str(table)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("lensed_sn_ztf") and "ships with the package" in out


def test_a_shipped_filter_is_copied_in_one_step_and_can_then_be_changed(tmp_path, capsys):
    made, shipped = columns(n_real=200, n_lensed=40, n_negative=0), load_filter("lensed_sn_ztf")
    facts = {"fact.programid": 1.0, "fact.star_separation_arcsec": 9.0, "fact.star_score": 0.1}
    told = {**facts, "bundle_sha256": shipped.bundle_sha256, "fact.reliability": 0.9, "fact.is_positive": True}
    made |= {name: np.full(len(made["alert_id"]), value) for name, value in told.items()}
    table = write_table(tmp_path / "s.parquet", made, [("lensed_sn_ztf", shipped.version)])
    activate = ["tune", "activate", "--threshold", "2.5", "--reason", "x", "--scores", str(table)]
    activate += ["--labels", str(write_labels(tmp_path / "labels.csv", made))]
    assert main(activate) == 7 and not (ROOT / "filters" / "audit.jsonl").exists()
    (step,) = re.findall(r"dgl-broker (tune copy --filter lensed_sn_ztf --to) DIR", capsys.readouterr().err)
    assert main([*step.split(), str(tmp_path / "own")]) == 0
    path = tmp_path / "own" / "lensed_sn_ztf.yaml"
    assert capsys.readouterr().out.splitlines()[-1] == f"in broker.yaml, then restart: filters: [{path}]"
    assert path.read_bytes() == (ROOT / "filters" / "lensed_sn_ztf.yaml").read_bytes()
    assert main([*step.split(), str(tmp_path / "own")]) == 2 and "is there already" in capsys.readouterr().err
    assert main(["tune", "copy", "--filter", str(path), "--to", str(tmp_path)]) == 2
    assert main([*activate, "--filter", str(path)]) == 0, capsys.readouterr().err
    assert load_filter(path).threshold == 2.5 and load_filter(path).version == shipped.version + 1


def test_commands_in_the_documentation_are_the_programs():
    asked = []
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.S | re.M)
        lines = "".join(blocks).replace("\\\n", " ").splitlines()
        asked += [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("dgl-broker ")]
    assert len(asked) >= 40 and sum(words[0] == "tune" for words in asked) >= 12
    for words in asked:
        _parser(words[0]).parse_args(words)
