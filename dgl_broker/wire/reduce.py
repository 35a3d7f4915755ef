"""What of a writer's schema, or of a table's row, is read: the fields that our own reader schema (`schemas/*.avsc`) names.

A field of ours without a default must be there, and where it is not the error names it. Types are compared by kind only (a
double where we expect a float will do): copies by brokers change width and make everything nullable.
"""

import json
from functools import cache

from dgl_broker.data_files import schema_path
from dgl_broker.errors import PacketError
from dgl_broker.wire.schema_tree import shown

KIND = {"int": "number", "long": "number", "float": "number", "double": "number", "enum": "string", "fixed": "bytes"}


@cache
def reader_schema(survey):
    """Our reader schema of a survey, from `schemas/<survey>.avsc`."""
    return _written_out(json.loads(schema_path(f"{survey}.avsc").read_text()), {})


def _written_out(schema, named):
    """A reader schema with named types written out, and fields by name."""
    if isinstance(schema, str):
        return named.get(schema, schema)
    if isinstance(schema, list):
        return [_written_out(s, named) for s in schema]
    if schema["type"] == "array":
        return {"type": "array", "items": _written_out(schema["items"], named)}
    out = {"type": "record", "name": schema["name"], "fields": {}}
    named[schema["name"]] = out
    for field in schema["fields"]:
        out["fields"][field["name"]] = {"type": _written_out(field["type"], named), "required": "default" not in field}
    return out


def kind_of(schema):
    """`number`, `string`, `bytes`, `boolean`, `null`, `record`, `array` or `map` of one branch of a schema."""
    name = schema["type"] if isinstance(schema, dict) else schema
    return KIND.get(name, name)


def _branch(ours, kind):
    """The branch of our type that is of this kind, or None."""
    branches = ours if isinstance(ours, list) else [ours]
    return next((b for b in branches if kind_of(b) == kind), None)


def _kinds(ours):
    return " or ".join(kind_of(b) for b in (ours if isinstance(ours, list) else [ours]) if b != "null")


def reduced(writer, ours, label, path=""):
    """The part of a writer's tree that `ours` names, as a tree of its own.

    Parameters
    ----------
    writer : dict, list or str
        From `schema_tree.self_contained`.
    ours : dict, list or str
        From `reader_schema`.
    label, path : str
        Which schema, and where in it, for the error.

    Raises
    ------
    PacketError
        `missing_field` names the field that is not there, `wrong_type` the one of another kind.
    """
    if isinstance(writer, list):
        if any(isinstance(branch, list) for branch in writer):  # Avro forbids it, and fastavro resolves no such type
            raise PacketError("wrong_type", f"{label}: {path} is a union in a union")
        return [reduced(branch, ours, label, path) for branch in writer]
    kind = kind_of(writer)
    if kind == "null":
        return writer
    branch = _branch(ours, kind)
    if branch is None:
        raise PacketError("wrong_type", f"{label}: {path} is {kind}, expected {_kinds(ours)}")
    if kind == "array":
        return {"type": "array", "items": reduced(writer["items"], branch["items"], label, path)}
    if kind != "record":
        return writer
    prefix = f"{path}." if path else ""
    there = {field["name"] for field in writer["fields"]}
    for name, field in branch["fields"].items():
        if field["required"] and name not in there:
            raise PacketError("missing_field", f"{label}: no field {prefix}{name}")
    fields = [
        {"name": f["name"], "type": reduced(f["type"], branch["fields"][f["name"]]["type"], label, prefix + f["name"])}
        for f in writer["fields"]
        if f["name"] in branch["fields"]
    ]
    return {"type": "record", "name": writer["name"], "fields": fields}


VALUE_KIND = {
    bool: "boolean", int: "number", float: "number", str: "string", bytes: "bytes", bytearray: "bytes", memoryview: "bytes",
    dict: "record", list: "array", tuple: "array",
}  # fmt: skip


def picked(value, ours, label, path=""):
    """The part of a row that `ours` names, as `reduced` does for schemas; nulls are kept.

    Raises
    ------
    PacketError
        `missing_field`, `wrong_type`.
    """
    if value is None:
        return None
    kind = VALUE_KIND.get(type(value))
    branch = _branch(ours, kind)
    if branch is None:
        raise PacketError("wrong_type", f"{label}: {path or 'row'} is {shown(value)}, expected {_kinds(ours)}")
    if kind == "array":
        return [picked(item, branch["items"], label, path) for item in value]
    if kind != "record":
        return bytes(value) if kind == "bytes" else value
    prefix = f"{path}." if path else ""
    out = {}
    for name, field in branch["fields"].items():
        if name in value:
            out[name] = picked(value[name], field["type"], label, prefix + name)
        elif field["required"]:
            raise PacketError("missing_field", f"{label}: no field {prefix}{name}")
    return out
