"""What leaves: outcomes as score records, candidates, dead letters and, on request, DESC's `BrokerMessage`.

`records` and `deadletters` make the dicts, `avro` their bytes (Confluent framing with a registry, one-record containers
without), `publish` decides which outcome goes to which topic. `desc` is imported by those who ask for it.
"""

from dgl_broker.outputs.deadletters import dead_letter_record
from dgl_broker.outputs.records import as_json, candidate_record, score_record, table_row

__all__ = ["as_json", "candidate_record", "dead_letter_record", "score_record", "table_row"]
