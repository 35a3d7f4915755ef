"""Tars of alerts, such as ZTF's `ztf_public_YYYYMMDD.tar.gz`: read as they stream, nothing unpacked to disk."""

import tarfile
import zlib
from functools import partial

from dgl_broker.archive.files import GZIP_MAGIC, MAX_INFLATED_BYTES, PIECE_BYTES, TAR_BLOCK, Inflated, readable_name, told
from dgl_broker.errors import InputUnavailable, PacketError

MEMBERS = (".avro", ".avro.gz")
MAX_BETWEEN_BYTES = 2 * MAX_INFLATED_BYTES  # from the end of a member's data to the next member


def members(path, digest=None):
    """Yields (name, bytes) of each file of alerts in a tar, in its order.

    A tar that ends early or is damaged gives, as the last one, a PacketError instead of bytes: how much lies behind is not
    known, and it stands in the accounts as one dead letter.

    Parameters
    ----------
    path : Path
    digest : hashlib object, optional
        Has taken in the whole tar once all are yielded.

    Raises
    ------
    InputUnavailable
        If it cannot be read, or holds no file of alerts.
    """
    count = 0
    with told(path), path.open("rb") as file:
        raw = _Hashing(file, digest)
        stream = _Tail(Inflated(iter(partial(raw.read, PIECE_BYTES), b"")) if _is_gzipped(path) else raw)
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=PIECE_BYTES) as tar:
                for member in tar:
                    tar.members.clear()  # else each of a night's million members stays in memory
                    stream.since = member.offset_data - tar.offset  # its data are read or skipped: only what follows counts
                    name = readable_name(member.name)
                    if not (member.isreg() and not member.issparse() and name.endswith(MEMBERS)):
                        continue
                    count += 1
                    if member.size > MAX_INFLATED_BYTES:
                        yield name, PacketError("too_large", f"{member.size} bytes, limit {MAX_INFLATED_BYTES}")
                        continue
                    data = tar.extractfile(member).read()
                    if len(data) != member.size:
                        raise EOFError(f"{name} ends after {len(data)} of {member.size} bytes")
                    yield name, data
            stream.check_end()
        except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, RecursionError) as error:
            text = f"cannot be read beyond its alert {count}: {str(error) or type(error).__name__}"
            count += 1
            yield f"alert {count}", PacketError("truncated", text)
        raw.drain()
    if not count:
        raise InputUnavailable(f"{path}: no {' or '.join(MEMBERS)} file in it")


def _is_gzipped(path):
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


class _Hashing:
    """A file that tells a digest what is read of it."""

    def __init__(self, file, digest):
        self.file, self.digest = file, digest

    def read(self, size):
        piece = self.file.read(size)
        if self.digest is not None:
            self.digest.update(piece)
        return piece

    def drain(self):
        """Read to the end, so that the digest is of the whole."""
        while self.digest is not None and self.read(PIECE_BYTES):
            pass


class _Tail:
    """A stream whose end must be a tar's: blocks of zeros."""

    def __init__(self, file):
        self.file, self.last, self.since = file, b"", 0

    def read(self, size):
        piece = self.file.read(size)
        self.since += len(piece)
        if self.since > MAX_BETWEEN_BYTES:  # headers that say they are gigabytes long would be gathered in memory
            raise EOFError(f"more than {MAX_BETWEEN_BYTES} bytes of headers before a member")
        self.last = (self.last + piece[-TAR_BLOCK:])[-TAR_BLOCK:]
        return piece

    def check_end(self):
        """Read to the end.

        Raises
        ------
        EOFError
            If it is not that of a whole tar.
        """
        while self.read(PIECE_BYTES):
            self.since = 0
        if self.last.strip(b"\0") or len(self.last) < TAR_BLOCK:
            raise EOFError("it ends without a tar's end mark")
