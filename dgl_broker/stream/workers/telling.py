"""A worker's side of the pipe: what it tells its supervisor."""

import json
import os
import time

from dgl_broker.observe import Watch
from dgl_broker.observe.merged import told

SECONDS_BETWEEN_STATES = 1.0


class Teller:
    """Writes one JSON object a line to a descriptor; whoever no longer listens is no reason to fail."""

    def __init__(self, descriptor):
        self._descriptor = descriptor

    def __call__(self, kind, **said):
        line = json.dumps({"kind": kind, **said}).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError:
            pass  # the supervisor is gone, and the other pipe says so too: this worker ends in order


class TellingWatch(Watch):
    """Observation of a worker, told batch by batch.

    `begin` with the batch's counts and offsets, then `settled` or `let_go`: a supervisor that hears neither asks the group
    whether the offsets were committed. `state` at most once a second: health, metrics, what the summary says beside counts.
    """

    def __init__(self, tell, done="scored"):
        super().__init__(done=done)
        self._tell = tell
        self._next_state = 0.0

    def begin(self, one, offsets):
        self._tell("begin", tally=one.as_dict(), offsets=[[*place, offset] for place, offset in offsets.items()])

    def let_go(self):
        self._tell("let_go")

    def settle(self, one, outcomes):
        super().settle(one, outcomes)
        self._tell("settled")

    def beat(self, source):
        super().beat(source)
        if time.monotonic() >= self._next_state:
            self.tell_state()

    def tell_state(self):
        """Tell it now."""
        self._next_state = time.monotonic() + SECONDS_BETWEEN_STATES
        self._tell("state", health=self.health.as_dict(), info=self.info, metrics=told(self.metrics))
