"""Files of alerts as a stream of messages, in sorted order.

A file is a framed LSST message, a ZTF container of one alert, or a container of many; a `.parquet` table has one alert a
row, as Fink writes them. What a file holds is told by its bytes, not by its name.
"""

from itertools import chain
from pathlib import Path

from dgl_broker import wire
from dgl_broker.alert import Message
from dgl_broker.errors import InputUnavailable, PacketError

SUFFIXES = (".avro", ".parquet")
MAX_FILE_BYTES = 2_000_000_000
CONTAINER_MAGIC = b"Obj\x01"
PARQUET_ROWS = 64  # a row group of whole alerts is some 7 MB


def find_files(paths):
    """Files named by `paths`, folders searched recursively, each list sorted; in the order of `paths`.

    Raises
    ------
    InputUnavailable
        If a path does not exist, or a folder holds no file of alerts.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            if not inside:
                raise InputUnavailable(f"{path}: no {' or '.join(SUFFIXES)} file in it")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise InputUnavailable(f"{path}: no such file or folder")
    return found


def read_messages(paths, survey=None, limits=None):
    """Messages of all files, in sorted order.

    Yields
    ------
    Message
        `source` and `source_row` say where from. Alerts of a container of many, and rows of a table, come decoded in
        `packet`; a broken block comes as one message whose `packet` is the PacketError and whose value are the bytes
        that could not be read.
    """
    limits = limits or wire.DEFAULT
    for path in find_files(paths):
        yield from _read_table(path, survey) if path.suffix == ".parquet" else _read_file(path, survey, limits)


def _read_file(path, survey, limits):
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputUnavailable(f"{path}: {size} bytes, limit {MAX_FILE_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise InputUnavailable(f"{path}: {error.strerror}") from error
    source = str(path)
    if not data.startswith(CONTAINER_MAGIC):
        yield Message(data, source=source, source_row=0)
        return
    found = wire.decode_all(data, survey, limits)
    first, second = next(found, None), next(found, None)
    if second is None:
        # One alert, or nothing that can be read: the message is the file, as it would come from Kafka.
        yield Message(data, source=source, source_row=0)
        return
    for row, (packet, raw) in enumerate(chain((first, second), found)):
        yield Message(raw, source=source, source_row=row, packet=packet)


def _read_table(path, survey):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputUnavailable(f"{path}: not a Parquet table: {error}") from error
    row = 0
    for batch in table.iter_batches(PARQUET_ROWS):
        for record in batch.to_pylist():
            try:
                packet = wire.packet_from_record(survey, record)
            except PacketError as error:
                packet = error
                packet.row = record
            yield Message(b"", source=str(path), source_row=row, packet=packet)
            row += 1
