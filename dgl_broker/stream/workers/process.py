"""What a worker's process does: take its job from standard input, run, tell, end."""

import faulthandler
import json
import os
import sys
import threading

from dgl_broker.observe.log import set_up_log
from dgl_broker.stream.ending import exit_code
from dgl_broker.stream.ends import Ends
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.workers.telling import Teller

CHUNK = 65536


def _job():
    """The line that standard input begins with."""
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(0, CHUNK)
        if not chunk:
            raise SystemExit(0)  # the supervisor ended before it had a job for us
        line += chunk
    return json.loads(line)


def _end_with_standard_input(stop):
    """Ask to stop when standard input is closed: by a supervisor that wants that, or is no more."""
    while os.read(0, CHUNK):
        pass
    stop.ask()


def work(descriptor, make_worker):
    """Be one worker; its exit code.

    Parameters
    ----------
    descriptor : int
        Where to tell.
    make_worker : callable
        (job, stop, tell) -> a worker as `dgl_broker.stream.worker.Worker`, with a `TellingWatch`; the job is a dict as
        `Supervisor` makes it.
    """
    faulthandler.enable()  # a crash in C leaves its Python traceback in the log
    os.set_inheritable(descriptor, False)
    tell = Teller(descriptor)
    job = _job()
    with Stop() as stop:
        threading.Thread(target=_end_with_standard_input, args=(stop,), name="supervisor", daemon=True).start()
        worker = make_worker(job, stop, tell)
        settings = worker.settings
        set_up_log(settings.log.format, settings.log.level, settings.secrets(), sys.stderr, worker=job["number"])
        until_eof = False if job["ends"] is None else Ends.from_list(job["ends"])
        code = exit_code(worker, stop, until_eof=until_eof, at_start=job["at_start"])
        worker.watch.tell_state()
    return code
