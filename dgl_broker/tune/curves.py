"""Histograms and curves over the whole range of a score, for the plots: drawn once for each set of pre-cuts."""

import numpy as np

from dgl_broker.tune.alerts import NEGATIVE
from dgl_broker.tune.ranked import BINS


def curves(selected):
    """Counts in bins of the score, and what passes at each of their edges.

    Returns
    -------
    dict of lists
        `edges` (b + 1,); `live`, `injected`, `negatives` (b,): accepted alerts in each bin; `mean`, `worst`: candidates a night
        at a threshold on each edge; `completeness` at each edge, None without lensed objects.
    """
    ranked, alerts = selected.ranked, selected.alerts
    edges, place, ok = ranked.edges, ranked.bins, selected.ok
    class_ = alerts.class_[ranked.rows]
    live = np.bincount(place[ok & ranked.stream], minlength=BINS)
    out = {
        "edges": edges.tolist(),
        "live": live.tolist(),
        "injected": np.bincount(place[ok & (class_ > NEGATIVE)], minlength=BINS).tolist(),
        "negatives": np.bincount(place[ok & (class_ == NEGATIVE)], minlength=BINS).tolist(),
        "mean": None,
        "worst": None,
        "completeness": None,
    }
    real = selected.real_nights
    if len(real):
        counted = ok & ranked.stream & (ranked.night >= 0)
        n = len(alerts.nights)
        grid = np.bincount(ranked.night[counted] * BINS + place[counted], minlength=n * BINS)
        above = _from_above(grid.reshape(n, BINS))[real] / alerts.sampled
        out["mean"], out["worst"] = above.mean(axis=0).tolist(), above.max(axis=0).tolist()
    objects = ranked.positives
    if objects.n:
        best = objects.best(ok, ranked.score)
        found = np.isfinite(best)
        at = np.clip(np.searchsorted(edges, best[found], side="right") - 1, 0, BINS - 1)
        out["completeness"] = (_from_above(np.bincount(at, minlength=BINS)[None])[0] / objects.n).tolist()
    return out


def _from_above(counts):
    """(r, b) counts in bins as (r, b + 1) counts at or above each edge."""
    summed = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    return np.hstack([summed, np.zeros((len(counts), 1), summed.dtype)])
