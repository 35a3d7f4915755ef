"""The supervisor: starts workers, starts those anew that die, adds up what they tell, and ends them all in order."""

import contextlib
import json
import logging
import os
import selectors
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dgl_broker.errors import DglError
from dgl_broker.observe.health import serve
from dgl_broker.observe.log import HideSecrets
from dgl_broker.settings import parse_start
from dgl_broker.stream.begun import begun_topics
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.source import Source
from dgl_broker.stream.topics import Subscription
from dgl_broker.stream.workers.doubt import was_committed
from dgl_broker.stream.workers.place import DIED, DONE, RUNS, WAITS, Place
from dgl_broker.stream.workers.sums import Sums

log = logging.getLogger(__name__)
TURN_S = 0.2
# Usage, input, device, state, guard: the next one would end the same way.
FINAL_CODES = (2, 3, 4, 6, 7)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkersEnded(DglError):
    """A worker ended in a way that starting it anew does not mend; `exit_code` is its own."""

    def __init__(self, text, exit_code):
        super().__init__(text)
        self.exit_code = exit_code


def environment(n_workers, threads=None, environ=None):
    """The environment of a worker: the cores shared out, unless it says otherwise itself."""
    environ = dict(os.environ if environ is None else environ)
    share = threads or max(1, len(os.sched_getaffinity(0)) // n_workers)
    for name in THREADS:
        if threads is not None or name not in environ:
            environ[name] = str(share)
    return environ


class Supervisor:
    """`n` workers of one configuration.

    Parameters
    ----------
    settings : Settings
    n : int
    stop : dgl_broker.stream.stopping.Stop
    command : list of str
        Starts a worker; the number of the descriptor to tell is put at its end.
    options : dict, optional
        Handed to each worker with its job, as JSON takes it.
    progress : callable, optional
        As `Watch` takes it.
    done : "scored" or "written"
    """

    def __init__(self, settings, n, stop, command, options=None, progress=None, done="scored"):
        self.settings, self.stop = settings, stop
        self.ended = "before it began"
        self.sums = Sums(progress, done)
        environ = environment(n, settings.workers.threads)
        self.places = [Place(number, command, environ) for number in range(n)]
        self._options = options or {}
        self._ends = self._at_start = None
        self._failure = None
        self._hide = HideSecrets(settings.secrets())
        # The same for all that fill a place: the next one aborts at once what the one before left open.
        given = settings.kafka.get("transactional.id")
        self._transactional_id = str(given or f"{settings.group_id}-{uuid.uuid4().hex[:12]}")

    def run(self, until_eof=False):
        """Until all that was asked for is read, `stop` says so, or a worker fails for good.

        Raises
        ------
        WorkersEnded
            With the exit code of that worker.
        DglError
            If the input is not to be had, or the port of the metrics.
        """
        self.ended = "by a failure"
        port, sums = self.settings.metrics.port, self.sums
        with contextlib.ExitStack() as closing:
            if port is not None:
                server = serve(sums.health, sums.metrics, self.settings.metrics.host, port)
                closing.callback(server.server_close)
                closing.callback(server.shutdown)
            self._prepare(until_eof)
            self._asking = closing.enter_context(ThreadPoolExecutor(1, thread_name_prefix="committed"))
            self._selector = closing.enter_context(selectors.DefaultSelector())
            closing.callback(self.kill)
            while not all(place.state == DONE for place in self.places):
                self._turn()
        if self._failure is not None:
            raise self._failure
        self.ended = "by a signal" if self.stop() else "all that was asked for is read"

    def summary(self):
        """What `summary.json` holds: the sums, which balance as each worker's do."""
        sums = self.sums
        more = {"workers": len(self.places), "worker_restarts": sums.restarts, "in_doubt": sums.in_doubt}
        return sums.accounts.as_dict(ended=self.ended, **sums.info, **more)

    def kill(self):
        """End all at once: nothing is lost, what is not committed is read again."""
        for place in self.places:
            place.kill()

    def _prepare(self, until_eof):
        """Find the topics and apply the start, once and before there are members: a worker that is started anew goes on."""
        s = self.settings
        failures = Failures(s.service.max_failures, self.stop)
        begun = partial(begun_topics, s.kafka, s.group_id, s.service.timeout_s)
        subscription = Subscription(s.input.topics, s.input.nights, begun=begun)
        start = parse_start(s.input.start)
        source = Source(s.kafka, s.group_id, subscription, failures, start, until_eof, timeout_s=s.service.timeout_s)
        try:
            source.prepare()
        finally:
            source.close()
        self._at_start = sorted(subscription.held)
        self._ends = source.ends.as_list() if until_eof else None

    def _job(self, place):
        s = self.settings
        kafka = dict(s.kafka)
        if s.delivery == "exactly_once":
            kafka["transactional.id"] = f"{self._transactional_id}-{place.number}"
        if "group.instance.id" in kafka:
            kafka["group.instance.id"] = f"{kafka['group.instance.id']}-{place.number}"
        changed = {
            "kafka": kafka,
            "input": s.input.model_copy(update={"start": "committed"}),
            "metrics": s.metrics.model_copy(update={"port": None}),
        }
        whole = s.model_copy(update=changed).model_dump()
        job = {"number": place.number, "settings": whole, "ends": self._ends, "at_start": self._at_start}
        # Secrets come as such: this goes through a pipe to our own process, and nowhere else.
        return json.loads(json.dumps({**job, **self._options}, default=lambda secret: secret.get_secret_value()))

    def _turn(self):
        """One turn of the loop: what was told, who died, who is to start, whether all are to end."""
        for key, _ in self._selector.select(TURN_S):
            self._read(*key.data)
        if self.stop() or self._failure is not None:
            for place in self.places:
                place.ask_to_end()
        for place in self.places:
            if place.has_ended:
                self._ended(place)
            if place.state == DIED and place.doubt.done():
                self._next(place)
            if place.state == WAITS and time.monotonic() >= place.starts_at:
                self._start(place)
        running = [place for place in self.places if place.state == RUNS]
        unfinished = [place for place in self.places if place.state != DONE]
        self.sums.beat(len(unfinished), [place.heard_at for place in running])

    def _start(self, place):
        if place.cause is not None:
            self.sums.restarted(place.cause)
        place.start(self._job(place))
        for kind, lines in place.pipes.items():
            self._selector.register(lines.descriptor, selectors.EVENT_READ, (place, kind))

    def _read(self, place, kind):
        lines, closed = place.pipes[kind].read()
        for line in lines:
            if kind == "log":
                sys.stderr.write(self._hide.clean(line.decode(errors="replace")) + "\n")
            else:
                place.heard_at = time.monotonic()
                if self.sums.take(place.number, json.loads(line)):
                    place.delivered()
        if closed:
            self._selector.unregister(place.pipes[kind].descriptor)
            place.close(kind)

    def _ended(self, place):
        """A process has ended: as it was asked to, for good, or so that another takes its place."""
        leaving = self.sums.retire(place.number)
        code, ending = place.process.returncode, self.stop() or self._failure is not None
        if code == 0 and (ending or self._ends is not None):
            place.finish()
            return
        place.died()  # also with 0 where there was no end to come to
        if code in FINAL_CODES and self._failure is None:
            self._failure = WorkersEnded(f"{place.name} ended with exit code {code}: all end", code)
        elif not ending:
            log.error("%s died: %s", place.name, place.cause)
        place.doubt = self._asking.submit(self._resolve, leaving)

    def _resolve(self, leaving):
        """Whether the batch that was on its way is out."""
        if leaving is None:
            return None, None
        tally, offsets = leaving
        return tally, was_committed(self.settings.kafka, self.settings.group_id, offsets)

    def _next(self, place):
        """What a dead worker left is settled: another takes its place, or none."""
        tally, was_out = place.doubt.result()
        if tally is not None:
            self.sums.resolve(tally, was_out)
        if self.stop() or self._failure is not None:
            place.finish()
        elif place.deaths_in_a_row > self.settings.workers.max_restarts:
            place.finish()
            code = place.process.returncode
            text = f"{place.name} died {place.deaths_in_a_row} times in a row ({place.cause}): all end"
            self._failure = WorkersEnded(text, code if code > 0 else 1)
        else:
            log.warning("worker %d is started anew in %.0f s", place.number, place.wait())
