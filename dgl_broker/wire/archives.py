"""What archives hold many of: containers of several records, and rows of tables."""

from dgl_broker.errors import PacketError
from dgl_broker.wire.codecs import inflate
from dgl_broker.wire.containers import Container
from dgl_broker.wire.limits import DEFAULT, Allowance
from dgl_broker.wire.packets import Packet, packet_label, require_survey
from dgl_broker.wire.reduce import picked, reader_schema
from dgl_broker.wire.schema_tree import shown
from dgl_broker.wire.writer_schema import TRIGGER_OF_SURVEY


def decode_all(data, survey=None, limits=DEFAULT):
    """Yields the packets of a container of any number of records, in order, each with bytes that stand for it alone.

    Parameters
    ----------
    data : bytes-like
        Also a memory map.
    survey : str, optional
        `ztf` or `lsst` where the packets must be of that one.
    limits : Limits

    Yields
    ------
    packet : Packet or PacketError
        A bad block and everything behind it give one PacketError, the last thing yielded.
    raw : bytes
        A container of this record alone; of a PacketError the header and everything that was not yielded.
    """
    try:
        container = Container(data, limits)
        require_survey(container.schema, survey)
    except PacketError as error:
        yield error, bytes(data)
        return
    place = container.first_block
    try:
        for count, content, place in container.blocks():  # noqa: B007  place is for the error
            # All of a block or nothing: what is yielded as an error then holds no record that was yielded before.
            yield from _records(container, count, content)
    except PacketError as error:
        yield error, bytes(data[: container.first_block]) + bytes(data[getattr(error, "offset", place) :])


def is_one_record(data, limits=DEFAULT):
    """Whether bytes are a container of one record, by its blocks alone: nothing is decoded."""
    try:
        Container(data, limits).one()
    except PacketError:
        return False
    return True


def _records(container, count, content):
    schema, limits = container.schema, container.limits
    content = inflate(container.codec, content, limits.file_block_bytes)
    found, place = [], 0
    for _ in range(count):
        window, start = content, place
        if len(content) - place > limits.inflated_bytes:  # no alert is longer: what seems to be must not be unpacked
            window, start = content[place : place + limits.inflated_bytes], 0
        record, end = schema.read(window, start, Allowance(limits))
        end += place - start
        packet = Packet(schema.survey, packet_label(schema.survey, record, schema.version), record)
        found.append((packet, container.alone(content[place:end])))
        place = end
    if place != len(content):
        raise PacketError("trailing_bytes", f"{schema.label}: block's records end at byte {place} of {len(content)}")
    return found


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
    return Packet(found, packet_label(found, record), record)
