"""Rubin/LSST alert packets."""

from dgl_broker.surveys.lsst.read import FIELDS_OF_FACT, leading_facts, read_alert

__all__ = ["FIELDS_OF_FACT", "leading_facts", "read_alert"]
