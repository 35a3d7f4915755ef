"""Operating points: the threshold at which a completeness is reached, or a false-positive rate or a nightly number kept."""

import math

import numpy as np

from dgl_broker.errors import ConfigError
from dgl_broker.evaluation.measures import MEASURABLE, threshold_at_fpr

METRICS = ("completeness", "fpr", "candidates_per_night")
SLACK = 0.001  # share of what passes that a rounder number may differ by


def threshold_of(selected, metric, value):
    """The threshold of an operating point, in as few decimals as keep it.

    Parameters
    ----------
    selected : dgl_broker.tune.counts.Selected
    metric : str
        `completeness`: the highest threshold that finds at least this share of the lensed objects. `fpr`: the lowest that lets
        at most this share pass, of the known negatives where these are enough to show it, else of the real alerts.
        `candidates_per_night`: the lowest with at most so many in the worst night.
    value : float

    Returns
    -------
    threshold : float
    of : str
        What it was measured on, in words.

    Raises
    ------
    ConfigError
        If it cannot be reached, or not be shown with what is there.
    """
    if metric not in METRICS:
        raise ConfigError(f"operating point {metric!r}, expected one of {', '.join(METRICS)}")
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (metric != "candidates_per_night" and value > 1):
        raise ConfigError(f"{metric} {value!r}, expected {'0 or more' if metric == 'candidates_per_night' else '0 to 1'}")
    found, of, upwards = {"completeness": _at_completeness, "fpr": _at_fpr, "candidates_per_night": _at_candidates}[metric](
        selected, float(value)
    )
    return rounded(selected, found, upwards), of


def _at_completeness(selected, share):
    objects = selected.ranked.positives
    if not objects.n:
        raise ConfigError("completeness: no lensed supernovae among the alerts; inject some, or give --labels")
    best = np.sort(objects.best(selected.ok, selected.ranked.score))[::-1]
    need = max(1, math.ceil(share * objects.n - 1e-9))
    if not np.isfinite(best[need - 1]):
        reached = float(np.isfinite(best).mean())
        raise ConfigError(
            f"completeness {share:g}: at most {reached:.3g} can be reached, pre-cuts and refusals take the others"
        )
    return float(best[need - 1]), f"{objects.n} lensed objects", False


def _at_fpr(selected, rate):
    ranked, alerts = selected.ranked, selected.alerts
    n_known, n_stream = ranked.negatives.n, alerts.n_stream
    if n_known and rate * n_known >= MEASURABLE:
        score = ranked.negatives.best(selected.ok, ranked.score)
        of = f"{n_known} known negatives"
    elif rate * n_stream >= MEASURABLE:
        score = np.full(n_stream, -np.inf)
        passing = ranked.score[selected.ok & ranked.stream]
        score[: len(passing)] = passing
        of = f"{n_stream} real alerts, taken for negatives"
    else:
        least = MEASURABLE / max(n_known, n_stream, 1)
        raise ConfigError(
            f"fpr {rate:g}: {n_known} known negatives and {n_stream} real alerts can show none below {least:.2g} (3/n)"
        )
    threshold = threshold_at_fpr(score, np.ones(len(score)), rate)
    return (threshold if np.isfinite(threshold) else float(ranked.score[-1])), of, True


def _at_candidates(selected, limit):
    ranked, alerts = selected.ranked, selected.alerts
    if not len(selected.real_nights):
        raise ConfigError("candidates_per_night: no real alerts among the tables, so no night to count")
    rows = np.flatnonzero(selected.ok & ranked.stream & (ranked.night >= 0))
    night = ranked.night[rows].astype(np.int16)
    order = np.argsort(night, kind="stable")  # within a night the best stay first
    starts = np.searchsorted(night[order], np.arange(len(alerts.nights)))
    ends = np.append(starts[1:], len(order))
    first_out = starts + int(math.floor(limit * alerts.sampled + 1e-9))
    over = first_out < ends
    if not over.any():
        return float(ranked.score[-1]), f"{len(selected.real_nights)} nights", False
    highest = ranked.score[rows[order[first_out[over]]]].max()
    return float(np.nextafter(highest, np.inf)), f"{len(selected.real_nights)} nights", True


def rounded(selected, threshold, upwards):
    """A threshold in the fewest decimals, from 2, that change what passes by at most a thousandth; only to the safe side."""
    here = np.count_nonzero(selected.passing(threshold))
    step = math.ceil if upwards else math.floor
    for decimals in range(2, 16):
        scaled = threshold * 10.0**decimals
        if not math.isfinite(scaled) or abs(scaled) > 2**53:
            break
        number = round(step(scaled) / 10.0**decimals, decimals)
        if (number < threshold) if upwards else (number > threshold):
            continue  # the division rounded to the wrong side
        if abs(np.count_nonzero(selected.passing(number)) - here) <= SLACK * here:
            return float(number)
    return float(threshold)
