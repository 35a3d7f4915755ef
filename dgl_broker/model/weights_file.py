"""Tensors as safetensors bytes, identical ones stored once. The door to the safetensors package; no pickle anywhere."""

import hashlib
import json

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from dgl_broker.errors import StateError

MAX_HEADER_BYTES = 16 * 2**20
ALIASES = "aliases"


def pack(tensors, share=True):
    """Safetensors bytes of named tensors; of tensors with equal content the first in order is stored, the others name it.

    The bytes depend on names and contents only.
    """
    stored, aliases, seen = {}, {}, {}
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        key = (value.dtype, tuple(value.shape), hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy()).digest())
        if share and key in seen:
            aliases[name] = seen[key]
        else:
            seen[key] = name
            stored[name] = value.clone()
    metadata = {ALIASES: json.dumps(aliases, sort_keys=True)} if aliases else None
    return save_tensors(stored, metadata=metadata)


def unpack(raw, where):
    """Named tensors of safetensors bytes, and the name that each is stored under.

    Returns
    -------
    tensors : dict of name to tensor
    stored_as : dict of name to name

    Raises
    ------
    StateError
        The bytes are not whole, or an alias leads nowhere.
    """
    try:
        aliases = json.loads(_metadata(raw).get(ALIASES, "{}"))
        tensors = load_tensors(raw)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise StateError(f"{where}: not a whole safetensors file: {err}") from err
    stored_as = {name: name for name in tensors}
    if not isinstance(aliases, dict):
        raise StateError(f"{where}: aliases are {type(aliases).__name__}, expected a table")
    for name, target in aliases.items():
        if name in stored_as or target not in tensors:
            raise StateError(f"{where}: {name!r} is said to be stored as {target!r}, which is not so")
    for name, target in aliases.items():
        stored_as[name] = target
        tensors[name] = tensors[target]
    return tensors, stored_as


def _metadata(raw):
    """The text metadata in the header: 8 bytes of length, then JSON (safetensors format, its README)."""
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > min(MAX_HEADER_BYTES, len(raw) - 8):
        raise ValueError(f"header of {length} bytes in a file of {len(raw)}")
    return json.loads(raw[8 : 8 + length]).get("__metadata__", {})
