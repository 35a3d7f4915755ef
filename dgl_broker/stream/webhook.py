"""Reports to a webhook: each at least once, from their topic, by a reader of its own that holds up nobody.

No transaction spans an HTTP request. So the topic is the outbox: a report that is committed there is posted until it is taken,
only then the reader's offset is committed. A crash between the two posts it again, with the same `Idempotency-Key`.

While the receiver is down or refuses us (no answer, 429, 5xx, a wrong token) everything waits and is tried again. What it
refuses for the report's own sake (400, 413, 422) would block those behind it, so after some tries it is set aside on a topic.
"""

import logging

import requests

from dgl_broker import __version__
from dgl_broker.errors import PacketError
from dgl_broker.outputs.publish import Output
from dgl_broker.reports.records import webhook_body
from dgl_broker.stream.clients import make_producer
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.redelivery import own_schemas
from dgl_broker.stream.sink import Sink
from dgl_broker.stream.source import Source
from dgl_broker.stream.topics import Subscription
from dgl_broker.wire.records import read_record

log = logging.getLogger(__name__)
REFUSED_STATUS = (400, 413, 422)  # of this report: its form, its size, its content
TRIES = 5  # of one that is refused
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0  # under max.poll.interval.ms: the reader keeps its partitions
LOOK_S = 1.0
SENT, REFUSED, FAILED = "sent", "refused", "failed"


def undelivered_topic(settings):
    """Topic of the reports that the webhook refuses."""
    return f"{settings.reports_topic}.undelivered"


class Webhook:
    """The sender.

    Parameters
    ----------
    settings : Settings
        With `reports.webhook`.
    stop : Stop
    watch : ReportWatch
    again : bool
        Send what was set aside, instead of what is new.
    """

    def __init__(self, settings, stop, watch, again=False):
        s = self.settings = settings
        self.stop, self.watch = stop, watch
        self.topic = undelivered_topic(s) if again else s.reports_topic
        self.group_id = f"{s.reports_group_id}-{'undelivered' if again else 'webhook'}"
        self.failures = Failures(s.service.max_failures, stop, watch.failed)
        self._schemas = own_schemas(s)
        self._session = requests.Session()
        self._session.headers.update({"Content-Type": "application/json", "User-Agent": f"dgl-broker/{__version__}"})
        if s.reports.webhook_token is not None:
            self._session.headers["Authorization"] = f"Bearer {s.reports.webhook_token.get_secret_value()}"
        self._sink = None
        self._tries = {}  # message id -> how often it was refused
        self._in_a_row = 0

    def run(self, until_eof=False):
        """Until told to stop, or until all that is there now is sent.

        Raises
        ------
        ServiceFailed
            If Kafka fails too often in a row; under `until_eof` if the webhook does.
        """
        source = self._source(until_eof)
        try:
            while not self.stop() and not source.cluster.look([self.topic]):
                if until_eof:
                    return
                self.stop.wait(LOOK_S)
            if self.stop():
                return
            source.open()
            while not self.stop():
                source.refresh()
                batch = source.next_batch(1, 0.0, self.stop)
                self.watch.metrics["dgl_webhook_waiting"].set(sum(source.lag().values()) + len(batch))
                if len(batch):
                    self._one(source, batch, until_eof)
                elif source.at_end():
                    return
        finally:
            source.close()
            self._session.close()

    def _source(self, until_eof):
        s = self.settings
        # From the beginning at first: what is on the topic and was never sent is not lost.
        kafka = {**s.kafka, "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
        options = {"until_eof": until_eof, "timeout_s": s.service.timeout_s}
        return Source(kafka, self.group_id, Subscription([self.topic], 1), self.failures, **options)

    def _one(self, source, batch, until_eof):
        message = batch.messages[0]
        try:
            report = read_record(message.value, self._schemas)
            name = report["message_id"]
            outcome, why = self._post(webhook_body(report), name)
        except (PacketError, KeyError, TypeError) as error:
            log.error("%s: not a report of ours: %r", message.where(), error)
            name, outcome, why = message.where(), REFUSED, "unreadable"
            self._tries[name] = TRIES
        if outcome == SENT:
            self.watch.webhook_sent()
        else:
            self.watch.webhook_failed(why)
            if outcome == FAILED or not self._is_given_up(name):
                self._wait(why, until_eof)
                source.rewind(batch)
                return
            self._set_aside(message, why)
            self.watch.webhook_undelivered()
        self._tries.pop(name, None)
        self._in_a_row = 0
        source.commit(batch)

    def _post(self, body, name):
        """(outcome, why) of one attempt. The URL may hold a secret: errors are told by their kind."""
        try:
            answer = self._session.post(
                self.settings.reports.webhook,
                data=body,
                headers={"Idempotency-Key": name},
                timeout=self.settings.service.timeout_s,
                allow_redirects=False,  # a POST that is redirected arrives as a GET, or elsewhere
                stream=True,  # what it answers is not read: it may be without end
            )
        except requests.RequestException as error:
            return FAILED, type(error).__name__
        with answer:
            if 200 <= answer.status_code < 300:
                return SENT, None
            return REFUSED if answer.status_code in REFUSED_STATUS else FAILED, str(answer.status_code)

    def _is_given_up(self, name):
        self._tries[name] = self._tries.get(name, 0) + 1
        return self._tries[name] >= TRIES

    def _wait(self, why, until_eof):
        self._in_a_row += 1
        log.warning("webhook failed (%d in a row): %s", self._in_a_row, why)
        if until_eof:
            self.failures.failed("webhook", why)  # which pauses, and ends the process after some
        else:
            self.stop.wait(min(FIRST_PAUSE_S * 2 ** (self._in_a_row - 1), LONGEST_PAUSE_S))

    def _set_aside(self, message, why):
        topic = undelivered_topic(self.settings)
        log.error("webhook refuses %s (%s): set aside on %s", message.where(), why, topic)
        if self._sink is None:
            self._sink = Sink(make_producer(self.settings.kafka), self.failures, lambda output: None)
        headers = [*(h for h in message.headers if h[0] != "why"), ("why", why.encode())]
        self._sink.deliver([Output("undelivered", topic, message.key, message.value, headers)])
