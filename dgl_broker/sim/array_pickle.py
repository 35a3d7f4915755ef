"""Pickled dictionaries of arrays, read without running anything that they ask for.

The published split files are pickles, and a pickle is a program. Only builtin containers, numbers, strings and numpy arrays of
plain types are admitted; arrays are built here from their bytes, since numpy's own `__setstate__` trusts a pickle's dtype flags
with raw pointers. Opcodes are checked before anything is loaded. Arrays as protocols 3 and 4 have them, which `np.save` writes.
"""

import io
import pickle
import pickletools
import re

import numpy as np

from dgl_broker.errors import ConfigError

_FORBIDDEN = {
    "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER", "READONLY_BUFFER",
    "BYTEARRAY8",
}  # fmt: skip
_PLAIN = re.compile(r"^[<>|=]?(b1|[iu][1248]|f[248]|c(8|16)|[SU]\d{1,6})$")
_MEMO_OPCODES = ("PUT", "BINPUT", "LONG_BINPUT")
_DEPTH = 30


class _DType:
    """Stands for a numpy dtype: plain numbers, strings or objects."""

    def __init__(self, text, align=False, copy=False):
        if not isinstance(text, str) or not (text in ("O", "O8", "|O") or _PLAIN.match(text)):
            raise pickle.UnpicklingError(f"dtype {text!r}, expected plain numbers or strings")
        self.text = text.lstrip("<>|=")

    def __setstate__(self, state):
        if (
            not isinstance(state, tuple)
            or len(state) < 8
            or state[2:5] != (None, None, None)
            or state[1] not in ("<", ">", "|", "=")
        ):
            raise pickle.UnpicklingError("a dtype with fields or a shape of its own")
        self.text = state[1] + self.text

    @property
    def is_object(self):
        return self.text.lstrip("<>|=") in ("O", "O8")

    def numpy(self):
        return np.dtype(self.text)


class _Array:
    """Stands for an array while the pickle is read."""

    def __setstate__(self, state):
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array without version, shape, dtype, order and content")
        _, shape, dtype, fortran, content = state
        self.value = _build(shape, dtype, "F" if fortran is True else "C", content)


def _build(shape, dtype, order, content):
    """An array from plain parts; objects only from a list."""
    if not isinstance(dtype, _DType):
        raise pickle.UnpicklingError(f"a {type(dtype).__name__} for a dtype")
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise pickle.UnpicklingError(f"shape {shape!r}")
    if dtype.is_object:
        if not isinstance(content, list) or len(content) != int(np.prod(shape, dtype=object)):
            raise pickle.UnpicklingError("objects of an array are not a list of as many")
        out = np.empty(len(content), object)
        out[:] = content
        return out.reshape(shape, order=order)
    if not isinstance(content, bytes):
        raise pickle.UnpicklingError(f"content of an array is {type(content).__name__}, expected bytes")
    try:
        return np.frombuffer(content, dtype.numpy()).reshape(shape, order=order).copy()
    except ValueError as error:
        raise pickle.UnpicklingError(f"array of shape {shape}: {error}") from error


def _reconstruct(*_):
    return _Array()


def _scalar(dtype, content=None):
    return _build((1,), dtype, "C", content)[0]


class _NdarrayName:
    """Stands for the class `numpy.ndarray`, which pickles name as an argument; it cannot be called."""

    def __new__(cls, *_):
        raise pickle.UnpicklingError("numpy.ndarray called directly")


_ADMITTED = {
    ("numpy", "ndarray"): _NdarrayName,
    ("numpy", "dtype"): _DType,
    ("collections", "OrderedDict"): dict,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ADMITTED[_core, "_reconstruct"] = _reconstruct
    _ADMITTED[_core, "scalar"] = _scalar


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is neither an array nor a builtin container") from None

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("a persistent id")


def _check_opcodes(data):
    """Raises for opcodes that arrays and containers do not need, and for memo indices that would make a huge table."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name in _FORBIDDEN:
            raise pickle.UnpicklingError(f"opcode {opcode.name}")
        if opcode.name in _MEMO_OPCODES and not 0 <= int(argument) <= count:
            raise pickle.UnpicklingError(f"memo index {argument}")


def _plain(value, seen, depth):
    """`value` with arrays in place of their stand-ins."""
    if depth > _DEPTH:
        raise pickle.UnpicklingError(f"nested deeper than {_DEPTH}")
    if isinstance(value, _Array):
        if not hasattr(value, "value"):
            raise pickle.UnpicklingError("an array without content")
        value = value.value
    if id(value) in seen:
        return seen[id(value)][1]
    out = value
    if isinstance(value, dict):
        out = {}
        seen[id(value)] = value, out
        out.update((_plain(k, seen, depth + 1), _plain(v, seen, depth + 1)) for k, v in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        out = type(value)(_plain(v, seen, depth + 1) for v in value)
        seen[id(value)] = value, out
    elif isinstance(value, np.ndarray) and value.dtype == object:
        out = np.empty(value.shape, object)
        seen[id(value)] = value, out
        for place, item in np.ndenumerate(value):
            out[place] = _plain(item, seen, depth + 1)
    elif isinstance(value, _DType | type) or callable(value):
        raise pickle.UnpicklingError(f"{value!r} where data are expected")
    return out


def loads_arrays(data, name="pickle"):
    """The containers and arrays in pickled bytes.

    Raises
    ------
    ConfigError
        Naming `name` and what was found, if it holds or asks for anything else.
    """
    try:
        _check_opcodes(data)
        return _plain(_Unpickler(io.BytesIO(data)).load(), {}, 0)
    # A broken pickle raises nearly anything; nothing of it has run.
    except Exception as error:
        raise ConfigError(f"{name}: not a pickle of arrays and containers only: {error}") from error


def load_array_file(path):
    """What a `.npy` file holds: a plain array, or the one object of a pickled array of shape ().

    Raises
    ------
    ConfigError
        As `loads_arrays`, and for files that are no `.npy`.
    """
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, _, dtype = read_header(file)
        except (ValueError, KeyError, EOFError) as error:
            raise ConfigError(f"{path}: no .npy file: {error}") from error
        if not dtype.hasobject:
            file.seek(0)
            return np.load(file, allow_pickle=False)
        if dtype.kind != "O":
            raise ConfigError(f"{path}: dtype {dtype}, expected plain numbers or pickled containers")
        value = loads_arrays(file.read(), str(path))
    if isinstance(value, np.ndarray) and value.shape != shape:
        raise ConfigError(f"{path}: pickled shape {value.shape}, the header says {shape}")
    return value.item() if isinstance(value, np.ndarray) and value.shape == () else value
