"""A writer's schema with everything that is derived from it once: which survey, what is read of it, and its leading part.

The one door to fastavro's decoding, and to the compiled decoder of records: what that one doubts, fastavro judges.
"""

import io
import json
import re
import struct
from functools import lru_cache

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from dgl_broker import native
from dgl_broker.errors import PacketError
from dgl_broker.wire.histories import Layout
from dgl_broker.wire.limits import DEFAULT, Allowance
from dgl_broker.wire.pattern import PatternProgram
from dgl_broker.wire.reduce import reader_schema, reduced
from dgl_broker.wire.schema_cuts import all_optional, empty_rows, holds_array, up_to_last
from dgl_broker.wire.schema_tree import full_name, self_contained, shown, skips_blindly

# What fastavro raises on bytes that are not what the schema says: short reads, a union's or enum's index out of range,
# strings that are no UTF-8, a value that the reader's type does not admit.
DECODE_ERRORS = (EOFError, IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error)
TRIGGER_OF_SURVEY = {"lsst": "diaSource", "ztf": "candidate"}
_VERSION = re.compile(r"v(\d+)_(\d+)")


READS_PER_LOOK = 4096  # at the clock; one takes a few hundred ns
# Below this pace a decoder need not look at the clock: the slowest bytes found (rows of nulls, 8 of them to a byte) are read
# at 0.8 MB/s by one core of 2.5 GHz, real ones at 30 MB/s.
SLOWEST_BYTES_PER_S = 400_000


class _GuardedBytes(io.BytesIO):
    """Bytes that cannot be read beyond their end nor for ever; slower, so for schemas and sizes that need it."""

    def __init__(self, payload, allowance):
        super().__init__(payload)
        self._reads, self._allowance = 0, allowance

    def read(self, size=-1):
        found = super().read(size)
        if size is not None and len(found) < size:
            raise EOFError(f"expected {size} bytes, {len(found)} are left")
        self._reads += 1
        if self._reads % READS_PER_LOOK == 0:
            self._allowance.check_time()
        return found


class WriterSchema:
    """One schema that alerts were written with.

    Parameters
    ----------
    schema : dict
        As parsed from JSON.
    limits : Limits
    lookup : callable, optional
        Full name of a type defined elsewhere -> (schema, namespace), or None.
    schema_id : int, optional
        Its id in a registry, for labels.

    Attributes
    ----------
    survey : str or None
        `lsst` or `ztf` by its fields, None where it is no alert's.
    version : str or None
        As the schema's name or version states it, such as `10.0`.
    read_tree : dict or None
        What is read of it, once `require_alert` has found all that is needed.

    Raises
    ------
    PacketError
        `bad_schema`.
    """

    def __init__(self, schema, limits=DEFAULT, lookup=None, schema_id=None):
        self.tree = self_contained(schema, limits, lookup)
        self.name = full_name(schema)
        self.schema_id = schema_id
        self.names = [field["name"] for field in self.tree["fields"]]
        self.survey = next((s for s, trigger in TRIGGER_OF_SURVEY.items() if trigger in self.names), None)
        self.version = _version(schema, self.name)
        self.limits = limits
        self._parsed = _parsed(self.tree)
        self.read_tree = self._reader = self._counter = self._program = None
        self._skips_blindly = skips_blindly(self.tree)
        self._leading = {}

    @property
    def label(self):
        """Survey and version for errors: `lsst schema 1000 (lsst.v10_0.alert)`."""
        number = f" {self.schema_id}" if self.schema_id is not None else ""
        return f"{self.survey or 'unknown'} schema{number} ({shown(self.name)[1:-1]})"

    def require_alert(self):
        """Raises `missing_field` if this is no alert's schema, or lacks a field that is read."""
        if self.survey is None:
            needed = " or ".join(f"{trigger} ({survey})" for survey, trigger in TRIGGER_OF_SURVEY.items())
            raise PacketError("missing_field", f"{self.label}: no field {needed}")
        if self._reader is None:
            tree = reduced(self.tree, reader_schema(self.survey), self.label)
            counter, self._row_bytes = empty_rows(tree, self.tree)
            self._counter = _parsed(counter)
            self._program = _compiled(self.tree, tree)
            self.read_tree, self._reader = tree, _parsed(tree)

    def _stream(self, payload, start, allowance):
        size = len(payload) - start
        if self._skips_blindly or size > allowance.limits.seconds * SLOWEST_BYTES_PER_S:
            stream = _GuardedBytes(payload, allowance)
        else:
            stream = io.BytesIO(payload)
        stream.seek(start)
        return stream

    def read(self, payload, start=0, allowance=None, stop=None):
        """One record, as (dict of the fields that are read, position behind it).

        Histories are lists of dicts or, from the compiled decoder, a `History` that equals them.

        Parameters
        ----------
        payload : bytes
        start, stop : int
            The record starts at one and must end before the other, by default the end of the payload.
        allowance : Allowance, optional

        Raises
        ------
        PacketError
            `missing_field`, `wrong_type`, `undecodable`, `too_large`, `too_slow`.
        """
        self.require_alert()
        allowance = allowance or Allowance(self.limits)
        found = _read_compiled(self._program, payload, start, stop, allowance.limits)
        return self._read_python(payload, start, stop, allowance) if found is None else found

    def _read_python(self, payload, start, stop, allowance):
        payload, start, base = _window(payload, start, stop)
        stream = self._stream(payload, start, allowance)
        if len(payload) - start > allowance.limits.rows * self._row_bytes:
            # Rows that unpack to a hundred times their bytes could be many here: count them before any is kept.
            self._check_sizes(_decode(stream, self._parsed, self._counter, self.label), allowance.limits)
            stream.seek(start)
        record = _decode(stream, self._parsed, self._reader, self.label)
        self._check_sizes(record, allowance.limits)
        return record, base + stream.tell()

    def read_whole(self, payload, start=0, allowance=None, stop=None):
        """One record with every field of the schema, as (dict, position behind it)."""
        payload, start, base = _window(payload, start, stop)
        stream = self._stream(payload, start, allowance or Allowance(self.limits))
        return _decode(stream, self._parsed, None, self.label), base + stream.tell()

    def read_leading(self, payload, fields=None, start=0, allowance=None, stop=None):
        """The first fields of a record, up to the last that is asked for; nothing from the first history on.

        Parameters
        ----------
        fields : iterable of str, optional
            Names such as `diaSource.reliability`; by default all that stand before the histories.

        Returns
        -------
        dict
            Empty where none of the fields stands before the histories.
        """
        self.require_alert()
        key = None if fields is None else frozenset(fields)
        if key not in self._leading:
            if len(self._leading) >= 16:
                self._leading.clear()
            self._leading[key] = self._leading_schemas(key)
        schemas = self._leading[key]
        if schemas is None:
            return {}
        allowance = allowance or Allowance(self.limits)
        *schemas, program = schemas
        found = _read_compiled(program, payload, start, stop, allowance.limits)
        if found is not None:
            return found[0]
        payload, start, _ = _window(payload, start, stop)
        record = _decode(self._stream(payload, start, allowance), *schemas, self.label)
        self._check_sizes(record, allowance.limits)
        return record

    def _leading_schemas(self, wanted):
        before = []
        for field in self.tree["fields"]:
            if holds_array(field["type"]):
                break
            before.append(field)
        top = {"type": "record", "name": self.tree["name"], "fields": before}
        if wanted is None:
            keep = set(reader_schema(self.survey)["fields"])
            wanted = {f["name"] for f in before if f["name"] in keep}
        cut = up_to_last(top, wanted)
        if cut is None:
            return None
        ours = all_optional(reader_schema(self.survey))
        kept = reduced(cut, ours, self.label)
        return _parsed(cut), _parsed(kept), _compiled(cut, kept)

    def _check_sizes(self, record, limits):
        for name, value in record.items():
            if isinstance(value, list) and len(value) > limits.rows:
                raise PacketError("too_large", f"{self.label}: {name} of {len(value)} rows, at most {limits.rows}")
            for text in value.values() if isinstance(value, dict) else (value,):
                if isinstance(text, str) and len(text) > limits.text_bytes:
                    raise PacketError("too_large", f"{self.label}: {name} with a text of {len(text)} characters")


def _parsed(tree):
    try:
        return fastavro.parse_schema(tree)
    except (SchemaParseException, UnknownType) as error:
        raise PacketError("bad_schema", str(error)[:200]) from error


def _decode(stream, writer, reader, label):
    try:
        return fastavro.schemaless_reader(stream, writer, reader)
    except DECODE_ERRORS as error:
        what = "its bytes end" if isinstance(error, EOFError) else str(error) or type(error).__name__
        raise PacketError("undecodable", f"{label}: at byte {stream.tell()}: {what[:200]}") from error


def _compiled(tree, kept):
    """The program that reads the fields of `kept`; None where a schema is beyond the compiled decoder."""
    program = PatternProgram if native.COMPILED is None else native.COMPILED.Program
    return program.compile(tree, kept, Layout)


def _read_compiled(program, payload, start, stop, limits):
    """What the compiled decoder makes of a record, or None where it is in doubt."""
    if program is None or type(payload) is not bytes:
        return None
    return program.read(payload, start, len(payload) if stop is None else stop, limits.rows, limits.text_bytes)


def _window(payload, start, stop):
    """(bytes that end where the record must, its start in them, their own start in the payload)."""
    if stop is None or stop == len(payload):
        return payload, start, 0
    return payload[start:stop], 0, start


def _version(schema, name):
    found = _VERSION.search(name)
    if found:
        return f"{found[1]}.{found[2]}"
    version = schema.get("version")
    return version if isinstance(version, str) and len(version) <= 20 and version.isprintable() else None


@lru_cache(maxsize=32)  # a survey uses a few; bounded, since a container brings any schema it likes
def schema_from_json(text, limits):
    """The `WriterSchema` of a schema's JSON bytes, kept by those bytes: parsing costs as much as a record.

    Raises
    ------
    PacketError
        `bad_schema`.
    """
    if len(text) > limits.schema_bytes:
        raise PacketError("bad_schema", f"schema of {len(text)} bytes, at most {limits.schema_bytes}")
    return WriterSchema(parse_json(text), limits)


def parse_json(text):
    """JSON of a schema as objects; `bad_schema` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PacketError("bad_schema", f"schema is no JSON: {str(error)[:100]}") from error
