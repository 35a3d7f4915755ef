"""Bytes to packets: finds the framing and the schema, and decodes a record in two stages."""

from dataclasses import dataclass

from dgl_broker.errors import PacketError
from dgl_broker.wire import confluent
from dgl_broker.wire.codecs import inflate
from dgl_broker.wire.containers import MAGIC, Container
from dgl_broker.wire.limits import DEFAULT
from dgl_broker.wire.reduce import picked, reader_schema
from dgl_broker.wire.schema_tree import shown
from dgl_broker.wire.writer_schema import TRIGGER_OF_SURVEY, schema_from_json


@dataclass(frozen=True, slots=True)
class Packet:
    """One decoded packet in its survey's own spelling: the fields that `schemas/<survey>.avsc` names.

    `schema` is survey and version, such as `ztf 4.02` or `lsst 10.0`.
    """

    survey: str
    schema: str
    record: dict


class Opened:
    """A message whose framing and schema are known and whose record is not yet decoded."""

    __slots__ = ("survey", "_schema", "_payload", "_start")

    def __init__(self, schema, payload, start):
        self.survey, self._schema, self._payload, self._start = schema.survey, schema, payload, start

    def leading(self, fields=None):
        """First stage: the packet's leading fields, up to the last that is asked for, before any history.

        Parameters
        ----------
        fields : iterable of str, optional
            Such as `diaSource.reliability` (see `surveys.leading_fields`); by default all before the histories.

        Returns
        -------
        dict
            As `record` has them; empty where none of `fields` stands before the histories.
        """
        return self._schema.read_leading(self._payload, fields, self._start)

    def record(self):
        """Second stage: all fields that are read.

        Raises
        ------
        PacketError
            Also `trailing_bytes`, where the record ends before the message.
        """
        record, end = self._schema.read(self._payload, self._start)
        if end != len(self._payload):
            raise PacketError(
                "trailing_bytes", f"{self._schema.label}: record ends at byte {end} of {len(self._payload)}: not its schema?"
            )
        return record

    def packet(self):
        """The whole as a `Packet`."""
        record = self.record()
        return Packet(self.survey, _name(self.survey, self._schema, record), record)


def open_message(value, survey=None, schemas=None, limits=DEFAULT, key=None):
    """A message whose framing and schema are known; nothing of its record is decoded yet.

    Parameters
    ----------
    value : bytes
        Avro object container of one record, or a Confluent frame, or (with `key`) Avro without either.
    survey : str, optional
        `ztf` or `lsst` where the message must be of that one.
    schemas : FolderSchemas or RegistrySchemas, optional
        For frames.
    limits : Limits
    key : bytes, optional
        The message's key: Fink sends the schema there, as JSON.

    Raises
    ------
    PacketError
        What is wrong with the message.
    InputUnavailable, ServiceFailed
        The source of schemas cannot be read.
    """
    if not value:
        raise PacketError("empty", "message without a value")
    if len(value) > limits.message_bytes:
        raise PacketError("too_large", f"message of {len(value)} bytes, at most {limits.message_bytes}")
    if value[:4] == MAGIC:
        container = Container(value, limits)
        schema, start = container.schema, 0
        _require(schema, survey)
        return Opened(schema, container.one(), start)
    if key is not None and key[:1] == b"{":
        schema, start = schema_from_json(bytes(key), limits), 0
    elif value[0] == 0:
        number = confluent.schema_id(value)
        if schemas is None:
            raise PacketError("unknown_schema", f"schema id {number}: no folder or registry of schemas was given")
        schema, start = schemas.writer_schema(number), confluent.HEAD_BYTES
    else:
        raise PacketError(
            "unknown_framing",
            f"begins with {bytes(value[:8]).hex(' ')}: neither an Avro container (4f 62 6a 01) nor a frame (00)",
        )
    _require(schema, survey)
    return Opened(schema, value, start)


def _require(schema, survey):
    schema.require_alert()
    if survey is not None and schema.survey != survey:
        raise PacketError("wrong_survey", f"{schema.label}: a packet of {schema.survey}, expected {survey}")


def decode(value, survey=None, schemas=None, limits=DEFAULT, key=None):
    """The one packet of a message; see `open_message`.

    Raises
    ------
    PacketError, InputUnavailable, ServiceFailed
    """
    return open_message(value, survey, schemas, limits, key).packet()


def decode_all(data, survey=None, schemas=None, limits=DEFAULT):
    """Yields the packets of a file: a container of any number of records, or one framed message.

    Parameters
    ----------
    data : bytes-like
        Also a memory map.

    Yields
    ------
    Packet or PacketError
        In order. A bad block and everything behind it give one PacketError, the last thing yielded; its `offset` says where
        in the file that begins.
    """
    if bytes(data[:4]) != MAGIC:
        try:
            yield decode(bytes(data), survey, schemas, limits)
        except PacketError as error:
            yield _at(error, 0)
        return
    place = 0
    try:
        container = Container(data, limits)
        _require(container.schema, survey)
        place = container.first_block
        for count, content, place in container.blocks():
            # All of a block or nothing: the dead letter then holds what was not yielded, and only that.
            yield from _records(container, count, content)
    except PacketError as error:
        yield _at(error, place)


def _records(container, count, content):
    schema, content = container.schema, inflate(container.codec, content, container.limits.file_block_bytes)
    packets, place = [], 0
    for _ in range(count):
        record, end = schema.read(content, place)
        if end - place > container.limits.message_bytes:
            raise PacketError("too_large", f"alert of {end - place} bytes, at most {container.limits.message_bytes}")
        packets.append(Packet(schema.survey, _name(schema.survey, schema, record), record))
        place = end
    if place != len(content):
        raise PacketError("trailing_bytes", f"{schema.label}: block's records end at byte {place} of {len(content)}")
    return packets


def _at(error, place):
    if not hasattr(error, "offset"):
        error.offset = place
    return error


def packet_from_record(survey, row):
    """A packet from a row of a table, as a dict in the survey's spelling (such as pyarrow's `to_pylist` gives).

    Parameters
    ----------
    survey : str or None
        None to tell it by its columns.
    row : dict

    Raises
    ------
    PacketError
        `missing_field`, `wrong_type`, `wrong_survey`.
    """
    found = next((s for s, trigger in TRIGGER_OF_SURVEY.items() if trigger in row), None)
    if found is None:
        needed = " or ".join(f"{trigger} ({s})" for s, trigger in TRIGGER_OF_SURVEY.items())
        raise PacketError("missing_field", f"row: no column {needed}; there are {shown(sorted(map(str, row)))}")
    if survey is not None and survey != found:
        raise PacketError("wrong_survey", f"row of {found}, expected {survey}")
    record = picked(row, reader_schema(found), f"{found} row")
    return Packet(found, _name(found, None, record), record)


def _name(survey, schema, record):
    """`lsst 10.0`: the version that the packet states, else that of its schema."""
    if survey == "ztf":
        version = record.get("schemavsn")
    else:
        version = record.get("lsst_schema_version")
        version = version.rpartition(".v")[2].replace("_", ".") if version else None
    version = version or (schema.version if schema is not None else None)
    return f"{survey} {version[:20]}" if version else f"{survey} unversioned"
