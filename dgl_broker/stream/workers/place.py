"""One worker's place: the process that fills it, and when, after one has died, the next may."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import time

log = logging.getLogger(__name__)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LONG_LIFE_S = 600.0  # a worker that lived so long is no start that failed
CHUNK = 1 << 20
LONGEST_LINE = 16 << 20

# What becomes of a place: its process runs; it died, and what it was delivering is asked for; it waits for its time to start;
# it has read all that was asked for, or is not to be filled again.
RUNS, DIED, WAITS, DONE = "runs", "died", "waits", "done"


class Lines:
    """What comes through one pipe, line by line."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self._rest = b""

    def read(self):
        """(whole lines that have come, whether the pipe is closed); what was cut off at its end is no line."""
        chunk = os.read(self.descriptor, CHUNK)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        return lines, not chunk


class Place:
    """The place of worker `number`.

    Attributes
    ----------
    state : str
        RUNS, DIED, WAITS or DONE.
    deaths_in_a_row : int
        Since a worker here last delivered a batch, or lived for long.
    cause : str
        Of the last death: a signal's name, or `exit <code>`.
    """

    def __init__(self, number, command, environ):
        self.number = number
        self.state = WAITS
        self.starts_at = 0.0
        self.deaths_in_a_row = 0
        self.cause = None
        self.process = None
        self.heard_at = None
        self.pipes = {}  # "report" and "log" -> Lines, until they are closed
        self._command, self._environ = command, environ

    @property
    def name(self):
        """For logs."""
        return f"worker {self.number}" + (f" (process {self.process.pid})" if self.process else "")

    def start(self, job):
        """Start a process and give it its job."""
        report, telling = os.pipe()
        logged, logging_to = os.pipe()
        try:
            # A session of its own: a terminal's interrupt goes to the supervisor alone, which ends all in order.
            self.process = subprocess.Popen(
                [*self._command, str(telling)],
                stdin=subprocess.PIPE,
                stdout=logging_to,
                stderr=logging_to,
                pass_fds=(telling,),
                env=self._environ,
                start_new_session=True,
                bufsize=0,
            )
        finally:
            os.close(telling)
            os.close(logging_to)
        self.pipes = {"report": Lines(report), "log": Lines(logged)}
        self.state, self.heard_at, self._began = RUNS, time.monotonic(), time.monotonic()
        log.info("%s started", self.name)
        with contextlib.suppress(OSError):  # it died at once, and is found dead
            self.process.stdin.write(json.dumps(job).encode() + b"\n")

    def delivered(self):
        """It delivered a batch: its next death is the first of a row."""
        self.deaths_in_a_row = 0

    def ask_to_end(self):
        """Ask the process to end in order; a place without one stays empty."""
        if self.process is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        if self.state == WAITS:
            self.state = DONE

    def kill(self):
        """SIGKILL."""
        if self.state == RUNS:
            self.process.kill()

    def close(self, kind):
        """One of its pipes is closed."""
        os.close(self.pipes.pop(kind).descriptor)

    def finish(self):
        """This place is not to be filled again."""
        self.ask_to_end()
        self.state = DONE

    @property
    def has_ended(self):
        """Whether the process has ended and all that it said is read."""
        return self.state == RUNS and not self.pipes and self.process.poll() is not None

    def died(self):
        """Take note of its death, and of when the next one may start."""
        code = self.process.returncode
        self.cause = signal.Signals(-code).name if code < 0 else f"exit {code}"
        if time.monotonic() - self._began > LONG_LIFE_S:
            self.deaths_in_a_row = 0
        self.deaths_in_a_row += 1
        self.state = DIED
        self.ask_to_end()  # closes what is left of it

    def wait(self):
        """The next one starts after a pause, twice as long with each death in a row."""
        pause_s = min(FIRST_PAUSE_S * 2.0 ** (self.deaths_in_a_row - 1), LONGEST_PAUSE_S)
        self.state, self.starts_at = WAITS, time.monotonic() + pause_s
        return pause_s
