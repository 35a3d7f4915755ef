"""Bytes of an archive's files: which kind they are, mapped or inflated within limits, and names that can be written down."""

import mmap
import os
import zlib
from contextlib import contextmanager

from dgl_broker.errors import InputUnavailable, PacketError

GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
TAR_BLOCK = 512
MAX_FILE_BYTES = 2_000_000_000  # of one file that is no tar and no table
MAX_INFLATED_BYTES = 512 * 1024 * 1024  # of what must stand in memory: a gzipped file, or a member of a tar
MAP_BYTES = 8 * 1024 * 1024  # from here on a file is mapped and not read
PIECE_BYTES = 1 << 20


@contextmanager
def told(path):
    """Errors of the disk as InputUnavailable, naming the file."""
    try:
        yield
    except OSError as error:
        raise InputUnavailable(f"{readable_name(path)}: {error.strerror or error}") from error


def readable_name(path):
    """A path as text that can be written anywhere, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "replace")


def kind_of(path):
    """`parquet`, `tar` (gzipped or not) or `packets`, by the first bytes.

    Raises
    ------
    InputUnavailable
        If it cannot be read.
    """
    with told(path), path.open("rb") as file:
        head = file.read(TAR_BLOCK)
        if head[:2] == GZIP_MAGIC:
            rest = file.read(PIECE_BYTES)
            try:
                head = zlib.decompressobj(31).decompress(head + rest, TAR_BLOCK)
            except zlib.error:
                return "packets"
    if head[:4] == PARQUET_MAGIC:
        return "parquet"
    return "tar" if head[TAR_MAGIC_AT : TAR_MAGIC_AT + 5] == TAR_MAGIC else "packets"


@contextmanager
def content(path):
    """A file's bytes, a memory map where it is large.

    Raises
    ------
    InputUnavailable
        If it cannot be read, or is larger than any file of alerts.
    """
    with told(path):
        file = path.open("rb")
    with file:
        with told(path):
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise InputUnavailable(f"{path}: {size} bytes, limit {MAX_FILE_BYTES}")
            data = file.read() if size < MAP_BYTES else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield data
        finally:
            if not isinstance(data, bytes):
                data.close()


def gunzip(data, limit=MAX_INFLATED_BYTES):
    """Inflated content of a gzipped file.

    Raises
    ------
    PacketError
        `too_large`, `undecodable`.
    """
    parts, total, left = [], 0, data
    while left:  # tools that pack in parallel write several members
        inflater = zlib.decompressobj(31)
        try:
            parts.append(inflater.decompress(left, limit + 1 - total))
        except zlib.error as error:
            raise PacketError("undecodable", f"gzip: {error}") from error
        total += len(parts[-1])
        if total > limit:
            raise PacketError("too_large", f"gzip of more than {limit} bytes once inflated")
        if not inflater.eof:
            raise PacketError("truncated", f"gzip ends early, after {len(data)} bytes")
        left = inflater.unused_data.lstrip(b"\0")  # zeros are padding
    return b"".join(parts)
