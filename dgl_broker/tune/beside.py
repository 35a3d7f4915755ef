"""What a replay left beside its table: the truth of what it injected, and which share of the archive it took."""

import json
import re

from dgl_broker.archive.places import beside
from dgl_broker.errors import ConfigError

_SHARD = re.compile(r"\.shard-(\d+)-of-(\d+)\.")


def _files(scores, what):
    """`<stem>.<what>`, and those of all shards."""
    return [path for path in beside(scores, what, shards=True) if path.is_file()]


def injected_labels(scores):
    """Label files of what was injected into these tables."""
    return [path for table in scores for path in _files(table, "injected.csv")]


def share_replayed(scores):
    """Share of the stream that these tables hold, by their manifests; 1 where there are none.

    Raises
    ------
    ConfigError
        If the tables were sampled differently, so that no one share holds for all nights.
    """
    shares = {table: share for table in scores if (share := _share(table)) is not None}
    if len({round(share, 12) for share in shares.values()}) > 1:
        told = ", ".join(f"{table} {share:g}" for table, share in shares.items())
        raise ConfigError(f"tables of different shares of the stream ({told}): say with --sampled which one holds")
    return next(iter(shares.values()), 1.0)


def _share(table):
    shares = []
    for path in _files(table, "manifest.json"):
        try:
            sample = float(json.loads(path.read_text(encoding="utf-8"))["settings"]["sample"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # of another program, or of a time before manifests said so
        shard = _SHARD.search(path.name)
        shares.append(sample / int(shard[2]) if shard else sample)
    return min(sum(shares), 1.0) if shares else None
