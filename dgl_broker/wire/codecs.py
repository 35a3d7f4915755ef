"""Compression of container blocks, each inflated with a limit: the size that a block declares is never believed."""

import struct
import zlib

import cramjam
import zstandard

from dgl_broker.errors import PacketError

ZLIB_TRAILER_BYTES = 4
ZSTANDARD_WINDOW = 1 << 23  # 8 MiB, that of all levels but the "ultra" ones; a larger one is refused before memory is taken
PIECE_BYTES = 1 << 20


def inflate(codec, data, limit):
    """Content of a block.

    Parameters
    ----------
    codec : str
        Avro's name: `null`, `deflate`, `snappy` or `zstandard`.
    data : bytes
    limit : int
        Most bytes that the content may have.

    Raises
    ------
    PacketError
        `unknown_codec`, `too_large`, `undecodable`.
    """
    if codec not in _INFLATE:
        raise PacketError("unknown_codec", f"codec {codec[:40]!r}, expected one of {', '.join(_INFLATE)}")
    content = _INFLATE[codec](data, limit)
    if len(content) > limit:
        raise _too_large(limit)
    return content


def _too_large(limit):
    return PacketError("too_large", f"block of more than {limit} bytes once inflated")


def _deflate(data, limit):
    inflater = zlib.decompressobj(-15)
    try:
        content = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise PacketError("undecodable", f"deflate block: {error}") from error
    # A common writer (fastavro) strips zlib's trailer short and leaves 3 bytes of it behind the end.
    if len(content) <= limit and (not inflater.eof or len(inflater.unused_data) > ZLIB_TRAILER_BYTES):
        raise PacketError("undecodable", "deflate block: ends early, or has bytes behind its end")
    return content


def _snappy(data, limit):
    # Avro's snappy block: raw snappy, then the CRC-32 of the content, big-endian.
    if len(data) < 5:
        raise PacketError("undecodable", f"snappy block of {len(data)} bytes")
    if _snappy_length(data) > limit:
        raise _too_large(limit)
    try:
        content = bytes(cramjam.snappy.decompress_raw(data[:-4]))
    except cramjam.DecompressionError as error:
        raise PacketError("undecodable", f"snappy block: {error}") from error
    (expected,) = struct.unpack(">I", data[-4:])
    if zlib.crc32(content) != expected:
        raise PacketError("undecodable", f"snappy block: checksum {zlib.crc32(content):08x}, expected {expected:08x}")
    return content


def _snappy_length(data):
    """Length that a raw snappy stream declares: a little-endian base-128 number."""
    length = 0
    for place, byte in enumerate(data[:5]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return length
    raise PacketError("undecodable", "snappy block: no length")


def _zstandard(data, limit):
    inflater = zstandard.ZstdDecompressor(max_window_size=max(limit, ZSTANDARD_WINDOW))
    parts, total = [], 0
    try:
        declared = zstandard.frame_content_size(data)  # -1 where the writer did not know
        reader = inflater.stream_reader(data, read_across_frames=False)
        while total <= limit and (part := reader.read(min(limit + 1 - total, PIECE_BYTES))):
            parts.append(part)
            total += len(part)
        if total > limit:
            raise _too_large(limit)
        if declared < 0:  # the reader does not tell an end from a cut
            whole = inflater.decompressobj()
            whole.decompress(data)
            declared = total if whole.eof else total + 1
    except zstandard.ZstdError as error:
        raise PacketError("undecodable", f"zstandard block: {error}") from error
    if total != declared:
        raise PacketError("undecodable", f"zstandard block: ends early, after {total} bytes")
    return b"".join(parts)


_INFLATE = {"null": lambda data, limit: data, "deflate": _deflate, "snappy": _snappy, "zstandard": _zstandard}


def compress(codec, content):
    """Content of a block, compressed by a codec of `inflate`."""
    if codec == "null":
        return content
    if codec == "deflate":
        packer = zlib.compressobj(wbits=-15)
        return packer.compress(content) + packer.flush()
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(content)) + struct.pack(">I", zlib.crc32(content))
    if codec == "zstandard":
        return zstandard.ZstdCompressor().compress(content)
    raise ValueError(f"codec {codec!r}, expected one of {', '.join(_INFLATE)}")
