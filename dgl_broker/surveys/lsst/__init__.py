"""Rubin/LSST alert packets."""

from dgl_broker.surveys.lsst.facts import FIELDS_OF_FACT, leading_facts
from dgl_broker.surveys.lsst.read import TRIGGER, read_alert, read_head

__all__ = ["FIELDS_OF_FACT", "TRIGGER", "leading_facts", "read_alert", "read_head"]
