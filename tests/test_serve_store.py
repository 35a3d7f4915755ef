"""The store of the service: exact ids, what was published last, nothing twice, bounded in age and size, sound after a crash."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import record

from dgl_broker.errors import StateError
from dgl_broker.serve.answers import ScoreRecord, api_record
from dgl_broker.serve.store import ScoreStore, _sortable

DAY_MS = 86_400_000
NOW_S = 1.8e9
NOW_MS = int(NOW_S * 1000)


@pytest.fixture
def store(tmp_path):
    one = ScoreStore(tmp_path / "store", max_bytes=2**24, clock=lambda: NOW_S)
    yield one
    one.close()


def kept(*records):
    return [api_record(r) for r in records]


def test_ids_of_64_bits_come_back_exact(store):
    ids = [0, 1, 2**53 + 1, 2**62 + 3, 2**63 - 1]
    store.write(kept(*(record(i, published_ms=NOW_MS) for i in ids)), {})
    for i in ids:
        found = store.score("ztf", i)
        assert found["alert_id"] == str(i) and int(found["alert_id"]) == i
        assert store.score("lsst", i) is None
    assert store.score("ztf", 2**53) is None and len(store) == 5


def test_record_is_that_of_the_schema_and_fits_its_model(store):
    made = record(7, passed=True, published_ms=NOW_MS)
    store.write(kept(made), {})
    found = store.score("ztf", 7)
    ScoreRecord.model_validate(found)
    assert set(found) == set(made)
    assert found["verdicts"] == [{"filter": "bright", "version": 3, "passed": True, "failed": []}]
    same = {k: v for k, v in made.items() if k not in ("alert_id", "companion_alert_ids")}
    assert {k: v for k, v in found.items() if k in same} == same


def test_fields_of_other_versions_are_null_or_left_out():
    older = {k: v for k, v in record(7).items() if k not in ("p_value", "companion_alert_ids", "published_ms")}
    found = api_record({**older, "from_the_future": 1}, 5)
    assert (found["p_value"], found["companion_alert_ids"], found["published_ms"]) == (None, [], 5)
    assert "from_the_future" not in found
    ScoreRecord.model_validate(found)


@given(order=st.permutations([1, 2, 3, 4]))
@settings(max_examples=10, deadline=None)
def test_what_was_published_last_is_kept_in_whatever_order_it_comes(tmp_path_factory, order):
    store = ScoreStore(tmp_path_factory.mktemp("store"), max_bytes=2**24, clock=lambda: NOW_S)
    for n in order:
        # The survey moved the alert to another object: it must not stay with the old one.
        store.write(kept(record(9, log_odds=float(n), published_ms=NOW_MS + n, object_id=f"of{n}")), {})
    assert store.score("ztf", 9)["log_odds"] == 4.0 and len(store) == 1
    assert [store.object_scores("ztf", f"of{n}", 10)[0] for n in (1, 2, 3, 4)] == [0, 0, 0, 1]
    store.close()


def test_object_has_its_alerts_the_latest_first(store):
    times = {11: 61003.25, 12: 61001.0, 13: 61002.5, 14: 60999.0}
    made = [record(i, object_id="ZTF1", mjd_tai=t, published_ms=NOW_MS) for i, t in times.items()]
    store.write(kept(*made, record(15, object_id="ZTF11"), record(16, survey="lsst", object_id="ZTF1")), {})
    n, found = store.object_scores("ztf", "ZTF1", 3)
    assert n == 4 and [r["alert_id"] for r in found] == ["11", "13", "12"]
    assert store.object_scores("ztf", "ZTF2", 3) == (0, [])


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=20))
def test_sortable_bytes_sort_as_the_numbers_do(numbers):
    numbers = [n + 0.0 for n in numbers]  # -0.0 and 0.0 are equal numbers
    assert [n for _, n in sorted((_sortable(n), n) for n in numbers)] == sorted(numbers)


def test_places_go_with_the_records_or_not_at_all(store):
    store.write(kept(record(1)), {("t", 0): 5, ("t", 1): 2**40})
    bad = {**kept(record(2))[0], "survey": "unheard of"}
    with pytest.raises(KeyError):
        store.write([*kept(record(3)), bad], {("t", 0): 9})
    assert store.places() == {("t", 0): 5, ("t", 1): 2**40}
    assert store.score("ztf", 3) is None


def test_old_records_go_and_so_do_their_entries(tmp_path):
    now = [NOW_S]
    store = ScoreStore(tmp_path, max_bytes=2**24, keep_days=10, clock=lambda: now[0])
    store.write(kept(record(1, published_ms=NOW_MS), record(2, published_ms=NOW_MS + 5 * DAY_MS)), {})
    now[0] += 12 * 86400
    store.write([], {("t", 0): 1})
    assert store.score("ztf", 1) is None and store.object_scores("ztf", "object1", 5) == (0, [])
    assert store.score("ztf", 2)["alert_id"] == "2" and store.dropped == {"age": 1, "size": 0}
    store.close()


def test_full_store_drops_the_oldest_and_goes_on(tmp_path):
    store = ScoreStore(tmp_path, max_bytes=2**20, clock=lambda: NOW_S)
    for first in range(0, 4000, 100):
        store.write(kept(*(record(i, published_ms=NOW_MS + i) for i in range(first, first + 100))), {("t", 0): first})
        assert store.used_bytes <= 2**20
    assert store.score("ztf", 3999)["alert_id"] == "3999" and store.score("ztf", 0) is None
    assert store.dropped["size"] == 4000 - len(store) > 0
    assert {p.name: p.stat().st_size for p in tmp_path.iterdir()}["data.mdb"] <= 2**20
    store.close()


def test_store_that_is_too_small_for_a_batch_is_a_disk_error(tmp_path):
    store = ScoreStore(tmp_path, max_bytes=2**17, clock=lambda: NOW_S)
    with pytest.raises(StateError, match="max_bytes 131072 is too small"):
        store.write(kept(*(record(i) for i in range(1000))), {})
    store.close()


def test_second_writer_is_refused(store):
    with pytest.raises(StateError, match="another process writes it"):
        ScoreStore(store.folder)


def test_foreign_files_are_no_store(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(StateError, match="store"):
        ScoreStore(tmp_path)


def test_store_of_another_format_is_refused(tmp_path, monkeypatch):
    ScoreStore(tmp_path, max_bytes=2**20).close()
    monkeypatch.setattr("dgl_broker.serve.store.FORMAT", b"2")
    with pytest.raises(StateError, match="format 1, expected 2"):
        ScoreStore(tmp_path, max_bytes=2**20)


KILLED = """
import sys, json
sys.path.insert(0, {tests!r})
from serving import record
from dgl_broker.serve.answers import api_record
from dgl_broker.serve.store import ScoreStore
store, made = ScoreStore({folder!r}, max_bytes=2**26), record(0)
for n in range(10**9):
    store.write([api_record({{**made, "alert_id": 10 * n + k}}) for k in range(10)], {{("t", 0): n + 1}})
    if n == 20:
        print("going", flush=True)
"""


def test_killed_writer_leaves_places_and_records_that_agree(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    assert process.stdout.readline() == b"going\n"
    process.kill()
    process.wait()
    process.stdout.close()
    store = ScoreStore(tmp_path, max_bytes=2**26)
    n = store.places()["t", 0]
    assert n > 20 and len(store) == 10 * n
    assert store.score("ztf", 10 * n - 1) is not None and store.score("ztf", 10 * n) is None
    store.close()


def test_lookup_is_quick(store):
    store.write(kept(*(record(i, published_ms=NOW_MS) for i in range(2000))), {})
    began = time.perf_counter()
    for i in range(2000):
        store.score("ztf", i)
    assert (time.perf_counter() - began) / 2000 < 0.005, "a lookup is a read of memory, not a search"


def test_value_is_small(store):
    """Some 5 GB for ten million alerts, as the page says: a record and its entries take less than 1,200 bytes."""
    ids = range(2_475_433_850_315_015_009, 2_475_433_850_315_015_009 + 3000)
    store.write(kept(*(record(i, published_ms=NOW_MS + i % 977) for i in ids)), {})
    assert store.used_bytes / 3000 < 1200
    assert len(json.dumps(store.score("ztf", ids[0]))) > 800
