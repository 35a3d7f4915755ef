"""What comes after the networks: SVM on `stack`, fusion on `calibration`, null on `null`; then the bundle is saved.

Each is fitted on systems that nothing before it has seen. The mix of the calibration split is made by weights (shares of
classes, kinds within them, objects alike) and is what the probabilities of the bundle refer to.
"""

import numpy as np

from dgl_broker.errors import ConfigError
from dgl_broker.evaluation import mixes
from dgl_broker.evaluation.scoring import score_table
from dgl_broker.scores import CLASSES, MEMBERS
from dgl_broker.training.progress import bar
from dgl_broker.training.sampler import draw_rows, row_chances
from dgl_broker.training.splits import unit_hash

DEFAULTS = {
    "way": "svm+lr",
    "mode": "score",
    "svm_rows": 6000,
    "svm": None,  # {"kernel": ..., "C": ...}; chosen by cross-validation without
    "class_share": {},
    "kind_weight": {},
    "min_null": 2000,
}


def check_settings(settings):
    """Stack settings with the defaults filled in; ConfigError names an unknown key."""
    unknown = sorted(set(settings) - set(DEFAULTS))
    if unknown:
        raise ConfigError(f"stack: {', '.join(unknown)} unknown, expected some of {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **settings}


def members_of(scored):
    """Log-probabilities (N, 3, 4) in the order of `MEMBERS`."""
    return np.stack([scored.members[name] for name in MEMBERS], axis=1)


def mix_of(labels, settings):
    """Chance of each row in the stack's mix: class shares, kinds within a class, every object alike. (n,), sums to 1."""
    return row_chances(labels, settings["class_share"], settings["kind_weight"], object_power=1.0)


def contaminants(labels, chances):
    """Share of each kind in a mix, by name."""
    kinds = np.asarray(labels["kind"])
    return {str(k): round(float(chances[kinds == k].sum()), 6) for k in np.unique(kinds)}


def choose_null(labels, survey, seed=0):
    """Rows of negative objects that make a null of the stream's mix, after the pre-cuts.

    Objects are thinned by hash of their id to the shares of the stream (`evaluation.mixes`); a kind rarer in the sample than
    in the stream's share sets the scale unless it is below 1 % of the stream. Paper sets have no stream: all negatives.

    Returns
    -------
    rows : array of int
    shares : dict
        Objects of each kind in the null.
    """
    negative = np.asarray(labels["class"]) < 2
    if survey is None:
        rows = np.flatnonzero(negative)
        return rows, _objects_by_kind(labels, rows)
    passed = negative & (np.asarray(labels["precut"]) != 0)
    names, kinds = _object_names(labels), np.asarray(labels["kind"])
    _, first = np.unique(names[passed], return_index=True)
    objects = np.flatnonzero(passed)[first]
    rate = mixes.rates(survey)
    present, count = np.unique(kinds[objects], return_counts=True)
    number = {str(kind): int(n) for kind, n in zip(present, count)}
    share = {kind: rate.get(kind, 0.0) for kind in number}
    total = sum(share.values())
    if total <= 0:
        raise ConfigError("null: no negative object passes the pre-cuts; nothing to make p-values from")
    share = {k: v / total for k, v in share.items()}
    scale = min(number[k] / share[k] for k in share if share[k] >= 0.01)
    keep = set()
    for kind in share:
        wanted = min(number[kind], int(round(scale * share[kind])))
        mine = names[objects[kinds[objects] == kind]]
        keep.update(sorted(mine.tolist(), key=lambda name: unit_hash("null", seed, name))[:wanted])
    rows = np.flatnonzero(passed & np.isin(names, sorted(keep)))
    return rows, _objects_by_kind(labels, rows)


def _object_names(labels):
    return np.char.add(np.asarray(labels["seed"]).astype(str), np.char.add("/", np.asarray(labels["object_id"])))


def _objects_by_kind(labels, rows):
    names, kinds = _object_names(labels)[rows], np.asarray(labels["kind"])[rows]
    _, first = np.unique(names, return_index=True)
    kind, count = np.unique(kinds[first], return_counts=True)
    return {str(k): int(n) for k, n in zip(kind, count)}


def fit_stack(card, networks, tables, settings, device="cpu", seed=1):
    """SVM, fusion and null for trained networks.

    Parameters
    ----------
    card : dict
        Of the bundle to be: `id`, `kind`, `survey`, `input`, `trained`, ...
    networks : dict
        "lonet", "glonet", "munet".
    tables : dict of shards.Table
        `stack`, `calibration`, `null`.
    settings : dict
        See `DEFAULTS`.
    device : str
    seed : int

    Returns
    -------
    card : dict
        With `prior`, and what was fitted on what.
    fusion : dgl_broker.model.Fusion
    calibration : dgl_broker.model.Calibration
    """
    from dgl_broker.model import choose_svm, fit_fusion, fit_null, fit_svm
    from dgl_broker.model.bundle import make_bundle
    from dgl_broker.model.fusion import Fusion

    settings = check_settings(settings)
    card = {"metrics": {}, "limits": [], **card}
    bare = make_bundle(card, networks, Fusion())

    def members(split):
        with bar(f"scores of {split}", len(tables[split]), "examples") as advance:
            return members_of(score_table(bare, tables[split], device, "float32", advance=advance))

    labels = tables["stack"].labels
    rng = np.random.default_rng(int(unit_hash("svm rows", seed) * 2**31))
    rows = np.unique(draw_rows(mix_of(labels, settings), min(settings["svm_rows"], len(tables["stack"])), rng))
    picked = tables["stack"].select(rows)
    found = score_table(bare, picked, device, "float32")
    features, label = np.exp(members_of(found)).reshape(len(rows), -1), picked.labels["class"].astype(int)
    chosen, accuracy = settings["svm"], None
    if chosen is None:
        systems = np.unique(_system_names(picked.labels), return_inverse=True)[1]
        chosen, accuracy = choose_svm(features, label, groups=systems, seed=seed)
    svm = fit_svm(features, label, **chosen)

    labels = tables["calibration"].labels
    chances = mix_of(labels, settings)
    use = chances > 0
    fusion = fit_fusion(
        members("calibration")[use],
        labels["class"][use].astype(int),
        svm=svm,
        way=settings["way"],
        sample_weight=chances[use] * use.sum(),
        mode=settings["mode"],
    )
    card = {
        **card,
        "training": {**card.get("training", {}), "svm_accuracy_in_folds": accuracy, "svm_rows": len(rows)},
        "prior": {
            **card.get("prior", {}),
            "split": "calibration",
            "objects": int(len(np.unique(_object_names(labels)[use]))),
            "contaminants": contaminants(labels, chances),
        },
    }
    if card["survey"] is not None:
        stream = mixes.sourced_rates(card["survey"])
        card["prior"]["mixes"] = {"hard": mixes.tables()["hard"], "stream": stream}
    bundle = make_bundle(card, networks, fusion)
    rows, objects = choose_null(tables["null"].labels, card["survey"], seed)
    negatives = tables["null"].select(rows)
    with bar("scores of null", len(negatives), "examples") as advance:
        null_scores = score_table(bundle, negatives, device, "float32", advance=advance)
    calibration = fit_null(
        null_scores.log_odds,
        negatives.strata(),
        object_ids=_object_names(negatives.labels).tolist(),
        alert_ids=negatives.labels["alert_id"].tolist(),
        min_null=settings["min_null"],
        scores_sha256=bundle.scores_sha256,
        about={"from": "simulated negatives of the split null", "objects": objects},
    )
    return card, fusion, calibration


def _system_names(labels):
    return np.char.add(np.asarray(labels["seed"]).astype(str), np.char.add("/", np.asarray(labels["system"]).astype(str)))


def balance(labels):
    """Rows, objects and systems of each class in a split, for the card."""
    out = {}
    for c, name in enumerate(CLASSES):
        pick = np.asarray(labels["class"]) == c
        out[name] = {
            "alerts": int(pick.sum()),
            "objects": int(len(np.unique(_object_names(labels)[pick]))),
            "systems": int(len(np.unique(_system_names(labels)[pick]))),
        }
    return out
