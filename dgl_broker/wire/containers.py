"""Avro object containers: the schema first, then blocks of records, each closed by the file's sync marker.

A block counts only when its marker stands where its declared size says. The first block that is bad, and everything behind
it, is one error: nothing there can be trusted to start where it seems to.
"""

import hashlib
import io
import json
from collections import deque
from typing import NamedTuple

import fastavro

from dgl_broker.errors import PacketError
from dgl_broker.wire.codecs import compress, inflate
from dgl_broker.wire.limits import Allowance, Limits
from dgl_broker.wire.writer_schema import WriterSchema, schema_from_json

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
MAX_METADATA = 1000  # entries of a header; real ones have two


class Container:
    """A container's header, and its blocks.

    Parameters
    ----------
    data : bytes-like
        The whole file or message.
    limits : Limits

    Raises
    ------
    PacketError
        `truncated`, `bad_header`, `bad_schema`.
    """

    def __init__(self, data, limits):
        self.data, self.limits = data, limits
        head = _known_head(data, limits)
        self.metadata, place = (head.metadata, len(head.data)) if head else _header(data)
        self.sync = bytes(data[place : place + SYNC_BYTES])
        if len(self.sync) < SYNC_BYTES:
            raise PacketError("truncated", f"container ends in its header, after {len(data)} bytes")
        self.first_block = place + SYNC_BYTES
        if b"avro.schema" not in self.metadata:
            raise PacketError("bad_header", "container without avro.schema")
        self.codec = self.metadata.get(b"avro.codec", b"null").decode("ascii", "replace")
        if head is None:
            head = _Head(bytes(data[:place]), limits, self.metadata, schema_from_json(self.metadata[b"avro.schema"], limits))
            HEADS.appendleft(head)
        self.schema = head.schema

    def blocks(self):
        """Yields (number of records, compressed content, position of the block); raises at the first bad one.

        Raises
        ------
        PacketError
            `truncated`, `sync_marker`, `bad_block`; `offset` is the position of the bad block.
        """
        for count, start, stop, place in self._places():
            yield count, bytes(self.data[start:stop]), place

    def _places(self):
        """`blocks`, with the start and end of the content instead of the content."""
        place = self.first_block
        while place < len(self.data):
            try:
                count, size, start = self._block_head(place)
            except PacketError as error:
                error.offset = place
                raise
            yield count, start, start + size, place
            place = start + size + SYNC_BYTES

    def _block_head(self, place):
        """(records, size, start of content) of a block whose sync marker stands where it must."""
        try:
            count, start = _long(self.data, place)
            size, start = _long(self.data, start)
        except IndexError as error:
            raise PacketError("truncated", f"container ends in the head of a block, after {len(self.data)} bytes") from error
        if size < 0 or count < 0:
            raise PacketError("bad_block", f"block at byte {place} of {count} records and {size} bytes")
        end = start + size
        if end + SYNC_BYTES > len(self.data):
            raise PacketError("truncated", f"block at byte {place} needs {end + SYNC_BYTES} bytes, there are {len(self.data)}")
        if self.data[end : end + SYNC_BYTES] != self.sync:
            raise PacketError("sync_marker", f"block at byte {place}: no sync marker at byte {end}")
        return count, size, start

    def one(self, allowance=None):
        """The only record, inflated, as (bytes, its start in them, its end).

        Raises
        ------
        PacketError
            Also `no_record` and `many_records`, where it is not exactly one; `too_slow` before the last of a million blocks.
        """
        found, allowance = None, allowance or Allowance(self.limits)
        for count, start, stop, _ in self._places():
            allowance.check_time()
            if count and (found is not None or count > 1):
                raise PacketError("many_records", f"container of {'several' if found else count} records, expected one alert")
            if count:
                found = start, stop
        if found is None:
            raise PacketError("no_record", "container without a record")
        start, stop = found
        if self.codec == "null" and isinstance(self.data, bytes) and stop - start <= self.limits.inflated_bytes:
            return self.data, start, stop  # not one byte is copied
        content = inflate(self.codec, bytes(self.data[start:stop]), self.limits.inflated_bytes)
        return content, 0, len(content)

    def alone(self, record):
        """A container that holds one record of this one, given as bytes; not compressed."""
        return _written({**self.metadata, b"avro.codec": b"null"}, self.sync, 1, record)


class _Head(NamedTuple):
    """A header that was read before, up to its sync marker, which is another in each message."""

    data: bytes
    limits: Limits
    metadata: dict
    schema: WriterSchema


HEADS = deque(maxlen=4)  # a stream has one or two: comparing bytes costs a twentieth of reading them


def _known_head(data, limits):
    """The header that a message begins with, where one of the last few messages began with the same."""
    if not isinstance(data, bytes):
        return None
    return next((head for head in tuple(HEADS) if data.startswith(head.data) and head.limits == limits), None)


def _header(data):
    """(metadata, position of the sync marker); metadata bytes -> bytes."""
    metadata, place = {}, len(MAGIC)
    try:
        while True:
            count, place = _long(data, place)
            if count == 0:
                return metadata, place
            if count < 0:  # then the size of the map's block follows
                count = -count
                _, place = _long(data, place)
            if len(metadata) + count > MAX_METADATA:
                raise PacketError("bad_header", f"container with {count} entries of metadata")
            for _ in range(count):
                key, place = _string(data, place)
                metadata[key], place = _string(data, place)
    except IndexError as error:
        raise PacketError("truncated", f"container ends in its header, after {len(data)} bytes") from error


def _string(data, place):
    size, place = _long(data, place)
    if size < 0:
        raise PacketError("bad_header", f"container header holds a string of {size} bytes")
    if place + size > len(data):
        raise IndexError(place + size)
    return bytes(data[place : place + size]), place + size


def _long(data, place):
    """A zigzag base-128 number and the position behind it; IndexError where the bytes end."""
    value = shift = 0
    while shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), place
        shift += 7
    raise PacketError("bad_header", f"no number at byte {place - 10}")


def _written(metadata, sync, count, content):
    """A container of one block."""
    return _block(_head(metadata), sync, count, content)


def _head(metadata):
    """The beginning of a container, up to its sync marker."""
    entries = b"".join(_as_long(len(part)) + part for entry in metadata.items() for part in entry)
    return MAGIC + _as_long(len(metadata)) + entries + _as_long(0)


def _block(head, sync, count, content):
    return b"".join((head, sync, _as_long(count), _as_long(len(content)), content, sync))


def _as_long(value):
    """A number that is not negative, zigzag base-128."""
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class ContainerWriter:
    """Writes containers by one schema: what stands before the records is made once, and is most of a small one.

    Parameters
    ----------
    schema : dict
        As JSON gives it or, quicker, from `fastavro.parse_schema`.
    codec : str
        `null`, `deflate`, `snappy` or `zstandard`.
    """

    def __init__(self, schema, codec="null"):
        self._parsed, self._codec = fastavro.parse_schema(schema), codec
        # Of a parsed schema the marks that fastavro leaves in it are left out.
        text = json.dumps({k: v for k, v in schema.items() if not k.startswith("__")}, separators=(",", ":"))
        self._head = _head({b"avro.codec": codec.encode(), b"avro.schema": text.encode()})

    def encode(self, *records):
        """A container of these records in one block; the same records give the same bytes."""
        body = io.BytesIO()
        for record in records:
            fastavro.schemaless_writer(body, self._parsed, record)
        content = body.getvalue()
        sync = hashlib.blake2b(content, digest_size=SYNC_BYTES).digest()
        return _block(self._head, sync, len(records), compress(self._codec, content))


def encode_container(schema, *records, codec="null"):
    """A container of these records in one block; see `ContainerWriter`, which is quicker for many."""
    return ContainerWriter(schema, codec).encode(*records)
