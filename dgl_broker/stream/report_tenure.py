"""The time in which this member reports: the state rebuilt, then batches of candidates, each one transaction.

A transaction holds the reports, the changed rows of the state with the positions in the candidates among them, and the group's
offsets. So the state on the topic and the reports that are out never disagree, wherever the process ends.
"""

import logging
import time

from confluent_kafka import TopicPartition

from dgl_broker.errors import PacketError
from dgl_broker.outputs.avro import make_form
from dgl_broker.outputs.publish import Output
from dgl_broker.outputs.registry import OutputRegistry
from dgl_broker.reports import Decision, Ledger
from dgl_broker.reports.ledger import REPORTED, object_name
from dgl_broker.reports.records import report_record
from dgl_broker.reports.rows import Position, decode_row, encode_row, key_of, place_name, place_of
from dgl_broker.stream.batch import Batch
from dgl_broker.stream.clients import make_producer
from dgl_broker.stream.compacted import check_compacted
from dgl_broker.stream.delivery import ExactlyOnce
from dgl_broker.stream.reading import RangeReader
from dgl_broker.stream.redelivery import own_schemas
from dgl_broker.stream.sink import Sink
from dgl_broker.stream.source import Source
from dgl_broker.stream.topics import Subscription
from dgl_broker.wire.records import read_record

log = logging.getLogger(__name__)
REPORT, STATE = "report", "state"
COMMITTED_ONLY = {"isolation.level": "read_committed"}
ROWS_BETWEEN_POLLS = 10_000


class Candidates(Source):
    """The candidates' topic, read from the positions that the state holds; what has none is read from its beginning."""

    def __init__(self, settings, failures, positions, until_eof):
        kafka = {**settings.kafka, **COMMITTED_ONLY, "auto.offset.reset": "earliest"}
        subscription = Subscription([settings.candidates_topic], 1)
        options = {"until_eof": until_eof, "member": False, "timeout_s": settings.service.timeout_s}
        super().__init__(kafka, settings.reports_group_id, subscription, failures, **options)
        self._starts = dict(positions)


def transactional_id(settings):
    """Of all processes that write this state, whatever their group: a second one fences the first before it reads the state."""
    return f"{settings.reports_state_topic}-holder"


class Tenure:
    """From the moment the partition is given until it is taken.

    Parameters
    ----------
    settings : Settings
    rules : Rules
    member : Member
    failures : Failures
    watch : dgl_broker.observe.report_watch.ReportWatch
    form : ContainerForm or ConfluentForm
        How reports become bytes.
    until_eof : bool
        End where the candidates end when reading begins.
    """

    def __init__(self, settings, rules, member, failures, watch, form, until_eof=False):
        s = self.settings = settings
        self.rules, self.member, self.failures, self.watch, self.form = rules, member, failures, watch, form
        self.until_eof = until_eof
        self.number = member.tenure
        self.ledger = Ledger(rules)
        self.source = None
        self._schemas = own_schemas(s)
        producer = make_producer(s.kafka, transactional_id(s))
        # Before the state is read: what an earlier holder left open is aborted, and nothing more can come from it.
        self.delivery = ExactlyOnce(None, Sink(producer, failures, lambda output: None), failures, s.service.timeout_s)
        self._positions = self._rebuild()

    def close(self):
        """Let go of the connections; what is not out is left to the next holder."""
        if self.source is not None:
            self.source.close()

    def _rebuild(self):
        """The ledger from the state's topic; (topic, partition) -> offset to read the candidates from."""
        s, began, positions, n_rows = self.settings, time.monotonic(), {}, 0
        reader = RangeReader(s.kafka, s.reports_group_id, self.failures, s.service.timeout_s, **COMMITTED_ONLY)
        try:
            places = reader.places([s.reports_state_topic])
            check_compacted(s.kafka, s.reports_state_topic, len(places), s.service.timeout_s)
            for place, (first, end) in reader.ranges(places).items():
                for message in reader.read(place, first, end):
                    key, row = decode_row(message.key(), message.value())
                    n_rows += 1
                    if key[0] == "position":
                        positions[place_of(key[1])] = row.offset
                    else:
                        self.ledger.put(key, row)
                    if n_rows % ROWS_BETWEEN_POLLS == 0:
                        self.watch.health.beat()
                        self.member.poll()
        finally:
            reader.close()
        seconds = time.monotonic() - began
        log.info("state of %d objects in %d rows, read in %.1f s", self.ledger.n_objects, n_rows, seconds)
        self.watch.rebuilt(self.ledger, self.rules)
        return positions

    def open(self):
        """Begin to read; False while there is no topic of candidates yet, or the group is in motion."""
        if self.source is not None:
            return True
        source = Candidates(self.settings, self.failures, self._positions, self.until_eof)
        self.delivery.source = source
        try:
            if source.cluster.look([self.settings.candidates_topic]):
                source.open()
                if self._begin(source):
                    self.source = source
                    return True
        finally:
            if self.source is None:
                source.close()
        return False

    def _begin(self, source):
        """At the very first start under `auto.offset.reset: latest` what is there is none of ours; False if not kept."""
        if self._positions or str(self.settings.kafka.get("auto.offset.reset")) not in ("latest", "largest", "end"):
            return True
        batch = Batch()
        batch.membership = self.member.membership()
        places = source.cluster.places([self.settings.candidates_topic])
        batch.next = {place: source.cluster.watermarks(place)[1] for place in places}
        if not self.delivery.deliver(self._rows(batch), batch):
            return False
        source.positions |= batch.next
        source.consumer.assign([TopicPartition(*place, offset) for place, offset in batch.next.items()])
        return True

    def turn(self, should_stop):
        """One batch, or a second without any; False at the end that was asked for."""
        s, source = self.settings, self.source
        # As it is known now, before anything is read: if the group moves on meanwhile, the transaction is refused.
        membership = self.member.membership()
        source.refresh()
        batch = source.next_batch(s.batch.max_alerts, s.batch.max_wait_s, should_stop)
        self.watch.beat(source)
        if not len(batch):
            return not source.at_end()
        batch.membership = membership
        decisions, outputs = self._decide(batch)
        if self.delivery.deliver([*outputs, *self._rows(batch)], batch):
            self.ledger.settle()
            self.watch.settle(decisions, self.ledger)
            self.watch.published(s.reports_topic, len(outputs))
        else:
            self.ledger.undo()  # the same candidates come again
        return True

    def _decide(self, batch):
        """(one `Decision` a message, outputs of those that are reports)."""
        decisions, outputs = [], []
        for message in batch.messages:
            decision, made = self._decide_one(message)
            self.ledger.take(decision)
            decisions.append(decision)
            outputs += made
        self.watch.check(len(batch), decisions)
        return decisions, outputs

    def _decide_one(self, message):
        try:
            record = read_record(message.value, self._schemas)
            decision = self.ledger.decide(record)
            return decision, [self._output(record, decision)] if decision.outcome == REPORTED else []
        except (PacketError, KeyError, TypeError, ValueError) as error:
            # A record of another kind. One broken message stalls nothing, and stays on its topic.
            log.warning("%s: not a candidate of ours: %r", message.where(), error)
            return Decision("unreadable"), []

    def _output(self, record, decision):
        report = report_record(record, decision, self.rules, time.time_ns() // 1_000_000)
        headers = [("message_id", report["message_id"].encode()), ("schema", self.form.name.encode())]
        key = object_name(record).encode()
        return Output(REPORT, self.settings.reports_topic, key, self.form.encode(report), headers)

    def _rows(self, batch):
        """The changed rows of the state, the positions after this batch among them."""
        changed = self.ledger.changes()
        changed |= {key_of("position", place_name(place)): Position(offset) for place, offset in batch.next.items()}
        rows = [encode_row(key, row) for key, row in changed.items()]
        return [Output(STATE, self.settings.reports_state_topic, key, value, []) for key, value in rows]


def report_form(settings):
    """How reports become bytes: framed with the id of a registry where our schemas have one, else containers.

    Raises
    ------
    ServiceFailed, ConfigError, InputUnavailable
        As the registry answers.
    """
    out, registry = settings.output, None
    if out.registry is not None:
        password = out.registry_password.get_secret_value() if out.registry_password else None
        registry = OutputRegistry(out.registry, out.registry_user, password, settings.service.timeout_s)
    return make_form("report", settings.reports_topic, registry)
