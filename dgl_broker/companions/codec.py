"""Companions as bytes and back: a small versioned record without pickle, so that what a shared cache returns is data only.

    header   magic, version, flags, band, length of the survey's name, alert_id, mjd_tai, ra, dec, length of the object's id
    names    survey and object id, UTF-8
    stamps   template, then difference, those that the flags name: height, width, flags, x0, y0, matrix, scale,
             mask (one bit a pixel, only where a pixel is invalid), pixels / scale as float16
    crc32    of all before it

All little-endian. float16 has 11 significant bits, so a stored pixel is within 2^-11 (0.05 %) of itself, down to 1e-9 of the
stamp's largest: a thousandth of the noise, for an eighth of the bytes of a FITS cutout.
"""

import math
import struct
import zlib

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.stamps import Stamp, all_valid

MAGIC = b"DGLC"
VERSION = 1
HEADER = struct.Struct("<4sBBBBqdddH")
STAMP = struct.Struct("<HHBdd4df")
CRC = struct.Struct("<I")
MAX_SIDE = 1024  # px, as for stamps of packets: a foreign header must not make us allocate
MAX_BYTES = 4_500_000  # two float16 stamps of 1024 px and their masks
LARGEST_F16, LARGEST_F32 = 65504.0, float(np.finfo(np.float32).max)  # largest finite ones, IEEE 754
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
_TEMPLATE, _DIFFERENCE = 1, 2
_ALL_VALID, _IN_NJY = 1, 2


class CorruptCompanion(ValueError):
    """Bytes that are no companion of ours, or no longer."""


def _pack_stamp(stamp):
    pixels = np.asarray(stamp.pixels, np.float32)
    valid = np.asarray(stamp.valid, bool) & np.isfinite(pixels)
    pixels = np.where(valid, pixels, np.float32(0)).astype(np.float64)
    largest = float(np.max(np.abs(pixels), initial=0.0))
    # A power of two, so that storing twice is storing once; a normal float32, so that it can be divided by.
    mantissa, exponent = math.frexp(largest / LARGEST_F16)
    scale = max(math.ldexp(1.0, exponent - (mantissa == 0.5)), SMALLEST_SCALE)
    height, width = pixels.shape
    all_valid = bool(valid.all())
    flags = _ALL_VALID * all_valid | _IN_NJY * bool(stamp.in_njy)
    matrix = np.asarray(stamp.matrix, np.float64).reshape(4)
    head = STAMP.pack(height, width, flags, float(stamp.x0), float(stamp.y0), *matrix.tolist(), scale)
    mask = b"" if all_valid else np.packbits(valid).tobytes()
    return head + mask + (pixels / scale).astype("<f2").tobytes()


def _unpack_stamp(data, at):
    height, width, flags, x0, y0, *matrix, scale = STAMP.unpack_from(data, at)
    at += STAMP.size
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE) or not (0.0 < scale < np.inf):
        raise CorruptCompanion(f"stamp of {width} x {height} px, scale {scale}")
    if not np.isfinite([x0, y0, *matrix]).all():
        raise CorruptCompanion("stamp whose place on the sky is not finite")
    n = height * width
    if flags & _ALL_VALID:
        valid = all_valid((height, width))
    else:
        n_mask = (n + 7) // 8
        bits = np.frombuffer(data, np.uint8, n_mask, at)
        valid = np.unpackbits(bits, count=n).astype(bool).reshape(height, width)
        at += n_mask
    small = np.frombuffer(data, "<f2", n, at).astype(np.float64).reshape(height, width)
    if not np.isfinite(small).all():
        raise CorruptCompanion("stamp with pixels that are not finite")
    pixels = np.clip(small * scale, -LARGEST_F32, LARGEST_F32).astype(np.float32)  # a foreign scale may go beyond
    stamp = Stamp(pixels, valid, np.array(matrix).reshape(2, 2), x0, y0, in_njy=bool(flags & _IN_NJY))
    return stamp, at + 2 * n


def encode(companion):
    """Bytes of a companion.

    Pixels that are invalid or not finite come back as 0 and invalid.
    """
    survey, object_id = companion.survey.encode(), companion.object_id.encode()
    stamps = ((_TEMPLATE, companion.template), (_DIFFERENCE, companion.difference))
    flags = sum(flag for flag, stamp in stamps if stamp is not None)
    band = BANDS.index(companion.band)
    when, place = (companion.alert_id, companion.mjd_tai), (companion.ra, companion.dec)
    header = HEADER.pack(MAGIC, VERSION, flags, band, len(survey), *when, *place, len(object_id))
    body = b"".join([header, survey, object_id, *(_pack_stamp(s) for _, s in stamps if s is not None)])
    return body + CRC.pack(zlib.crc32(body))


def decode_when(data):
    """(mjd_tai, alert_id) from the first `HEADER.size` bytes of a companion, or None where they are not ours.

    Enough to tell which of two stamps is newer without fetching the pixels.
    """
    if data is None or len(data) < HEADER.size:
        return None
    magic, version, _, _, _, alert_id, mjd_tai, *_ = HEADER.unpack_from(data)
    return (mjd_tai, alert_id) if magic == MAGIC and version == VERSION and np.isfinite(mjd_tai) else None


def decode(data):
    """The fields of a companion from its bytes.

    Returns
    -------
    survey, object_id, band : str
    alert_id : int
    mjd_tai, ra, dec : float
    template, difference : Stamp or None

    Raises
    ------
    CorruptCompanion
        If the bytes are foreign, of another version, cut short or altered.
    """
    if not HEADER.size + CRC.size <= len(data) <= MAX_BYTES:
        raise CorruptCompanion(f"{len(data)} bytes")
    magic, version, flags, band, n_survey, alert_id, mjd_tai, ra, dec, n_object = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise CorruptCompanion(f"begins with {data[:5]!r}, expected {MAGIC!r} and version {VERSION}")
    end = len(data) - CRC.size
    if CRC.unpack_from(data, end)[0] != zlib.crc32(memoryview(data)[:end]):
        raise CorruptCompanion("checksum does not match")
    try:
        at = HEADER.size + n_survey + n_object
        survey = data[HEADER.size : HEADER.size + n_survey].decode()
        object_id = data[HEADER.size + n_survey : at].decode()
        stamps = []
        for flag in (_TEMPLATE, _DIFFERENCE):
            stamp = None
            if flags & flag:
                stamp, at = _unpack_stamp(data, at)
            stamps.append(stamp)
        name = BANDS[band]
    except (struct.error, ValueError, IndexError) as error:
        raise CorruptCompanion(f"not a companion: {error}") from error
    if at != end or not np.isfinite([mjd_tai, ra, dec]).all():
        raise CorruptCompanion(f"{len(data)} bytes where {at + CRC.size} are described")
    return survey, object_id, name, alert_id, mjd_tai, ra, dec, *stamps
