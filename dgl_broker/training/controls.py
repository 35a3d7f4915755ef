"""Controls of the simulated data: what must not tell the classes apart, and whether it does.

From the template alone a lensed supernova and a lens with something else in it are the same sky: among systems matched in
redshifts and brightness a network that sees nothing but the template must be at chance. What is left above chance is the
simulator's doing, or the selection's, and is reported with its cause. A stamp is centred on what was detected, so its
template tells where that stands beside the lens: pairs that are matched in this too say how much of it is that. Lenses with a
quasar or an active nucleus are left out: those stand in the template.
"""

from pathlib import Path

import numpy as np
import torch

from dgl_broker.errors import ConfigError
from dgl_broker.evaluation.intervals import wilson
from dgl_broker.evaluation.scoring import score_network
from dgl_broker.scores import CLASSES
from dgl_broker.training.shards import Table
from dgl_broker.training.train import Trainer
from dgl_broker.training.train_settings import Settings

MATCHED_ON = {
    "z_lens": 0.1,
    "z_source": 0.15,
    "lens_mag": 0.4,
    "source_mag": 0.4,
}  # caliper of each: how far partners may differ
PLACE = {"offset_arcsec": 0.2}  # as well: from the trigger to the template's brightest light
SMOOTHED = 3  # pixels a side, over which light is averaged to find the brightest
KINDS = ("sn_ia_in_lens", "sn_cc_in_lens", "sn_outside_images", "lensed_sn_ia", "lensed_sn_cc")


def template_only(table, planes):
    """The lensed systems of a table with the template planes alone, one alert of each: whatever moves is gone.

    Returns
    -------
    Table
    """
    table = table.select(np.isin(table.labels["kind"], KINDS))
    names = np.char.add(table.labels["seed"].astype(str), np.char.add("/", table.labels["system"].astype(str)))
    order = np.lexsort((table.labels["mjd_tai"], names))
    _, first = np.unique(names[order], return_index=True)
    picked = table.select(np.sort(order[first]))
    keep = [i for i, name in enumerate(planes) if name.startswith("template")]
    images, curves, contexts = picked.rows(np.arange(len(picked)))
    out = np.zeros_like(images)
    out[:, keep] = images[:, keep]
    return Table.of_arrays(out, np.zeros_like(curves), np.zeros_like(contexts), picked.labels, picked.info)


def offset_arcsec(table, planes, scale):
    """From the trigger, the middle of the stamp, to the brightest light of the template.

    Parameters
    ----------
    table : Table
    planes : list of str
    scale : float
        Arcseconds a pixel.

    Returns
    -------
    array, shape (n,), arcseconds
    """
    from scipy.ndimage import uniform_filter

    images, _, _ = table.rows(np.arange(len(table)))
    light = uniform_filter(images[:, planes.index("template")], (0, SMOOTHED, SMOOTHED))
    side = light.shape[-1]
    row, column = np.divmod(light.reshape(len(light), -1).argmax(1), side)
    middle = (side - 1) / 2
    return scale * np.hypot(row - middle, column - middle)


def matched(labels, a, b, calipers=MATCHED_ON):
    """Pairs of rows, one of `a` and one of `b`, that agree within the calipers; each row once, nearest first.

    Parameters
    ----------
    labels : dict of arrays
    a, b : arrays of int
        Rows.

    Returns
    -------
    array, shape (n, 2), int64
    """
    from scipy.spatial import cKDTree

    columns = list(calipers)

    def coordinates(rows):
        return np.stack([np.asarray(labels[c], float)[rows] / calipers[c] for c in columns], 1)

    xa, xb = coordinates(a), coordinates(b)
    a, xa = a[np.isfinite(xa).all(1)], xa[np.isfinite(xa).all(1)]
    b, xb = b[np.isfinite(xb).all(1)], xb[np.isfinite(xb).all(1)]
    if len(a) == 0 or len(b) == 0:
        return np.zeros((0, 2), np.int64)
    near = cKDTree(xb).query(xa, k=min(50, len(b)), p=np.inf, distance_upper_bound=1.0)
    distance, partner = (np.atleast_2d(v.T).T for v in near)
    found = np.argwhere(np.isfinite(distance))
    order = np.argsort(distance[tuple(found.T)], kind="stable")
    taken_a, taken_b, pairs = set(), set(), []
    for i, j in found[order].tolist():
        k = int(partner[i, j])
        if i not in taken_a and k not in taken_b:
            taken_a.add(i)
            taken_b.add(k)
            pairs.append((a[i], b[k]))
    return np.array(pairs, np.int64).reshape(-1, 2)


def template_control(tables, card, folder, device="cpu", seed=1, settings=None, build=None):
    """How well the lensed classes are told apart by the template alone, among matched systems of the test split.

    Parameters
    ----------
    tables : dict of shards.Table
        `train`, `validation`, `test`.
    card : dict
    folder : path
        State of the training.

    Returns
    -------
    dict
        `pairs`: for each two classes `n` pairs, `accuracy` of telling which is which (0.5 is chance), its Wilson
        `interval`, and whether chance lies in it; `matched_on`; `at_place`: the same of pairs that agree in `PLACE` too.
    """
    planes = card["input"]["image"]["planes"]
    lensed = {name: template_only(table, planes) for name, table in tables.items()}
    if build is None:
        from dgl_broker.model import NetworkShape, build_network

        def build():
            return build_network("DeepCNN", NetworkShape.from_card(card))

    torch.manual_seed(seed)
    net = build()
    common = {"epochs": 12, "batch": 128, "kind_weight": None, "patience": 3, "augmentation": {"turn": "quarters"}}
    settings = Settings.of({**common, **(settings or {}), "seed": seed})
    Trainer(lensed["train"], lensed["validation"], card, torch.device(device)).fit("template", net, settings, Path(folder))
    test = lensed["test"]
    log_p = np.log(np.maximum(score_network(net, "template", test, device).probabilities, 1e-12))
    label = test.labels["class"].astype(int)
    labels = {**test.labels, "offset_arcsec": offset_arcsec(test, planes, card["input"]["image"]["pixel_scale_arcsec"])}
    found = _told_apart(log_p, label, labels, MATCHED_ON)
    if not found:
        raise ConfigError("template control: no two systems of the test split agree within the calipers")
    at_place = {**MATCHED_ON, **PLACE}
    place = {"matched_on": at_place, "pairs": _told_apart(log_p, label, labels, at_place)}
    return {"matched_on": MATCHED_ON, "pairs": found, "at_place": place}


def _told_apart(log_p, label, labels, calipers):
    """How often the likelihood ratio of two classes is larger for the partner that is of the second."""
    out = {}
    for x, y in ((1, 2), (1, 3), (2, 3)):
        pairs = matched(labels, np.flatnonzero(label == x), np.flatnonzero(label == y), calipers)
        if len(pairs) == 0:
            continue
        ratio = log_p[:, y] - log_p[:, x]
        right = ratio[pairs[:, 1]] > ratio[pairs[:, 0]]
        tie = ratio[pairs[:, 1]] == ratio[pairs[:, 0]]
        k, n = float(right.sum() + 0.5 * tie.sum()), len(pairs)
        lo, hi = wilson(k, n)
        name = f"{CLASSES[x]} against {CLASSES[y]}"
        out[name] = {"n": n, "accuracy": k / n, "interval": [lo, hi], "chance_inside": bool(lo <= 0.5 <= hi)}
    return out
