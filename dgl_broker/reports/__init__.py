"""Reports of objects: what of the candidates is told to people, once an object and state, and never more a night than the cap.

`ledger` decides and remembers, `records` makes the report that is published. No I/O: `stream.report` feeds both.
"""

from dgl_broker.reports.ledger import Decision, Ledger, Rules

__all__ = ["Decision", "Ledger", "Rules"]
