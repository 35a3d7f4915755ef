"""A packet at another place and time: a simulated system put where, and when, a survey really looked.

Every time in a packet is moved by the same number of days and every position by the same offset on the sky; fluxes, stamps'
pixels and ids stay as they are.
"""

import io
import math
import re

import fastavro

from dgl_broker.errors import PacketError
from dgl_broker.wire import encode_confluent, encode_container
from dgl_broker.wire.confluent import HEAD_BYTES, schema_id

_PLACES = (("ra", "dec"), ("ranr", "decnr"))
_TIME = {"lsst": re.compile(r".*MjdTai\Z"), "ztf": re.compile(r"jd(starthist|endhist|startref|endref)?\Z")}
_CRVAL = re.compile(rb"CRVAL([12]) *= *([-+0-9.eE]+)")
_CARD_VALUE = slice(10, 30)  # where the value of a FITS card in fixed format stands


def move_packet(value, survey, schemas, days, origin, target):
    """The packet as the survey would have sent it from `target`, `days` later.

    Parameters
    ----------
    value : bytes
        A framed message (LSST), or a container of one alert.
    survey : "lsst" or "ztf"
    schemas : SchemaSource or None
        Of framed messages.
    days : float
    origin, target : (ra, dec)
        What lies at the one comes to lie at the other [deg].

    Raises
    ------
    PacketError
        If it cannot be read.
    """
    if value[:1] == b"\0":
        number = schema_id(value)
        if schemas is None:
            raise PacketError("unknown_schema", f"schema id {number}: no folder or registry of schemas was given")
        schema = schemas.writer_schema(number)
        record, _ = schema.read_whole(value, HEAD_BYTES)
        return encode_confluent(schema.tree, number, _moved(record, _TIME[survey], days, origin, target))
    try:
        reader = fastavro.reader(io.BytesIO(value))
        record, schema = next(reader), reader.writer_schema
    except (ValueError, EOFError, StopIteration, KeyError, IndexError) as error:
        raise PacketError("undecodable", f"a packet to be injected: {error}") from error
    return encode_container(schema, _moved(record, _TIME[survey], days, origin, target))


def _moved(part, times, days, origin, target):
    if isinstance(part, list):
        return [_moved(row, times, days, origin, target) for row in part]
    if isinstance(part, bytes):
        return _stamp_at(part, origin, target)
    if not isinstance(part, dict):
        return part
    out = {name: _moved(value, times, days, origin, target) for name, value in part.items()}
    for name, value in part.items():
        # 0 and NaN are no times, nor are those before 1858: they say that there is none.
        if times.match(name) and isinstance(value, float) and value > 0:
            out[name] = value + days
    for ra, dec in _PLACES:
        if isinstance(part.get(ra), float) and isinstance(part.get(dec), float) and abs(part[dec]) <= 90:
            out[ra], out[dec] = moved_place(part[ra], part[dec], origin, target)
    return out


def moved_place(ra, dec, origin, target):
    """A position as far from `target` as it was from `origin`, in the same direction [deg]; flat sky, for offsets of arcsec."""
    east = ((ra - origin[0] + 180.0) % 360.0 - 180.0) * math.cos(math.radians(origin[1]))
    return (target[0] + east / math.cos(math.radians(target[1]))) % 360.0, target[1] + dec - origin[1]


def _stamp_at(data, origin, target):
    """A stamp's bytes with CRVAL of its first header moved; a gzipped one has no place in it."""
    head = data[:8640]
    found = {int(m[1]): (m.start(), float(m[2])) for m in _CRVAL.finditer(head)}
    if data[:6] != b"SIMPLE" or set(found) != {1, 2}:
        return data
    place = moved_place(found[1][1], found[2][1], origin, target)
    out = bytearray(data)
    for axis, new in zip((1, 2), place, strict=True):
        start = found[axis][0]
        out[start + _CARD_VALUE.start : start + _CARD_VALUE.stop] = f"{new:20.12f}".encode()
    return bytes(out)
