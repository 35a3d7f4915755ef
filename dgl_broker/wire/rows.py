"""A decoded packet as bytes that stand for it alone, where it came without any: rows of brokers' tables.

The schema is made from the record itself, so that every value comes back as it was: integers and floats stay apart, and null
stays null.
"""

from dgl_broker.wire.containers import encode_container

_SCALARS = {bool: "boolean", int: "long", float: "double", str: "string", bytes: "bytes"}


def encode_packet(packet):
    """One object container of a packet's record; `decode` of it gives an equal packet.

    Parameters
    ----------
    packet : dgl_broker.wire.Packet
        As `packet_from_record` makes it.
    """
    schema = {**_record(packet.record, "packet"), "namespace": f"dgl_broker.{packet.survey}"}
    return encode_container(schema, packet.record)


def _record(record, name):
    fields = [{"name": key, "type": _type([value], f"{name}_{key}")} for key, value in record.items()]
    return {"type": "record", "name": name, "fields": fields}


def _type(values, name):
    """A nullable type that holds all of `values`."""
    known = [v for v in values if v is not None]
    if known and isinstance(known[0], dict):
        keys = dict.fromkeys(key for row in known for key in row)
        fields = [{"name": key, "type": _type([row.get(key) for row in known], f"{name}_{key}")} for key in keys]
        return ["null", {"type": "record", "name": name, "fields": fields}]
    if known and isinstance(known[0], list):
        return ["null", {"type": "array", "items": _type([item for row in known for item in row], name)}]
    return ["null", *dict.fromkeys(_SCALARS[type(v)] for v in known)]
