"""What is done to a packet without knowing what it means: cut, flipped, grown, spliced.

Each takes (rng, value, other), `other` being another sane packet, and gives bytes.
"""

from dgl_broker.surveys.avro_parts import long_of

# Declared sizes and counts that lie: just off, beyond the bytes, beyond 32 and 64 bits, below zero.
LIES = (-1, 1, 63, 64, 8192, 10**6, 2**31 - 1, 2**31, 2**40, 2**61, 2**62, 2**63 - 1, -2, -(2**31), -(2**62), -(2**63))
ODD_BYTES = (0x00, 0x01, 0x02, 0x7F, 0x80, 0xFF, 0x20, 0x2C)


def _place(rng, value, top=None):
    """A place in a packet; one in three among its first bytes, where framing, sizes and ids stand."""
    top = len(value) if top is None else top
    return rng.randrange(min(top, 300) if rng.random() < 0.33 else top) if top > 0 else 0


def cut(rng, value, other):
    """The end is missing."""
    return value[: _place(rng, value)]


def cut_by_little(rng, value, other):
    """A few bytes of the end are missing."""
    return value[: -rng.randint(1, 20)]


def lose(rng, value, other):
    """A piece of the middle is missing."""
    start = _place(rng, value)
    return value[:start] + value[start + rng.choice((1, 2, 7, 16, 80, 2880)) :]


def flip_bits(rng, value, other):
    """Single bits are turned over."""
    out = bytearray(value)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if out else 0):
        out[_place(rng, value)] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwrite(rng, value, other):
    """Single bytes are others."""
    out = bytearray(value)
    for _ in range(rng.choice((1, 2, 4, 30)) if out else 0):
        out[_place(rng, value)] = rng.choice(ODD_BYTES) if rng.random() < 0.5 else rng.randrange(256)
    return bytes(out)


def overwrite_run(rng, value, other):
    """A run of bytes is all the same."""
    start, size = _place(rng, value), rng.choice((4, 8, 80, 400, 3000))
    return value[:start] + bytes([rng.choice(ODD_BYTES)]) * len(value[start : start + size]) + value[start + size :]


def lie(rng, value, other):
    """A number that stands for a size or a count, or might, is another."""
    start = _place(rng, value)
    number = long_of(rng.choice(LIES))
    return value[:start] + number + value[start + (len(number) if rng.random() < 0.5 else 1) :]


def grow(rng, value, other):
    """Bytes come in between."""
    start, size = _place(rng, value, len(value) + 1), rng.choice((1, 2, 16, 80, 1000, 5000))
    piece = rng.randbytes(size) if rng.random() < 0.5 else bytes([rng.choice(ODD_BYTES)]) * size
    return value[:start] + piece + value[start:]


def grow_at_end(rng, value, other):
    """Bytes follow."""
    return value + rng.choice((b"\0", b"\0" * 16, rng.randbytes(rng.randint(1, 3000)), b"\xff" * 100))


def stutter(rng, value, other):
    """A piece comes twice, or many times."""
    start = _place(rng, value)
    piece = value[start : start + rng.choice((1, 9, 80, 700, 3000))]
    return value[:start] + piece * rng.choice((2, 2, 3, 10)) + value[start + len(piece) :]


def swap(rng, value, other):
    """Two pieces have changed places."""
    a, b = sorted((_place(rng, value), _place(rng, value)))
    size = min(rng.choice((4, 16, 80, 1000)), b - a)
    return value[:a] + value[b : b + size] + value[a + size : b] + value[a : a + size] + value[b + size :]


def splice(rng, value, other):
    """The head of one packet, the tail of another."""
    start = _place(rng, value)
    return value[:start] + other[start if rng.random() < 0.5 else _place(rng, other) :]


def transplant(rng, value, other):
    """A piece of another packet stands in this one."""
    start, size = _place(rng, value), rng.choice((8, 80, 600, 3000))
    origin = _place(rng, other)
    return value[:start] + other[origin : origin + size] + value[start + size :]


ALL = (cut, cut_by_little, lose, flip_bits, overwrite, overwrite_run, lie, grow, grow_at_end, stutter, swap, splice, transplant)
