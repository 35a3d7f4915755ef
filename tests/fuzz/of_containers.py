"""Containers, frames and schemas that lie. Each takes (rng, seed) of a hand-made seed and gives bytes."""

import json
import struct
import zlib
from functools import cache

from dgl_broker.surveys.avro_parts import bytes_of, long_of
from dgl_broker.wire.codecs import compress
from fuzz import forms, of_bytes
from fuzz.forms import SCHEMA, SCHEMA_KEY, SMALL_ID, SYNC, block, container, framed
from fuzz.seeds import CODECS

IDS = (0, 1, SMALL_ID, 700, 703, 704, 900, 1000, 1001, 1100, 1101, 901000, 901101, 2**31, 2**32 - 1)


@cache
def payload(seed):
    """The record of a seed as Avro without framing."""
    return forms.payload(seed.survey, seed.record)


def counts(rng, seed):
    """A block that says it holds another number of alerts."""
    return container(SCHEMA[seed.survey], [(rng.choice((0, 2, 10**6, 2**62, -1, -(2**62))), payload(seed))])


def blocks(rng, seed):
    """No block, two alerts, empty blocks around one, good ones before and behind broken ones."""
    good, empty = (1, payload(seed)), (0, b"")
    broken = (1, of_bytes.overwrite(rng, payload(seed), b""))
    kinds = [[], [empty], [good, good], [empty, good, empty], [good, empty, empty], [good, broken], [broken, good]]
    kinds += [[empty] * 1000 + [good], [(2, payload(seed) * 2)], [(1, payload(seed) * 2)], [(0, payload(seed)), good]]
    value = container(SCHEMA[seed.survey], rng.choice(kinds))
    return value if rng.random() < 0.7 else value[: -rng.randint(1, 17)]


def sizes(rng, seed):
    """A block whose declared size lies, or whose marker is another."""
    content = payload(seed)
    if rng.random() < 0.3:
        return container(SCHEMA[seed.survey], []) + block(1, content, rng.randbytes(16))
    size = rng.choice((*of_bytes.LIES, len(content) - 1, len(content) + 1, len(content) + 16))
    return container(SCHEMA[seed.survey], []) + long_of(1) + long_of(size) + content + SYNC


def codecs(rng, seed):
    """A codec that is unknown, or another than the block's."""
    named = rng.choice(
        (b"", b"bzip2", b"xz", b"lz4", b"\xff\xfe", b"NULL", b"deflate\0", b"x" * 3000, *(c.encode() for c in CODECS))
    )
    return container(SCHEMA[seed.survey], [(1, compress(rng.choice(CODECS), payload(seed)))], named)


def damaged_codec(rng, seed):
    """A compressed block with bytes changed, so that what inflates is another record, or nothing."""
    codec, change = rng.choice(CODECS[1:]), rng.choice((of_bytes.overwrite, of_bytes.flip_bits, of_bytes.cut, of_bytes.grow))
    content = change(rng, compress(codec, payload(seed)), b"")
    if codec == "snappy" and rng.random() < 0.5 and len(content) > 8:  # a length that lies, its checksum right for zeros
        content = rng.choice((b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x04", b"\x00")) + content[3:]
    return container(SCHEMA[seed.survey], [(1, content)], codec.encode())


@cache
def _zeros(codec, size):
    return compress(codec, bytes(size))


def bombs(rng, seed):
    """A block of some kB that inflates to more than a packet may have."""
    codec = rng.choice(CODECS[1:])
    zeros = _zeros(codec, rng.choice((1 << 20, 1 << 20, 1 << 20, (8 << 20) + 1)))
    return container(SCHEMA[seed.survey], [(1, zeros)], codec.encode())


def headers(rng, seed):
    """Metadata: other entries, none, the schema twice, counts that lie, keys that are no text."""
    entries = rng.choice(
        ([(b"", b"")], [(b"\xff\xfe", b"\0" * 50)], [(SCHEMA_KEY, b"null")], [(b"k%d" % i, b"") for i in range(40)])
    )
    if rng.random() < 0.5:
        return container(SCHEMA[seed.survey], [(1, payload(seed))], metadata=entries)
    text = json.dumps(SCHEMA[seed.survey]).encode()
    count = rng.choice((0, 2, 10**6, -1, -(2**40)))
    return b"Obj\x01" + long_of(count) + bytes_of(SCHEMA_KEY) + bytes_of(text) + b"\0" + SYNC + block(1, payload(seed))


def frames(rng, seed):
    """A frame of another schema's id, unknown, little-endian, or with another first byte."""
    kind = rng.randrange(4)
    if kind == 0:
        return framed(rng.choice(IDS), payload(seed))
    if kind == 1:
        return b"\0" + struct.pack("<I", rng.choice(IDS)) + payload(seed)
    if kind == 2:
        return bytes([rng.choice(of_bytes.ODD_BYTES)]) + struct.pack(">I", SMALL_ID) + payload(seed)
    return framed(SMALL_ID, payload(seed))[: rng.randrange(8)]


def recursive(rng, seed):
    """A schema that contains itself."""
    name = rng.choice(("alert", "ztf.alert", "candidate", "diaSource", "knot"))
    knot = {"type": "record", "name": "knot", "fields": [{"name": "next", "type": ["null", name]}]}
    kind = rng.choice((knot, {"type": "array", "items": knot}, {"type": "map", "values": name}))
    return _with_field(rng, seed, kind, b"\0" * 4)


def deep(rng, seed):
    """A schema that nests: unions in unions, arrays in arrays, records in records; some within the limit."""
    levels, kind = rng.choice((3, 8, 20, 30, 200)), rng.choice(("int", "null", "string"))
    form = rng.randrange(4)
    for n in range(levels):
        if form == 0:
            kind = [kind]
        elif form == 1:
            kind = {"type": "array", "items": kind}
        elif form == 2:
            kind = {"type": "record", "name": f"r{n}", "fields": [{"name": "a", "type": kind}]}
        else:
            kind = ["null", {"type": "map", "values": kind}]
    return _with_field(rng, seed, kind, rng.choice((b"\0", b"\2" * 30, b"\2\0" * 30)))


def wide(rng, seed):
    """A union or an enum of many branches, whose index lies."""
    kind = rng.choice((
        [{"type": "fixed", "name": f"f{n}", "size": n} for n in range(rng.choice((2, 100, 2000)))],
        {"type": "enum", "name": "e", "symbols": [f"s{n}" for n in range(rng.choice((0, 1, 1000)))]},
        ["null"] * 3,
        {"type": "fixed", "name": "f", "size": rng.choice((0, 1, 10**6, 10**9, 2**62))},
        {"type": "array", "items": rng.choice(("null", "boolean", "int", {"type": "fixed", "name": "z", "size": 0}))},
        {"type": "map", "values": rng.choice(("null", "boolean", "string"))},
    ))  # fmt: skip
    return _with_field(rng, seed, kind, rng.choice((b"\0", b"\1", long_of(rng.choice(of_bytes.LIES)))))


def _with_field(rng, seed, kind, value):
    """The seed under a schema with one more field in front."""
    schema = {**SCHEMA[seed.survey], "fields": [{"name": "extra", "type": kind}, *SCHEMA[seed.survey]["fields"]]}
    return container(schema, [(1, value + payload(seed))])


def other_types(rng, seed):
    """Fields of the schema have other types, names, or are not there; the bytes are as before."""
    schema = json.loads(json.dumps(SCHEMA[seed.survey]))
    record = rng.choice(list(_records(schema)))
    field = rng.choice(record["fields"])
    kind = rng.randrange(5)
    if kind == 0:
        field["type"] = rng.choice(
            ("null", "int", "long", "double", "string", "bytes", ["null", "string"], ["string", "int"], "nowhere")
        )
    elif kind == 1:
        field["name"] = rng.choice(("", "x", "\ud800", "a b", "9", "\0", record["fields"][0]["name"]))
    elif kind == 2:
        record["fields"].remove(field)
    elif kind == 3:
        rng.shuffle(record["fields"])
    else:
        schema["version"] = rng.choice(("\ud800", "", "9" * 5000, 4.02, None, "4.02\0", "<b>"))
        record["name"] = rng.choice((record["name"], "\udfff", "a.b.c", "", "v9_9", ".", "x" * 5000))
    return container(schema, [(1, payload(seed))])


def _records(kind):
    if isinstance(kind, list):
        for branch in kind:
            yield from _records(branch)
    elif isinstance(kind, dict):
        if kind.get("type") == "record":
            yield kind
            for field in kind["fields"]:
                yield from _records(field["type"])
        else:
            yield from _records(kind.get("items"))


def no_schema(rng, seed):
    """What stands for the schema is none."""
    texts = (
        b"", b"{", b"null", b"[]", b"\xff\xfe{\0", b'{"type": "record"}', b'"alert"', b'{"a":' * 3000, b"[" * 30_000,
        b"1" * 5000,
        b'{"type":"enum","name":"\\ud800","symbols":["\\udfff"]}', zlib.compress(b"{}"),
    )  # fmt: skip
    text = rng.choice(texts)
    if rng.random() < 0.4:
        text = of_bytes.overwrite(rng, json.dumps(SCHEMA[seed.survey]).encode(), b"")
    return container(text, [(1, payload(seed))])


ALL = (counts, blocks, sizes, codecs, damaged_codec, bombs, headers, frames, frames, frames)
ALL += (recursive, deep, wide, other_types, other_types, no_schema)
