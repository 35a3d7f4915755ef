"""A night of simulated packets: systems of many kinds, lensed supernovae far more often than in the sky, a few broken bytes.

Systems are drawn from the population that training uses, at their own positions and dates; lensed ones are so frequent here
(a third of the systems) because a night with its true share of them would show none.
"""

import os
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

# Systems out of a hundred.
MIX = {
    "lensed_sn_ia": 17, "lensed_sn_cc": 17, "sn_ia_host": 12, "sn_cc_host": 10, "sn_ia_lrg": 7, "sn_cc_lrg": 2,
    "sn_ia_in_lens": 3, "sn_cc_in_lens": 2, "sibling_sne": 2, "agn": 7, "agn_in_lens": 2, "lensed_quasar": 4,
    "variable_star": 3, "tde": 2, "slsn": 2, "lens_bad_subtraction": 2, "moving_object": 2, "cosmic_ray": 2, "bad_column": 1,
    "dipole": 1,
}  # fmt: skip
ALERTS_OF_A_SYSTEM = 4
BROKEN_EVERY = 97  # one message in so many is no packet any more
CHUNK = 24  # systems simulated at a time
_NIGHT_STREAM = 77  # of the random numbers that are this module's


def simulate_chunk(survey, seed, first, n_systems):
    """Packets of some systems, with the labels of each, by time of the trigger.

    Parameters
    ----------
    survey : "lsst" or "ztf"
    seed, first : int
        Systems `first` to `first + n_systems - 1` of this seed.

    Returns
    -------
    list of (bytes, dict)
    """
    from dgl_broker.sim.packets import simulate_packets
    from dgl_broker.sim.population import draw_system

    kinds, shares = list(MIX), np.array(list(MIX.values()), float)
    found = []
    for index in range(first, first + n_systems):
        rng = np.random.default_rng(np.random.SeedSequence([seed, index, _NIGHT_STREAM]))
        kind = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
        alerts = simulate_packets(draw_system(survey, seed, index, kind), survey)
        if alerts:
            chosen = np.sort(rng.choice(len(alerts), min(len(alerts), ALERTS_OF_A_SYSTEM), replace=False))
            found += [alerts[n] for n in chosen]
    return [(alert.value, alert.labels) for alert in sorted(found, key=lambda alert: alert.mjd_tai)]


def _break(value, number):
    """A packet as no one can read it: not a packet at all, with the id of a schema that does not exist, or cut short.

    A packet cut behind its leading fields may still be refused for what these say: the first stage reads no further.
    """
    which = number % 3
    if which == 0:
        return b"not an alert packet"
    if which == 1 and value[:1] == b"\0":
        return b"\0" + (65535).to_bytes(4, "big") + value[5:]
    return value[: len(value) // 2]


def night(survey, n_alerts, seed=1, processes=None):
    """The messages of a night, in order.

    Parameters
    ----------
    survey : "lsst" or "ztf"
    n_alerts : int
    seed : int
        The same seed gives the same bytes.
    processes : int, optional
        How many simulate beside this one; 0: in this one. By default all cores but one.

    Yields
    ------
    (bytes, dict or None)
        A message, and the labels of `dgl_broker.sim.packets.LABEL_COLUMNS`; None for a broken one.
    """
    if processes is None:
        processes = max(1, (os.cpu_count() or 2) - 1)
    sent = 0
    for chunk in _chunks(survey, seed, processes):
        for value, labels in chunk:
            if sent % BROKEN_EVERY == BROKEN_EVERY // 2:
                yield _break(value, sent // BROKEN_EVERY), None
            else:
                yield value, labels
            sent += 1
            if sent == n_alerts:
                return


def _chunks(survey, seed, processes):
    """Chunk after chunk without end, simulated ahead where there are processes for it."""
    if processes == 0:
        first = 0
        while True:
            yield simulate_chunk(survey, seed, first, CHUNK)
            first += CHUNK
    # Spawned, not forked: librdkafka and torch have threads by now.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        ahead, first = deque(), 0
        try:
            while True:
                while len(ahead) < processes + 1:
                    ahead.append(pool.submit(simulate_chunk, survey, seed, first, CHUNK))
                    first += CHUNK
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
