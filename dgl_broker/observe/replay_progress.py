"""The progress bar of a replay on a terminal: how much is done, rate, time left and the counts so far."""

import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

SECONDS_BETWEEN = 0.25


def time_left(seconds):
    """Seconds as people say them: `1 h 05 min`, `3 min 20 s`, `8 s`."""
    seconds = int(seconds + 0.5)
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def counts_text(accounts):
    """The running counts in words."""
    t = accounts.total
    return f"{t.scored:,} scored  {t.refused:,} refused  {t.dead_lettered:,} dead-lettered  {t.candidates:,} candidates"


class ReplayProgress:
    """A bar and the counts at the foot of the terminal; nothing where standard error is none, or it is to be quiet."""

    def __init__(self, quiet=False, stream=None):
        stream = stream or sys.stderr
        self._live = self._bar = self._task = self._total = self._before = None
        self._counts = Text()
        if not quiet and stream.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[said]}"))
            self._bar = Progress(*columns, console=Console(file=stream))
            shown = Group(self._bar, self._counts)
            self._live = Live(shown, console=self._bar.console, transient=True, refresh_per_second=4)
        self._next = 0.0

    def __enter__(self):
        if self._live:
            self._live.start()
            self._task = self._bar.add_task("reading through", total=None, said="")
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()

    def reading(self, n):
        """So many messages are read through, of which nobody knows how many there are."""
        if self._is_due():
            self._bar.update(self._task, said=f"{n:,} messages")

    def begin(self, total, before):
        """The replay begins: so many messages, `before` of them done earlier."""
        self._total, self._before = total, before
        if self._live:
            self._bar.update(self._task, description="replaying", total=max(total, 1), completed=before, said="")

    def __call__(self, accounts):
        """Show where the replay is."""
        if self._is_due(done=accounts.consumed == self._total):
            self._bar.update(self._task, completed=accounts.consumed, said=self._share(accounts))
            self._counts.plain = counts_text(accounts)

    def _share(self, accounts):
        n = accounts.consumed
        rate = (n - self._before) / max(1e-9, time.time() - accounts.began)
        left = f"{time_left((self._total - n) / rate)} left" if rate > 0 and n < self._total else ""
        return f"{n:,} of {self._total:,}  {rate:,.0f}/s  {left}".rstrip()

    def _is_due(self, done=False):
        if not self._live or (time.monotonic() < self._next and not done):
            return False
        self._next = time.monotonic() + SECONDS_BETWEEN
        return True
