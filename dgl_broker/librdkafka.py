"""The C library under confluent-kafka, where its Python side has no call: names of properties, and the check of one value.

Loaded through the extension module, so that it is the very library in use, whether bundled in a wheel or the system's.
"""

import ctypes
import os
import tempfile
from dataclasses import dataclass
from functools import cache

from confluent_kafka import cimpl

_CONF_OK = 0


@cache
def library():
    """The loaded library as a `ctypes.CDLL`, with the signatures that this package calls set."""
    lib = ctypes.CDLL(cimpl.__file__)
    lib.rd_kafka_conf_new.restype = ctypes.c_void_p
    lib.rd_kafka_conf_destroy.argtypes = [ctypes.c_void_p]
    lib.rd_kafka_conf_set.argtypes = [ctypes.c_void_p, *[ctypes.c_char_p] * 3, ctypes.c_size_t]
    lib.rd_kafka_conf_properties_show.argtypes = [ctypes.c_void_p]
    return lib


@dataclass(frozen=True, slots=True)
class Property:
    """One configuration property: `scope` is "consumer", "producer" or "both"; `callback` ones have no text value."""

    name: str
    scope: str
    callback: bool


@cache
def properties():
    """All properties of this library by name, as it lists them itself (`rd_kafka_conf_properties_show`)."""
    lib, libc = library(), ctypes.CDLL(None)
    libc.fdopen.restype = ctypes.c_void_p
    libc.fdopen.argtypes = [ctypes.c_int, ctypes.c_char_p]
    libc.fclose.argtypes = [ctypes.c_void_p]
    with tempfile.TemporaryFile() as file:
        stream = libc.fdopen(os.dup(file.fileno()), b"w")
        lib.rd_kafka_conf_properties_show(stream)
        libc.fclose(stream)
        file.seek(0)
        lines = file.read().decode().splitlines()
    scopes = {"C": "consumer", "P": "producer", "*": "both"}
    out = {}
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5 or cells[1] not in scopes:
            continue
        # Real properties are dotted or one word; names with an underscore are pointers that only C can set.
        callback = "_" in cells[0] or cells[0] in ("opaque", "interceptors")
        out.setdefault(cells[0], Property(cells[0], scopes[cells[1]], callback))
    return out


def text_value(value):
    """A YAML scalar as librdkafka spells it: `true`/`false` for booleans, plain text for the rest."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def property_problem(name, value):
    """What librdkafka finds wrong with one property, or None.

    It knows the range and the spelling of each; what several have to do with one another shows when a client is made.
    """
    lib = library()
    conf = lib.rd_kafka_conf_new()
    reason = ctypes.create_string_buffer(512)
    try:
        code = lib.rd_kafka_conf_set(conf, name.encode(), text_value(value).encode(), reason, len(reason))
        return None if code == _CONF_OK else reason.value.decode(errors="replace").strip()
    finally:
        lib.rd_kafka_conf_destroy(conf)
