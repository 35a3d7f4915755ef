"""FITS files of a few small images, written from header templates: what the survey's packet writers and tests need, no more."""

import deflate
import numpy as np

BLOCK = 2880


def card(key, value, comment=""):
    """One header card of 80 bytes: bool, int, float or string in FITS fixed format."""
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        text = f"'{value:<8}'"
        text = f"{text:<20}" if comment else text
    else:
        text = f"{number(value):>20}"
    line = f"{key:<8}= {text}" + (f" / {comment}" if comment else "")
    return line[:80].ljust(80).encode("ascii")


def number(value):
    """A number as FITS text of 20 characters at most; integers have no point, others always one."""
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    text = format(float(value), ".13G")
    return text if "." in text or "E" in text else text + ".0"


def header(cards):
    """Header of (key, value, comment) cards, padded to whole blocks."""
    return closed_header(b"".join(card(*c) for c in cards))


def closed_header(cards):
    """Header of finished cards: END added, padded to whole blocks."""
    text = cards + b"END".ljust(80)
    return text + b" " * (-len(text) % BLOCK)


def data(pixels, dtype):
    """Data unit of an image: big-endian `dtype` (">f4", ">f8"), padded to whole blocks."""
    raw = pixels.astype(dtype).tobytes()
    return raw + bytes(-len(raw) % BLOCK)


def gzipped(raw, level=1):
    """Gzip without a time stamp, so that equal images give equal bytes; level 1, since noise does not compress further."""
    return bytes(deflate.gzip_compress(raw, level))
