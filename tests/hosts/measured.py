"""What adapters were measured to do with the alerts of the stage: JSON lines in the file that DGL_HOSTS_MEASURE names.

`docs/hosts/table.py` makes the table of `docs/hosts/index.md` from such a file.
"""

import json
import os
import statistics
import time

MEASURING = bool(os.environ.get("DGL_HOSTS_MEASURE"))


class Clock:
    """Seconds that single alerts took: `with clock: ...` around each."""

    def __init__(self):
        self.seconds = []

    def __enter__(self):
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds.append(time.perf_counter() - self._began)


def keep(host, survey, records, stream, found, clock=None, **more):
    """Write down how scores found through a host compare with the stream's.

    Parameters
    ----------
    host, survey : str
    records : iterable of dict
        Records of the alerts compared: the bundle that made their scores is written down with the figures.
    stream, found : dict
        Alert id -> log-odds, of the stream and by way of the host.
    clock : Clock, optional
        Of single alerts.
    more : figures of this host alone
    """
    if not MEASURING:
        return
    (bundle,) = {one["bundle_sha256"] for one in records if one["status"] == "scored"}
    moved = sorted(abs(found[i] - stream[i]) for i in stream if i in found)
    spread = statistics.pstdev(stream.values()) if stream else None
    line = {
        "host": host,
        "survey": survey,
        "bundle_sha256": bundle,
        "stream": len(stream),
        "both": len(moved),
        "host_only": len(set(found) - set(stream)),
        "spread": spread,
        "median_difference": statistics.median(moved) if moved else None,
        "nine_of_ten_below": moved[min(len(moved) - 1, 9 * len(moved) // 10)] if moved else None,
        "largest_difference": moved[-1] if moved else None,
        "median_ms": None if clock is None else round(1e3 * statistics.median(clock.seconds), 3),
        **more,
    }
    _append(line)


def rank_correlation(stream, found):
    """Spearman's rank correlation of the log-odds of the stream's alerts, or None of fewer than three."""
    ids = [i for i in stream if i in found]
    if len(ids) < 3:
        return None
    places = ({i: n for n, i in enumerate(sorted(ids, key=odds.get))} for odds in (stream, found))
    one, other = ([place[i] for i in ids] for place in places)
    return round(statistics.correlation(one, other), 3)


def keep_sent(host, clock, came, what="a report"):
    """Write down how long `what` takes, and how many reports came back as they were."""
    if MEASURING:
        line = {"host": host, "reports": came, "of": what, "median_ms": round(1e3 * statistics.median(clock.seconds), 3)}
        _append(line)


def _append(line):
    with open(os.environ["DGL_HOSTS_MEASURE"], "a") as out:
        out.write(json.dumps({**line, "load": round(os.getloadavg()[0], 1)}) + "\n")
