"""Ways of doing one thing, measured in turns: whatever else the machine does, it does it to all of them."""

import gc
import math
import time

import numpy as np

SHORTEST_S = 0.01  # of one measurement: what takes less is done several times, or one interruption would be all of it


def interleaved(ways, n, rounds, clock=time.process_time):
    """CPU time [us] of one item, by way, shape (rounds,) each.

    Parameters
    ----------
    ways : dict of str to callable
        Each does its work on all its items when called; the first call, for caches and memory, and a second one, which says how
        often it is to be called in each measurement, are not counted.
    n : int, or dict of str to int
        How many items that are.
    rounds : int
        Ways are run in another order in each, since one leaves the caches to the next.
    clock : callable
        Seconds. The CPU time of the process by default, which a busy machine lengthens less than the time on the wall.
    """
    names = list(ways)
    items = dict.fromkeys(names, n) if isinstance(n, int) else n
    times = {}
    for name in names:
        ways[name]()
        start = clock()
        ways[name]()
        times[name] = max(1, math.ceil(SHORTEST_S / max(clock() - start, 1e-6)))
    spent = {name: np.empty(rounds) for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                start = clock()
                for _ in range(times[name]):
                    ways[name]()
                spent[name][turn] = (clock() - start) / times[name] / items[name] * 1e6
    finally:
        gc.enable()
    return spent
