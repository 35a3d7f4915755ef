"""A limit on everything that a packet can be large in, and on the time that it takes: reached soon, in little memory."""

import subprocess
import sys
import time

import packets as made
import pytest
from fuzz.forms import SCHEMA, block, container, packet, payload
from fuzz.seeds import Schemas, lsst_record, lsst_stamp, seeds, ztf_record

from dgl_broker.errors import ConfigError, PacketError
from dgl_broker.settings import load_settings
from dgl_broker.stamps import MAX_INFLATED
from dgl_broker.stream.worker import make_scorer
from dgl_broker.surveys.avro_parts import long_of
from dgl_broker.wire import DEFAULT, Limits, decode, decode_all, open_message
from dgl_broker.wire.codecs import compress
from dgl_broker.wire.writer_schema import SLOWEST_BYTES_PER_S


def failure(value, **limits):
    """(PacketError, seconds of CPU) of a message."""
    start = time.process_time()
    with pytest.raises(PacketError) as caught:
        decode(value, limits=Limits(**limits))
    return caught.value, time.process_time() - start


def with_array(items, item, count, codec="null"):
    """A ZTF packet that has an array of `count` items which nobody asks for before all else."""
    extra = {"name": "extra", "type": {"type": "array", "items": items}}
    schema = {**SCHEMA["ztf"], "fields": [extra, *SCHEMA["ztf"]["fields"]]}
    content = long_of(count) + item * count + b"\0" + payload("ztf", ztf_record())
    return container(schema, [(1, compress(codec, content))], codec.encode())


NULLS = made.record("q", a="int", **{f"n{i}": "null" for i in range(6)})
FIXED = made.record("q", a="boolean", **{f"n{i}": "null" for i in range(6)})


@pytest.mark.parametrize(
    "items", ["boolean", "int", "string", ["null", "int"], {"type": "array", "items": "int"}, NULLS, FIXED]
)
@pytest.mark.parametrize("codec", ["null", "deflate"])
@pytest.mark.usefixtures("python_decoder")  # the compiled one takes 30 ms for the longest message that there may be
def test_decoding_ends_when_its_seconds_are_used_up(items, codec):
    value = with_array(items, b"\0", 4_000_000, codec)
    error, seconds = failure(value, seconds=0.1)
    assert error.reason == "too_slow"
    assert error.detail == "message that takes more than 0.1 s to decode"
    assert seconds < 1.0  # 0.1 to 0.15 measured; 0.5 to 5 where nothing looks at the clock
    first, _ = next(decode_all(value, limits=Limits(seconds=0.1)))
    assert isinstance(first, PacketError) and first.reason == "too_slow"


def test_seconds_are_not_those_of_the_clock_on_the_wall():
    # Twice the allowance passes on the wall before the packet is read, as on a busy machine: it is read all the same.
    opened = open_message(seeds()[0].value, None, Schemas(), Limits(seconds=0.05))
    done = subprocess.run([sys.executable, "-c", "import time; time.sleep(0.1)"], check=True)
    assert done.returncode == 0 and opened.packet().survey == "lsst"


def test_sane_packets_are_far_from_every_limit():
    for seed in seeds():
        assert len(seed.value) < DEFAULT.message_bytes / 20
        assert len(seed.value) < DEFAULT.seconds * SLOWEST_BYTES_PER_S / 5  # decoded without a look at the clock


def test_a_million_blocks_end_when_their_seconds_are_used_up():
    value = container(SCHEMA["ztf"], []) + block(0, b"") * 400_000
    error, seconds = failure(value, seconds=0.05)
    assert error.reason == "too_slow" and seconds < 0.5
    error, _ = failure(container(SCHEMA["ztf"], []) + block(0, b"") * 1000)
    assert error.reason == "no_record"


@pytest.mark.parametrize("count", [0, 2, 1_000_000])
def test_a_message_of_none_two_or_a_million_alerts_is_a_dead_letter(count):
    one = payload("ztf", ztf_record())
    error, seconds = failure(container(SCHEMA["ztf"], [(count, one * min(count, 2))]))
    assert error.reason == ("many_records" if count else "no_record")
    assert seconds < 0.5


def test_enum_that_is_used_by_thousands_of_fields_is_refused_before_its_symbols_are_looked_at():
    # 200 kB that took six seconds, and half a megabyte a minute: each use looks at all the symbols.
    enum = {"type": "enum", "name": "E", "symbols": [f"s{n}" for n in range(5000)]}
    fields = [{"name": "e0", "type": enum}, *({"name": f"e{n}", "type": "E"} for n in range(1, 4000))]
    schema = {**SCHEMA["ztf"], "fields": [*fields, *SCHEMA["ztf"]["fields"]]}
    error, seconds = failure(container(schema, [(1, bytes(4000) + payload("ztf", ztf_record()))]))
    assert error.reason == "bad_schema" and seconds < 0.5


@pytest.mark.parametrize("codec", ["deflate", "snappy", "zstandard"])
def test_inflated_bytes_have_a_limit_of_their_own(codec):
    value = packet("ztf", ztf_record(publisher="x" * 200_000), codec)
    assert len(value) < 50_000
    assert decode(value, limits=Limits(message_bytes=50_000)).survey == "ztf"
    error, _ = failure(value, message_bytes=50_000, inflated_bytes=100_000)
    assert (error.reason, error.detail) == ("too_large", "block of more than 100000 bytes once inflated")


@pytest.mark.parametrize("top", ["record", "enum", ["x" * 90_000] * 3, {"type": "x" * 90_000}, "x" * 90_000])
def test_errors_quote_no_more_of_a_schema_than_can_be_read(top):
    for schema in (
        {"type": top, "fields": "y" * 90_000},
        {"type": top, "name": "z" * 90_000},
        [top],
        {**SCHEMA["ztf"], "type": top},
    ):
        try:
            decode(container(schema, [(1, payload("ztf", ztf_record()))]))
        except PacketError as error:
            assert len(str(error)) < 400


def test_rows_are_limited_in_every_history():
    for survey, record, name in (
        ("lsst", lsst_record(30, 0), "prvDiaSources"),
        ("lsst", lsst_record(0, 30), "prvDiaForcedSources"),
        ("ztf", ztf_record(30, 0), "prv_candidates"),
        ("ztf", ztf_record(0, 30), "fp_hists"),
    ):
        value = container(SCHEMA[survey], [(1, payload(survey, record))])
        assert decode(value, limits=Limits(rows=31)).survey == survey
        error, _ = failure(value, rows=29)
        assert error.reason == "too_large" and name in error.detail


def test_limits_of_the_configuration_reach_the_decoder_and_the_stamps(tmp_path):
    path = tmp_path / "broker.yaml"
    text = "survey: lsst\nkafka: {bootstrap.servers: 'broker:9092'}\ninput: {topics: [alerts]}\nfilters: []\n"
    path.write_text(text)
    assert load_settings(path, {}).packet_limits == DEFAULT
    path.write_text(
        text + "limits: {message_bytes: 60000, rows: 39, stamp_bytes: 20000, seconds: 0.5, inflated_bytes: 50000}\n"
    )
    settings = load_settings(path, {})
    assert settings.packet_limits == Limits(60_000, 50_000, 20_000, 39, 0.5)
    found = make_scorer(settings, Schemas())
    large_stamp = lsst_record(0, 0, cutoutDifference=lsst_stamp() + bytes(20_000))
    records = (lsst_record(), lsst_record(0, 40), large_stamp, lsst_record(cutoutScience=bytes(60_000)))
    sane, rows, stamp, size = found.score([packet("lsst", record) for record in records])
    assert sane.status == "scored"
    assert (rows.status, rows.reason) == (size.status, size.reason) == ("dead_lettered", "too_large")
    assert "at most 39" in rows.error and "at most 60000" in size.error
    assert (stamp.status, stamp.reason) == ("refused", "bad_cutout") and "limit 20000" in stamp.error


@pytest.mark.parametrize("line", ["rows: 0", "seconds: .inf", "seconds: 0", "message_bytes: 8.5", "row: 5", "stamp_bytes: -1"])
def test_limits_that_make_no_sense_are_problems(tmp_path, line):
    path = tmp_path / "broker.yaml"
    path.write_text(
        f"survey: lsst\nkafka: {{bootstrap.servers: 'broker:9092'}}\ninput: {{topics: [alerts]}}\nlimits: {{{line}}}\n"
    )
    with pytest.raises(ConfigError, match=f"limits.{line.split(':')[0]}: found"):
        load_settings(path, {})


def test_default_of_the_stamp_reader_is_that_of_the_limits():
    assert DEFAULT.stamp_bytes == MAX_INFLATED
