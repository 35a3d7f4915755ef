"""Messages to packets: finds the framing and the schema, and decodes a record in two stages."""

from dataclasses import dataclass

from dgl_broker.alert import Message
from dgl_broker.errors import PacketError
from dgl_broker.wire import confluent
from dgl_broker.wire.containers import MAGIC, Container
from dgl_broker.wire.limits import DEFAULT, Allowance
from dgl_broker.wire.writer_schema import schema_from_json


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

    __slots__ = ("survey", "_schema", "_payload", "_start", "_stop", "_allowance")

    def __init__(self, schema, payload, start, stop, allowance):
        self.survey, self._schema, self._payload, self._start = schema.survey, schema, payload, start
        self._stop, self._allowance = stop, allowance

    @property
    def writer(self):
        """The `WriterSchema` of the record."""
        return self._schema

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
        return self._schema.read_leading(self._payload, fields, self._start, self._allowance, self._stop)

    def record(self):
        """Second stage: all fields that are read.

        Raises
        ------
        PacketError
            Also `trailing_bytes`, where the record ends before the message.
        """
        return self._all_of(self._schema.read(self._payload, self._start, self._allowance, self._stop))

    def whole(self):
        """The record with every field of its schema, read or not: for formats that pass whole packets on."""
        return self._all_of(self._schema.read_whole(self._payload, self._start, self._allowance, self._stop))

    def _all_of(self, found):
        record, end = found
        if end != self._stop:
            first = 0 if self._stop == len(self._payload) else self._start  # places in a container's block count from its start
            problem = f"record ends at byte {end - first} of {self._stop - first}: not its schema?"
            raise PacketError("trailing_bytes", f"{self._schema.label}: {problem}")
        return record

    def label(self, record):
        """Survey and version of a packet with this record, or these leading fields: `lsst 10.0`."""
        return packet_label(self.survey, record, self._schema.version)

    def packet(self):
        """The whole as a `Packet`."""
        record = self.record()
        return Packet(self.survey, self.label(record), record)


class Decoded:
    """A message that an archive has decoded already; like `Opened`."""

    __slots__ = ("survey", "_packet")

    def __init__(self, packet):
        self.survey, self._packet = packet.survey, packet

    def leading(self, fields=None):
        """All of the record: there is nothing to save."""
        return self._packet.record

    def record(self):
        """The record."""
        return self._packet.record

    def label(self, record):
        """Survey and version of the packet."""
        return self._packet.schema

    def packet(self):
        """The packet."""
        return self._packet


def open_message(message, survey=None, schemas=None, limits=DEFAULT, key=None):
    """A message whose framing and schema are known; nothing of its record is decoded yet.

    Parameters
    ----------
    message : Message or bytes
        Avro object container of one record, or a Confluent frame, or (with a key) Avro without either.
    survey : str, optional
        `ztf` or `lsst` where the message must be of that one.
    schemas : FolderSchemas or RegistrySchemas, optional
        For frames.
    limits : Limits
    key : bytes, optional
        The message's key, where `message` is bytes: Fink sends the schema there, as JSON.

    Returns
    -------
    Opened or Decoded

    Raises
    ------
    PacketError
        What is wrong with the message.
    InputUnavailable, ServiceFailed
        The source of schemas cannot be read.
    """
    value = message
    if isinstance(message, Message):
        if message.packet is not None:
            return _decoded(message.packet, survey)
        value, key = message.value, message.key
    if not value:
        raise PacketError("empty", "message without a value")
    if len(value) > limits.message_bytes:
        raise PacketError("too_large", f"message of {len(value)} bytes, at most {limits.message_bytes}")
    allowance = Allowance(limits)
    if value[:4] == MAGIC:
        container = Container(value, limits)
        require_survey(container.schema, survey)
        return Opened(container.schema, *container.one(allowance), allowance)
    schema, start = _schema_of(value, schemas, limits, key)
    require_survey(schema, survey)
    return Opened(schema, value, start, len(value), allowance)


def _decoded(packet, survey):
    if isinstance(packet, PacketError):
        raise packet
    if survey is not None and packet.survey != survey:
        raise PacketError("wrong_survey", f"a packet of {packet.survey}, expected {survey}")
    return Decoded(packet)


def _schema_of(value, schemas, limits, key):
    """(schema, start of the record) of a message that is no container."""
    if key is not None and key[:1] == b"{":
        return schema_from_json(bytes(key), limits), 0
    if value[0] == 0:
        number = confluent.schema_id(value)
        if schemas is None:
            raise PacketError("unknown_schema", f"schema id {number}: no folder or registry of schemas was given")
        return schemas.writer_schema(number), confluent.HEAD_BYTES
    found = bytes(value[:8]).hex(" ")
    raise PacketError("unknown_framing", f"begins with {found}, expected an Avro container (4f 62 6a 01) or a frame (00)")


def require_survey(schema, survey):
    """Raises if a schema is no alert's, lacks a field that is read, or is of another survey."""
    schema.require_alert()
    if survey is not None and schema.survey != survey:
        raise PacketError("wrong_survey", f"{schema.label}: a packet of {schema.survey}, expected {survey}")


def decode(message, survey=None, schemas=None, limits=DEFAULT, key=None):
    """The one packet of a message; see `open_message`.

    Raises
    ------
    PacketError, InputUnavailable, ServiceFailed
    """
    return open_message(message, survey, schemas, limits, key).packet()


def packet_label(survey, record, version=None):
    """`lsst 10.0`: the version that the packet states, else that of its schema."""
    stated = record.get("schemavsn") if survey == "ztf" else record.get("lsst_schema_version")
    if stated:
        version = stated.rpartition(".v")[2].replace("_", ".") if survey == "lsst" else stated
    return f"{survey} {version[:20]}" if version else f"{survey} unversioned"
