"""Stamps that lie: headers, gzip, pixels. Each takes (rng, FITS bytes of a sane one) and gives the bytes of a stamp."""

import gzip
import math
import zlib
from functools import cache

import numpy as np

from dgl_broker.surveys import fits_write
from fuzz.seeds import lsst_stamp, ztf_stamp

ABSURD_AXES = ("0", "1", "3", "999", "-1", "2.5", "1E9", "NaN", "T", "''", "", "2 2", "99999999999999999999", "0x2", "2_0")
ABSURD_SIDES = ("0", "-63", "1", "2", "1025", "65536", "2147483647", "4294967296", "1E308", "30.5", "NaN", "'30'", "")
ABSURD_SCALES = ("0", "NaN", "INF", "-INF", "1E308", "-1E308", "1E-320", "1D300", "1d-5", "'1'", "", "1E400", "-1", "(1,2)")
ABSURD_BITS = ("8", "16", "32", "64", "-64", "-32", "0", "-16", "128", "1E2", "NaN", "")
ODD_PIXELS = (math.nan, math.inf, -math.inf, 5e-324, 1e-45, -1e-40, 3.4e38, -3.4e38, 1e30, 0.0, -0.0, 1.0)


def _set(fits, key, text):
    """A header whose card `key` says `text`, written as it is; the card is added where there is none."""
    card = f"{key:<8}= {text:>20}".encode("latin-1")[:80].ljust(80)
    at = fits.find(f"{key:<8}=".encode())
    if at % 80 == 0 and 0 <= at < 2880:
        return fits[:at] + card + fits[at + 80 :]
    end = fits.find(b"END".ljust(80))
    return fits[:end] + card + fits[end : end + 80] + fits[end + 160 :]


def axes(rng, fits):
    """NAXIS is absurd."""
    return _set(fits, "NAXIS", rng.choice(ABSURD_AXES))


def sides(rng, fits):
    """NAXIS1 or NAXIS2 or both are absurd, or differ."""
    out = _set(fits, "NAXIS1", rng.choice(ABSURD_SIDES))
    return _set(out, "NAXIS2", rng.choice(ABSURD_SIDES)) if rng.random() < 0.5 else out


def scales(rng, fits):
    """BSCALE, BZERO, BLANK are absurd."""
    for key in rng.sample(("BSCALE", "BZERO", "BLANK"), rng.randint(1, 3)):
        fits = _set(fits, key, rng.choice(ABSURD_SCALES))
    return _set(fits, "BITPIX", rng.choice(ABSURD_BITS)) if rng.random() < 0.3 else fits


def bits(rng, fits):
    """BITPIX is another."""
    return _set(fits, "BITPIX", rng.choice(ABSURD_BITS))


def matrix(rng, fits):
    """The matrix or the place of the source is absurd."""
    for key in rng.sample(("PC1_1", "PC1_2", "PC2_2", "CD1_1", "CDELT1", "CRPIX1", "CRPIX2"), rng.randint(1, 3)):
        fits = _set(fits, key, rng.choice((*ABSURD_SCALES, "15.5", "0.2", "1E-5")))
    return fits


def endless_cards(rng, fits):
    """A header without END, or with one that comes late."""
    cards = b"COMMENT and another".ljust(80) * rng.choice((30, 36, 300, 3000))
    at = fits.find(b"END".ljust(80))
    return fits[:at] + cards + (fits[at:] if rng.random() < 0.5 else b"")


def repeated_cards(rng, fits):
    """A keyword stands there twice, in odd spelling, with bytes that are no ASCII."""
    card = rng.choice(
        (b"NAXIS1  =                 3000", b"NAXIS1  =  \xff\xfe", b"naxis1  = 7", b"BSCALE  =1e5/x", b"\0" * 20)
    )
    return fits[:80] + card.ljust(80) + fits[80:2800] + fits[2880:]


def odd_pixels(rng, fits):
    """Some or all pixels are not finite, subnormal or immense."""
    floats = np.frombuffer(fits, ">f4", offset=2880).copy()
    share = rng.choice((1.0, 0.5, 0.02))
    where = np.array([rng.random() < share for _ in range(64)])[np.arange(floats.size) % 64]
    with np.errstate(over="ignore"):
        floats[where] = np.float32(rng.choice(ODD_PIXELS))
    return fits[:2880] + floats.tobytes()


def no_image(rng, fits):
    """What is no FITS at all."""
    return rng.choice((b"", b"\0", b"SIMPLE", b"not opened here", b"\x89PNG\r\n", fits[:80], fits[:2880], fits[2880:]))


def shorter(rng, fits):
    """The data unit ends early, or late."""
    return fits[: rng.randrange(len(fits))] if rng.random() < 0.7 else fits + bytes(rng.choice((1, 2880, 50_000)))


def bomb(rng, fits):
    """Gzip of a few kB that inflates to megabytes, with or without a header in front."""
    return _bomb(b"" if rng.random() < 0.5 else fits[:2880], rng.choice((1_000_001, 1_000_001, 6_000_000)))


def nested(rng, fits):
    """Gzip in gzip, up to ten times."""
    for _ in range(rng.choice((2, 2, 3, 10))):
        fits = gzip_of(fits)
    return fits


def odd_gzip(rng, fits):
    """Gzip that is cut, damaged, says another size, has two members, or bytes behind its end."""
    raw = gzip_of(fits)
    kind = rng.randrange(6)
    if kind == 0:
        return raw[: rng.randrange(len(raw))]
    if kind == 1:
        at = rng.randrange(len(raw))
        return raw[:at] + rng.randbytes(rng.randint(1, 9)) + raw[at + 1 :]
    if kind == 2:
        return raw[:-4] + rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\0\0\0", b"\0\x90\x3c\0"))
    if kind == 3:
        return raw + gzip_of(fits)
    if kind == 4:
        return raw + bytes(rng.choice((1, 17, 4000)))
    return raw[:3] + bytes([rng.randrange(256)]) + raw[4:]  # flags: a name, a comment, extra fields that are not there


HEADERS = (axes, sides, scales, bits, matrix, endless_cards, repeated_cards)
DATA = (odd_pixels, no_image, shorter)
GZIP = (bomb, nested, odd_gzip)
ALL = HEADERS * 2 + DATA * 2 + GZIP


def gzip_of(raw):
    """Gzip without a time."""
    return fits_write.gzipped(raw)


@cache
def _bomb(head, size):
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(head + bytes(size)) + packer.flush()


@cache
def _sane(survey, which):
    stamp = ztf_stamp(which) if survey == "ztf" else lsst_stamp(which)
    return gzip.decompress(stamp) if survey == "ztf" else stamp


def mutate(rng, survey, which):
    """(name, bytes) of a hostile stamp; ZTF's mostly gzipped, as they should be."""
    change = rng.choice(ALL)
    out = change(rng, _sane(survey, which))
    zipped = change not in GZIP and (survey == "ztf") == (rng.random() < 0.9)
    return change.__name__, gzip_of(out) if zipped else out
