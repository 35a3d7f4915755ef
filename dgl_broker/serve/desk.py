"""Packets of all requests, scored in common batches by one thread: the queue before it is bounded in packets and in time."""

import collections
import contextlib
import logging
import threading
import time
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from dgl_broker.errors import DglError, InputUnavailable, ServiceFailed

log = logging.getLogger(__name__)
NO_SCHEMA = (ServiceFailed, InputUnavailable)  # a registry or folder of schemas: the packets of other requests may not need it


class QueueFull(DglError):
    """More packets wait than may; `retry_s` is when to come back."""

    def __init__(self, retry_s):
        super().__init__(f"the queue is full; try again in {retry_s:.0f} s")
        self.retry_s = retry_s


class Expired(DglError):
    """A request waited longer than it may."""


@dataclass(eq=False, slots=True)
class Request:
    """The packets of one request that wait, until `deadline` (of `time.monotonic`), for `future` to hold their outcomes."""

    survey: str
    messages: list
    deadline: float
    future: Future = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Desk:
    """The queue and the thread that scores.

    Parameters
    ----------
    scorers : dict
        survey -> dgl_broker.Scorer.
    max_alerts, max_wait_s
        A batch closes at so many packets, or so long after its first request [s].
    queue_packets : int
        Packets that may wait, the batch in hand left out.
    on_batch : callable, optional
        (survey, outcomes, seconds), after each batch.
    on_failure : callable, optional
        (error), once, when the device, the disk or the code failed; nothing more is scored after that.
    """

    def __init__(self, scorers, max_alerts=256, max_wait_s=0.02, queue_packets=2048, on_batch=None, on_failure=None):
        self.scorers = scorers
        self.max_alerts, self.max_wait_s, self.queue_packets = max_alerts, max_wait_s, queue_packets
        self.failed = None
        self._on_batch = on_batch or (lambda survey, outcomes, seconds: None)
        self._on_failure = on_failure or (lambda error: None)
        self._waiting = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self._seconds_per_packet = 0.01  # of the last batches, for Retry-After
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)
        self._thread.start()

    @property
    def queued_packets(self):
        """Packets that wait."""
        return sum(len(r.messages) for r in tuple(self._waiting))

    def submit(self, survey, messages, timeout_s):
        """A `Future` of the outcomes of these messages, in order.

        Raises
        ------
        QueueFull
            If they would be more than may wait.
        ServiceFailed
            If nothing is scored any more.
        """
        request = Request(survey, messages, time.monotonic() + timeout_s)
        if not messages:
            request.future.set_result([])
            return request.future
        with self._changed:
            if self._closing or self.failed is not None:
                raise ServiceFailed("this service is stopping")
            waiting = self.queued_packets
            if waiting + len(messages) > self.queue_packets:
                raise QueueFull(max(1.0, waiting * self._seconds_per_packet))
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def close(self):
        """Score what waits, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self):
        while requests := self._next_batch():
            began = time.monotonic()
            try:
                self._score(requests)
            except Exception as error:  # noqa: BLE001 - the device, the disk, a bug: as in `run`, the process ends
                log.exception("scoring failed")
                with self._changed:
                    self.failed = error
                    left = list(self._waiting)
                    self._waiting.clear()
                for request in (*requests, *left):
                    _fail(request, ServiceFailed("scoring failed; this service stops"))
                self._on_failure(error)
                return
            n = sum(len(r.messages) for r in requests)
            self._seconds_per_packet += 0.2 * ((time.monotonic() - began) / n - self._seconds_per_packet)

    def _next_batch(self):
        """The next requests of one survey that fit into a batch, in order of arrival; empty at the end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._waiting:
                return []
            closes = self._waiting[0].arrived + self.max_wait_s
            while not self._closing and self.queued_packets < self.max_alerts and (left := closes - time.monotonic()) > 0:
                self._changed.wait(left)
            survey, batch, n, others = self._waiting[0].survey, [], 0, []
            while self._waiting:
                request = self._waiting.popleft()
                fits = not batch or n + len(request.messages) <= self.max_alerts
                if request.survey == survey and fits:
                    batch.append(request)
                    n += len(request.messages)
                else:
                    others.append(request)
            self._waiting.extend(others)
            return batch

    def _score(self, requests):
        alive = []
        for request in requests:
            if not request.future.set_running_or_notify_cancel():
                continue
            if time.monotonic() > request.deadline:
                _fail(request, Expired("it waited longer than a request may"))
            else:
                alive.append(request)
        if not alive:
            return
        try:
            self._answer(alive)
        except NO_SCHEMA as error:
            if len(alive) == 1:
                _fail(alive[0], error)
                return
            for request in alive:
                try:
                    self._answer([request])
                except NO_SCHEMA as again:
                    _fail(request, again)

    def _answer(self, requests):
        survey, scorer = requests[0].survey, self.scorers[requests[0].survey]
        if hasattr(scorer.filters, "refresh"):
            for change in scorer.filters.refresh():
                log.warning("%s", change) if change.refused else log.info("%s", change)
        began = time.monotonic()
        outcomes = scorer.score([message for request in requests for message in request.messages])
        self._on_batch(survey, outcomes, time.monotonic() - began)
        place = 0
        for request in requests:
            n = len(request.messages)
            # A request that was given up meanwhile is cancelled: its outcomes go nowhere, the others' do.
            _settle(request.future.set_result, outcomes[place : place + n])
            place += n


def _fail(request, error):
    _settle(request.future.set_exception, error)


def _settle(call, value):
    with contextlib.suppress(InvalidStateError):
        call(value)
