"""Parts of a writer's tree that are decoded alone: its leading fields, and the rows of its histories, emptied."""

from dgl_broker.wire.reduce import kind_of
from dgl_broker.wire.schema_tree import least_bytes


def holds_array(tree):
    """Whether a type is an array or map, or may be one."""
    if isinstance(tree, list):
        return any(holds_array(branch) for branch in tree)
    return kind_of(tree) in ("array", "map")


def all_optional(ours):
    """A reader's schema of which no field must be there."""
    if isinstance(ours, list):
        return [all_optional(branch) for branch in ours]
    if not isinstance(ours, dict) or ours["type"] != "record":
        return ours
    fields = {n: {"type": all_optional(f["type"]), "required": False} for n, f in ours["fields"].items()}
    return {**ours, "fields": fields}


def up_to_last(tree, wanted):
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
        return up_to_last(tree, rest)
    fields = [*tree["fields"][: places[-1]], {"name": last["name"], "type": kind}]
    return {"type": "record", "name": tree["name"], "fields": fields}


def _cut_inside(tree, wanted):
    """A type whose record, nullable or not, is cut off behind the last wanted field; None where it has none of them."""
    if isinstance(tree, list):
        branches = [_cut_inside(branch, wanted) for branch in tree]
        return None if None in branches else branches
    return up_to_last(tree, wanted) if kind_of(tree) == "record" else tree


def empty_rows(ours, writer):
    """(tree that keeps empty rows of the histories and nothing else, the fewest bytes of such a row)."""
    types = {field["name"]: field["type"] for field in writer["fields"]}
    histories = [field["name"] for field in ours["fields"] if holds_array(field["type"])]
    fields = [{"name": name, "type": _with_empty_rows(types[name])} for name in histories]
    row_bytes = min((_least_row_bytes(types[name]) for name in histories), default=1)
    return {"type": "record", "name": writer["name"], "fields": fields}, row_bytes


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
