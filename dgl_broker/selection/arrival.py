"""How far a new version of a filter has come: which workers judge by it, which lag and why."""

import time
from dataclasses import dataclass

from dgl_broker.selection.status import read_workers

POLL_S = 0.2


@dataclass(frozen=True)
class Arrival:
    """Workers that run the filter, by where they stand.

    `in_force` and `silent` hold names; `lagging` holds "worker: version 3 since ..., and why", for people. A silent worker, not
    heard of for long, is not waited for, since it may be dead, and not left out, since it may be alive.
    """

    version: int
    in_force: tuple[str, ...]
    lagging: tuple[str, ...]
    silent: tuple[str, ...]
    seconds: float = 0.0

    @property
    def complete(self):
        """Whether no worker that is alive lags."""
        return not self.lagging

    def __str__(self):
        if not (self.in_force or self.lagging or self.silent):
            return "no worker runs this filter now: it holds from the next start on"
        n = len(self.in_force) + len(self.lagging)
        text = f"version {self.version} in force on {len(self.in_force)} of {n} workers"
        if self.lagging:
            text += "; lagging: " + "; ".join(self.lagging)
        if self.silent:
            text += "; silent for more than a minute: " + ", ".join(self.silent)
        return text


def read_arrival(folder, name, version, seconds=0.0, **options):
    """`Arrival` of a version of the filter `name` as the status folder says now; `options` as `read_workers` takes them."""
    in_force, lagging, silent = [], [], []
    for w in read_workers(folder, **options):
        if name not in w.versions:
            continue
        if w.versions[name] >= version:
            in_force.append(w.worker)
        elif w.silent:
            silent.append(w.worker)
        else:
            why = f"; {w.problems[name]}" if name in w.problems else ""
            lagging.append(f"{w.worker}: version {w.versions[name]} since {w.since[name]}{why}")
    return Arrival(version, tuple(in_force), tuple(lagging), tuple(silent), seconds)


def wait_for_arrival(folder, name, version, timeout_s, clock=time.monotonic, sleep=time.sleep):
    """`Arrival` once every living worker has the version, or as it stands after `timeout_s`."""
    began = clock()
    while True:
        arrival = read_arrival(folder, name, version, seconds=clock() - began)
        if arrival.complete or arrival.seconds >= timeout_s:
            return arrival
        sleep(POLL_S)
