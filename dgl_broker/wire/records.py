"""Records of our own topics, read back: whatever schema they were written with, every field of it."""

from dgl_broker.errors import PacketError
from dgl_broker.wire import confluent
from dgl_broker.wire.containers import MAGIC, Container
from dgl_broker.wire.limits import MIB, Limits

# A dead letter holds a whole message and its headers: more than one packet may, and never more than a broker takes.
OWN = Limits(message_bytes=256 * MIB, inflated_bytes=256 * MIB)


def read_record(value, schemas=None):
    """The one record of a container, or of a Confluent frame, as a dict with all its fields.

    Parameters
    ----------
    value : bytes
    schemas : RegistrySchemas or FolderSchemas, optional
        For frames: the registry that the outputs are registered with.

    Raises
    ------
    PacketError
        What is wrong with it.
    InputUnavailable, ServiceFailed
        The source of schemas cannot be read.
    """
    if value[:4] == MAGIC:
        container = Container(value, OWN)
        schema, (payload, start, stop) = container.schema, container.one()
    elif value[:1] == b"\x00":
        if schemas is None:
            raise PacketError("unknown_schema", "a framed record, and no registry of our own schemas is configured")
        schema = schemas.writer_schema(confluent.schema_id(value))
        payload, start, stop = value, confluent.HEAD_BYTES, len(value)
    else:
        raise PacketError("unknown_framing", f"begins with {bytes(value[:8]).hex(' ') or 'nothing'}, not a record of ours")
    record, end = schema.read_whole(payload, start, stop=stop)
    if end != stop:
        raise PacketError("trailing_bytes", f"record ends at byte {end} of {stop}")
    return record
