"""Packets of the fields that are read alone, in containers of one record, whatever they were written with.

Decoded again they give the same values, bit for bit: the types are the writer's own.
"""

import fastavro

from dgl_broker.wire.containers import ContainerWriter
from dgl_broker.wire.reduce import kind_of

NAME = "slim/1"
# Of several kinds of number the widest, so that a value is not written as the first kind that takes it.
WIDEST = {"int": "long", "float": "double"}
ORDER = ("null", "boolean", "int", "long", "float", "double")
MOST_SCHEMAS = 32  # a survey uses a few; bounded, since a container brings any schema it likes


class Slimmer:
    """Writes slimmed packets; keeps the writers that it made.

    Parameters
    ----------
    droppable : collection of str
        Fields of the packet that may be None though their writer's are not.
    """

    def __init__(self, droppable=()):
        self.droppable = frozenset(droppable)
        self._writers = {}

    def encode(self, writer, record):
        """An object container of one record.

        Parameters
        ----------
        writer : WriterSchema
            That the record was read with.
        record : dict
            With the fields that are read.
        """
        if writer not in self._writers:
            if len(self._writers) >= MOST_SCHEMAS:
                self._writers.clear()
            self._writers[writer] = ContainerWriter(fastavro.parse_schema(slim_schema(writer, self.droppable)))
        return self._writers[writer].encode(record)


def slim_schema(writer, droppable=()):
    """The schema of slimmed packets of those written with `writer`, as JSON takes it; its version is the writer's."""
    fields = []
    for field in writer.read_tree["fields"]:
        tree = _plain(field["type"], field["name"])
        if field["name"] in droppable and not isinstance(tree, list):
            tree = ["null", tree]
        fields.append({"name": field["name"], "type": tree})
    version = {} if writer.version is None else {"version": writer.version}
    return {"type": "record", "name": "alert", "namespace": f"dgl.slim.{writer.survey}", **version, "fields": fields}


def _plain(tree, name):
    """A tree with records named after their fields, and unions that write each number as what it is."""
    if isinstance(tree, list):
        kept = [branch for branch in tree if not (isinstance(branch, str) and WIDEST.get(branch) in tree)]
        return [_plain(branch, name) for branch in sorted(kept, key=lambda b: ORDER.index(b) if b in ORDER else len(ORDER))]
    kind = kind_of(tree)
    if kind == "array":
        return {"type": "array", "items": _plain(tree["items"], name)}
    if kind == "record":
        fields = [{"name": f["name"], "type": _plain(f["type"], f"{name}_{f['name']}")} for f in tree["fields"]]
        return {"type": "record", "name": name, "fields": fields}
    return {**tree, "name": name} if isinstance(tree, dict) else tree
