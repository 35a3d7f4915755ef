"""Earlier stamps of an object: bytes and back, which may be used, and what a bad server costs.

Tests marked `redis` start a redis-server of their own (from DGL_REDIS_SERVER or PATH) on a Unix socket and a free port.
"""

import signal
import socket
import struct
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from redis_server import SERVER, Server

from dgl_broker.companions import COUNTERS, Companion, CorruptCompanion, Key, as_stored, open_store, with_batch
from dgl_broker.companions.codec import HEADER, decode, decode_when, encode
from dgl_broker.errors import ConfigError
from dgl_broker.stamps import Stamp

NORTH_UP = np.array([[-0.2, 0.0], [0.0, 0.2]])


def a_stamp(seed=0, shape=(30, 30), in_njy=True):
    rng = np.random.default_rng(seed)
    return Stamp(
        rng.normal(0.0, 300.0, shape).astype(np.float32), np.ones(shape, bool), NORTH_UP.copy(), 14.6, 15.1, in_njy=in_njy
    )


def companion(alert_id=1, mjd=61000.0, band="r", object_id="313", survey="lsst", seed=None, **keys):
    seed = alert_id if seed is None else seed
    stamps = {"template": a_stamp(seed), "difference": a_stamp(seed + 1000)}
    return Companion(survey, object_id, band, alert_id, mjd, **{**stamps, "ra": 10.0, "dec": -20.0, **keys})


def key(mjd=61010.0, alert_id=99, band="g", object_id="313", survey="lsst"):
    return Key(survey, object_id, mjd, alert_id, band)


def same(a, b):
    """Whether two companions are equal, pixels and all."""
    if (a.survey, a.object_id, a.band, a.when, a.ra, a.dec) != (b.survey, b.object_id, b.band, b.when, b.ra, b.dec):
        return False
    for one, two in ((a.template, b.template), (a.difference, b.difference)):
        if (one is None) != (two is None):
            return False
        if one is not None:
            equal = np.array_equal(one.pixels, two.pixels) and np.array_equal(one.valid, two.valid)
            if not equal or not np.array_equal(one.matrix, two.matrix):
                return False
            if (one.x0, one.y0, one.in_njy) != (two.x0, two.y0, two.in_njy):
                return False
    return True


def ids(found):
    return {band: c.alert_id for band, c in found.items()}


# --- bytes -----------------------------------------------------------------------------------------------------------------


def test_pixels_come_back_within_the_precision_of_float16():
    before = companion()
    after = as_stored(before)
    for one, two in ((before.template, after.template), (before.difference, after.difference)):
        assert two.pixels.dtype == np.float32
        assert np.all(np.abs(two.pixels - one.pixels) <= np.abs(one.pixels) * 2.0**-11)  # half a unit in the last place
        assert np.array_equal(two.valid, one.valid)
        assert np.array_equal(two.matrix, one.matrix)
        assert (two.x0, two.y0, two.in_njy) == (one.x0, one.y0, one.in_njy)
    assert (after.when, after.ra, after.dec, after.band) == (before.when, before.ra, before.dec, before.band)


def test_a_pair_of_lsst_stamps_takes_four_kilobytes():
    # 2 x 900 pixels of 2 bytes are 3600; the FITS cutouts it stands for are 2 x 34,560 bytes
    assert len(encode(companion())) < 3600 + 250


@settings(deadline=None, max_examples=80, derandomize=True)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    ),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(0, 1e5),
)
def test_any_stamp_survives_and_twice_is_once(pixels, masked, alert_id, mjd):
    valid = np.ones(pixels.shape, bool)
    valid[0, 0] = not masked
    stamp = Stamp(pixels, valid, NORTH_UP, 1.5, 2.5, in_njy=not masked)
    once = as_stored(companion(alert_id, mjd, template=stamp, difference=None, seed=1))
    good = valid & np.isfinite(pixels)
    assert np.array_equal(once.template.valid, good)
    assert np.all(once.template.pixels[~good] == 0)
    # float16 goes down to 2^-24 of a scale whose largest is 65504
    floor = np.max(np.abs(pixels[good]), initial=0.0).astype(float) / 65504 * 2.0**-24
    error = np.abs(once.template.pixels[good].astype(float) - pixels[good].astype(float))
    assert np.all(error <= np.abs(pixels[good]).astype(float) * 2.0**-10 + floor + 1e-45)
    assert once.template.in_njy is not masked
    assert once.difference is None
    assert (once.alert_id, once.mjd_tai) == (alert_id, mjd)
    assert same(as_stored(once), once)


def test_the_time_is_read_from_the_head_alone():
    data = encode(companion(2**63 - 1, 61000.25))
    assert decode_when(data[: HEADER.size]) == (61000.25, 2**63 - 1)
    assert decode_when(data[: HEADER.size - 1]) is None
    assert decode_when(b"x" * 100) is None
    assert decode_when(None) is None


@pytest.mark.parametrize("cut", [0, 1, 20, 60, 100, -1, -5])
def test_bytes_cut_short_are_corrupt(cut):
    data = encode(companion())
    with pytest.raises(CorruptCompanion):
        decode(data[:cut])


def test_any_altered_byte_is_noticed():
    data = encode(companion(template=None, difference=a_stamp(shape=(4, 5))))
    for i in range(len(data)):
        altered = bytearray(data)
        altered[i] ^= 0x10
        with pytest.raises(CorruptCompanion):
            decode(bytes(altered))


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.binary(max_size=300), st.integers(0, 200))
def test_hostile_bytes_with_a_right_checksum_are_corrupt_or_a_companion(tail, at):
    import zlib

    data = bytearray(encode(companion(template=None, difference=a_stamp(shape=(4, 5))))[:-4])
    data[at : at + len(tail)] = tail
    data += struct.pack("<I", zlib.crc32(data))
    try:
        fields = decode(bytes(data))
    except CorruptCompanion:
        return
    for stamp in fields[-2:]:
        assert stamp is None or np.isfinite(stamp.pixels).all()


def test_a_head_that_claims_a_huge_stamp_allocates_nothing():
    import zlib

    data = bytearray(encode(companion(template=None)))
    at = HEADER.size + len("lsst") + len("313")
    data[at : at + 4] = struct.pack("<HH", 65535, 65535)
    data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
    with pytest.raises(CorruptCompanion, match="65535 x 65535"):
        decode(bytes(data))


def test_a_companion_can_be_centred_on_its_alert():
    # Two alerts of one object 0.8 arcsec apart: east is to the left on a north-up stamp of 0.2 arcsec pixels, so the place
    # of a point 0.6 arcsec east and 0.4 south of the stamp's centre is 3 px to the left and 2 px down.
    before = companion()
    ra = 10.0 + 0.6 / 3600 / np.cos(np.radians(-20.0))
    moved = before.centred_on(ra, -20.0 - 0.4 / 3600)
    for one, two in ((before.template, moved.template), (before.difference, moved.difference)):
        assert (two.x0 - one.x0, two.y0 - one.y0) == (pytest.approx(-3.0, abs=1e-6), pytest.approx(-2.0, abs=1e-6))
        assert two.pixels is one.pixels


def test_a_shift_across_right_ascension_zero_is_short():
    moved = companion(ra=359.99999, dec=0.0, template=None).centred_on(0.00001, 0.0)
    assert moved.template is None
    assert moved.difference.x0 - 14.6 == pytest.approx(-0.072 / 0.2, abs=1e-6)


# --- which may be used -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def store(request):
    if request.param == "memory":
        yield open_store("memory")
        return
    server = request.getfixturevalue("server")
    made = open_store("redis", url=server.url, timeout_s=2.0, deadline_s=5.0)
    yield made
    made.close()


def test_the_newest_stamp_of_each_other_band_is_given(store):
    store.remember([companion(1, 61000.0, "r"), companion(2, 61001.0, "r"), companion(3, 61000.5, "i")])
    store.remember([companion(4, 61002.0, "g"), companion(5, 61002.0, "z", object_id="314")])
    (found,) = store.fetch([key(band="g")])
    assert ids(found) == {"r": 2, "i": 3}
    assert same(found["r"], as_stored(companion(2, 61001.0, "r")))
    assert store.counters["found"] == 2
    assert store.counters["written"] + store.counters["outdated"] == 5


def test_an_older_stamp_does_not_replace_a_newer_one(store):
    store.remember([companion(2, 61001.0)])
    store.remember([companion(1, 61000.0)])
    assert ids(store.fetch([key()])[0]) == {"r": 2}
    assert store.counters["outdated"] == 1


@pytest.mark.parametrize(
    ("mjd", "alert_id", "given"),
    [(61000.0, 8, True), (61000.0, 7, False), (61000.0, 6, False), (60999.0, 99, False), (61000.5, 1, True)],
)
def test_only_stamps_from_before_the_alert_by_time_and_then_id(store, mjd, alert_id, given):
    store.remember([companion(7, 61000.0)])
    assert ids(store.fetch([key(mjd, alert_id)])[0]) == ({"r": 7} if given else {})
    assert store.counters["newer"] == (not given)


def test_ids_beyond_2_to_the_53_stay_exact(store):
    big = 2**63 - 2
    store.remember([companion(big, 61000.0, seed=1)])
    assert ids(store.fetch([key(61000.0, big + 1)])[0]) == {"r": big}
    assert ids(store.fetch([key(61000.0, big)])[0]) == {}


def test_the_alerts_own_band_object_and_survey_are_minded(store):
    store.remember([companion(1, band="g"), companion(2, object_id="3130"), companion(3, survey="ztf")])
    assert store.fetch([key(band="g")]) == [{}]
    assert ids(store.fetch([key(survey="ztf")])[0]) == {"r": 3}


def test_an_alert_without_an_object_has_no_companions(store):
    store.remember([companion()])
    found = store.fetch([key(object_id=None), key()])
    assert [ids(f) for f in found] == [{}, {"r": 1}]
    assert store.counters["asked"] == 1


def test_many_alerts_are_looked_up_at_once(store):
    store.remember([companion(i, 61000.0 + 0.1 * i, "ugrizy"[i % 6], str(i // 6)) for i in range(60)])
    keys = [key(61010.0, 1000, "ugrizy"[i % 6], str(i % 10)) for i in range(120)]
    for k, found in zip(keys, store.fetch(keys)):
        assert ids(found) == {b: int(k.object_id) * 6 + n for n, b in enumerate("ugrizy") if b != k.own_band}


def test_earlier_alerts_of_the_same_batch_count_as_if_it_had_come_before(store):
    night = [companion(i, 61000.0 + 0.01 * i, "gri"[i % 3], str(i % 2), seed=i) for i in range(24)]
    keys = [Key(c.survey, c.object_id, c.mjd_tai, c.alert_id, c.band) for c in night]
    together = with_batch(store.fetch(keys), keys, night)
    one_by_one = []
    for k, c in zip(keys, night):
        one_by_one += with_batch(store.fetch([k]), [k], [c])
        store.remember([c])
    for a, b in zip(together, one_by_one):
        assert a.keys() == b.keys()
        assert all(same(a[band], b[band]) for band in a)
    assert ids(together[0]) == {}
    assert any(len(found) == 2 for found in together)


def test_of_batch_and_store_the_newer_is_taken(store):
    store.remember([companion(5, 61000.5)])
    batch = [companion(4, 61000.0), None, companion(6, 61001.0), companion(7, 61009.0, "g")]
    found = with_batch(store.fetch([key()]), [key()], batch)
    assert ids(found[0]) == {"r": 6}
    assert ids(with_batch(store.fetch([key(61000.7)]), [key(61000.7)], batch)[0]) == {"r": 5}


def test_no_store_gives_and_keeps_nothing():
    none = open_store()
    none.remember([companion()])
    assert none.fetch([key(), key()]) == [{}, {}]
    assert none.counters == dict.fromkeys(COUNTERS, 0)


def test_memory_expires_by_the_alerts_time_as_a_server_does_by_its_clock():
    kept = open_store("memory", expire_days=10)
    kept.remember([companion(1, 61000.0)])
    assert ids(kept.fetch([key(61010.0)])[0]) == {"r": 1}
    assert ids(kept.fetch([key(61010.5)])[0]) == {}
    assert kept.counters["expired"] == 1


def test_memory_is_bounded_and_gives_up_what_was_written_longest_ago():
    size = len(encode(companion()))
    kept = open_store("memory", max_bytes=3 * size + 10)
    for i in range(4):
        kept.remember([companion(i, object_id=str(i))])
    kept.remember([companion(9, 61005.0, object_id="1")])
    kept.remember([companion(10, object_id="10")])
    found = kept.fetch([key(object_id=str(i)) for i in (0, 1, 2, 3, 10)])
    assert [ids(f).get("r") for f in found] == [None, 9, None, 3, 10]
    assert kept.counters["evicted"] == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"store": "mongo"}, "companions.store 'mongo', expected"),
        ({"store": "redis"}, "companions.url is empty"),
        ({"store": "redis", "url": "http://secret@here"}, "companions.url: expected redis://"),
        ({"store": "memory", "expire_days": 0}, "companions.expire_days 0, expected"),
    ],
)
def test_a_store_that_makes_no_sense_is_a_configuration_error(options, why):
    with pytest.raises(ConfigError, match=why) as caught:
        open_store(**options)
    assert "secret" not in str(caught.value)


# --- a server that fails ---------------------------------------------------------------------------------------------------


class Clock:
    """A clock that moves when told, in place of `time.monotonic`."""

    now = 1000.0

    def __call__(self):
        return self.now


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_server_that_is_not_there_costs_companions_and_one_try_per_pause():
    clock = Clock()
    store = open_store("redis", url=f"redis://:hunter2@127.0.0.1:{free_port()}/0", clock=clock)
    start = time.perf_counter()
    for _ in range(100):
        assert store.fetch([key(), key()]) == [{}, {}]
        store.remember([companion()])
    assert time.perf_counter() - start < 1.0
    assert store.is_down
    counters = dict(store.counters)
    assert counters["failed_reads"] == 1
    assert counters["skipped"] == 2 * 99
    assert counters["skipped_writes"] == 100
    # the pause doubles: 1 s, 2 s, 4 s ... at most a minute
    tries = []
    for _ in range(200):
        clock.now += 1.0
        before = store.counters["failed_reads"]
        store.fetch([key()])
        tries += [clock.now] * (store.counters["failed_reads"] - before)
    assert [round(b - a) for a, b in zip(tries, tries[1:])][:5] == [2, 4, 8, 16, 32]
    assert max(b - a for a, b in zip(tries, tries[1:])) <= 60.0


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1\r\n$abc\r\n", b"\x00\xff\x00\xff\r\n", b""])
def test_a_server_that_speaks_another_protocol_costs_companions_alone(answer):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        store = open_store("redis", url=f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        assert store.fetch([key()]) == [{}]
        assert store.counters["failed_reads"] == 1
        store.close()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_a_server_that_sends_a_byte_now_and_then_costs_the_deadline():
    listener = socket.create_server(("127.0.0.1", 0))
    closed = threading.Event()

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            try:
                for byte in b"*5\r\n" + b"$1000\r\n" + b"x" * 1000:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.02)
            except OSError:
                closed.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    store = open_store("redis", url=f"redis://127.0.0.1:{listener.getsockname()[1]}/0", timeout_s=0.1, deadline_s=0.3)
    start = time.perf_counter()
    assert store.fetch([key()]) == [{}]
    assert time.perf_counter() - start < 0.8
    assert store.counters["slow_reads"] == 1
    assert store.is_down
    assert closed.wait(5)  # the connection is given up, so nothing waits for the rest
    store.close()
    listener.close()


@pytest.fixture
def start_server(tmp_path):
    if SERVER is None:
        pytest.skip("no redis-server on PATH or in DGL_REDIS_SERVER")
    servers = []

    def start(*options):
        servers.append(Server(tmp_path, *options))
        return servers[-1]

    yield start
    for one in servers:
        one.stop()


@pytest.fixture
def server(start_server):
    return start_server()


@pytest.mark.redis
def test_entries_expire_by_the_servers_own_ttl(server):
    store = open_store("redis", url=server.url, expire_days=2, timeout_s=2.0)
    store.remember([companion()])
    (name,) = server.client().keys()
    assert name == b"dgl:1:lsst:313:r"
    assert 2 * 86400 - 60 <= server.client().ttl(name) <= 2 * 86400
    store.close()


@pytest.mark.redis
def test_two_workers_share_what_they_keep(server):
    one, two = (open_store("redis", url=server.url, timeout_s=2.0) for _ in range(2))
    one.remember([companion()])
    assert ids(two.fetch([key()])[0]) == {"r": 1}
    one.close(), two.close()


@pytest.mark.redis
def test_a_batch_is_read_in_one_round_trip(server):
    store = open_store("redis", url=server.url, timeout_s=2.0)
    store.fetch([key()])
    client = server.client()
    client.config_resetstat()
    store.fetch([key(object_id=str(i)) for i in range(256)])
    stats = client.info("commandstats")
    calls = {name: s["calls"] for name, s in stats.items() if name not in ("cmdstat_config|resetstat", "cmdstat_info")}
    assert calls == {"cmdstat_mget": 1}
    store.close()


@pytest.mark.redis
def test_a_server_that_is_killed_costs_companions_and_is_used_again_when_it_is_back(server):
    clock = Clock()
    store = open_store("redis", url=server.url, timeout_s=2.0, deadline_s=5.0, clock=clock)
    store.remember([companion()])
    assert ids(store.fetch([key()])[0]) == {"r": 1}
    server.stop()
    assert store.fetch([key()]) == [{}]
    assert store.fetch([key()]) == [{}]
    store.remember([companion(2, 61001.0)])
    counters = dict(store.counters)
    assert (counters["failed_reads"], counters["skipped"], counters["skipped_writes"]) == (1, 1, 1)
    server.start()
    clock.now += 1.1
    store.fetch([key()])
    store.remember([companion(3, 61002.0)])
    assert ids(store.fetch([key()])[0]) == {"r": 3}
    assert not store.is_down
    store.close()


@pytest.mark.redis
def test_a_server_killed_between_reading_and_writing_costs_the_write(server):
    store = open_store("redis", url=server.url)
    store.fetch([key()])
    server.stop()
    store.remember([companion()])
    assert store.counters["failed_writes"] == 1
    store.remember([companion()])
    assert store.counters["skipped_writes"] == 1
    store.close()


@pytest.mark.redis
def test_a_server_that_sleeps_costs_one_timeout(server):
    store = open_store("redis", url=server.url, timeout_s=0.1)
    store.remember([companion()])
    sleeper = threading.Thread(target=lambda: server.client().execute_command("DEBUG", "SLEEP", "1.0"))
    sleeper.start()
    time.sleep(0.2)  # until it sleeps
    start = time.perf_counter()
    for _ in range(50):
        assert store.fetch([key()]) == [{}]
        store.remember([companion(2, 61001.0)])
    assert time.perf_counter() - start < 0.6
    assert store.counters["slow_reads"] + store.counters["failed_reads"] == 1
    sleeper.join()
    store.close()


@pytest.mark.redis
def test_a_server_that_is_stopped_costs_one_timeout_and_never_gives_an_answer_to_another_question(server):
    clock = Clock()
    store = open_store("redis", url=server.url, timeout_s=0.1, clock=clock)
    store.remember([companion(1, object_id="a"), companion(2, object_id="b")])
    server.process.send_signal(signal.SIGSTOP)
    assert store.fetch([key(object_id="a")]) == [{}]
    server.process.send_signal(signal.SIGCONT)
    clock.now += 1.1
    # the late answer to the first question must not be taken for the second's
    assert ids(store.fetch([key(object_id="b")])[0]) == {"r": 2}
    assert store.counters["corrupt"] == 0
    store.close()


@pytest.mark.redis
def test_a_full_server_keeps_giving_what_it_has(start_server):
    server = start_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    store = open_store("redis", url=server.url, timeout_s=2.0, deadline_s=5.0)
    for start in range(0, 2000, 100):
        store.remember([companion(i, object_id=str(i)) for i in range(start, start + 100)])
    counters = dict(store.counters)
    assert counters["full"] > 0
    assert counters["skipped_writes"] > 0
    assert counters["failed_writes"] == 0
    assert counters["written"] + counters["full"] + counters["skipped_writes"] == 2000
    assert ids(store.fetch([key(object_id="0")])[0]) == {"r": 0}
    store.close()


@pytest.mark.redis
def test_a_full_server_that_evicts_takes_new_ones(start_server):
    server = start_server("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru")
    store = open_store("redis", url=server.url, timeout_s=2.0, deadline_s=5.0)
    for start in range(0, 1000, 100):
        store.remember([companion(i, object_id=str(i)) for i in range(start, start + 100)])
    assert store.counters["written"] == 1000
    assert ids(store.fetch([key(object_id="999")])[0]) == {"r": 999}
    store.close()


@pytest.mark.redis
@pytest.mark.parametrize("foreign", [b"", b"hello", b"\x00" * 5000, b"DGLC" + b"\xff" * 200])
def test_foreign_data_under_our_key_costs_a_companion_and_is_written_over(server, foreign):
    store = open_store("redis", url=server.url, timeout_s=2.0)
    store.remember([companion(2, band="i")])
    server.client().set("dgl:1:lsst:313:r", foreign)
    assert ids(store.fetch([key()])[0]) == {"i": 2}
    assert store.counters["corrupt"] == 1
    store.remember([companion()])
    assert ids(store.fetch([key()])[0]) == {"i": 2, "r": 1}
    store.close()


@pytest.mark.redis
def test_a_foreign_type_under_our_key_costs_a_companion_and_is_written_over(server):
    store = open_store("redis", url=server.url, timeout_s=2.0)
    server.client().lpush("dgl:1:lsst:313:r", "a", "b")
    assert store.fetch([key()]) == [{}]
    store.remember([companion()])
    assert ids(store.fetch([key()])[0]) == {"r": 1}
    store.close()


@pytest.mark.redis
def test_another_objects_entry_under_our_key_is_not_given(server):
    store = open_store("redis", url=server.url, timeout_s=2.0)
    server.client().set("dgl:1:lsst:313:r", encode(companion(object_id="314")))
    assert store.fetch([key()]) == [{}]
    assert store.counters["corrupt"] == 1
    store.close()


@pytest.mark.redis
def test_a_server_that_asks_for_a_password_costs_companions_and_tells_none(start_server, caplog):
    server = start_server()
    server.client().config_set("requirepass", "other")
    store = open_store("redis", url=server.url.replace("redis://", "redis://:hunter2@"))
    assert store.fetch([key()]) == [{}]
    assert store.counters["failed_reads"] == 1
    assert "hunter2" not in caplog.text
    store.close()


@pytest.mark.redis
def test_a_unix_socket_serves_as_well(start_server, tmp_path):
    start_server("--unixsocket", str(tmp_path / "r.sock"))
    store = open_store("redis", url=f"unix://{tmp_path / 'r.sock'}", timeout_s=2.0)
    store.remember([replace(companion(), template=None)])
    assert store.fetch([key()])[0]["r"].template is None
    store.close()
