"""Filters changed while running: what is taken, what is refused, and what the worker says of it."""

import json
import os
import threading
import time
from dataclasses import replace

import pytest

from dgl_broker.data_files import filter_path
from dgl_broker.selection import FilterSet, dump_filter, load_filter
from dgl_broker.selection.arrival import read_arrival, wait_for_arrival
from dgl_broker.selection.status import WorkerStatus, read_workers, utc_text
from dgl_broker.selection.write_file import write_atomically

BUNDLE, OTHER_BUNDLE = "a" * 64, "b" * 64


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text("name: f\nversion: 1\nthreshold: 5\nsurvey: lsst\n")
    return file


def write(path, **changes):
    """A new version of the filter in the file, written as the program writes it."""
    write_atomically(path, dump_filter(replace(load_filter(path), **changes)))


def running(path):
    chosen = FilterSet([load_filter(path)])
    chosen.check_bundle(BUNDLE)
    chosen.check_survey("lsst")
    return chosen


def test_nothing_changes_without_a_change(path):
    chosen = running(path)
    before = chosen.filters
    assert chosen.refresh() == ()
    os.utime(path, (1, 1))
    assert chosen.refresh() == ()
    assert chosen.filters == before
    assert chosen.problems == {}


def test_a_higher_version_comes_into_force_between_batches(path):
    chosen = running(path)
    write(path, version=2, threshold=7.0)
    assert chosen.filters[0].version == 1  # not before refresh
    (change,) = chosen.refresh()
    assert str(change) == "filter f: version 2 in force, before 1"
    assert (chosen.filters[0].version, chosen.filters[0].threshold) == (2, 7.0)
    assert chosen.refresh() == ()


def test_a_change_between_reading_and_watching_is_seen(path):
    read = load_filter(path)
    write(path, version=2)
    chosen = FilterSet([read])
    assert [c.to_version for c in chosen.refresh()] == [2]


def test_what_the_pipeline_needs_follows_the_filter(path):
    chosen = running(path)
    assert chosen.needs == {"survey"}
    path.write_text("name: f\nversion: 2\nthreshold: 5\nrequire: {snr: {min: 5}}\n")
    chosen.refresh()
    assert chosen.needs == {"snr"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name: f\nversion: 2\nthreshold: [", "f.yaml:"),
        ("name: f\nversion: 2\n", "threshold is missing, expected a number"),
        ("", "expected a mapping"),
        ("name: f\nversion: 1\nthreshold: 6\n", "other content under the same version 1, expected a version above 1"),
        ("name: f\nversion: 0\nthreshold: 6\n", "version 0, expected a whole number from 1"),
        ("name: g\nversion: 2\nthreshold: 5\n", "name 'g', expected 'f'"),
        ("name: f\nversion: 2\nthreshold: 5\nsurvey: ztf\n", "survey 'ztf', the alerts are of 'lsst'"),
        (f"name: f\nversion: 2\nthreshold: 5\nbundle_sha256: {OTHER_BUNDLE}\n", f"tuned for bundle {OTHER_BUNDLE}"),
        (None, "No such file"),
    ],
)
def test_a_file_that_may_not_come_into_force_is_refused_and_the_old_filter_stays(path, text, why):
    chosen = running(path)
    before = chosen.filters
    sound = path.read_text()
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    (change,) = chosen.refresh()
    assert change.refused is not None
    assert why in change.refused
    assert "version 1 stays in force" in str(change)
    assert chosen.filters == before
    assert why in chosen.problems["f"]
    assert chosen.refresh() == ()  # said once, though it stays in `problems`
    assert chosen.problems
    path.write_text(sound.replace("version: 1", "version: 5"))
    assert [c.to_version for c in chosen.refresh()] == [5]
    assert chosen.problems == {}


def test_a_lower_version_is_refused(path):
    write(path, version=4)
    chosen = running(path)
    write(path, version=3)
    assert "a lower version 3, expected a version above 4" in chosen.refresh()[0].refused


def test_one_broken_file_does_not_hold_the_others_back(path, tmp_path):
    other = tmp_path / "g.yaml"
    other.write_text("name: g\nversion: 1\nthreshold: 5\n")
    chosen = FilterSet([load_filter(path), load_filter(other)])
    path.write_text("broken: [")
    write(other, version=2)
    changes = {c.name: c for c in chosen.refresh()}
    assert changes["f"].refused
    assert changes["g"].to_version == 2


def test_a_reader_never_sees_half_a_file(path):
    chosen = running(path)
    write(path, description="x" * 10_000, version=2)
    stop = threading.Event()

    def writes():
        version = 2
        while not stop.is_set():
            version += 1
            write(path, version=version, description=str(version % 10) * 10_000)

    writer = threading.Thread(target=writes)
    writer.start()
    try:
        seen, deadline = [], time.monotonic() + 30
        while len(seen) < 20 and time.monotonic() < deadline:
            seen += chosen.refresh()
    finally:
        stop.set()
        writer.join()
    assert not [c for c in seen if c.refused]
    assert len(seen) >= 20


def test_a_failed_write_leaves_the_old_file_and_no_litter(path, monkeypatch):
    before = path.read_text()

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == ["f.yaml"]


# --- status ----------------------------------------------------------------------------------------------------------------


def status_of(path):
    (file,) = (path.parent / "status").glob("*.json")
    return json.loads(file.read_text())


def test_a_worker_says_which_version_is_in_force_and_since_when(path):
    now = [1_800_000_000.0]
    chosen = running(path)
    chosen.report_status(worker="w1", clock=lambda: now[0])
    said = status_of(path)
    assert said["worker"] == "w1"
    assert said["bundle_sha256"] == BUNDLE
    assert said["filters"]["f"]["version"] == 1
    assert said["filters"]["f"]["since"] == "2027-01-15T08:00:00.000Z"  # date -u -d @1800000000
    assert said["filters"]["f"]["tuned"] is False
    now[0] += 100.0
    write(path, version=2)
    chosen.refresh()
    said = status_of(path)
    assert said["filters"]["f"]["version"] == 2
    assert said["filters"]["f"]["since"] == "2027-01-15T08:01:40.000Z"
    assert said["started"] == "2027-01-15T08:00:00.000Z"
    chosen.close()
    assert list((path.parent / "status").iterdir()) == []


def test_shipped_filters_get_no_status_folder_beside_them_and_ones_own_beside_them_do(path, tmp_path):
    chosen = FilterSet([load_filter(path), load_filter("lensed_sn_lsst")])
    chosen.report_status(worker="w1")
    assert set(status_of(path)["filters"]) == {load_filter(path).name}
    assert not (filter_path("lensed_sn_lsst").parent / "status").exists()
    chosen.report_status(tmp_path / "elsewhere", worker="w1")
    assert "lensed_sn_lsst" in json.loads((tmp_path / "elsewhere" / "w1.json").read_text())["filters"]
    chosen.close()


def test_a_refused_file_is_said_in_the_status(path):
    chosen = running(path)
    chosen.report_status(worker="w1")
    path.write_text("broken: [")
    chosen.refresh()
    said = status_of(path)
    assert said["filters"]["f"]["version"] == 1
    assert "f.yaml" in said["problems"]["f"]


def test_the_status_is_written_on_a_change_and_by_heartbeat_only(path, tmp_path):
    now = [1e9]
    status = WorkerStatus(tmp_path / "s", "w", heartbeat_s=10, clock=lambda: now[0])
    one = load_filter(path)

    def written():
        before = status.path.stat().st_ino if status.path.exists() else None
        status.write([one], {})
        return status.path.stat().st_ino != before

    assert written()
    now[0] += 9.9
    assert not written()
    now[0] += 0.2
    assert written()
    one = replace(one, version=2)
    assert written()


def test_workers_that_lag_are_named_and_silent_ones_apart(tmp_path, path):
    old, new = load_filter(path), replace(load_filter(path), version=2)
    for worker, filter_, problems in (
        ("ahead", new, {}),
        ("behind", old, {"f": "f.yaml: broken"}),
        ("dead", old, {}),
        ("elsewhere", replace(new, name="g"), {}),
    ):
        status = WorkerStatus(tmp_path / "s", worker, "ab" * 32, clock=lambda: 1_800_000_000.0)
        status.write([filter_], problems)
    now = (tmp_path / "s" / "ahead.json").stat().st_mtime
    os.utime(tmp_path / "s" / "dead.json", (now - 100, now - 100))
    (tmp_path / "s" / "foreign.json").write_text("[1, 2]")
    (tmp_path / "s" / "torn.json").write_text('{"worker": "x", "fil')
    assert [w.worker for w in read_workers(tmp_path / "s", now=now)] == ["ahead", "behind", "dead", "elsewhere"]
    assert {w.bundle_sha256 for w in read_workers(tmp_path / "s", now=now)} == {"ab" * 32}
    arrival = read_arrival(tmp_path / "s", "f", 2, now=now)
    assert arrival.lagging == ("behind: version 1 since 2027-01-15T08:00:00.000Z; f.yaml: broken",)
    assert (arrival.in_force, arrival.silent, arrival.complete) == (("ahead",), ("dead",), False)
    assert str(arrival).startswith("version 2 in force on 1 of 2 workers; lagging: behind: version 1")
    assert str(arrival).endswith("silent for more than a minute: dead")
    first = read_arrival(tmp_path / "s", "f", 1, now=now)
    assert first.lagging == () and first.complete and set(first.in_force) == {"ahead", "behind", "dead"}


def test_waiting_ends_when_the_last_worker_has_the_version_or_at_the_limit(tmp_path, path):
    filter_, time_s = load_filter(path), [0.0]
    quick, slow = (WorkerStatus(tmp_path / "s", name, clock=lambda: time_s[0]) for name in ("quick", "slow"))
    quick.write([replace(filter_, version=2)], {})
    slow.write([filter_], {})

    def sleep(seconds):
        time_s[0] += seconds
        if time_s[0] > 1.0:
            slow.write([replace(filter_, version=2)], {})

    given_up = wait_for_arrival(tmp_path / "s", "f", 2, 0.5, clock=lambda: time_s[0], sleep=sleep)
    assert not given_up.complete and 0.5 <= given_up.seconds < 0.8
    done = wait_for_arrival(tmp_path / "s", "f", 2, 30.0, clock=lambda: time_s[0], sleep=sleep)
    assert done.complete and set(done.in_force) == {"quick", "slow"} and done.seconds < 1.0


def test_nobody_to_wait_for_is_said(tmp_path):
    nobody = wait_for_arrival(tmp_path / "nowhere", "f", 2, 30.0)
    assert nobody.complete and "no worker runs this filter" in str(nobody) and nobody.seconds < 1.0


def test_files_of_workers_long_gone_are_cleared_away(tmp_path, path):
    WorkerStatus(tmp_path / "s", "gone").write([load_filter(path)], {})
    os.utime(tmp_path / "s" / "gone.json", (1, 1))
    WorkerStatus(tmp_path / "s", "here").write([load_filter(path)], {})
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["here.json"]


def test_a_status_folder_that_cannot_be_written_costs_the_report_alone(path, tmp_path):
    (tmp_path / "s").write_text("a file where the folder should be")
    status = WorkerStatus(tmp_path / "s", "w")
    status.write([load_filter(path)], {})
    assert status.problem is not None
    chosen = running(path)
    chosen.report_status(tmp_path / "s")
    write(path, version=2)
    assert [c.to_version for c in chosen.refresh()] == [2]


def test_times_are_utc_with_milliseconds():
    assert utc_text(0.25) == "1970-01-01T00:00:00.250Z"
