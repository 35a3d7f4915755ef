"""The progress of a demonstration: a bar on a terminal, a line now and then elsewhere."""

import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0


class DemoProgress:
    """Counts along while one survey's night is played.

    Parameters
    ----------
    console : rich.console.Console
    survey : str
    n_alerts : int
    """

    def __init__(self, console, survey, n_alerts):
        self._console, self._survey, self._n = console, survey, n_alerts
        self._bar = None
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES

    def __enter__(self):
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[survey]}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[counts]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task("", total=self._n, survey=self._survey, counts="starting")
            self._bar.start()
        return self

    def __exit__(self, *_):
        if self._bar:
            self._bar.stop()

    def __call__(self, accounts, lag):
        """Show where the run is; as `Watch` calls it."""
        t = accounts.total
        counts = f"{t.scored} scored, {t.refused} refused, {t.dead_lettered} dead-lettered, {t.candidates} candidates"
        if self._bar:
            self._bar.update(self._task, completed=t.consumed, counts=counts)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
            self._console.print(f"{self._survey} {t.consumed}/{self._n}: {counts}")
