"""Avro binary by hand where parts that are encoded already are put together: lengths, arrays, bytes."""


def long_of(value):
    """An int as Avro long (zigzag, variable length)."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def bytes_of(raw):
    """Bytes, or a string's UTF-8, as Avro."""
    return long_of(len(raw)) + raw


def array_of(items):
    """Encoded items as an Avro array of one block."""
    return long_of(len(items)) + b"".join(items) + b"\0" if items else b"\0"


def records_of(schema):
    """(full name, definition) of every record in a schema parsed by fastavro."""
    if isinstance(schema, list):
        for branch in schema:
            yield from records_of(branch)
    elif isinstance(schema, dict) and schema["type"] == "array":
        yield from records_of(schema["items"])
    elif isinstance(schema, dict) and schema["type"] == "record":
        yield schema["name"], schema
        for field in schema["fields"]:
            yield from records_of(field["type"])
