"""The progress line on a terminal."""

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

SECONDS_BETWEEN = 0.5


def progress_text(accounts, lag):
    """One line: counts so far, rate, lag."""
    t = accounts.total
    rate = t.consumed / max(1e-9, time.time() - accounts.began)
    done = accounts.done
    line = f"{t.consumed:,} consumed  {getattr(t, done):,} {done}  {t.refused:,} refused  {t.dead_lettered:,} dead-lettered"
    line += (f"  {t.candidates:,} candidates" if done == "scored" else "") + f"  {rate:,.0f}/s"
    return line if lag is None else f"{line}  {lag:,} behind"


class Progress:
    """A line at the foot of the terminal that counts along; nothing where standard error is no terminal.

    The log goes on above it: its handler's stream is the console's, as `set_up_log` is told.
    """

    def __init__(self, stream=None):
        stream = stream or sys.stderr
        self._live = None
        self.console = Console(file=stream)
        if stream.isatty():
            self._live = Live(console=self.console, transient=True, redirect_stderr=True, auto_refresh=False)
        self._next = 0.0

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()

    def __call__(self, accounts, lag):
        """Show where the run is."""
        if self._live and time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS_BETWEEN
            self._live.update(Text(progress_text(accounts, lag)), refresh=True)
