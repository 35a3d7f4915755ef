"""SIGTERM and SIGINT: the first finishes the batch in hand, a second leaves at once.

The second must work while the main thread sits in a call of C, where Python's own handlers wait: the signal's number is
written to a pipe by C (`signal.set_wakeup_fd`), and a thread reads it.
"""

import logging
import os
import signal
import socket
import threading

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether the process is to stop, and why. Without `install` nothing but `ask` sets it."""

    def __init__(self):
        self._asked = threading.Event()
        self.signal = None
        self.before_leaving = None  # called when a second signal comes, before this process leaves
        self._restore = None

    def __call__(self):
        return self._asked.is_set()

    def ask(self):
        """Stop after the batch in hand."""
        self._asked.set()

    def wait(self, seconds):
        """Pause, cut short when asked to stop."""
        self._asked.wait(seconds)

    @property
    def exit_code(self):
        """128 + the signal's number, or 0 where none came."""
        return 0 if self.signal is None else 128 + self.signal

    def __enter__(self):
        """Take SIGTERM and SIGINT over; main thread only."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()
        self._restore = (handlers, previous, writer)
        return self

    def __exit__(self, *_):
        handlers, previous, writer = self._restore
        signal.set_wakeup_fd(previous)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        writer.close()

    def _watch(self, reader):
        with reader:
            while got := reader.recv(1):
                if got[0] not in SIGNALS:
                    continue
                if self._asked.is_set() and self.signal is not None:
                    # Nothing is lost: what is committed is out, what is not is read again.
                    os.write(2, b"dgl-broker: second signal, leaving at once\n")
                    if self.before_leaving is not None:
                        self.before_leaving()
                    os._exit(128 + got[0])
                self.signal = got[0]
                log.info("%s: finishing the batch in hand", signal.Signals(got[0]).name)
                self._asked.set()
