"""Intervals: Clopper-Pearson and Wilson for shares, Garwood for counts, percentile bootstrap over objects, paired for two."""

import numpy as np
from scipy import stats


def clopper_pearson(k, n, level=0.95):
    """Exact interval of a share: k of n (Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    lo = 0.0 if k == 0 else float(stats.beta.ppf(tail, k, n - k + 1))
    hi = 1.0 if k == n else float(stats.beta.ppf(1 - tail, k + 1, n - k))
    return lo, hi


def wilson(k, n, level=0.95):
    """Score interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953); k may be a weighted count of n effective."""
    if n == 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf(1 - (1 - level) / 2))
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def poisson(k, level=0.95):
    """Exact interval of the expectation behind a count (Garwood 1936, doi:10.1093/biomet/28.3-4.437).

    k may be the effective number of a clustered count: then the interval is that of as many independent events.
    """
    tail = (1 - level) / 2
    lo = 0.0 if k == 0 else float(stats.chi2.ppf(tail, 2 * k) / 2)
    return lo, float(stats.chi2.ppf(1 - tail, 2 * (k + 1)) / 2)


def bootstrap(measure, strata, n_draws=400, level=0.95, seed=0):
    """Percentile interval of a measure over objects, drawn anew with replacement within each stratum.

    Parameters
    ----------
    measure : callable
        Indices of objects (with repeats) -> float, NaN where it is not defined.
    strata : list of int arrays
        Indices of the objects of each stratum (a kind, or positives and negatives): shares of strata are fixed by design.
    n_draws : int
    level : float
    seed : int

    Returns
    -------
    lo, hi : float
        NaN where fewer than half of the draws are defined.
    """
    draws = np.array([measure(np.concatenate(resampled(strata, rng))) for rng in _streams(seed, n_draws)])
    return _percentiles(draws, level)


def paired_bootstrap(measure_a, measure_b, strata, n_draws=1000, level=0.95, seed=0):
    """Difference of two measures over the same objects: (b - a on all, lo, hi, share of draws in which it is above 0)."""
    everything = np.concatenate(strata)
    draws = []
    for rng in _streams(seed, n_draws):
        pick = np.concatenate(resampled(strata, rng))
        draws.append(measure_b(pick) - measure_a(pick))
    draws = np.array(draws)
    lo, hi = _percentiles(draws, level)
    return float(measure_b(everything) - measure_a(everything)), lo, hi, float(np.nanmean(draws > 0))


def resampled(strata, rng):
    """Each stratum drawn anew, with replacement, at its own size."""
    return [s[rng.integers(0, len(s), len(s))] for s in strata if len(s)]


def _streams(seed, n):
    return (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(n))


def _percentiles(draws, level):
    draws = draws[np.isfinite(draws)] if len(draws) else draws
    if len(draws) == 0:
        return float("nan"), float("nan")
    lo, hi = np.percentile(draws, [50 * (1 - level), 50 * (1 + level)])
    return float(lo), float(hi)
