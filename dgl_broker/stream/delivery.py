"""How outputs and offsets belong together: at least once, exactly once, or not at all (a dry run).

`deliver(outputs, batch)` is True when the outputs are out and the offsets committed. False: the group had given the
partitions to others, and nothing of this batch may be counted on: they read it again.
"""

import logging
import queue
import threading
import uuid

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from dgl_broker.errors import ServiceFailed
from dgl_broker.stream.commits import MOVING, THROWN_OUT

log = logging.getLogger(__name__)
LATE_S = 5.0  # a call that is so much later than its own time-out is given up


def answered(call, seconds):
    """What a call returns or raises, if that comes within so many seconds.

    librdkafka's `send_offsets_to_transaction` may outlast its time-out for good when the group's coordinator goes (its issues
    5456 and 5511). Such a call stays behind in a thread of its own, which no exit waits for.

    Raises
    ------
    ServiceFailed
        If it does not come back.
    """
    answer = queue.SimpleQueue()

    def run():
        try:
            answer.put((call(), None))
        except Exception as error:  # noqa: BLE001 - handed to the caller
            answer.put((None, error))

    threading.Thread(target=run, name="transaction", daemon=True).start()
    try:
        value, error = answer.get(timeout=seconds)
    except queue.Empty:
        raise ServiceFailed(f"kafka: transaction: no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return value


class AtLeastOnce:
    """Produce, flush, commit."""

    publishes = True

    def __init__(self, source, sink):
        self.source = source
        self.sink = sink

    def deliver(self, outputs, batch):
        """Flush first: a crash between the two repeats alerts, the other order loses them."""
        self.sink.deliver(outputs)
        self.source.commit(batch)
        return True


class DryRun:
    """Nothing leaves, nothing is committed."""

    publishes = False

    def deliver(self, outputs, batch):
        """Nothing to do."""
        return True


class ExactlyOnce:
    """One transaction a batch: outputs, dead letters and input offsets, fenced by the group's generation.

    Parameters
    ----------
    source : Source
    sink : Sink
        Over a producer made with `transactional_id`.
    failures : Failures
    timeout_s : float
        For one step of the transaction.
    """

    publishes = True

    def __init__(self, source, sink, failures, timeout_s=30.0):
        self.source = source
        self.sink = sink
        self.failures = failures
        self.timeout_s = timeout_s
        self.aborted = 0
        self._step(lambda: sink.producer.init_transactions(timeout_s))

    def deliver(self, outputs, batch):
        """One transaction; False where the group's generation has moved on, after the batch was taken back."""
        producer = self.sink.producer
        outputs, next_offsets = list(outputs), dict(batch.next)
        while True:
            offsets = [TopicPartition(*place, offset) for place, offset in next_offsets.items()]
            self._step(producer.begin_transaction)
            try:
                failed = self.sink.attempt(outputs)
                if failed:
                    # Any that failed has made the transaction abortable: begin again, with smaller ones where too large.
                    problem = self.sink.make_smaller(outputs, failed)
                    self._abort()
                    if problem is not None:
                        self.failures.failed("kafka", f"{len(failed)} outputs: {problem.str()}")
                    continue
                if offsets:
                    self._send(offsets, batch.membership[1])
                # Asked again while the answer is only late: until it is known, the transaction is neither out nor not.
                self._step(lambda: producer.commit_transaction(self.timeout_s))
            except KafkaException as exception:
                error = exception.args[0]
                self._abort()
                if error.code() in (*MOVING, *THROWN_OUT):
                    log.warning("transaction aborted: %s; its alerts are read again", error.str())
                    self.source.rewind(batch)
                    return False
                if not (error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and self._leave_out_gone(next_offsets)):
                    self.failures.failed("kafka", f"transaction: {error.str()}")
                continue
            self.failures.worked("kafka")
            return True

    def _send(self, offsets, membership):
        self._step(lambda: self.sink.producer.send_offsets_to_transaction(offsets, membership, self.timeout_s))

    def _leave_out_gone(self, next_offsets):
        """Take offsets of deleted topics out, since none can be committed there; whether there were any."""
        gone = self.source.cluster.gone(next_offsets)
        for place in gone:
            log.warning("%s[%d]: deleted, with its outcomes out and its offset uncommitted", *place)
            del next_offsets[place]
        return bool(gone)

    def _abort(self):
        self.aborted += 1
        self._step(lambda: self.sink.producer.abort_transaction(self.timeout_s))

    def _step(self, step):
        """One step, tried again while librdkafka says that it may be."""
        while True:
            try:
                return answered(step, self.timeout_s + LATE_S)
            except KafkaException as exception:
                error = exception.args[0]
                if error.fatal():
                    raise ServiceFailed(f"kafka: transaction: {error.str()}") from exception
                if not error.retriable():
                    raise
                self.failures.failed("kafka", f"transaction: {error.str()}")


def transactional_id(kafka, group_id):
    """The id in the configuration, or one of this process's own: two processes with one id would fence each other."""
    return str(kafka.get("transactional.id") or f"{group_id}-{uuid.uuid4().hex[:12]}")
