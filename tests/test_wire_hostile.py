"""Messages that lie about sizes, schemas that are bombs, packets with bytes changed: an error, soon, in little memory."""

import io
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import fastavro
import pytest
from packets import (
    DATA,
    LSST_SCHEMA,
    ZTF_SCHEMA,
    Schemas,
    lsst_forced,
    lsst_message,
    lsst_record,
    record,
    ztf_message,
    ztf_record,
)

from dgl_broker.errors import PacketError
from dgl_broker.surveys import read_alert, read_head
from dgl_broker.wire import DEFAULT, FolderSchemas, Limits, decode, decode_all, encode_container, open_message
from dgl_broker.wire.schema_tree import self_contained

SYNC = bytes(range(16))


def long(value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


def container(schema, content, count=1):
    """A container of any schema, legal or not, with any bytes for content."""
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    header = b"Obj\x01" + long(1) + long(11) + b"avro.schema" + long(len(text)) + text + long(0) + SYNC
    return header + long(count) + long(len(content)) + content + SYNC


def failure(message, **options):
    start = time.perf_counter()
    with pytest.raises(PacketError) as caught:
        decode(message, **options)
    assert time.perf_counter() - start < 30  # generous: what it guards against takes years
    return caught.value


def array(items):
    return {"type": "array", "items": items}


EMPTY = {"type": "record", "name": "nothing", "fields": []}
MANY_NULLS = record("nulls", kept="boolean", **{f"n{i}": "null" for i in range(500)})


@pytest.mark.parametrize("items", ["null", EMPTY, MANY_NULLS, {"type": "fixed", "name": "f", "size": 0}, record("r", a="null")])
def test_arrays_of_items_that_take_no_bytes_are_refused_before_any_is_read(items):
    schema = record("alert", candidate="long", extra=array(items))
    error = failure(container(schema, long(0) + long(2**61)))
    assert error.reason == "bad_schema"
    assert "fewer bytes than it takes work" in error.detail


@pytest.mark.parametrize("items", ["boolean", ["null", "double"], ["null", record("r", a="int", b=["null", "string"])]])
def test_ordinary_arrays_are_not_refused(items):
    self_contained(record("alert", rows=["null", array(items)]), DEFAULT)


FIXED = {"type": "fixed", "name": "f", "size": 4}


@pytest.mark.parametrize(
    "items",
    ["boolean", "float", "double", "int", "string", FIXED, record("r", a="double"), array("double"), ["null", "int"]],
)
@pytest.mark.parametrize("count", [2**61, 2**40, -(2**61)])
def test_declared_counts_are_not_believed(items, count):
    schema = {**ZTF_SCHEMA, "fields": [{"name": "extra", "type": array(items)}, *ZTF_SCHEMA["fields"]]}
    assert failure(container(schema, long(count) + (long(8) if count < 0 else b""))).reason == "undecodable"


@pytest.mark.parametrize("kind", ["string", "bytes", {"type": "map", "values": "int"}])
def test_declared_lengths_are_not_believed(kind):
    schema = {**ZTF_SCHEMA, "fields": [{"name": "extra", "type": kind}, *ZTF_SCHEMA["fields"]]}
    for length in (2**62, 2**31, -1, -(2**62)):
        assert failure(container(schema, long(length) * 2 + b"abc")).reason == "undecodable"


def test_type_that_contains_itself_is_refused():
    knot = {"type": "record", "name": "knot", "fields": [{"name": "next", "type": ["null", "knot"]}]}
    assert "contains itself" in failure(container(record("alert", candidate=knot), b"\x00")).detail


def test_type_that_doubles_at_each_level_is_refused():
    inner = record("t0", a="null")
    for n in range(1, 40):
        inner = {
            "type": "record",
            "name": f"t{n}",
            "fields": [{"name": "a", "type": inner}, {"name": "b", "type": f"t{n - 1}"}],
        }
    assert failure(container(record("alert", candidate=inner), b"")).reason == "bad_schema"
    wide = record("t0", **{f"a{i}": "null" for i in range(200)})
    fields = [{"name": "f0", "type": wide}, *({"name": f"f{i}", "type": "t0"} for i in range(1, 200))]
    error = failure(container({"type": "record", "name": "alert", "fields": fields}, b""))
    assert error.detail == "schema of more than 10000 fields or 24 levels"


@pytest.mark.parametrize(
    "schema",
    [
        b"[" * 100_000,
        b'{"type":' * 50_000,
        b"{",
        b"\xff\xfe",
        b"null",
        b"42",
        b'["record"]',
        b'{"type": "record"}',
        b'{"type": "record", "name": "a"}',
        b'{"type": "record", "name": "a", "fields": {}}',
        b'{"type": "record", "name": "a", "fields": [7]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "candidate"}]}',
        b'{"type": "record", "name": 7, "fields": []}',
        b'{"type": "record", "name": "a", "fields": [{"name": "x", "type": 3}]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "x", "type": []}]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "x", "type": "nowhere.to.be.found"}]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "x", "type": {"type": "enum", "name": "e"}}]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "x", "type": {"type": "fixed", "name": "f", "size": -1}}]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "x", "type": {"type": "fixed", "name": "f", "size": 1e9}}]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "x", "type": {"type": "array"}}]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "x", "type": "int"}, {"name": "x", "type": "int"}]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "x", "type": {"type": "record", "name": "a", "fields": []}}]}',
    ],
)
def test_schema_that_is_none_is_an_error(schema):
    assert failure(container(schema, b"")).reason == "bad_schema"


def test_schema_of_a_megabyte_is_refused():
    schema = {**ZTF_SCHEMA, "doc": "x" * 1_000_000}
    assert failure(container(schema, b"")).detail.startswith("schema of 10")


def test_odd_but_legal_schemas_are_read():
    odd = json.loads(json.dumps(ZTF_SCHEMA))
    odd["fields"].insert(0, {"name": "2MASS name", "type": {"type": "map", "values": "string"}})  # Fink has 2MASS_name
    odd["fields"].insert(0, {"name": "when", "type": {"type": "long", "logicalType": "timestamp-micros"}})
    odd["fields"].insert(0, {"name": "level", "type": "int", "default": None})  # illegal default: TURBO has such
    odd["name"] = "topLevelRecord.value"
    body = io.BytesIO()
    fastavro.schemaless_writer(body, ZTF_SCHEMA, ztf_record())
    message = container(odd, long(3) + long(2**62) + long(0) + body.getvalue())  # a time that no calendar has
    assert read_alert(decode(message)).alert_id == 2**61 + 1


def test_histories_that_the_writer_knows_as_null_alone_are_empty():
    bare = json.loads(json.dumps(LSST_SCHEMA))
    for field in bare["fields"]:
        if field["name"] in ("prvDiaSources", "prvDiaForcedSources", "diaObject", "cutoutScience"):
            field["type"] = "null"
    record_ = lsst_record() | dict.fromkeys(("prvDiaSources", "prvDiaForcedSources", "diaObject", "cutoutScience"))
    alert = read_alert(decode(encode_container(bare, record_)))
    assert (len(alert.light_curve), alert.n_detections) == (1, 1)


def test_rows_of_a_history_are_limited():
    rows = [lsst_forced(-i, i) for i in range(60)]
    message = lsst_message(lsst_record(forced=rows))
    assert len(decode(message, None, Schemas()).record["prvDiaForcedSources"]) == 60
    error = failure(message, schemas=Schemas(), limits=Limits(rows=59))
    assert error.reason == "too_large"
    assert error.detail == "lsst schema 1000 (lsst.v10_0.alert): prvDiaForcedSources of 60 rows, at most 59"


def test_text_is_limited_and_never_shown_whole():
    error = failure(ztf_message(ztf_record(top={"objectId": "x" * 100_000})))
    assert error.reason == "too_large"
    with pytest.raises(PacketError) as caught:
        read_alert(decode(ztf_message(ztf_record(isdiffpos="y" * 4000))))
    assert len(str(caught.value)) < 200


MEMORY_TEST = """
import io, json, resource, sys
import fastavro
sys.path.insert(0, {tests!r})
from test_wire_hostile import container, long
from packets import ZTF_SCHEMA, ztf_record
from dgl_broker.errors import PacketError
from dgl_broker.wire import Limits, decode, decode_all
patient = Limits(seconds=600.0)
schema = json.loads(json.dumps(ZTF_SCHEMA))
row = next(f for f in schema["fields"] if f["name"] == "prv_candidates")["type"][1]["items"]
row["fields"] = [{{"name": f["name"], "type": ["null", "double"] if f["name"] != "isdiffpos" else ["null", "string"]}}
                 for f in row["fields"] if f["name"] in ("jd", "fid", "magpsf", "sigmapsf", "isdiffpos", "diffmaglim")]
schema["fields"] = [f for f in schema["fields"] if f["name"] == "prv_candidates"] + [
    f for f in schema["fields"] if f["name"] != "prv_candidates"]
n = 3_000_000 // 6
rest = io.BytesIO()
fastavro.schemaless_writer(rest, {{**schema, "fields": schema["fields"][1:]}}, ztf_record())
message = container(schema, long(1) + long(n) + b"\\0" * (6 * n) + b"\\0" + rest.getvalue())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in (lambda: decode(message, limits=patient), lambda: next(decode_all(message, limits=patient))[0]):
    try:
        error = read()
    except PacketError as raised:
        error = raised
    assert error.reason == "too_large", error
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_megabytes_of_rows_of_nulls_take_little_memory():
    program = MEMORY_TEST.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150  # MiB: 72 measured, 272 where all rows are kept before they are counted


def packets_of_all_kinds():
    official = pytest.importorskip("lsst.alert.packet", reason="needs lsst-alert-packet for Rubin's own schemas")
    schemas = FolderSchemas(Path(official.__file__).parent / "schema")
    for name in ("2752190655615010046.avro", "fink-broker-sample-alert-2.avro", "169813006129561698.avro"):
        yield (DATA / name).read_bytes(), schemas
    yield ztf_message(), None
    yield lsst_message(), Schemas(id1000=LSST_SCHEMA)
    yield encode_container(ZTF_SCHEMA, ztf_record(), codec="snappy"), None


def test_no_other_exception_leaves_whatever_bytes_are_changed():
    rng = random.Random(20260301)
    seen = set()
    for data, schemas in packets_of_all_kinds():
        for _ in range(150):
            damaged = bytearray(data)
            for _ in range(rng.choice((1, 1, 3, 30))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            if rng.random() < 0.2:
                del damaged[rng.randrange(len(damaged)) :]
            try:
                opened = open_message(bytes(damaged), None, schemas)
                read_head(opened)
                alert = read_alert(opened.packet())
                assert len(alert.light_curve) >= 1
            except PacketError as error:
                seen.add(error.reason)
                assert len(str(error)) < 500
            list(decode_all(bytes(damaged)))
    assert {"truncated", "undecodable", "bad_schema"} <= seen
