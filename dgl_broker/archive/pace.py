"""How fast a replay goes, and how its alerts are cut into batches: by their numbers and times alone, never by the clock.

So the same replay has the same batches wherever it was stopped, and its result is the same to the bit.
"""

import math
import re
import time
from dataclasses import dataclass

import numpy as np

from dgl_broker.errors import ConfigError
from dgl_broker.photometry import SECONDS_A_DAY

BATCH_S = 1.0  # of replayed time in a batch, where the replay is not as fast as it can be: so long an alert waits for others


@dataclass(frozen=True)
class Pace:
    """`speed` times the alerts' own times, or `rate` alerts a second; as fast as possible where both are None."""

    speed: float | None = None
    rate: float | None = None

    def edges(self, mjd_tai, batch_size):
        """Positions where batches begin, and the end: int array, shape (number of batches + 1,).

        Parameters
        ----------
        mjd_tai : array, shape (n,)
            Ascending; inf for what cannot be read.
        batch_size : int
        """
        n = len(mjd_tai)
        if self.rate is not None:
            batch_size = max(1, min(batch_size, int(self.rate * BATCH_S)))
        if self.speed is None:
            return np.append(np.arange(0, n, batch_size), n)
        edges, longest = [0], BATCH_S * self.speed / SECONDS_A_DAY
        while edges[-1] < n:
            first = edges[-1]
            late = int(np.searchsorted(mjd_tai, mjd_tai[first] + longest, side="right")) if np.isfinite(mjd_tai[first]) else n
            edges.append(min(first + batch_size, max(late, first + 1), n))
        return np.array(edges)

    def clock(self, mjd_tai, start):
        """A `Clock` for the part from position `start` on."""
        return Clock(self, mjd_tai, start)


class Clock:
    """When each batch is due, counted from now."""

    def __init__(self, pace, mjd_tai, start):
        self._pace, self._mjd, self._start = pace, mjd_tai, start
        self._began = time.monotonic()

    def due_in(self, end):
        """Seconds until the batch that ends before position `end` is due; 0 where it is late or nothing paces it."""
        if self._pace.rate is not None:
            after = (end - self._start) / self._pace.rate
        elif self._pace.speed is not None:
            last, first = self._mjd[end - 1], self._mjd[self._start]
            after = (last - first) * SECONDS_A_DAY / self._pace.speed if math.isfinite(last - first) else 0.0
        else:
            return 0.0
        return max(0.0, after - (time.monotonic() - self._began))


_SPEED = re.compile(r"(\d+(?:\.\d+)?)x?\Z")
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/s)?\Z")


def parse_pace(speed, rate):
    """A `Pace` of `10x` and `256/s`, at most one of them given.

    Raises
    ------
    ConfigError
    """
    if speed is not None and rate is not None:
        raise ConfigError("--speed and --rate: expected one of them")
    return Pace(_number(_SPEED, speed, "--speed", "such as 10x"), _number(_RATE, rate, "--rate", "such as 256/s"))


def _number(form, text, option, expected):
    if text is None:
        return None
    found = form.match(text)
    if not found or not float(found[1]) > 0:
        raise ConfigError(f"{option} {text}, expected a positive number {expected}")
    return float(found[1])
