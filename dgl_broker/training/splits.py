"""Which split a system belongs to: decided from its name alone, before anything is drawn, rendered or seen.

The six splits and what each is for: `train` (networks), `validation` (early stopping, nothing else), `stack` (SVM),
`calibration` (fusion and prior), `null` (conformal p-values), `test` (the numbers that are published).
"""

import hashlib
from collections import Counter

import numpy as np

from dgl_broker.errors import ConfigError

SPLITS = ("train", "validation", "stack", "calibration", "null", "test")
DEFAULT_FRACTIONS = {"train": 0.55, "validation": 0.08, "stack": 0.08, "calibration": 0.09, "null": 0.05, "test": 0.15}


def check_fractions(fractions):
    """Shares by split, in the order of `SPLITS` and summing to 1.

    Raises
    ------
    ConfigError
        If a name is no split, a share is not in 0..1, or they do not sum to 1 within 1e-9.
    """
    unknown = sorted(set(fractions) - set(SPLITS))
    if unknown:
        raise ConfigError(f"splits: {', '.join(unknown)} unknown, expected some of {', '.join(SPLITS)}")
    shares = {name: float(fractions.get(name, 0.0)) for name in SPLITS}
    if any(not 0 <= share <= 1 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-9:
        raise ConfigError(f"splits: shares {fractions}, expected numbers 0 to 1 that sum to 1")
    return shares


def unit_hash(*parts):
    """A number in [0, 1) that depends on the parts alone, whatever the machine or the run (blake2b, 53 bits)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / float(1 << 53)


def split_of(seed, system, fractions=None):
    """Name of the split of system number `system` of the run `seed`.

    Parameters
    ----------
    seed : int or str
        The run (or, for real packets, a word for where they come from).
    system : int or str
        The system in it.
    fractions : dict, optional
        Share by split; `DEFAULT_FRACTIONS` without.
    """
    shares = check_fractions(DEFAULT_FRACTIONS if fractions is None else fractions)
    place, edge, last = unit_hash("split", seed, system), 0.0, None
    for name, share in shares.items():
        if share == 0:
            continue
        edge, last = edge + share, name
        if place < edge:
            return name
    return last


def group_by_sky(ra_deg, dec_deg, radius_arcsec=5.0):
    """Number of the system of each object: objects nearer than `radius_arcsec` to each other, chained, are one.

    The images of one lens are objects of their own in LSST, and so are an object and its re-detection a season later; left
    apart, they would carry one galaxy into two splits.

    Parameters
    ----------
    ra_deg, dec_deg : array, shape (n,)

    Returns
    -------
    array, shape (n,), int64
        Equal for objects of one system, numbered in order of first appearance.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    ra, dec = np.radians(np.asarray(ra_deg, float)), np.radians(np.asarray(dec_deg, float))
    n = len(ra)
    if n == 0:
        return np.zeros(0, np.int64)
    unit = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    chord = 2 * np.sin(np.radians(radius_arcsec / 3600) / 2)
    pairs = cKDTree(unit).query_pairs(chord, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, group = connected_components(graph, directed=False)
    _, first = np.unique(group, return_index=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[group]


def leakage(labels):
    """What stands in more than one split, and the balance of classes in each.

    Parameters
    ----------
    labels : dict of arrays, shape (n,)
        With `split`, `seed`, `system`, `galaxy_id`, `object_id`, `alert_id`, `class` (see `shards.COLUMNS`).

    Returns
    -------
    dict
        `systems`, `galaxies`, `objects`, `alerts`: how many are in two splits or more (all must be 0; galaxies with
        negative id are unknown and left out), `examples` some of them, `balance`: split -> class -> rows.
    """
    found = {"examples": {}}
    split = np.asarray(labels["split"])
    keys = {
        "systems": [f"{a}/{b}" for a, b in zip(labels["seed"], labels["system"])],
        "galaxies": [f"{a}/{b}" if b >= 0 else None for a, b in zip(labels["galaxy_run"], labels["galaxy_id"])],
        "objects": [f"{a}/{b}" if b else None for a, b in zip(labels["seed"], labels["object_id"])],
        "alerts": [f"{a}/{b}" for a, b in zip(labels["seed"], labels["alert_id"])],
    }
    for name, values in keys.items():
        home, double = {}, []
        for value, where in zip(values, split):
            if value is not None and home.setdefault(value, where) != where:
                double.append(value)
        unique = sorted(set(double))
        found[name] = len(unique)
        if unique:
            found["examples"][name] = unique[:5]
    count = Counter(zip(split.tolist(), np.asarray(labels["class"]).tolist()))
    found["balance"] = {
        name: {int(label): count[name, label] for label in sorted({c for s, c in count if s == name})}
        for name in SPLITS
        if any(s == name for s, _ in count)
    }
    return found
