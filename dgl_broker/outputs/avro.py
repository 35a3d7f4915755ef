"""Records as bytes by our own schemas: Confluent framing with a registry, object containers of one record each without.

The same record gives the same bytes.
"""

import json

from dgl_broker.data_files import schema_path
from dgl_broker.wire import ContainerWriter, encode_confluent, parse_schema

VERSION = 1  # of both schemas; a new one only ever adds fields with defaults


def load_schema(name):
    """A shipped schema as parsed JSON, `name` such as "score"."""
    return json.loads(schema_path(f"{name}.avsc").read_text())


class ContainerForm:
    """Records in object containers: self-contained, some kB of schema each, which compression of the topic takes off again."""

    def __init__(self, schema):
        self.name = f"{schema['namespace']}.{schema['name']}/{VERSION}"
        self._writer = ContainerWriter(parse_schema(schema))

    def encode(self, record):
        """One record as one container."""
        return self._writer.encode(record)


class ConfluentForm:
    """Records framed with the id that a registry gave their schema."""

    def __init__(self, schema, schema_id):
        self.name = f"{schema['namespace']}.{schema['name']}/{VERSION}"
        self.schema_id = schema_id
        self._schema = parse_schema(schema)

    def encode(self, record):
        """One record as byte 0, the id (4 bytes, big-endian) and schemaless Avro."""
        return encode_confluent(self._schema, self.schema_id, record)


def make_form(name, topic, registry=None):
    """The form of the shipped schema `name` on `topic`; registered under `<topic>-value` where a registry is given.

    Raises
    ------
    ServiceFailed
        If the registry does not answer, or refuses the schema.
    """
    schema = load_schema(name)
    if registry is None:
        return ContainerForm(schema)
    return ConfluentForm(schema, registry.register(f"{topic}-value", schema))
