"""Which outcome goes to which topic, in which form.

Every scored alert goes to the scores topic, what passed a filter to the candidates topic too, what could not be read to the
dead letters; of the refusals those that `refused` says. Data of a partnership is never published unless configured, what a
replay injected never, and a synthetic source of the survey is no candidate.
"""

import time
from dataclasses import dataclass

from dgl_broker.outputs.deadletters import dead_letter_record, spill
from dgl_broker.outputs.records import candidate_record, in_sample, score_record

SCORES, CANDIDATES, DEAD_LETTERS, DESC = "scores", "candidates", "dead_letters", "desc"
# Kafka's own overhead of a record and its batch, and our headers: well under this many bytes.
ENVELOPE_BYTES = 4096
GROUP = "group"  # header of a dead letter: the consumer group that made it, since several may share the topic


@dataclass(slots=True)
class Output:
    """One message to be produced, with the time of producing where it has no `timestamp_ms` [ms since 1970 UTC].

    `record` is kept for dead letters alone, which may have to be spilled.
    """

    kind: str
    topic: str
    key: bytes | None
    value: bytes
    headers: list
    record: dict | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is in force: stands in every record and header; `group_id` only with dead letters, None outside a stream."""

    survey: str
    bundle_id: str | None
    bundle_sha256: str | None
    group_id: str | None = None


class Publisher:
    """Outcomes as `Output`s.

    Parameters
    ----------
    topics : dict
        "scores", "candidates", "dead_letters" -> topic.
    forms : dict
        The same keys -> form of `dgl_broker.outputs.avro`: how records become bytes.
    provenance : Provenance
    refused : "all", "scorable", "none" or float
        Which refusals are published: all, all but those of pre-cuts, none, or a share of them drawn by hash of the alert id.
    programids : frozenset of int, optional
        ZTF programmes that may be published; None where the survey has none.
    spill_folder : path
        Where dead letters beyond `limit_bytes` go.
    limit_bytes : int
        Largest message that the broker takes.
    desc : dgl_broker.outputs.desc.BrokerMessages, optional
    """

    def __init__(
        self,
        topics,
        forms,
        provenance,
        refused="scorable",
        programids=None,
        spill_folder="spill",
        limit_bytes=1_000_000,
        desc=None,
    ):
        self.topics = topics
        self.forms = forms
        self.provenance = provenance
        self.refused = refused
        self.programids = programids
        self.spill_folder = spill_folder
        self.limit_bytes = limit_bytes
        self.desc = desc
        self.withheld = 0

    def outputs(self, outcome):
        """All that is to be produced for one outcome, in a list; empty for a refusal that is only counted.

        Raises
        ------
        StateError
            If a dead letter must be spilled and cannot be.
        """
        now_ms = time.time_ns() // 1_000_000
        if outcome.status == "dead_lettered":
            record = dead_letter_record(outcome, self.provenance.survey, self.provenance.bundle_sha256, now_ms)
            return [self._dead_letter(record, outcome.message.key)]
        if outcome.alert is None or not self._is_wanted(outcome):
            return []
        if not self._is_public(outcome):
            self.withheld += 1
            return []
        record = score_record(outcome, self.provenance.bundle_id, self.provenance.bundle_sha256, now_ms)
        key = (record["object_id"] or str(record["alert_id"])).encode()
        out = [self._scored(SCORES, record, key)]
        candidate = None if record["injected"] else candidate_record(record)
        if candidate is not None:
            out.append(self._scored(CANDIDATES, candidate, key))
        if self.desc is not None:
            value = self.desc.encode(outcome)
            if value is not None:
                headers = self._headers(record["message_id"], self.desc.schema_name)
                out.append(Output(DESC, self.desc.topic, key, value, headers))
        return out

    def smaller(self, output):
        """A dead letter that the broker found too large, with its bytes spilled; None for what cannot be made smaller."""
        if output.kind != DEAD_LETTERS or output.record["spilled_to"] is not None:
            return None
        record = spill(output.record, self.spill_folder)
        return self._dead_letter(record, record["key"])

    def _is_wanted(self, outcome):
        if outcome.status == "scored" or self.refused == "all":
            return True
        if self.refused == "scorable":
            return not outcome.reason.startswith("precut.")
        return self.refused != "none" and in_sample(outcome.alert.survey, outcome.alert_id, self.refused)

    def _is_public(self, outcome):
        # An unknown programme counts as a partnership's: what is published cannot be called back.
        public = self.programids is None or outcome.alert.facts.get("programid") in self.programids
        return public and not getattr(outcome.message, "injected", False)

    def _headers(self, message_id, schema_name):
        bundle = f"{self.provenance.bundle_id}@{self.provenance.bundle_sha256}"
        return [("message_id", message_id.encode()), ("schema", schema_name.encode()), ("bundle", bundle.encode())]

    def _scored(self, kind, record, key):
        form = self.forms[kind]
        headers = self._headers(record["message_id"], form.name)
        return Output(kind, self.topics[kind], key, form.encode(record), headers)

    def _dead_letter(self, record, key):
        form = self.forms[DEAD_LETTERS]
        value = form.encode(record)
        if len(value) + ENVELOPE_BYTES > self.limit_bytes and record["spilled_to"] is None:
            record = spill(record, self.spill_folder)
            value, key = form.encode(record), record["key"]
        headers = [*self._headers(record["message_id"], form.name), ("reason", record["reason"].encode())]
        if self.provenance.group_id is not None:
            headers.append((GROUP, self.provenance.group_id.encode()))
        return Output(DEAD_LETTERS, self.topics[DEAD_LETTERS], key, value, headers, record)
