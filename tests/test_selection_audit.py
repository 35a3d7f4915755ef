"""Changes of a filter: in the log with who and why, against the version they were made for, and reversible."""

import datetime
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from dgl_broker.errors import ConfigError, GuardRefused, StateError
from dgl_broker.selection import FilterSet, load_filter
from dgl_broker.selection.audit import (
    StaleVersion,
    activate,
    in_force_at,
    log_path,
    read_log,
    roll_back,
    version_content,
)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text("name: f\nversion: 1\nthreshold: 5\nrequire: {snr: {min: 5, why: the survey's own limit}}\n")
    return file


def change(path, threshold, expected_version, clock=lambda: 1_800_000_000.0, **options):
    new = replace(load_filter(path), threshold=threshold)
    return activate(path, new, "ana", "fewer a night", expected_version, clock=clock, **options)


def test_an_activation_is_logged_with_who_when_why_from_and_to(path):
    change(path, 7.0, 1)
    assert load_filter(path).threshold == 7.0
    entries, broken = read_log(log_path(path))
    (entry,) = entries
    assert broken == []
    assert {k: entry[k] for k in ("when", "who", "why", "action", "filter", "file")} == {
        "when": "2027-01-15T08:00:00.000Z",
        "who": "ana",
        "why": "fewer a night",
        "action": "activate",
        "filter": "f",
        "file": "f.yaml",
    }
    assert (entry["from"]["version"], entry["from"]["threshold"]) == (1, 5)
    assert (entry["to"]["version"], entry["to"]["threshold"]) == (2, 7.0)


def test_reasons_of_criteria_outlive_a_change(path):
    change(path, 7.0, 1)
    assert load_filter(path).require[0].why == "the survey's own limit"


def test_a_running_filter_takes_what_was_activated(path):
    running = FilterSet([load_filter(path)])
    change(path, 7.0, 1)
    assert [c.to_version for c in running.refresh()] == [2]
    change(path, 8.0, 2)
    assert [c.to_version for c in running.refresh()] == [3]


def test_a_change_made_for_another_version_is_refused(path):
    change(path, 7.0, 1)
    with pytest.raises(StaleVersion, match="version 2 is in force, the change was made for version 1"):
        change(path, 9.0, 1)
    assert load_filter(path).threshold == 7.0
    assert len(read_log(log_path(path))[0]) == 1


def test_a_change_that_a_guard_refuses_leaves_file_and_log(path):
    with pytest.raises(GuardRefused, match="too many"):
        change(path, 7.0, 1, refusals=["too many", "too few"])
    assert load_filter(path).version == 1
    assert read_log(log_path(path)) == ([], [])


@pytest.mark.parametrize(("who", "why"), [("", "x"), ("ana", " "), (None, "x")])
def test_a_change_without_a_name_or_a_reason_is_refused(path, who, why):
    with pytest.raises(ConfigError, match="for the audit log"):
        activate(path, load_filter(path), who, why, 1)


def test_a_filter_keeps_its_name(path):
    with pytest.raises(ConfigError, match="name 'g', expected 'f'"):
        activate(path, replace(load_filter(path), name="g"), "ana", "x", 1)


def test_a_new_filter_starts_at_version_one(path):
    new = replace(load_filter(path), name="g", version=99)
    made = activate(path.with_name("g.yaml"), new, "ana", "a second filter", None)
    assert made.version == 1
    assert load_filter(path.with_name("g.yaml")) == made


def test_a_filter_in_a_new_file_stays_above_the_versions_that_its_name_has_had(path):
    made = activate(path.with_name("f2.yaml"), load_filter(path), "ana", "for a refreshed bundle", None, above=7)
    assert made.version == 8
    assert activate(path.with_name("f2.yaml"), made, "ana", "again", 8, above=7).version == 9


def test_a_roll_back_restores_the_content_under_a_new_version(path):
    first = load_filter(path)
    change(path, 7.0, 1)
    change(path, 9.0, 2)
    back = roll_back(path, 1, "bo", "lost a known one", 3)
    assert back.version == 4
    assert replace(back, version=1) == first
    assert load_filter(path) == back
    entry = read_log(log_path(path))[0][-1]
    assert (entry["action"], entry["who"]) == ("roll_back to 1", "bo")
    with pytest.raises(GuardRefused, match="another bundle"):
        roll_back(path, 2, "bo", "x", 4, refusals=lambda old: ["another bundle"])
    with pytest.raises(ConfigError, match=r"no version 17 in the audit log, expected one of \[2, 3, 4\]"):
        roll_back(path, 17, "bo", "x", 4)


def test_a_crash_between_log_and_file_wastes_a_version_and_no_more(path, monkeypatch):
    import dgl_broker.selection.audit as audit

    def fails(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(audit, "write_atomically", fails)
        with pytest.raises(StateError, match="No space left"):
            change(path, 7.0, 1)
    assert load_filter(path).version == 1
    assert change(path, 8.0, 1).version == 3


def test_a_line_cut_short_by_a_crash_is_reported_and_harms_no_other(path):
    change(path, 7.0, 1)
    log = log_path(path)
    log.write_bytes(log.read_bytes() + b'{"when": "2027-01-15T09:00:00.000Z", "who": "a')
    change(path, 8.0, 2)
    entries, broken = read_log(log)
    assert [e["to"]["version"] for e in entries] == [2, 3]
    assert broken == [2]


def test_an_altered_entry_is_not_restored(path):
    change(path, 7.0, 1)
    log = log_path(path)
    log.write_text(log.read_text().replace("threshold: 7.0", "threshold: 1.0"))
    with pytest.raises(StateError, match="does not match its hash"):
        version_content(read_log(log)[0], "f", 2)


def test_the_log_tells_what_was_in_force_at_a_time(path):
    for n, (threshold, hour) in enumerate([(7.0, 1), (9.0, 2)], 1):
        change(path, threshold, n, clock=lambda hour=hour: 1_800_000_000.0 + 3600 * hour)
    entries, _ = read_log(log_path(path))
    start = datetime.datetime(2027, 1, 15, 8, tzinfo=datetime.UTC)
    found = [in_force_at(entries, "f", start + datetime.timedelta(hours=h)).threshold for h in (0.5, 1.0, 1.5, 2.5)]
    assert found == [5, 7.0, 7.0, 9.0]
    assert in_force_at(entries, "g", start) is None


def test_two_operators_at_once_get_one_change_each_or_a_refusal(path):
    code = (
        "import sys; from dataclasses import replace; from dgl_broker.selection import load_filter; "
        "from dgl_broker.selection.audit import activate, StaleVersion\n"
        "done = 0\n"
        "for i in range(20):\n"
        "    new = load_filter(sys.argv[1])\n"
        "    try:\n"
        "        activate(sys.argv[1], replace(new, threshold=float(i)), sys.argv[2], 'race', new.version)\n"
        "        done += 1\n"
        "    except StaleVersion:\n"
        "        pass\n"
        "print(done)"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), who], stdout=subprocess.PIPE, text=True)
        for who in ("ana", "bo")
    ]
    done = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    entries, broken = read_log(log_path(path))
    assert broken == []
    assert [e["to"]["version"] for e in entries] == list(range(2, sum(done) + 2))
    assert load_filter(path).version == sum(done) + 1
    assert {json.dumps(e["from"]) for e in entries[1:]} == {json.dumps(e["to"]) for e in entries[:-1]}
