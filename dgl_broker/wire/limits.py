"""How large a message may be, in every way in which a hostile one could be large."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds on one message and what it unpacks to; beyond one the message is a dead letter `too_large`.

    The largest real packet seen has 300 kB and 408 forced points, after 73 days; a year of deep field may bring ten times that.

    Attributes
    ----------
    message_bytes : int
        One message as it comes, and one inflated alert.
    file_block_bytes : int
        One inflated block of a container file, which may hold many alerts.
    schema_bytes, schema_nodes, depth : int
        A writer's schema: its text, its fields once named types are written out, how deep they nest.
    rows : int
        Rows of one history.
    text_bytes : int
        One string among the fields that are read.
    """

    message_bytes: int = 8 * MIB
    file_block_bytes: int = 64 * MIB
    schema_bytes: int = MIB // 2
    schema_nodes: int = 10_000
    depth: int = 24
    rows: int = 50_000
    text_bytes: int = 4096


DEFAULT = Limits()
