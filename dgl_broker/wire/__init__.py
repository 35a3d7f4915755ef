"""Bytes <-> packets: Avro containers, Confluent frames, schemas by id, limits.

Nothing but `PacketError` leaves this package because of what a message holds.
"""

from fastavro import parse_schema

from dgl_broker.wire.archives import decode_all, is_one_record, packet_from_record
from dgl_broker.wire.confluent import encode_confluent
from dgl_broker.wire.containers import ContainerWriter, encode_container
from dgl_broker.wire.limits import DEFAULT, Limits
from dgl_broker.wire.packets import Opened, Packet, decode, open_message
from dgl_broker.wire.rows import encode_packet
from dgl_broker.wire.schema_sources import FolderSchemas, schema_source

__all__ = [
    "DEFAULT", "ContainerWriter", "FolderSchemas", "Limits", "Opened", "Packet", "decode", "decode_all", "encode_confluent",
    "encode_container", "encode_packet", "is_one_record", "open_message", "packet_from_record", "parse_schema", "schema_source",
]  # fmt: skip
