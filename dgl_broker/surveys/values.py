"""Single values of a packet: exact ids, numbers that are numbers, flags in all their spellings."""

import math

import numpy as np

from dgl_broker.errors import PacketError
from dgl_broker.wire.schema_tree import shown

EXACT_IN_DOUBLE = 2**53
INT64 = 2**63


def exact_id(value):
    """A 64-bit id as int; None for null, NaN, 0 and for a float beyond 2**53, which has lost digits."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value if value and -INT64 <= value < INT64 else None
    if isinstance(value, float) and value.is_integer():
        return int(value) if 0 < abs(value) <= EXACT_IN_DOUBLE else None
    return None


def number(value):
    """A finite float, or None for null, NaN, infinities and anything that is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def number_above(value, floor):
    """A finite float above `floor`, else None: sentinels (-999, -99999) lie below it."""
    value = number(value)
    return value if value is not None and value > floor else None


def flag(value):
    """True, False, or None for unknown."""
    return value if isinstance(value, bool) else bool(value) if value in (0, 1) else None


def needed(name, field, value, lowest, highest, unit):
    """A finite float between `lowest` and `highest`.

    Raises
    ------
    PacketError
        `bad_value` with the alert, the field, what was found and what was needed.
    """
    found = number(value)
    if found is None or not lowest <= found <= highest:
        raise PacketError("bad_value", f"{name}: {field} {shown(value)}, expected {lowest:g} to {highest:g} {unit}")
    return found


def cells(rows, field):
    """A field of all rows as a list, None where it is missing."""
    try:
        return [row[field] for row in rows]
    except KeyError:
        return [row.get(field) for row in rows]


def column(rows, field):
    """A field of all rows as float64, NaN for null, for a missing field and for what is no number."""
    values = cells(rows, field)
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([np.nan if (v := number(value)) is None else v for value in values], np.float64)


def integers(rows, field):
    """A field of all rows as int64; what is none gets a negative number of its own."""
    values = cells(rows, field)
    try:
        return np.array(values, np.int64)
    except (TypeError, ValueError, OverflowError):
        exact = [v if isinstance(v, int) and -INT64 <= v < INT64 else exact_id(v) for v in values]
        return np.array([-1 - i if v is None else v for i, v in enumerate(exact)], np.int64)
