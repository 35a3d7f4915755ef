"""ZTF alert packets."""

from dgl_broker.surveys.ztf.facts import FIELDS_OF_FACT, leading_facts
from dgl_broker.surveys.ztf.read import TRIGGER, read_alert, read_head

__all__ = ["FIELDS_OF_FACT", "TRIGGER", "leading_facts", "read_alert", "read_head"]
