"""Which decoder reads packets in a test: the compiled one or Python's."""

from contextlib import contextmanager

import numpy as np

from dgl_broker import native, surveys, wire
from dgl_broker.errors import PacketError
from dgl_broker.stamps import KINDS, read_stamp
from dgl_broker.wire import containers
from dgl_broker.wire.histories import History
from dgl_broker.wire.pattern import PatternProgram
from dgl_broker.wire.writer_schema import schema_from_json

BUILT = native.COMPILED
NEVER = 10**9


@contextmanager
def decoder_used(name):
    """A decoder for as long as this lasts; schemas made before are forgotten, since they know theirs.

    Parameters
    ----------
    name : "native", "python" or "fastavro"
        `python` makes patterns of each schema at once, `fastavro` never does: the judge alone.
    """

    def choose(module, uses_before):
        native.COMPILED, PatternProgram.uses_before = module, uses_before
        containers.HEADS.clear()
        schema_from_json.cache_clear()

    before = native.COMPILED, PatternProgram.uses_before
    choose(BUILT if name == "native" else None, NEVER if name == "fastavro" else 0)
    try:
        yield
    finally:
        choose(*before)


def everything(value, schemas):
    """All that is read of a message, to be compared: leading fields, head, record, alert and stamps, or what is wrong."""
    out = []

    def add(read):
        try:
            found = read()
        except PacketError as error:
            out.append((error.reason, error.detail))
            return None
        out.append(plain(found))
        return found

    try:
        opened = wire.open_message(value, None, schemas)
    except PacketError as error:
        return [(error.reason, error.detail)]
    add(opened.leading)
    add(lambda: surveys.read_head(opened))
    packet = add(opened.packet)
    alert = packet and add(lambda: surveys.read_alert(packet))
    if alert:
        for kind in KINDS:
            add(lambda kind=kind: read_stamp(getattr(alert.cutouts, kind), kind, alert.cutouts))
    return out


def plain(value):
    """A value as tuples and text that are equal only where every bit is."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if hasattr(value, "__dataclass_fields__"):
        return [(name, plain(getattr(value, name))) for name in value.__dataclass_fields__]
    if isinstance(value, dict):
        return [(name, plain(part)) for name, part in value.items()]
    if isinstance(value, History):
        return plain(value.rows())
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    return type(value).__name__, value if isinstance(value, bytes) else repr(value)
