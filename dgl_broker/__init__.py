"""DeepGraviLens as a filter for alert brokers: packets in, lensed-supernova candidate scores out."""

from importlib import import_module

__version__ = "0.1.0"

__all__ = ["Scorer", "Message", "Outcome", "__version__"]

# Imported on first use: reading, filtering and replaying tables must start without torch.
_HOME = {"Scorer": "dgl_broker.scorer", "Message": "dgl_broker.alert", "Outcome": "dgl_broker.scores"}


def __getattr__(name):
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'dgl_broker' has no attribute {name!r}")
