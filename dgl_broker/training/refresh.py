"""A bundle trained on from where it stands, with new data; kept only if it is not worse on the frozen test set.

The test set is that of the old bundle: its systems must be in no split that the new one is fitted on.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, GuardRefused
from dgl_broker.evaluation.compare import tpr_difference
from dgl_broker.evaluation.objects import Objects
from dgl_broker.evaluation.paper import compare_accuracy
from dgl_broker.evaluation.scoring import score_table
from dgl_broker.training.make import FITTED, check_tables, make_bundle_from, open_tables
from dgl_broker.training.presets import load_preset
from dgl_broker.training.shards import Table

GUARDED = (("hard", 1e-2, 3), ("hard", 1e-2, 7), ("stream", 1e-3, 7))


@dataclass(frozen=True)
class Refreshed:
    """What a refresh found: rows of comparisons, whether it is worse, and where the new bundle is."""

    rows: list
    worse: bool
    path: Path

    def text(self):
        """A line for each working point."""
        lines = []
        for row in self.rows:
            lo, hi = row["interval"]
            change = f"{row['difference']:+.4f} ({lo:+.4f} to {hi:+.4f})"
            lines.append(f"{row['what']}: {row['before']:.4f} -> {row['after']:.4f}, {change}")
        lines.append("WORSE than before" if self.worse else "not worse than before")
        return "\n".join([*lines, f"bundle: {self.path}"])


def refresh(old_path, folders, out, *, test_folders=None, force=False, work=None, device="auto", seed=1, share=1.0, tables=None,
            preset=None, log=print):  # fmt: skip
    """Train a bundle on from another's weights and compare both on the frozen test set.

    Parameters
    ----------
    old_path : path
        The bundle to start from.
    folders : list of paths
        New data: splits train, validation, stack, calibration, null.
    out : path
        The new bundle's folder.
    test_folders : list of paths, optional
        Where the frozen split `test` is; that of `folders` without.
    force : bool
        Keep a worse bundle.
    tables : dict of shards.Table, optional
        By split, `test` with them.
    preset : dict, optional
        Recipe; the one that ships for the bundle's survey or set without. Card and input are the old bundle's.

    Returns
    -------
    Refreshed

    Raises
    ------
    GuardRefused
        If the new bundle is worse (a paired 95 % interval wholly below 0 at any guarded point); it is left beside `out`
        with the ending `.rejected`.
    StateError
        If a test system stands in a split that is fitted on.
    """
    from dgl_broker.model import load_bundle

    old, out = load_bundle(str(old_path)), Path(out)
    if old.path is not None and out.exists() and out.resolve() == Path(old.path).resolve():
        raise ConfigError(f"{out}: is the bundle to start from; a refresh makes a new one")
    if tables is None:
        tables = open_tables(folders, FITTED, share)
        tables["test"] = Table.open(test_folders or folders, "test")
    check_tables(tables)
    preset = load_preset(f"{old.survey}_alert" if old.survey else f"{old.id}_paper") if preset is None else preset
    card = {key: value for key, value in old.card.items() if key not in ("hashes", "fusion", "prior", "metrics", "training")}
    preset = {**preset, "card": {**card, "trained": True, "refreshed_from": old.sha256}}
    warm = {name: net.state_dict() for name, net in old.networks.items()}
    preset["training"] = {**preset["training"], "stages": ["lonet", "munet", "glonet"]}
    test = tables.pop("test")
    fresh = out.with_name(f"{out.name}.rejected")
    work = out.with_name(f"{out.name}.work") if work is None else Path(work)
    new = make_bundle_from(preset, None, fresh, work, device, seed, share, warm=warm, tables=tables, log=log)
    rows = compare(old, new, test, device)
    worse = any(row["interval"][1] < 0 for row in rows)
    if worse and not force:
        found = Refreshed(rows, worse, fresh)
        raise GuardRefused(f"refresh of {old.id}: worse on the frozen test set; --force keeps it\n{found.text()}")
    if out.exists():
        raise ConfigError(f"{out}: exists already")
    fresh.rename(out)
    return Refreshed(rows, worse, out)


def compare(old, new, test, device):
    """Both bundles on the test rows: rows of `what`, `before`, `after`, `difference`, `interval`."""
    a, b = (score_table(bundle, test, device) for bundle in (old, new))
    labels = test.labels
    if old.survey is None:
        label = np.asarray(labels["class"]).astype(int)
        systems = np.char.add(labels["seed"].astype(str), np.char.add("/", labels["system"].astype(str)))
        found = compare_accuracy(label, a.class_index, b.class_index, systems)
        shares = {"before": float((a.class_index == label).mean()), "after": float((b.class_index == label).mean())}
        return [{"what": "accuracy", **found, **shares}]
    objects, rows = Objects(labels, b.log_odds), []
    for mix, fpr, at in GUARDED:
        found = tpr_difference(objects, a.log_odds, b.log_odds, old.survey, mix, fpr, at)
        if found:
            rows.append({"what": f"TPR at FPR {fpr:g}, {mix} mix, detection {at}", **found})
    if not rows:
        raise ConfigError("refresh: the test set has no object at the guarded detections; nothing to judge by")
    return rows
