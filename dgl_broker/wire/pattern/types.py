"""Avro types as patterns: Python's own compiled matcher passes over a row of a hundred fields in a microsecond.

A pattern matches only bytes that are plainly of its type, in the one spelling that writers use, and never less of a value than
there is, nor more. What does not match is no error yet: fastavro judges.
"""

import re

NUMBER = rb"[\x80-\xff]{0,9}+[\x00-\x7f]"  # zigzag base 128, ten bytes at most
LONGEST = 127  # bytes of a text or of bytes that a pattern has an alternative for; file names have some 60
FIXED_SIZES = {"null": 0, "float": 4, "double": 8}


class Beyond(Exception):
    """A type that no pattern stands for."""


def pattern(tree):
    """The pattern of a type, without groups.

    Parameters
    ----------
    tree : dict, list or str
        From `schema_tree.self_contained`.

    Raises
    ------
    Beyond
        Arrays, maps, unions and enums of more than 64 branches or symbols, enums without any.
    """
    if isinstance(tree, list):
        return _either([pattern(branch) for branch in tree])
    name = tree["type"] if isinstance(tree, dict) else tree
    if name in FIXED_SIZES or name == "fixed":
        return _bytes(tree["size"] if name == "fixed" else FIXED_SIZES[name])
    if name == "record":
        return b"".join(pattern(field["type"]) for field in tree["fields"])
    if name == "enum":
        if not tree["symbols"]:  # `[]` would take what follows it into its class
            raise Beyond(name)
        return b"[" + b"".join(_tag(n) for n in range(len(tree["symbols"]))) + b"]"
    if name in ("int", "long"):
        return NUMBER
    if name == "boolean":
        return rb"[\x00\x01]"
    if name in ("string", "bytes"):
        return SIZED
    raise Beyond(name)


def groups(tree):
    """The pattern of a type whose value is wanted, in a group; None, the group, stands for null.

    Raises
    ------
    Beyond
        Also a union of several types that are not null.
    """
    null, other = nullable(tree)
    group = b"(" + pattern(other) + b")"
    return group if null is None else either_null(null, group)


def either_null(null, other):
    """The pattern of null, at place `null` of a union, or another pattern."""
    return _either([b"", other] if null == 0 else [other, b""])


def nullable(tree):
    """(place of null, the other type) of a union of two of which one is null; (None, type) of what is no union.

    Raises
    ------
    Beyond
        Other unions, and a union in a union, which Avro forbids and fastavro passes over.
    """
    if not isinstance(tree, list):
        return None, tree
    if len(tree) != 2 or tree.count("null") != 1:
        raise Beyond("union")
    null = tree.index("null")
    other = tree[1 - null]
    if isinstance(other, list):
        raise Beyond("union")
    return null, other


def _either(patterns):
    return b"(?:" + b"|".join(_tag(n) + one for n, one in enumerate(patterns)) + b")"


def _tag(n):
    """A branch's or symbol's number as it stands in the bytes."""
    if n >= 64:
        raise Beyond("tag")
    return re.escape(bytes([2 * n]))


def _bytes(n):
    return b".{%d}" % n if n else b""


def _size(n):
    """A size as it stands in the bytes."""
    n *= 2
    return bytes([n]) if n < 128 else bytes([n & 0x7F | 0x80, n >> 7])


SIZED = b"(?:" + b"|".join(re.escape(_size(n)) + _bytes(n) for n in range(LONGEST + 1)) + b")"


def is_record(tree):
    """Whether a type is a record or may be one."""
    if isinstance(tree, list):
        return any(is_record(branch) for branch in tree)
    return isinstance(tree, dict) and tree["type"] == "record"


def work(tree):
    """How long the pattern of a type takes to make, in units of a number's, some 20 us."""
    if isinstance(tree, list):
        return 1 + sum(work(branch) for branch in tree)
    if isinstance(tree, str):
        return 80 if tree in ("string", "bytes") else 1  # an alternative for each length
    parts = [field["type"] for field in tree.get("fields", ())] + [tree[part] for part in ("items", "values") if part in tree]
    return 1 + sum(work(part) for part in parts)


STRUCTURED = frozenset({"array", "map", "bytes"})  # kinds that patterns are not for: bytes may be long


def is_matched(tree, unmatched=STRUCTURED):
    """Whether a pattern stands for a type: it has no part of these kinds."""
    if isinstance(tree, list):
        return all(is_matched(branch, unmatched) for branch in tree)
    name = tree["type"] if isinstance(tree, dict) else tree
    if name == "record":
        return all(is_matched(field["type"], unmatched) for field in tree["fields"])
    return name not in unmatched
