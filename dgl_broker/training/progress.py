"""Progress bars of long work (the door to `rich` for training and evaluation); silent where the output is no terminal."""

import sys
from contextlib import contextmanager


@contextmanager
def bar(title, total, unit=""):
    """A bar as a context: the value is `advance(n=1, note="")`.

    Where standard error is no terminal, a line is written at each further tenth instead, so that logs stay short.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(title, total=total, note="")
            yield lambda n=1, note="": progress.update(task, advance=n, note=note)
        return
    state = {"done": 0, "said": 0}

    def advance(n=1, note=""):
        state["done"] += n
        tenth = int(10 * state["done"] / max(total, 1))
        if tenth > state["said"]:
            state["said"] = tenth
            print(f"{title}: {state['done']}/{total} {unit} {note}".rstrip(), file=sys.stderr, flush=True)

    yield advance
