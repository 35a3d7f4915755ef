"""Single values of a packet: exact ids, numbers that are numbers, flags in all their spellings."""

import math

import numpy as np

from dgl_broker.errors import PacketError
from dgl_broker.wire.histories import History, within
from dgl_broker.wire.schema_tree import shown

# What is measured of a source has a size between these, in whatever unit; products and quotients of such numbers do not
# overflow. Beyond, a number is none; nearer to zero it is zero.
GREATEST, LEAST = 1e30, 1e-30
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
    if isinstance(value, bool) or not isinstance(value, (int, float)):
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


def present(rows):
    """The rows of a history that are not null; none where the history itself is."""
    if isinstance(rows, History):
        return rows.present()
    return [row for row in rows or () if row is not None]


def cells(rows, field):
    """A field of all rows as a list, None where it is missing."""
    if isinstance(rows, History):
        return rows.cells(field)
    try:
        return [row[field] for row in rows]
    except KeyError:
        return [row.get(field) for row in rows]


def columns(histories, fields):
    """Fields of all rows of several histories as float64, shape (fields, rows).

    NaN for null, for a missing field, and for what is no number or an absurd one.
    """
    parts = [_columns(rows, fields) for rows in histories if len(rows)]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts, axis=1) if parts else np.empty((len(fields), 0))


def _columns(rows, fields):
    if isinstance(rows, History) and (found := rows.numbers(fields, LEAST, GREATEST)) is not None:
        return found
    return within(np.array([_column(cells(rows, field)) for field in fields]), LEAST, GREATEST)


def _column(values):
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([np.nan if (v := number(value)) is None else v for value in values], np.float64)


def integers(histories, fields):
    """Fields of all rows of several histories as int64, shape (fields, rows); what is none gets a negative number."""
    parts, n = [np.empty((len(fields), 0), np.int64)], 0
    for rows in histories:
        if len(rows):
            found = rows.integers(fields, n) if isinstance(rows, History) else None
            parts.append(np.array([_integers(cells(rows, field), n) for field in fields]) if found is None else found)
            n += len(rows)
    return np.concatenate(parts, axis=1)


def _integers(values, before):
    try:
        return np.array(values, np.int64)
    except (TypeError, ValueError, OverflowError):
        exact = [v if isinstance(v, int) and -INT64 <= v < INT64 else exact_id(v) for v in values]
        return np.array([-1 - before - i if v is None else v for i, v in enumerate(exact)], np.int64)


def meanings(histories, field, meaning, dtype):
    """What a field of all rows of several histories stands for: `meaning` of each value, shape (rows,) of `dtype`."""
    parts = [_meanings(rows, field, meaning, dtype) for rows in histories if len(rows)]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _meanings(rows, field, meaning, dtype):
    if isinstance(rows, History) and (found := rows.meanings(field, meaning, dtype)) is not None:
        return found
    return np.array([meaning(value) for value in cells(rows, field)], dtype)
