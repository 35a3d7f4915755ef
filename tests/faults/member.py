"""`dgl-broker run` as a process that a fault can strike where it hurts: `python -m faults.member run --config ...`.

What is done to it stands in DGL_FAULTS_MEMBER as JSON: `scorer` ("cheap" or "real"), and any of

- `stretch_s`: after every step of a batch it waits a random time up to this, so that a kill at a random moment meets each step;
- `stop_after`: after this step of a batch it stops itself with SIGSTOP, once (`outcomes`, `attempt`, `step`);
- `stop_at`: at which call of that step (1 where not given);
- `file_limit`: bytes that it may write to a file, as a full disk would let it;
- `clock`: a file with seconds that its clock is wrong by, read with every look at the clock;
- `refresh_s`: how often it looks for new topics.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from dgl_broker.stream import delivery, run_loop, sink, source, topics, worker

STEPS = {
    "gather": (source.Source, "next_batch"),
    "outcomes": (run_loop.RunLoop, "outcomes"),
    "attempt": (sink.Sink, "attempt"),
    "step": (delivery.ExactlyOnce, "_step"),
    "commit": (source.Source, "commit"),
}


def after(step, act):
    """Call `act` after each call of a step."""
    kind, name = STEPS[step]
    original = getattr(kind, name)

    def wrapped(*args, **kwargs):
        result = original(*args, **kwargs)
        act()
        return result

    setattr(kind, name, wrapped)


def stop_once(nth):
    """What stops this process at its n-th call."""
    calls = []

    def act():
        calls.append(True)
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGSTOP)

    return act


def bend_clock(path):
    """Make the clock of all Python code wrong by the seconds in a file."""
    real, real_ns, path = time.time, time.time_ns, Path(path)

    def off():
        return float(path.read_text() or 0)

    class Bent(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=off())

    time.time = lambda: real() + off()
    time.time_ns = lambda: real_ns() + int(off() * 1e9)
    topics.datetime = Bent


def main(arguments):
    """Do what is asked, then run the command."""
    how = json.loads(os.environ["DGL_FAULTS_MEMBER"])
    if how["scorer"] == "cheap":
        from faults.cheap import CheapScorer

        worker.make_scorer = lambda settings, schemas: CheapScorer()
    if "stretch_s" in how:
        draw = random.Random(os.getpid())
        for step in STEPS:
            after(step, lambda: time.sleep(draw.uniform(0.0, how["stretch_s"])))
    if "stop_after" in how:
        after(how["stop_after"], stop_once(how.get("stop_at", 1)))
    if "file_limit" in how:
        resource.setrlimit(resource.RLIMIT_FSIZE, (how["file_limit"], how["file_limit"]))
    if "clock" in how:
        bend_clock(how["clock"])
    if "refresh_s" in how:
        source.REFRESH_S = how["refresh_s"]
    from dgl_broker.cli import main as run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
