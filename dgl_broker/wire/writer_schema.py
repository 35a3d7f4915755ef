"""A writer's schema with everything that is derived from it once: which survey, what is read of it, and its leading part.

The one door to fastavro's decoding. A compiled walker that fills columns would take the place of `WriterSchema.read` and
`WriterSchema.read_leading`; nothing else decodes records.
"""

import io
import json
import re
import struct
from functools import lru_cache

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from dgl_broker.errors import PacketError
from dgl_broker.wire.limits import DEFAULT, Allowance
from dgl_broker.wire.reduce import kind_of, reader_schema, reduced
from dgl_broker.wire.schema_tree import full_name, least_bytes, self_contained, shown, skips_blindly

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
        self.read_tree = self._reader = self._counter = None
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
            self._counter, self._row_bytes = _row_counter(tree, self.tree)
            self.read_tree, self._reader = tree, _parsed(tree)

    def _stream(self, payload, start, allowance):
        size = len(payload) - start
        if self._skips_blindly or size > allowance.limits.seconds * SLOWEST_BYTES_PER_S:
            stream = _GuardedBytes(payload, allowance)
        else:
            stream = io.BytesIO(payload)
        stream.seek(start)
        return stream

    def read(self, payload, start=0, allowance=None):
        """One record, as (dict of the fields that are read, position behind it).

        Raises
        ------
        PacketError
            `missing_field`, `wrong_type`, `undecodable`, `too_large`, `too_slow`.
        """
        self.require_alert()
        allowance = allowance or Allowance(self.limits)
        stream = self._stream(payload, start, allowance)
        if len(payload) - start > allowance.limits.rows * self._row_bytes:
            # Rows that unpack to a hundred times their bytes could be many here: count them before any is kept.
            self._check_sizes(_decode(stream, self._parsed, self._counter, self.label), allowance.limits)
            stream.seek(start)
        record = _decode(stream, self._parsed, self._reader, self.label)
        self._check_sizes(record, allowance.limits)
        return record, stream.tell()

    def read_whole(self, payload, start=0, allowance=None):
        """One record with every field of the schema, as (dict, position behind it)."""
        stream = self._stream(payload, start, allowance or Allowance(self.limits))
        return _decode(stream, self._parsed, None, self.label), stream.tell()

    def read_leading(self, payload, fields=None, start=0, allowance=None):
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
        record = _decode(self._stream(payload, start, allowance), *schemas, self.label)
        self._check_sizes(record, allowance.limits)
        return record

    def _leading_schemas(self, wanted):
        before = []
        for field in self.tree["fields"]:
            if _holds_array(field["type"]):
                break
            before.append(field)
        top = {"type": "record", "name": self.tree["name"], "fields": before}
        if wanted is None:
            keep = set(reader_schema(self.survey)["fields"])
            wanted = {f["name"] for f in before if f["name"] in keep}
        cut = _up_to_last(top, wanted)
        if cut is None:
            return None
        ours = _all_optional(reader_schema(self.survey))
        return _parsed(cut), _parsed(reduced(cut, ours, self.label))

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


def _holds_array(tree):
    if isinstance(tree, list):
        return any(_holds_array(branch) for branch in tree)
    return kind_of(tree) in ("array", "map")


def _all_optional(ours):
    if isinstance(ours, list):
        return [_all_optional(branch) for branch in ours]
    if not isinstance(ours, dict) or ours["type"] != "record":
        return ours
    fields = {n: {"type": _all_optional(f["type"]), "required": False} for n, f in ours["fields"].items()}
    return {**ours, "fields": fields}


def _up_to_last(tree, wanted):
    """A record's tree cut off behind the last wanted field, nested records too; None where none of them is there."""
    heads = {name.partition(".")[0] for name in wanted}
    places = [i for i, field in enumerate(tree["fields"]) if field["name"] in heads]
    if not places:
        return None
    last = tree["fields"][places[-1]]
    inner = {name.partition(".")[2] for name in wanted if name.partition(".")[0] == last["name"]}
    kind = last["type"] if "" in inner else _cut_inside(last["type"], inner)
    if kind is None:  # asked for a field that this version lacks: the record itself is not needed
        rest = {name for name in wanted if name.partition(".")[0] != last["name"]}
        return _up_to_last(tree, rest)
    fields = [*tree["fields"][: places[-1]], {"name": last["name"], "type": kind}]
    return {"type": "record", "name": tree["name"], "fields": fields}


def _cut_inside(tree, wanted):
    """A type whose record, nullable or not, is cut off behind the last wanted field; None where it has none of them."""
    if isinstance(tree, list):
        branches = [_cut_inside(branch, wanted) for branch in tree]
        return None if None in branches else branches
    return _up_to_last(tree, wanted) if kind_of(tree) == "record" else tree


def _row_counter(ours, writer):
    """A reader's schema that keeps empty rows of the histories and nothing else, and the fewest bytes of such a row."""
    types = {field["name"]: field["type"] for field in writer["fields"]}
    histories = [field["name"] for field in ours["fields"] if _holds_array(field["type"])]
    fields = [{"name": name, "type": _with_empty_rows(types[name])} for name in histories]
    row_bytes = min((_least_row_bytes(types[name]) for name in histories), default=1)
    return _parsed({"type": "record", "name": writer["name"], "fields": fields}), row_bytes


def _with_empty_rows(tree):
    if isinstance(tree, list):
        return [_with_empty_rows(branch) for branch in tree]
    if kind_of(tree) == "array":
        return {"type": "array", "items": _with_empty_rows(tree["items"])}
    return {**tree, "fields": []} if kind_of(tree) == "record" else tree


def _least_row_bytes(tree):
    """Fewest bytes of a row that is not null, of the array in a nullable or plain array type."""
    arrays = [branch for branch in _branches(tree) if kind_of(branch) == "array"]
    return min((least_bytes(row) for array in arrays for row in _branches(array["items"]) if row != "null"), default=1)


def _branches(tree):
    return tree if isinstance(tree, list) else [tree]


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
