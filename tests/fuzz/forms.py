"""Avro put together by hand, sound or not: payloads, containers of any schema, frames of any id."""

import io
import json
import struct
from functools import cache

import fastavro
import packets as made

from dgl_broker.surveys.avro_parts import bytes_of, long_of
from dgl_broker.wire.codecs import compress

SYNC = bytes(range(16))
SMALL_ID = 7  # of the hand-made LSST schema, so that it does not stand in the way of Rubin's own 1000
SCHEMA = {"lsst": made.LSST_SCHEMA, "ztf": made.ZTF_SCHEMA}
SCHEMA_KEY, CODEC_KEY = b"avro.schema", b"avro.codec"


def container(schema, blocks, codec=None, metadata=()):
    """A container of any schema (bytes, or what JSON takes) and blocks (count, content)."""
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    entries = [(SCHEMA_KEY, text), *([(CODEC_KEY, codec)] if codec is not None else []), *metadata]
    head = b"Obj\x01" + long_of(len(entries)) + b"".join(bytes_of(part) for entry in entries for part in entry) + b"\0" + SYNC
    return head + b"".join(block(count, content) for count, content in blocks)


def block(count, content, sync=SYNC):
    """One block, its marker behind it."""
    return long_of(count) + bytes_of(content) + sync


def framed(number, payload):
    """A Confluent frame of any id."""
    return b"\0" + struct.pack(">I", number) + payload


@cache
def _parsed(survey):
    return fastavro.parse_schema(SCHEMA[survey])


@cache
def _head(survey, codec):
    return container(SCHEMA[survey], [], codec.encode())


def payload(survey, record):
    """A record of the hand-made schema of a survey as Avro, without framing."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _parsed(survey), record)
    return out.getvalue()


def packet(survey, record, codec=None):
    """A record as a packet: in a container where a codec is named, else as a frame."""
    content = payload(survey, record)
    return framed(SMALL_ID, content) if codec is None else _head(survey, codec) + block(1, compress(codec, content))
