"""Which decoder a way uses: both are measured in one process."""

from collections import deque
from contextlib import contextmanager

from dgl_broker import native
from dgl_broker.wire import containers
from dgl_broker.wire.writer_schema import schema_from_json

BUILT = native.COMPILED
DECODERS = ("compiled", "pure Python") if BUILT is not None else ("pure Python",)
_HEADS = {name: deque(maxlen=4) for name in ("compiled", "pure Python")}


@contextmanager
def using(name):
    """`compiled` or `pure Python` for as long as this lasts.

    Each has its own containers' schemas, since a schema knows the decoder that it was made for; a folder of schemas of its own
    is the caller's to give.
    """

    def choose(module, heads):
        native.COMPILED, containers.HEADS = module, heads
        schema_from_json.cache_clear()

    before = native.COMPILED, containers.HEADS
    choose(BUILT if name == "compiled" else None, _HEADS[name])
    try:
        yield
    finally:
        choose(*before)
