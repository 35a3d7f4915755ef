"""Earlier stamps of an object in other bands: kept nowhere (the default), in this process, or in a Redis-protocol server.

A packet has the stamps of one band; those of the object's other bands came with earlier alerts. Per object and band the newest
is kept. It is a cache, not a state: a score is a function of the packet and of the companions whose alert ids stand in its
record, and a store that is down costs companions, not alerts.

    store = open_store("redis", url="redis://localhost:6379/0", expire_days=30)
    found = with_batch(store.fetch(keys), keys, offered)       # offered[i]: what alert i itself will leave, or None
    ...                                                        # score
    store.remember([c for c in offered if c is not None])
"""

from dgl_broker.companions.codec import CorruptCompanion
from dgl_broker.companions.companion import (
    COUNTERS,
    DEFAULT_EXPIRE_DAYS,
    Companion,
    Key,
    as_stored,
    other_bands,
    with_batch,
)
from dgl_broker.companions.memory import MemoryStore, NoStore
from dgl_broker.errors import ConfigError

__all__ = [
    "COUNTERS",
    "Companion",
    "CorruptCompanion",
    "Key",
    "MemoryStore",
    "NoStore",
    "as_stored",
    "open_store",
    "other_bands",
    "with_batch",
]


def open_store(store="none", url=None, expire_days=DEFAULT_EXPIRE_DAYS, **options):
    """The companion store of the configuration: `none`, `memory` or `redis`.

    A server that cannot be reached is no error here or later: it costs companions, and is counted in `counters`.

    Raises
    ------
    ConfigError
        If the store's name, its URL or its expiry makes no sense.
    """
    if not (isinstance(expire_days, (int, float)) and 0 < expire_days <= 3650):
        raise ConfigError(f"companions.expire_days {expire_days}, expected more than 0 and at most 3650 days")
    if store == "none":
        return NoStore()
    if store == "memory":
        return MemoryStore(expire_days, **options)
    if store == "redis":
        from dgl_broker.companions.redis_store import RedisStore  # late: redis-py is an extra

        return RedisStore(url, expire_days, **options)
    raise ConfigError(f"companions.store {store!r}, expected 'none', 'memory' or 'redis'")
