"""An array of rows by one pattern, its fields as columns: what `native/src/history.rs` does."""

import re
import struct

import numpy as np

from dgl_broker.wire.pattern.source import NUMBER_BYTES, Doubt, number_of, text_of
from dgl_broker.wire.pattern.types import Beyond, either_null, groups, nullable, pattern

NAN = {"float": struct.pack("<f", np.nan), "double": struct.pack("<d", np.nan)}
KIND = {"float": "number", "double": "number", "int": "whole", "long": "whole", "boolean": "boolean", "string": "text"}
FEW = 16  # numbers that are read one by one sooner than all at once
MOST_TEXTS = 64  # different ones in a column; bands and signs are a handful


class HistoryStep:
    """An array of rows whose fields become columns."""

    __slots__ = ("_name", "_null", "_null_row", "_compiled", "_kinds", "_no_texts", "_make")

    def __init__(self, name, null, items, wanted, layout):
        self._name, self._null = name, null
        self._null_row, row = nullable(items)
        names = {field["name"] for field in nullable(wanted)[1]["fields"]}
        parts, columns = [], []
        for field in row["fields"]:
            if field["name"] in names:
                kind = nullable(field["type"])[1]
                if not isinstance(kind, str) or kind not in KIND:
                    raise Beyond(kind)
                columns.append((field["name"], kind))
                parts.append(groups(field["type"]))
            else:
                parts.append(pattern(field["type"]))
        whole = b"".join(parts)
        if self._null_row is not None:  # the empty group tells a row from null
            whole = either_null(self._null_row, b"()" + whole)
        self._compiled = re.compile(whole, re.DOTALL)
        self._kinds = [kind for _, kind in columns]
        self._no_texts = ((),) * self._kinds.count("string")
        self._make = layout(tuple((name, KIND[kind]) for name, kind in columns))

    def read(self, source, record):
        if self._null is not None and not source.holds_value(self._null):
            record[self._name] = None
            return
        declared = source.number()
        if not 0 <= declared <= min(source.rows, source.stop - source.at):
            raise Doubt
        rows, places = self._rows(source, declared)
        if declared and source.number():
            raise Doubt  # a second block: no survey writes one
        record[self._name] = self._history(rows, places)

    def _rows(self, source, declared):
        """(groups of the rows that are not null, 1 for each such row or None where all are)."""
        data, at, stop, match, rows = source.data, source.at, source.stop, self._compiled.match, []
        for _ in range(declared):
            found = match(data, at, stop)
            if found is None:
                raise Doubt
            at = found.end()
            rows.append(found.groups())
        source.at = at
        if self._null_row is None:
            return rows, None
        there = bytes([row[0] is not None for row in rows])
        kept = [row[1:] for row in rows if row[0] is not None]
        return kept, None if len(kept) == declared else there

    def _history(self, rows, places):
        words, nulls, texts = [], [], []
        if not rows:
            return self._make(0, b"", b"", self._no_texts, places)
        for kind, column in zip(self._kinds, zip(*rows, strict=True), strict=True):
            nulls.append(bytes(len(rows)) if all(column) else bytes([value is None for value in column]))
            if kind == "string":
                found, numbers = _texts(column)
                texts.append(found)
            else:
                numbers = _column(kind, column)
            words.append(numbers.tobytes())
        return self._make(len(rows), b"".join(words), b"".join(nulls), tuple(texts), places)


def _column(kind, column):
    """Numbers of a column of bytes, None for null, as 8 bytes each."""
    if kind in NAN:
        data = b"".join([NAN[kind] if value is None else value for value in column])
        return np.frombuffer(data, "<f4" if kind == "float" else "<f8").astype(np.float64)
    if kind == "boolean":
        return np.array([value == b"\x01" for value in column], np.int64)
    if len(column) < FEW:
        return np.array([0 if value is None else number_of(value) for value in column], np.int64)
    data = b"".join([(value or b"\x00").ljust(NUMBER_BYTES, b"\x00") for value in column])
    sevens = np.frombuffer(data, np.uint8).reshape(-1, NUMBER_BYTES).astype(np.uint64)
    if (sevens[:, -1] > 1).any():
        raise Doubt
    values = ((sevens & np.uint64(0x7F)) << (7 * np.arange(NUMBER_BYTES, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)
    return (values >> np.uint64(1)).astype(np.int64) ^ -(values & np.uint64(1)).astype(np.int64)


def _texts(column):
    """(the different texts of a column, the number of each row's)."""
    known = {}
    numbers = np.array([0 if value is None else known.setdefault(value, len(known)) for value in column], np.int64)
    if len(known) > MOST_TEXTS:
        raise Doubt
    return tuple(text_of(value, len(value)) for value in known), numbers
