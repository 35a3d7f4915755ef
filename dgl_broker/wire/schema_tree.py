"""A writer's schema made plain: self-contained, named types written out, checked so that no record can be a bomb.

A tree is a primitive's name, a list (union), or a dict of type record, enum, fixed, array or map. Documentation, defaults
and logical types are dropped: they do not change the bytes, and some surveys' copies hold defaults that Avro forbids.
"""

from dgl_broker.errors import PacketError

PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
LEAST_BYTES = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
# Steps of the decoder that each byte pays for: a nullable field takes 2 in its first byte. An item of an array that takes more
# steps than its bytes pay for would let a short message keep the decoder busy for hours, or fill the memory with nulls.
STEPS_PER_BYTE = 8


class _Tree:
    """Writes named types out, once per call, under fresh names, and keeps count."""

    def __init__(self, named, limits, lookup):
        self.named, self.limits, self.lookup = named, limits, lookup
        self.nodes = 0
        self.open_names = []

    def build(self, schema, namespace, depth=0):
        """(tree, debt) of a schema; debt = most steps that decoding one value takes beyond those that its bytes pay for."""
        self._count(1, depth)
        if isinstance(schema, list):
            return self._union(schema, namespace, depth)
        if isinstance(schema, str):
            return self._name(schema, namespace, depth)
        if not isinstance(schema, dict) or "type" not in schema:
            raise PacketError("bad_schema", f"{shown(schema)} is no Avro type")
        kind = schema["type"]
        if kind in ("record", "error", "enum", "fixed"):
            return self._named_type(kind, schema, namespace, depth)
        if kind in ("array", "map"):
            return self._many(kind, schema, namespace, depth)
        return self.build(kind, namespace, depth + 1)  # {"type": "string", ...} or a nested definition

    def _count(self, nodes, depth=0):
        self.nodes += nodes
        if self.nodes > self.limits.schema_nodes or depth > self.limits.depth:
            raise PacketError(
                "bad_schema", f"schema of more than {self.limits.schema_nodes} fields or {self.limits.depth} levels"
            )

    def _name(self, name, namespace, depth):
        if name in PRIMITIVES:
            return name, _debt(LEAST_BYTES[name])
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full not in self.named and name in self.named:
            full = name
        if full not in self.named:
            found = self.lookup(full) if self.lookup else None
            if found is None:
                raise PacketError("bad_schema", f"no type {shown(full)}, neither in the schema nor beside it")
            self.named[full] = found
        definition, space = self.named[full]
        if full in self.open_names:
            raise PacketError("bad_schema", f"type {shown(full)} contains itself")
        return self._written_out(full, definition, space, depth)

    def _named_type(self, kind, schema, namespace, depth):
        full = full_name(schema, namespace)
        self.named[full] = (schema, full.rpartition(".")[0])
        if full in self.open_names:
            raise PacketError("bad_schema", f"type {shown(full)} contains itself")
        return self._written_out(full, schema, full.rpartition(".")[0], depth)

    def _written_out(self, full, schema, namespace, depth):
        kind = schema["type"]
        name = f"t{self.nodes}"  # one of its own: the decoder pairs types of two schemas by their names
        if kind == "fixed":
            size = schema.get("size")
            if not isinstance(size, int) or not 0 <= size <= self.limits.inflated_bytes:
                raise PacketError("bad_schema", f"fixed type {shown(full)} of size {shown(size)}")
            return {"type": "fixed", "name": name, "size": size}, _debt(size)
        if kind == "enum":
            symbols = schema.get("symbols")
            # Before each is looked at: an enum of thousands that is used by thousands of fields would take minutes.
            self._count(len(symbols) if isinstance(symbols, list) else 0)
            if not isinstance(symbols, list) or not all(isinstance(s, str) for s in symbols):
                raise PacketError("bad_schema", f"enum {shown(full)} without symbols")
            return {"type": "enum", "name": name, "symbols": symbols}, _debt(1)
        self.open_names.append(full)
        fields, debt = [], 1
        for field in _fields(schema, full):
            tree, one = self.build(field["type"], namespace, depth + 1)
            fields.append({"name": field["name"], "type": tree})
            debt += one
        self.open_names.pop()
        return {"type": "record", "name": name, "fields": fields}, debt

    def _union(self, schema, namespace, depth):
        if not schema:
            raise PacketError("bad_schema", "empty union")
        built = [self.build(branch, namespace, depth + 1) for branch in schema]
        return [tree for tree, _ in built], _debt(1) + max(debt for _, debt in built)

    def _many(self, kind, schema, namespace, depth):
        part = "items" if kind == "array" else "values"
        if part not in schema:
            raise PacketError("bad_schema", f"{kind} without {part}")
        tree, one = self.build(schema[part], namespace, depth + 1)
        if one + (_debt(1) if kind == "map" else 0) > 0:
            raise PacketError("bad_schema", f"{kind} of {part} that take fewer bytes than it takes work to decode them")
        return {"type": kind, part: tree}, _debt(1)


def _debt(n_bytes):
    return 1 - STEPS_PER_BYTE * n_bytes


def _fields(schema, full):
    fields = schema.get("fields")
    if not isinstance(fields, list):
        raise PacketError("bad_schema", f"record {shown(full)} without fields")
    seen = set()
    for field in fields:
        if not isinstance(field, dict) or not isinstance(field.get("name"), str) or "type" not in field:
            raise PacketError("bad_schema", f"record {shown(full)}: {shown(field)} is no field")
        if field["name"] in seen:
            raise PacketError("bad_schema", f"record {shown(full)}: field {shown(field['name'])} twice")
        seen.add(field["name"])
    return fields


def least_bytes(tree):
    """Fewest bytes that a value of a tree's type takes."""
    if isinstance(tree, list):
        return 1 + min(least_bytes(branch) for branch in tree)
    if isinstance(tree, str):
        return LEAST_BYTES[tree]
    kind = tree["type"]
    if kind == "record":
        return sum(least_bytes(field["type"]) for field in tree["fields"])
    return tree["size"] if kind == "fixed" else 1


def skips_blindly(tree):
    """Whether a tree has an array of items of fixed size.

    Where nobody asks for those, fastavro passes over them without looking whether the bytes have ended, as often as the
    array declares.
    """
    if isinstance(tree, list):
        return any(skips_blindly(branch) for branch in tree)
    if isinstance(tree, str) or tree["type"] in ("enum", "fixed"):
        return False
    if tree["type"] == "record":
        return any(skips_blindly(field["type"]) for field in tree["fields"])
    part = tree.get("items", tree.get("values"))
    return tree["type"] == "array" and _is_of_fixed_size(part) or skips_blindly(part)


def _is_of_fixed_size(tree):
    if isinstance(tree, dict) and tree["type"] == "record":
        return all(_is_of_fixed_size(field["type"]) for field in tree["fields"])
    return tree in ("null", "boolean", "float", "double") or isinstance(tree, dict) and tree["type"] == "fixed"


def shown(value):
    """A value for an error message, cut short: what a packet holds may be megabytes."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def full_name(schema, namespace=""):
    """Full name of a named type that stands in `namespace`."""
    name = schema.get("name")
    if not isinstance(name, str) or not name:
        raise PacketError("bad_schema", f"a type {shown(schema.get('type'))} without name")
    space = schema.get("namespace", namespace)
    return name if "." in name or not space else f"{space}.{name}"


def self_contained(schema, limits, lookup=None):
    """The tree of a writer's schema whose top is a record.

    Parameters
    ----------
    schema : dict
        As parsed from JSON.
    limits : Limits
    lookup : callable, optional
        Full name of a type that the schema does not define -> (schema, namespace), or None.

    Returns
    -------
    dict
        A record; every named type is written out where it is used.

    Raises
    ------
    PacketError
        `bad_schema`: no record, not Avro, a type that contains itself, too large, or one of which a few bytes unpack to
        more than the decoder can take.
    """
    if not isinstance(schema, dict) or schema.get("type") != "record":
        what = f"of type {shown(schema.get('type'))}" if isinstance(schema, dict) else f"a {type(schema).__name__}"
        raise PacketError("bad_schema", f"top of the schema is {what}, expected a record")
    return _Tree({}, limits, lookup).build(schema, "")[0]
