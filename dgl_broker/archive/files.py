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
FIRST_BYTES = 512  # of a gzip member, fed first


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


class Inflated:
    """What gzipped pieces inflate to, member after member: tools that pack in parallel write many. Zeros between are padding.

    A member is fed little by little, each time twice as much: what zlib hands back of what lies behind it is then never more
    than it took itself, so that a million empty members cost what their bytes do, and not a copy of the rest each.

    Parameters
    ----------
    pieces : iterator of bytes
    """

    def __init__(self, pieces):
        self._pieces, self._piece, self._at, self._step = pieces, b"", 0, FIRST_BYTES
        self._inflater = zlib.decompressobj(31)

    def read(self, size):
        """`size` bytes, less only at the end.

        Raises
        ------
        EOFError
            If it ends within a member. `tarfile`'s own reader takes a cut file for one that ends.
        zlib.error
            If it is damaged.
        """
        parts, have = [], 0
        while have < size:
            fed = self._next()
            if not fed:
                if not self._inflater.eof:
                    raise EOFError("the gzip stream ends early")
                break
            if self._inflater.eof:
                fed = fed.lstrip(b"\0")
                if not fed:
                    continue
                self._inflater = zlib.decompressobj(31)
            part = self._inflater.decompress(fed, size - have)
            self._at -= len(self._inflater.unconsumed_tail or self._inflater.unused_data)
            if self._inflater.eof:
                self._step = FIRST_BYTES
            if part:
                parts.append(part)
                have += len(part)
        return b"".join(parts)

    def _next(self):
        if self._at == len(self._piece):
            self._piece, self._at = next(self._pieces, b""), 0
        fed = self._piece[self._at : self._at + self._step]
        self._at += len(fed)
        self._step = min(2 * self._step, PIECE_BYTES)
        return fed


def gunzip(data, limit=MAX_INFLATED_BYTES):
    """Inflated content of a gzipped file.

    Raises
    ------
    PacketError
        `too_large`, `truncated`, `undecodable`.
    """
    stream = Inflated(data[n : n + PIECE_BYTES] for n in range(0, len(data), PIECE_BYTES))
    try:
        found = stream.read(limit + 1)
    except zlib.error as error:
        raise PacketError("undecodable", f"gzip: {error}") from error
    except EOFError as error:
        raise PacketError("truncated", f"gzip ends early, after {len(data)} bytes") from error
    if len(found) > limit:
        raise PacketError("too_large", f"gzip of more than {limit} bytes once inflated")
    return found
