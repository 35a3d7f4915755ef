"""Hostile packets without end, the same in every process: `mutants(seed, n)`.

For any decoder of these packets to be held against: each mutant is made of its seed number and its place alone, so that one
that fails is made again by `mutant(seed, place)`. `Schemas()` gives the writer schemas of frames.
"""

import random

from fuzz import of_bytes, of_containers, of_records
from fuzz.forms import packet
from fuzz.seeds import CODECS, Schemas, seeds

__all__ = ["Schemas", "mutant", "mutants", "seeds"]
# Shares of the kinds of mutants. Real packets are ten times the size of the others and take as much longer.
REAL, WRITTEN, SANE = 0.04, 0.10, 0.01
KINDS = ("bytes", "records", "containers", "records and bytes")
WEIGHTS = (35, 40, 20, 5)


def mutants(seed, n, start=0):
    """Hostile packets.

    Parameters
    ----------
    seed : int
        Another one gives other packets.
    n : int
        How many.
    start : int
        Place of the first, so that a run can be shared out or taken up again.

    Yields
    ------
    name : str
        `<seed>:<place> <base>: <what was done>`.
    value : bytes
    survey : "ztf" or "lsst"
        Of the base; a mutant may well be no packet of it any more.
    """
    for place in range(start, start + n):
        yield mutant(seed, place)


def mutant(seed, place):
    """The packet (name, bytes, survey) at one place."""
    rng = random.Random(f"{seed}:{place}")
    small = [s for s in seeds() if s.record]
    draw = rng.random()
    if draw < REAL:
        base = rng.choice([s for s in seeds() if s.is_real])
    elif draw < REAL + WRITTEN:
        base = rng.choice([s for s in seeds() if not s.is_real and not s.record])
    else:
        base = rng.choice(small)
    name, value = _changed(rng, base, rng.choice(small))
    return f"{seed}:{place} {base.name}: {name}", value, base.survey


def _changed(rng, base, other):
    if rng.random() < SANE:
        return "as it is", base.value
    kind = rng.choices(KINDS, WEIGHTS)[0] if base.record else "bytes"
    if kind == "bytes":
        return _bytes(rng, base.value, other.value)
    if kind == "containers":
        change = rng.choice(of_containers.ALL)
        return change.__name__, change(rng, base)
    name, record = of_records.mutate(rng, base.survey, base.record)
    codec = base.codec if base.codec is None or rng.random() < 0.8 else rng.choice(CODECS)
    value = packet(base.survey, record, codec)
    if kind == "records":
        return name, value
    further, value = _bytes(rng, value, other.value)
    return f"{name}+{further}", value


def _bytes(rng, value, other):
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(of_bytes.ALL)
        value = change(rng, value, other)
        names.append(change.__name__)
    return "+".join(names), value
