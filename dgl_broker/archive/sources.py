"""Archives as streams of messages: files, folders, tars, tables; told by their bytes, not by their names.

A file is a framed LSST message, a ZTF container of one alert, or a container of many, each also gzipped; a tar, also gzipped,
holds such files and is read as it streams, never unpacked; a Parquet table has one alert a row, as Fink writes them.
"""

from itertools import chain
from pathlib import Path

from dgl_broker import wire
from dgl_broker.alert import Message
from dgl_broker.archive import files
from dgl_broker.archive.tars import members
from dgl_broker.errors import InputUnavailable, PacketError

SUFFIXES = (".avro", ".avro.gz", ".parquet", ".tar", ".tar.gz", ".tgz")
CONTAINER_MAGIC = b"Obj\x01"
PARQUET_ROWS = 64  # a row group of whole alerts is some 7 MB


class FileSource:
    """One file of an archive; the n-th message that `messages` yields is always the same.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path):
        self.path = Path(path)
        self.name = files.readable_name(self.path)

    def state(self):
        """Its size, without reading it.

        Raises
        ------
        InputUnavailable
        """
        with files.told(self.path):
            return {"bytes": self.path.stat().st_size}

    def messages(self, survey=None, limits=None, digest=None):
        """Yields its messages; `source` and `source_row` say where each is from.

        Parameters
        ----------
        survey : str, optional
        limits : dgl_broker.wire.Limits, optional
        digest : hashlib object, optional
            Has taken in the whole file once all are yielded.
        """
        limits = limits or wire.DEFAULT
        kind = files.kind_of(self.path)
        if kind == "parquet":
            yield from _read_table(self.path, self.name, survey, digest)
        elif kind == "tar":
            for name, data in members(self.path, digest):
                source = f"{self.name}:{name}"
                if isinstance(data, PacketError):
                    yield Message(b"", source=source, source_row=0, packet=data)
                else:
                    yield from read_content(data, source, survey, limits)
        else:
            with files.content(self.path) as data:
                if digest is not None:
                    digest.update(data)
                yield from read_content(data, self.name, survey, limits)


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
            inside = sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())
            if not inside:
                raise InputUnavailable(f"{path}: no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file in it")
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
    for path in find_files(paths):
        yield from FileSource(path).messages(survey, limits)


def read_content(data, source, survey, limits=wire.DEFAULT):
    """Messages of one file's content, inflated where it is gzipped; `source` is its name. Not for tars and tables."""
    if data[:2] == files.GZIP_MAGIC:
        try:
            data = files.gunzip(data)
        except PacketError as error:
            yield Message(bytes(data), source=source, source_row=0, packet=error)
            return
    if data[:4] != CONTAINER_MAGIC:
        yield Message(bytes(data), source=source, source_row=0)
        return
    if len(data) <= limits.message_bytes and wire.is_one_record(value := bytes(data), limits):
        yield Message(value, source=source, source_row=0)  # by far the most
        return
    found = wire.decode_all(data, survey, limits)
    first, second = next(found, None), next(found, None)
    if second is None:
        # One alert, or nothing that can be read: the message is the file, as it would come from Kafka.
        yield Message(bytes(data), source=source, source_row=0)
        return
    for row, (packet, raw) in enumerate(chain((first, second), found)):
        yield Message(raw, source=source, source_row=row, packet=packet)


def _read_table(path, source, survey, digest):
    import pyarrow as pa
    import pyarrow.parquet as pq

    if digest is not None:
        with files.told(path), path.open("rb") as file:
            while piece := file.read(files.PIECE_BYTES):
                digest.update(piece)
    try:
        with pq.ParquetFile(path) as table:
            row = 0
            for batch in table.iter_batches(PARQUET_ROWS):
                for record in batch.to_pylist():
                    try:
                        packet = wire.packet_from_record(survey, record)
                    except PacketError as error:
                        packet = error
                        packet.row = record
                    yield Message(b"", source=source, source_row=row, packet=packet)
                    row += 1
    except (OSError, pa.ArrowInvalid) as error:
        raise InputUnavailable(f"{path}: not a Parquet table: {error}") from error
