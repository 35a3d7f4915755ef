import io
import zlib

import fastavro
import pytest
from packets import DATA, ZTF_SCHEMA, ztf_record

from dgl_broker.errors import PacketError
from dgl_broker.wire import DEFAULT, Limits, decode, decode_all, encode_container
from dgl_broker.wire.writer_schema import schema_from_json

pytestmark = pytest.mark.usefixtures("decoder")

SYNC = bytes(range(16))


def container(records, codec="null", sync_interval=1 << 30, schema=ZTF_SCHEMA, **options):
    """A container as fastavro, the reference implementation here, writes it (which lacks zstandard)."""
    if codec == "zstandard":
        return zstandard_container(records, schema)
    out = io.BytesIO()
    fastavro.writer(out, schema, records, codec=codec, sync_interval=sync_interval, sync_marker=SYNC, **options)
    return out.getvalue()


def zstandard_container(records, schema):
    import zstandard

    plain = container(records, "null", schema=schema)
    start = plain.index(SYNC) + 16
    body = io.BytesIO()
    for record in records:
        fastavro.schemaless_writer(body, schema, record)
    packed = zstandard.ZstdCompressor().compress(body.getvalue())
    header = plain[:start].replace(b"\x08null", b"\x12zstandard")
    return header + long(len(records)) + long(len(packed)) + packed + SYNC


def long(value):
    """A number of Avro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


def reason(message, **options):
    with pytest.raises(PacketError) as caught:
        decode(message, "ztf", **options)
    return caught.value.reason


def numbered(n):
    return [ztf_record(candid=2**61 + i) for i in range(n)]


def ids(found):
    return [packet.record["candidate"]["candid"] - 2**61 for packet, _ in found if not isinstance(packet, PacketError)]


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
def test_every_codec_gives_the_same_record(codec):
    assert decode(container([ztf_record()], codec)).record == decode(container([ztf_record()])).record


def test_deflate_without_zlibs_trailer_is_read_as_java_writes_it():
    plain = container([ztf_record()])
    start = plain.index(SYNC) + 16
    body = io.BytesIO()
    fastavro.schemaless_writer(body, ZTF_SCHEMA, ztf_record())
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(body.getvalue()) + packer.flush()
    header = plain[:start].replace(b"\x08null", b"\x0edeflate")
    assert decode(header + long(1) + long(len(packed)) + packed + SYNC).record["objectId"] == "ZTF23aaaaaaa"


def test_unknown_codec_is_named():
    message = container([ztf_record()], "deflate").replace(b"deflate", b"lzma-42")
    with pytest.raises(PacketError, match="'lzma-42', expected one of null, deflate, snappy, zstandard"):
        decode(message)


@pytest.mark.parametrize("codec", ["deflate", "snappy", "zstandard"])
def test_damaged_block_is_an_error_or_another_record_whatever_byte_changed(codec):
    message = container([ztf_record()], codec)
    start = message.index(SYNC) + 19  # behind the block's count and size
    whole = decode(message).record
    changed = 0
    for place in range(start, len(message) - 16):
        damaged = bytearray(message)
        damaged[place] ^= 0x55
        try:
            changed += decode(bytes(damaged)).record != whole
        except PacketError as error:
            changed += 1
            assert error.reason in ("undecodable", "too_large", "trailing_bytes", "bad_schema")
    assert changed > 0.7 * (len(message) - 16 - start)  # deflate and zstandard have bits that say nothing


@pytest.mark.parametrize("codec", ["deflate", "snappy", "zstandard"])
def test_inflated_size_is_limited(codec):
    bomb = ztf_record(top={"publisher": "x" * 5_000_000})
    message = container([bomb], codec)
    assert len(message) < 300_000
    assert reason(message, limits=Limits(inflated_bytes=1_000_000)) == "too_large"


@pytest.mark.parametrize("known_size", [True, False])
def test_zstandard_cut_short_is_not_taken_for_whole(known_size):
    import zstandard

    from dgl_broker.wire.codecs import inflate

    packer = zstandard.ZstdCompressor(write_content_size=known_size).compressobj()
    content = bytes(range(256)) * 4000
    packed = packer.compress(content) + packer.flush()
    assert inflate("zstandard", packed, 2_000_000) == content
    for cut in (1, 10, len(packed) // 2):
        with pytest.raises(PacketError):
            inflate("zstandard", packed[:-cut], 2_000_000)


def test_message_cut_anywhere_is_an_error_that_says_so():
    message = container([ztf_record()])
    for length in range(len(message)):
        assert reason(message[:length]) in ("truncated", "empty", "unknown_framing", "no_record")


def test_block_with_a_wrong_sync_marker_does_not_count():
    message = bytearray(container([ztf_record()]))
    message[-1] ^= 1
    assert reason(bytes(message)) == "sync_marker"


def test_sync_marker_is_checked_before_the_block_is_inflated():
    message = bytearray(container([ztf_record()], "deflate"))
    message[-17] ^= 0xFF  # the block's last byte
    message[-1] ^= 1
    assert reason(bytes(message)) == "sync_marker"


def test_bytes_behind_the_last_block_are_an_error():
    assert reason(container([ztf_record()]) + b"\x02\x00") == "truncated"


@pytest.mark.parametrize("n, expected", [(0, "no_record"), (2, "many_records"), (3, "many_records")])
def test_message_holds_exactly_one_alert(n, expected):
    assert reason(container(numbered(n))) == expected


def test_message_of_two_blocks_holds_two_alerts():
    assert reason(container(numbered(2), sync_interval=1)) == "many_records"


def test_block_that_declares_a_negative_size_is_bad():
    message = container([ztf_record()])
    start = message.index(SYNC) + 16
    assert reason(message[:start] + b"\x02\x01" + message[start + 3 :]) == "bad_block"


def test_record_shorter_than_its_block_is_an_error():
    message = container([ztf_record()])
    start = message.index(SYNC) + 16
    content = message[start + 3 : -16]
    assert message[start:] == long(1) + long(len(content)) + content + SYNC
    assert reason(message[:start] + long(1) + long(len(content) + 1) + content + b"\x00" + SYNC) == "trailing_bytes"


def test_header_without_codec_means_null():
    message = container([ztf_record()])
    plain = message.replace(b"\x04\x14avro.codec\x08null", b"\x02", 1)
    assert plain != message
    assert decode(plain).record == decode(message).record


def test_files_hold_many_alerts_in_order():
    for data in (container(numbered(5)), container(numbered(5), sync_interval=1), container(numbered(5), "snappy")):
        found = list(decode_all(data))
        assert ids(found) == [0, 1, 2, 3, 4]
        assert [decode(raw).record["candidate"]["candid"] - 2**61 for _, raw in found] == [0, 1, 2, 3, 4]


def test_record_alone_is_a_container_that_others_read():
    for _, raw in decode_all(container(numbered(2), "deflate")):
        (record,) = fastavro.reader(io.BytesIO(raw))
        assert record["objectId"] == "ZTF23aaaaaaa"


def test_first_bad_block_and_all_behind_it_are_one_error():
    data = container(numbered(6), sync_interval=1)
    blocks = [place for place in range(len(data)) if data[place : place + 16] == SYNC]
    damaged = bytearray(data)
    damaged[blocks[3]] ^= 1  # end of the third block
    found = list(decode_all(bytes(damaged)))
    assert ids(found) == [0, 1]
    error, raw = found[-1]
    assert error.reason == "sync_marker"
    assert len(found) == 3
    assert raw == bytes(damaged[: blocks[0] + 16]) + bytes(damaged[blocks[2] + 16 :])
    again = list(decode_all(raw))
    assert [type(packet) for packet, _ in again] == [PacketError]


def test_block_with_one_bad_record_yields_none_of_it():
    data = bytearray(container(numbered(3)))
    place = data.rindex(b"ZTF23aaaaaaa") - 1
    data[place] = 0x7F  # length of the last record's objectId
    found = list(decode_all(bytes(data)))
    assert len(found) == 1
    assert found[0][0].reason == "undecodable"
    assert found[0][1] == bytes(data)


def test_file_with_a_broken_header_is_one_error_with_all_its_bytes():
    data = container(numbered(2))[:100]
    ((error, raw),) = decode_all(data)
    assert error.reason == "truncated"
    assert raw == data


def test_real_file_that_lost_a_byte_is_one_error():
    ((error, _),) = decode_all((DATA / "516442330015015017.avro").read_bytes())
    assert "needs 66556 bytes, there are 66555" in error.detail


def test_schema_is_parsed_once_for_the_same_bytes_and_the_store_is_bounded():
    schema_from_json.cache_clear()
    for record in numbered(20):
        decode(container([record]))
    assert schema_from_json.cache_info().misses == 1
    for n in range(100):
        decode(container([ztf_record()], schema={**ZTF_SCHEMA, "doc": f"{n}"}))
    assert schema_from_json.cache_info().currsize == schema_from_json.cache_info().maxsize < 100


def test_our_containers_are_read_by_others_and_are_reproducible():
    data = encode_container(ZTF_SCHEMA, *numbered(3), codec="deflate")
    assert data == encode_container(ZTF_SCHEMA, *numbered(3), codec="deflate")
    assert [r["candidate"]["candid"] - 2**61 for r in fastavro.reader(io.BytesIO(data))] == [0, 1, 2]


def test_header_with_absurd_counts_ends_at_once():
    for head in (b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x04\xfe\xff\xff\xff\xff\x7f", b"\xff" * 12, b"\x02\x01"):
        assert reason(b"Obj\x01" + head) in ("bad_header", "truncated")
    assert DEFAULT.message_bytes < 2**24
