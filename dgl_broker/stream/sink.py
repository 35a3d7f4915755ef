"""The output topics: producing a batch's outputs, and knowing of each that it is out."""

import logging

from confluent_kafka import KafkaError, KafkaException

from dgl_broker.errors import InputUnavailable, ServiceFailed, StateError

log = logging.getLogger(__name__)
DENIED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
FLUSH_S = 0.5


class Sink:
    """Producer of outputs.

    Parameters
    ----------
    producer : confluent_kafka.Producer
    failures : dgl_broker.stream.failures.Failures
    shrink : callable
        (Output) -> smaller Output, or None: for what the broker finds too large.
    """

    def __init__(self, producer, failures, shrink):
        self.producer = producer
        self.failures = failures
        self.shrink = shrink

    def deliver(self, outputs):
        """Produce `outputs` and wait until the broker has acknowledged each of them, trying again what failed.

        Raises
        ------
        ServiceFailed
            If the broker does not take them time and again, or the producer cannot go on.
        StateError
            If a dead letter must be spilled and cannot be, or a record that cannot be spilled is too large.
        InputUnavailable
            If a topic may not be written.
        """
        left = list(outputs)
        while left:
            failed = self.attempt(left)
            problem = self.make_smaller(left, failed)
            if problem is not None:
                self.failures.failed("kafka", f"{len(failed)} outputs: {problem.str()}")
            left = [left[n] for n in failed]
        self.failures.worked("kafka")

    def attempt(self, outputs):
        """Produce each once and wait for the reports: position in `outputs` -> error of those that are not out."""
        failed = {}
        for n, output in enumerate(outputs):
            self._produce(n, output, failed)
        while self.producer.flush(FLUSH_S):
            pass
        return failed

    def make_smaller(self, outputs, failed):
        """Put smaller ones into `outputs` where too large ones failed; the error of any that failed otherwise, or None."""
        problem, too_large = None, {}
        for n, error in failed.items():
            output = outputs[n]
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                # The broker refuses whole record batches, small messages beside a large one: of each topic the largest is it.
                other = too_large.setdefault(output.topic, n)
                if len(output.value) > len(outputs[other].value):
                    too_large[output.topic] = n
            elif error.code() in DENIED:
                raise InputUnavailable(f"topic {output.topic}: {error.str()}")
            elif error.fatal():
                raise ServiceFailed(f"kafka: {error.str()}")
            else:
                problem = error
        for n in too_large.values():
            outputs[n] = self._smaller(outputs[n])
        return problem

    def _smaller(self, output):
        smaller = self.shrink(output)
        if smaller is None:
            raise StateError(
                f"topic {output.topic}: a message of {len(output.value)} bytes is larger than the broker takes; "
                "raise max.message.bytes of the topic, or kafka.message.max.bytes"
            )
        log.warning("a dead letter of %d bytes is larger than the broker takes: spilled", len(output.value))
        return smaller

    def _produce(self, n, output, failed):
        def report(error, _message):
            if error is not None:
                failed[n] = error

        more = {} if output.timestamp_ms is None else {"timestamp": output.timestamp_ms}
        while True:
            try:
                self.producer.produce(
                    output.topic, value=output.value, key=output.key, headers=output.headers, on_delivery=report, **more
                )
                break
            except BufferError:
                self.producer.poll(FLUSH_S)  # the queue is full: a slow broker slows us, nothing grows
            except KafkaException as error:
                failed[n] = error.args[0]
                break
        self.producer.poll(0)
