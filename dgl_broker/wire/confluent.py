"""Confluent's wire format: byte 0, the schema's id in 4 bytes, then Avro without schema.

The id is big-endian, whatever the project's integration guide says: all messages seen, real and made up, have it so.
"""

import io
import struct

import fastavro

from dgl_broker.errors import PacketError

HEAD_BYTES = 5


def schema_id(value):
    """Id of the schema that a framed message was written with.

    Raises
    ------
    PacketError
        `truncated` where there are fewer than 5 bytes.
    """
    if len(value) < HEAD_BYTES:
        raise PacketError("truncated", f"message of {len(value)} bytes, a framed one has at least {HEAD_BYTES}")
    return struct.unpack_from(">I", value, 1)[0]


def encode_confluent(schema, number, record):
    """A framed message.

    Parameters
    ----------
    schema : dict
        As JSON gives it or, quicker, from `fastavro.parse_schema`.
    number : int
        The schema's id, 0 to 2**32 - 1.
    record : dict
    """
    out = io.BytesIO()
    out.write(struct.pack(">bI", 0, number))
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()
