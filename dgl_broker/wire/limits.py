"""How large a message may be, in every way in which a hostile one could be large, and how long it may take."""

import time
from dataclasses import dataclass

from dgl_broker.errors import PacketError

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds on one message and what it unpacks to; beyond one the message is a dead letter `too_large`.

    The largest real packet seen has 300 kB and 408 forced points, after 73 days; a year of deep field may bring ten times that.
    A batch holds some hundred alerts at once, so that what one may unpack to is what decides on the memory of all.

    Attributes
    ----------
    message_bytes : int
        One message as it comes.
    inflated_bytes : int
        One alert once inflated.
    stamp_bytes : int
        One stamp once inflated; the alert that it belongs to is refused `bad_cutout`.
    rows : int
        Rows of one history.
    seconds : float
        Decoding one message [s of CPU of its thread, so that a busy machine refuses no more than an idle one]. Beyond it the
        message is `too_slow`. All else here bounds the time as well, but only by what the sizes above would take.
    file_block_bytes : int
        One inflated block of a container file, which may hold many alerts.
    schema_bytes, schema_nodes, depth : int
        A writer's schema: its text, its fields and symbols once named types are written out, how deep they nest.
    text_bytes : int
        One string among the fields that are read.
    """

    message_bytes: int = 8 * MIB
    inflated_bytes: int = 8 * MIB
    stamp_bytes: int = 1_000_000
    rows: int = 20_000
    seconds: float = 2.0
    file_block_bytes: int = 64 * MIB
    schema_bytes: int = MIB // 2
    schema_nodes: int = 10_000
    depth: int = 24
    text_bytes: int = 4096


DEFAULT = Limits()


class Allowance:
    """What one message may use: `limits`, its seconds counted from when this is made, in the thread that asks.

    Parameters
    ----------
    limits : Limits
    """

    __slots__ = ("limits", "_end")

    def __init__(self, limits=DEFAULT):
        self.limits = limits
        self._end = time.thread_time() + limits.seconds

    def check_time(self):
        """Raises `too_slow` where the seconds are used up."""
        if time.thread_time() > self._end:
            raise PacketError("too_slow", f"message that takes more than {self.limits.seconds:g} s to decode")
