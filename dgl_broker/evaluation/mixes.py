"""The two mixes of negatives, never mingled: `hard` (each hard kind equally often) and `stream` (by rates in the sky).

Rates and their sources are those of `dgl_broker.sim.rates`, objects a year after the shipped pre-cuts. A weight belongs to
an object; the lensed supernovae keep weight 1, and only their own shares of Ia and CC and of brightness, as the simulator
draws them, are in the completeness.
"""

import json
from functools import lru_cache
from importlib.resources import files

import numpy as np

from dgl_broker.errors import ConfigError

MIXES = ("hard", "stream")


def tables():
    """What `mixes.json` says."""
    return json.loads((files("dgl_broker.evaluation") / "mixes.json").read_text())


@lru_cache(maxsize=4)
def sourced_rates(survey):
    """Objects a year of each kind of negative after the shipped pre-cuts: kind -> {"rate", "source"}, for cards and reports.

    Raises
    ------
    ConfigError
        For a survey without a table.
    """
    from dgl_broker.sim.rates import stream_rates
    from dgl_broker.sim.system import CLASS_OF_KIND

    if survey not in ("lsst", "ztf"):
        raise ConfigError(f"mix stream: no rates for survey {survey!r}, expected lsst or ztf")
    negative = {kind for kind, label in CLASS_OF_KIND.items() if label in ("no_lens", "lens")}
    return {
        kind: {"rate": float(f"{rate.objects_per_year:.4g}"), "source": rate.source}
        for kind, rate in stream_rates(survey).items()
        if kind in negative
    }


def rates(survey):
    """Objects a year of each kind of negative after the shipped pre-cuts."""
    return {kind: entry["rate"] for kind, entry in sourced_rates(survey).items()}


def weights(mix, survey, kind, positive, all_kinds=None):
    """Weight of each object in a mix.

    Parameters
    ----------
    mix : {"hard", "stream"}
    survey : str
    kind : array of str, shape (n,)
        Of the objects judged.
    positive : array of bool, shape (n,)
        Lensed supernovae: weight 1.
    all_kinds : array of str, optional
        Kinds of all negative objects of the sample that pass the pre-cuts at least once, of which those judged are a part
        (at the k-th detection only those that have it): the rate of a kind is shared among all of them. Without: those
        judged.

    Returns
    -------
    array, shape (n,), float64
        Negatives sum to 1 where there are any; 0 for kinds outside the mix.
    """
    kind, positive = np.asarray(kind), np.asarray(positive, bool)
    out = np.where(positive, 1.0, 0.0)
    negative = np.flatnonzero(~positive)
    if mix == "hard":
        share = dict.fromkeys(tables()["hard"], 1.0)
        all_kinds = kind[negative]
    elif mix == "stream":
        share = rates(survey)
        all_kinds = kind[negative] if all_kinds is None else np.asarray(all_kinds)
    else:
        raise ConfigError(f"mix {mix!r}, expected one of {', '.join(MIXES)}")
    names, count = np.unique(all_kinds, return_counts=True)
    each = {str(name): share.get(str(name), 0.0) / n for name, n in zip(names, count)}
    out[negative] = [each.get(str(k), 0.0) for k in kind[negative]]
    total = out[negative].sum()
    if total > 0:
        out[negative] /= total
    return out


def missing_kinds(mix, survey, kind):
    """Kinds of a mix that a sample has no object of: named beside every number, since they cost nothing there."""
    wanted = tables()["hard"] if mix == "hard" else list(rates(survey))
    present = set(np.unique(np.asarray(kind)).tolist())
    return [k for k in wanted if k not in present]
