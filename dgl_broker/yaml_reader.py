"""YAML as people mean it: `1e-4` is a number, `no` and `on` are strings, a key given twice is an error.

PyYAML's safe loader follows YAML 1.1, where `1e-4` (no dot) is a string, `no` is False, `1_000` is an integer and `12:30:45`
is 45045. Scalars here are those of the core schema of YAML 1.2 (section 10.3.2 of the specification). Aliases are limited,
since nine lines of them can stand for 10^9 values, and so is the depth.
"""

import re
from pathlib import Path

import yaml

from dgl_broker.errors import ConfigError, InputUnavailable

MAX_BYTES = 1_000_000  # a configuration or a filter is a few kB
MAX_ALIASES = 20
MAX_DEPTH = 40  # deeper than any of ours, far from Python's own limit of recursion
MAX_NODES = 100_000
MAX_INTEGER = 2**63 - 1


class _Reader(yaml.SafeLoader):
    """Safe loader with the core schema, unique keys and bounded aliases, depth and number of nodes."""

    yaml_implicit_resolvers = {}

    def __init__(self, text):
        super().__init__(text)
        self._aliases = self._nodes = 0
        self._open = []  # anchors (or None) of the nodes around the current one

    def compose_node(self, parent, index):
        event = self.peek_event()
        self._nodes += 1
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if event.anchor in self._open:
                raise yaml.composer.ComposerError(None, None, f"{event.anchor!r} holds itself", event.start_mark)
        elif event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise yaml.composer.ComposerError(None, None, f"tag {event.tag!r}, expected none", event.start_mark)
        for count, limit, what in (
            (self._aliases, MAX_ALIASES, "aliases"),
            (len(self._open), MAX_DEPTH, "levels"),
            (self._nodes, MAX_NODES, "values"),
        ):
            if count > limit:
                raise yaml.composer.ComposerError(None, None, f"more than {limit} {what}", event.start_mark)
        self._open.append(event.anchor)
        try:
            return super().compose_node(parent, index)
        finally:
            self._open.pop()

    def construct_mapping(self, node, deep=False):
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "expected a mapping", node.start_mark)
        out = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict | set):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a scalar", key_node.start_mark)
            if key in out:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} given twice", key_node.start_mark)
            out[key] = self.construct_object(value_node, deep=deep)
        return out

    def construct_int(self, node):
        text = self.construct_scalar(node)
        value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            # Nothing of ours is so large, and such a one cannot be compared with a float.
            raise yaml.constructor.ConstructorError(None, None, "an integer of more than 64 bits", node.start_mark)
        return value

    def construct_float(self, node):
        text = self.construct_scalar(node).lower()
        return float(text.replace(".", "") if text.endswith(("inf", "nan")) else text)

    def construct_bool(self, node):
        return self.construct_scalar(node).lower() == "true"


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Reader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), ["" if c == "\0" else c for c in _first]
    )
_Reader.add_constructor("tag:yaml.org,2002:int", _Reader.construct_int)
_Reader.add_constructor("tag:yaml.org,2002:float", _Reader.construct_float)
_Reader.add_constructor("tag:yaml.org,2002:bool", _Reader.construct_bool)


def read_yaml_text(text, name="<text>"):
    """The one document in `text` as dicts, lists, str, int, float, bool and None.

    Raises
    ------
    ConfigError
        Not YAML, a key twice, a tag that would build an object, too large, or too many aliases; with line and column.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: {len(text)} characters, expected at most {MAX_BYTES}")
    try:
        reader = _Reader(text)
        try:
            return reader.get_single_data()
        finally:
            reader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(f"{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: {str(error).splitlines()[0]}") from error


def read_yaml(path):
    """The one document in the file `path`; errors as `read_yaml_text`, and InputUnavailable where there is no such file."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputUnavailable(f"{path}: {error.strerror}") from error
    try:
        return read_yaml_text(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8") from error
