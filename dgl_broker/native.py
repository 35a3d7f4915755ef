"""The one door to the compiled decoder (`native/`): the module where it was built and is wanted, else None.

It answers only where it is sure and gives None otherwise, so that Python's decoder judges: with and without it every packet has
the same outcome. `DGL_DECODER=python` leaves it out, `DGL_DECODER=native` insists on it.
"""

import os

from dgl_broker.errors import ConfigError

VARIABLE = "DGL_DECODER"
INTERFACE = 4  # of native/src/lib.rs


def _chosen(wanted):
    """The compiled module or None, as the variable's value says."""
    if wanted not in ("", "auto", "native", "python"):
        raise ConfigError(f"{VARIABLE} {wanted!r}, expected auto, native or python")
    if wanted == "python":
        return None
    try:
        from dgl_broker import _native
    except ImportError as error:
        _native, problem = None, f"is not there: {error}"
    else:
        problem = f"is of interface {_native.INTERFACE}, expected {INTERFACE}: build it again"
        _native = _native if _native.INTERFACE == INTERFACE else None
    if _native is None and wanted == "native":
        raise ConfigError(f"{VARIABLE} is native, and the compiled decoder {problem}")
    return _native


COMPILED = _chosen(os.environ.get(VARIABLE, ""))


def decoder_name():
    """`native` or `python`: which decoder reads packets in this process."""
    return "python" if COMPILED is None else "native"
