"""A writer's schema made into patterns, which skip and pick in a few steps: what `native/src/program.rs` does, in Python.

Like that one it answers only where it is sure, and gives None otherwise: fastavro then judges, and there is one outcome.
"""

import re
import struct

from dgl_broker.wire.pattern.rows import HistoryStep
from dgl_broker.wire.pattern.source import Doubt, Source, number_of, text_of
from dgl_broker.wire.pattern.types import (
    STRUCTURED,
    Beyond,
    either_null,
    groups,
    is_matched,
    is_record,
    nullable,
    pattern,
    work,
)

MOST_WORK = 10_000  # of making a schema's patterns: 0.2 s; those of surveys and brokers take some 0.05 s
MOST_KEPT = 10 * MOST_WORK  # of patterns that `re` keeps besides those of the schemas in use: some 10 MiB
MOST_SKIPPED = 10_000  # items of a block
MOST_BYTES = 1_000_000  # of a record: a hostile one takes 0.25 s, without a look at the clock; real ones have 0.25 MB
FLOAT, DOUBLE = struct.Struct("<f").unpack, struct.Struct("<d").unpack


class PatternProgram:
    """One schema, or the leading part of one, with the fields that are read of it; see `native/src/program.rs`.

    Attributes
    ----------
    uses_before : int
        How many packets of a schema are left to fastavro before patterns are made of it, which takes as long as a hundred: a
        hostile packet may bring a schema of its own.
    """

    __slots__ = ("_schema", "_steps", "_uses")
    uses_before = 1

    def __init__(self, schema):
        self._schema, self._steps, self._uses = schema, None, 0

    @classmethod
    def compile(cls, tree, kept, layout):
        """The program of a writer's tree of which `kept` names the fields that are read."""
        return cls((tree, kept, layout))

    def read(self, data, start, stop, rows, text):
        """(record, position behind it) of bytes from `start` to `stop`; None where these or the schema are in doubt.

        A history has at most `rows` rows and a text at most `text` bytes.
        """
        if stop - start > MOST_BYTES or (self._steps is None and not self._made()):
            return None
        source = Source(data, start, stop, rows, text)
        record = {}
        try:
            for step in self._steps:
                step.read(source, record)
        except (Doubt, UnicodeDecodeError):
            return None
        return record, source.at

    def _made(self):
        """Whether there are steps; they are made when it is time."""
        self._uses += 1
        if self._schema is None or self._uses <= self.uses_before:
            return False
        schema, self._schema = self._schema, None
        try:
            if work(schema[0]) <= MOST_WORK:
                self._steps = _steps(*schema)
        except (Beyond, re.error, OverflowError):
            pass  # fastavro reads all that patterns cannot
        finally:
            _purge(work(schema[0]))
        return self._steps is not None


_kept_by_re = 0


def _purge(made):
    """Empties the cache of `re` when patterns of so much work are in it: it would keep 512, long after ours are forgotten."""
    global _kept_by_re
    _kept_by_re += min(made, MOST_WORK)
    if _kept_by_re >= MOST_KEPT:
        re.purge()
        _kept_by_re = 0


def _steps(tree, kept, layout):
    """The steps that read a record; fields that patterns stand for are taken together."""
    wanted = {field["name"]: field["type"] for field in kept["fields"]}
    steps, run = [], []
    for field in tree["fields"]:
        name, kind = field["name"], field["type"]
        # A record that nobody asks for may hold long texts: the orbit of an asteroid as 6 kB of JSON.
        may_be_long = not wanted or (name not in wanted and is_record(kind))
        if is_matched(kind, STRUCTURED | {"string"} if may_be_long else STRUCTURED):
            run.append((name, kind, wanted.get(name)))
            continue
        if run:
            steps.append(_Run(run))
            run = []
        steps.append(_step(name, kind, wanted.get(name), layout))
    if run:
        steps.append(_Run(run))
    return steps


def _step(name, kind, wanted, layout):
    null, other = nullable(kind)
    if wanted is not None:
        wanted = nullable(wanted)[1]
    if other in ("bytes", "string"):
        return _Bytes(name, null, wanted is not None)
    if other["type"] == "record":
        return _Struct(name, null, wanted, _steps(other, wanted or {"fields": []}, layout))
    if other["type"] == "array" and wanted is not None:
        return HistoryStep(name, null, other["items"], wanted["items"], layout)
    if other["type"] == "array":
        return _Skipped(null, pattern(other["items"]))
    return _Skipped(null, pattern("string") + pattern(other["values"]))


class _Run:
    """Neighbouring fields that one pattern stands for, records among them."""

    __slots__ = ("_compiled", "_makers")

    def __init__(self, fields):
        parts, self._makers, n = [], [], 0
        for name, kind, wanted in fields:
            if wanted is None:
                parts.append(pattern(kind))
                continue
            one, make, n = _picked(kind, wanted, n)
            parts.append(one)
            self._makers.append((name, make))
        self._compiled = re.compile(b"".join(parts), re.DOTALL)

    def read(self, source, record):
        found = source.match(self._compiled)
        for name, make in self._makers:
            record[name] = make(found, source.text)


def _picked(kind, wanted, n):
    """(pattern with groups from number `n`, what makes the value of the groups and the most bytes of a text, next number)."""
    null, other = nullable(kind)
    wanted = nullable(wanted)[1]
    if not isinstance(other, dict) or other["type"] != "record":
        return groups(kind), _maker(other, n), n + 1
    first, n = n, n + 1
    names = {field["name"]: field["type"] for field in wanted["fields"]}
    parts, makers = [], []
    for field in other["fields"]:
        if field["name"] in names:
            one, make, n = _picked(field["type"], names[field["name"]], n)
            makers.append((field["name"], make))
        else:
            one = pattern(field["type"])
        parts.append(one)
    inner = b"()" + b"".join(parts)  # the empty group tells a record from null

    def make(found, text):
        return None if found[first] is None else {name: one(found, text) for name, one in makers}

    return inner if null is None else either_null(null, inner), make, n


def _maker(kind, n):
    """What makes a value of group `n`."""
    if kind == "string":
        return lambda found, text: None if found[n] is None else text_of(found[n], text)
    if isinstance(kind, dict) and kind["type"] == "enum":
        symbols = kind["symbols"]
        return lambda found, text: None if found[n] is None else symbols[found[n][0] >> 1]
    if isinstance(kind, dict) and kind["type"] == "fixed":
        return lambda found, text: found[n]
    value = _VALUES[kind]
    return lambda found, text: None if found[n] is None else value(found[n])


_VALUES = {
    "float": lambda data: FLOAT(data)[0],
    "double": lambda data: DOUBLE(data)[0],
    "int": number_of,
    "long": number_of,
    "boolean": lambda data: data == b"\x01",
    "null": lambda data: None,
}


class _Bytes:
    """Bytes, which may be long."""

    __slots__ = ("_name", "_null", "_wanted")

    def __init__(self, name, null, wanted):
        self._name, self._null, self._wanted = name, null, wanted

    def read(self, source, record):
        found = source.sized() if self._null is None or source.holds_value(self._null) else None
        if self._wanted:
            record[self._name] = found


class _Struct:
    """A record with bytes in it."""

    __slots__ = ("_name", "_null", "_wanted", "_steps")

    def __init__(self, name, null, wanted, steps):
        self._name, self._null, self._wanted, self._steps = name, null, wanted, steps

    def read(self, source, record):
        found = None
        if self._null is None or source.holds_value(self._null):
            found = {}
            for step in self._steps:
                step.read(source, found)
        if self._wanted is not None:
            record[self._name] = found


class _Skipped:
    """An array or map that nobody asks for."""

    __slots__ = ("_null", "_compiled")

    def __init__(self, null, part):
        self._null, self._compiled = null, re.compile(part, re.DOTALL)

    def read(self, source, record):
        if self._null is not None and not source.holds_value(self._null):
            return
        while count := source.number():
            # Below 0 it states its size in bytes, which may be a lie; many take long, and fastavro looks at the clock.
            if not 0 < count <= MOST_SKIPPED:
                raise Doubt
            for _ in range(count):
                source.match(self._compiled)
