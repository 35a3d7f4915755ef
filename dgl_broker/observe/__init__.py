"""Seeing it work: accounts, metrics, health, log, a progress line and the closing summary."""

from dgl_broker.observe.watch import Watch

__all__ = ["Watch"]
