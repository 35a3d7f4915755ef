import io
import json
from pathlib import Path

import fastavro
import pytest
from packets import DATA, LSST_SCHEMA, Schemas, lsst_message, lsst_record, null, ztf_message, ztf_record

from dgl_broker.alert import Message
from dgl_broker.errors import PacketError
from dgl_broker.wire import FolderSchemas, Limits, decode, encode_confluent, open_message


def failure(message, *args, **options):
    with pytest.raises(PacketError) as caught:
        decode(message, *args, **options)
    return caught.value


def without(schema, *path):
    """A copy of a schema that lacks one field."""
    schema = json.loads(json.dumps(schema))
    at = schema
    for name in path[:-1]:
        at = next(f["type"] for f in at["fields"] if f["name"] == name)
        at = at[1] if isinstance(at, list) else at
        at = at["items"] if at.get("type") == "array" else at
    at["fields"] = [f for f in at["fields"] if f["name"] != path[-1]]
    return schema


def renamed(schema, old, new):
    return json.loads(json.dumps(schema).replace(json.dumps(old), json.dumps(new)))


def test_schema_id_is_big_endian():
    schemas = Schemas()
    message = lsst_message()
    assert message[:5] == bytes([0, 0, 0, 0x03, 0xE8])
    assert decode(message, "lsst", schemas).record["diaSourceId"] == 2**60 + 1
    assert schemas.asked == [1000]


def test_real_message_of_schema_900_begins_as_measured():
    assert (DATA / "7912941781254298.avro").read_bytes()[:5] == bytes.fromhex("0000000384")  # reference/alerts.md section 3


def test_encoded_frame_is_read_again():
    record = lsst_record()
    assert encode_confluent(LSST_SCHEMA, 900001, record)[:5] == bytes.fromhex("00000dbba1")
    assert decode(encode_confluent(LSST_SCHEMA, 1000, record), None, Schemas()).record["diaSource"]["visit"] == 100


def test_each_way_not_to_be_a_packet_has_its_reason():
    schemas = Schemas()
    assert failure(b"").reason == "empty"
    assert failure(None).reason == "empty"
    assert failure(b"\x00\x00\x03", None, schemas).reason == "truncated"
    assert failure(lsst_message(number=1200), None, schemas).reason == "unknown_schema"
    assert failure(lsst_message()).reason == "unknown_schema"
    assert failure(b'{"objectId": 1}', None, schemas).reason == "unknown_framing"
    assert failure(lsst_message() + b"\x00", None, schemas).reason == "trailing_bytes"
    assert failure(lsst_message()[:-1], None, schemas).reason == "undecodable"
    assert failure(lsst_message(), "ztf", schemas).reason == "wrong_survey"
    assert failure(ztf_message(), "lsst").reason == "wrong_survey"
    assert failure(lsst_message(), None, schemas, Limits(message_bytes=100)).reason == "too_large"


def test_error_says_what_was_found_and_needed():
    assert failure(b"PK\x03\x04....", None, None).detail == (
        "begins with 50 4b 03 04 2e 2e 2e 2e, expected an Avro container (4f 62 6a 01) or a frame (00)"
    )


def test_message_cut_anywhere_is_an_error():
    schemas, message = Schemas(), lsst_message(lsst_record(top={"cutoutScience": None}))
    for length in range(len(message)):
        assert failure(message[:length], None, schemas).reason in ("empty", "truncated", "undecodable")


@pytest.mark.parametrize(
    "path",
    [
        ("diaSource", "band"),
        ("diaSource", "ssObjectId"),
        ("prvDiaForcedSources", "visit"),
        ("prvDiaForcedSources",),
        ("diaObject", "diaObjectId"),
    ],
)
def test_newer_schema_without_a_needed_field_is_an_error_with_its_name(path):
    schema = without(LSST_SCHEMA, *path)
    error = failure(b"\x00\x00\x00\x04\xb0", None, Schemas(id1200=schema))
    assert error.reason == "missing_field"
    assert error.detail == f"lsst schema 1200 (lsst.v10_0.alert): no field {'.'.join(path)}"


def test_newer_schema_with_everything_needed_is_read():
    newer = renamed(without(LSST_SCHEMA, "diaSource", "reliability"), "observation_reason", "reason_of_observation")
    newer["fields"].insert(1, {"name": "novelty", "type": {"type": "map", "values": "double"}})
    newer["namespace"] = "lsst.v12_3"
    record = lsst_record() | {"novelty": {"a": 1.0}, "reason_of_observation": "x"}
    packet = decode(encode_confluent(newer, 1203, record), "lsst", Schemas(id1203=newer))
    assert packet.schema == "lsst 12.3"
    assert packet.record["diaSource"]["psfFlux"] == 1000.0
    assert "reliability" not in packet.record["diaSource"]
    assert "novelty" not in packet.record


def test_field_of_another_kind_is_an_error_with_its_name():
    schema = json.loads(json.dumps(LSST_SCHEMA))
    source = next(f["type"] for f in schema["fields"] if f["name"] == "diaSource")
    next(f for f in source["fields"] if f["name"] == "ra")["type"] = "string"
    error = failure(b"\x00\x00\x00\x04\xb0", None, Schemas(id1200=schema))
    assert (error.reason, error.detail) == (
        "wrong_type",
        "lsst schema 1200 (lsst.v10_0.alert): diaSource.ra is string, expected number",
    )


def test_schema_that_is_no_alert_names_what_it_lacks():
    schema = {"type": "record", "name": "report", "fields": [{"name": "object", "type": "long"}]}
    error = failure(b"\x00\x00\x00\x04\xb0", None, Schemas(id1200=schema))
    assert error.detail == "unknown schema 1200 (report): no field diaSource (lsst) or candidate (ztf)"


def test_ztf_content_may_come_framed_and_lsst_content_in_a_container():
    from packets import ZTF_SCHEMA

    framed = encode_confluent(ZTF_SCHEMA, 7, ztf_record())
    assert decode(framed, None, Schemas(id7=ZTF_SCHEMA)).schema == "ztf 4.02"
    from dgl_broker.wire import encode_container

    assert decode(encode_container(LSST_SCHEMA, lsst_record()), "lsst").schema == "lsst 10.0"


def test_fink_sends_the_schema_as_the_messages_key():
    value = lsst_message()[5:]
    key = json.dumps(LSST_SCHEMA).encode()
    assert decode(value, "lsst", key=key).record == decode(lsst_message(), None, Schemas()).record
    assert decode(Message(value, key=key), "lsst").record["diaSourceId"] == 2**60 + 1
    assert decode(Message(lsst_message(), key=b"2**60"), "lsst", Schemas()).record["diaSourceId"] == 2**60 + 1


def test_message_that_an_archive_has_decoded_is_taken_as_it_is():
    packet = decode(lsst_message(), None, Schemas())
    assert decode(Message(b"", packet=packet)) is packet
    assert open_message(Message(b"", packet=packet)).leading() == packet.record
    with pytest.raises(PacketError, match="wrong_survey"):
        decode(Message(b"", packet=packet), "ztf")
    with pytest.raises(PacketError, match="sync_marker: block"):
        decode(Message(b"", packet=PacketError("sync_marker", "block")))


def test_whole_record_has_fields_that_are_not_read():
    opened = open_message(lsst_message(), None, Schemas())
    assert "observation_reason" not in opened.record()
    assert opened.whole()["observation_reason"] == "science"


def official_schemas():
    package = pytest.importorskip("lsst.alert.packet", reason="needs lsst-alert-packet for Rubin's own schemas")
    return FolderSchemas(Path(package.__file__).parent / "schema")


def test_v10_is_read_by_its_id_and_not_by_another_versions_schema():
    schemas = official_schemas()
    data = (DATA / "169813006129561698.avro").read_bytes()
    packet = decode(data, "lsst", schemas)
    assert (packet.schema, packet.record["diaSourceId"]) == ("lsst 10.0", 169813006129561698)
    for other in (1100, 1101):  # ten fields became non-null: the bytes do not fit
        error = failure(b"\x00" + other.to_bytes(4, "big") + data[5:], "lsst", schemas)
        assert error.reason in ("undecodable", "trailing_bytes")


@pytest.mark.parametrize("number", [1100, 1101])
def test_v10_written_anew_as_v11_gives_the_same_packet(number):
    schemas = official_schemas()
    data = (DATA / "169813006129561698.avro").read_bytes()
    whole = open_message(data, "lsst", schemas).whole()
    package = pytest.importorskip("lsst.alert.packet")
    official = package.Schema.from_file(package.get_schema_path(number // 100, number % 100) + "/" + schema_file(number))
    for source in [whole["diaSource"], *(whole["prvDiaSources"] or [])]:
        fill_integers(source, official.definition, "diaSource")
    fill_integers(whole["diaObject"], official.definition, "diaObject")
    body = io.BytesIO()
    fastavro.schemaless_writer(body, official.definition, whole)
    again = decode(b"\x00" + number.to_bytes(4, "big") + body.getvalue(), "lsst", schemas)
    assert again.schema == f"lsst 11.{number % 100}"
    before = decode(data, "lsst", schemas).record
    assert again.record["diaSource"] == before["diaSource"]
    assert again.record["diaObject"] == before["diaObject"]
    assert again.record["cutoutTemplate"] == before["cutoutTemplate"]


def schema_file(number):
    return f"lsst.v{number // 100}_{number % 100}.alert.avsc"


def fill_integers(row, definition, name):
    """Zero for the integers that schema 11 wants and that v10 may leave null (psfNdata and the like)."""
    fields = next(s["fields"] for full, s in definition["__named_schemas"].items() if full.endswith(f".{name}"))
    for field in fields:
        if field["type"] in ("int", "long") and row.get(field["name"]) is None:
            row[field["name"]] = 0
        elif field["type"] == "float" and row.get(field["name"]) is None:
            row[field["name"]] = float("nan")


def test_union_order_does_not_matter():
    schema = json.loads(json.dumps(LSST_SCHEMA).replace('["null", "float"]', '["float", "null"]'))
    record = lsst_record(psfFlux=-3.5, reliability=None)
    assert null("float") == ["null", "float"]
    packet = decode(encode_confluent(schema, 1000, record), None, Schemas(id1000=schema))
    assert packet.record["diaSource"]["psfFlux"] == -3.5
    assert packet.record["diaSource"]["reliability"] is None
