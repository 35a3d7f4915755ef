"""Rubin/LSST alert packets."""

from dgl_broker.surveys.lsst.facts import FIELDS_OF_FACT, leading_facts
from dgl_broker.surveys.lsst.read import TRIGGER, alert_of, read_curves, read_head

__all__ = ["FIELDS_OF_FACT", "TRIGGER", "alert_of", "leading_facts", "read_curves", "read_head"]
