"""Which alerts are worth the network, and which scores a look: filters, their reload, their guards, their history."""

from dgl_broker.selection.criteria import parse_criteria, predicate
from dgl_broker.selection.filter_files import (
    content_sha256,
    dump_filter,
    find_filter,
    load_filter,
    parse_filter,
    read_filter,
)
from dgl_broker.selection.filter_set import FilterSet
from dgl_broker.selection.filters import Filter, OperatingPoint, Precut

__all__ = [
    "Filter",
    "FilterSet",
    "OperatingPoint",
    "Precut",
    "content_sha256",
    "dump_filter",
    "find_filter",
    "load_filter",
    "parse_criteria",
    "parse_filter",
    "predicate",
    "read_filter",
]
