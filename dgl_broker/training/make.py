"""A bundle from data, in one go: splits checked, networks trained, SVM, fusion and null fitted, the folder written."""

import json
import time
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, InputUnavailable, StateError
from dgl_broker.training.baselines import BASELINES, COMMON, build_baseline, fit_authors_svm, save_baseline
from dgl_broker.training.packed import packed
from dgl_broker.training.shards import Table
from dgl_broker.training.splits import leakage, unit_hash
from dgl_broker.training.stack import balance, fit_stack
from dgl_broker.training.stages import train_stages
from dgl_broker.training.train import Trainer
from dgl_broker.training.train_settings import Settings

FITTED = ("train", "validation", "stack", "calibration", "null")


def open_tables(folders, splits=FITTED, share=1.0):
    """A table for each split.

    Parameters
    ----------
    folders : list of paths
        Data folders; their splits are put together.
    splits : tuple of str
    share : float
        Of the systems of `train` that are used, by hash of their names; the other splits stay whole.

    Returns
    -------
    dict of shards.Table
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share {share}, expected above 0 and at most 1")
    whole = Table.open(folders, splits)
    tables = {split: whole.select(whole.labels["split"] == split) for split in splits}
    for split, table in tables.items():
        if len(table) == 0:
            raise InputUnavailable(f"{folders[0]}: no rows in split {split}")
    if share < 1 and "train" in tables:
        labels = tables["train"].labels
        names = np.char.add(labels["seed"].astype(str), np.char.add("/", labels["system"].astype(str)))
        unique, inverse = np.unique(names, return_inverse=True)
        keep = np.array([unit_hash("share", name) < share for name in unique])
        tables["train"] = tables["train"].select(keep[inverse])
    return tables


def check_tables(tables):
    """That no system, galaxy, object or alert stands in two splits.

    Returns
    -------
    counts : dict
        Balance of classes by split.
    leaks : dict
        What stands in two splits, which is possible with published splits only.

    Raises
    ------
    StateError
        Naming what stands where it must not.
    """
    joined = {}
    for column in ("split", "seed", "system", "galaxy_run", "galaxy_id", "object_id", "alert_id", "class"):
        joined[column] = np.concatenate([table.labels[column] for table in tables.values()])
    found = leakage(joined)
    leaks = {name: found[name] for name in ("systems", "galaxies", "objects", "alerts") if found[name]}
    published = any(table.info.get("splits") == "published" for table in tables.values())
    if leaks and not published:
        raise StateError(f"data: {leaks} stand in more than one split, for instance {found['examples']}")
    return {split: balance(table.labels) for split, table in tables.items()}, leaks


def check_input(tables, card):
    """That the data were made for the card's input; ConfigError names what differs."""
    for split, table in tables.items():
        made_for = table.info.get("input")
        if made_for is not None and made_for != card["input"]:
            keys = [k for k in sorted({*made_for, *card["input"]}) if made_for.get(k) != card["input"].get(k)]
            raise ConfigError(f"data ({split}): made for another input than bundle {card['id']}: {', '.join(keys)} differ")


def make_bundle_from(preset, folders, out, work=None, device="auto", seed=1, share=1.0, warm=None, tables=None, log=print):
    """Train a bundle and save it.

    Parameters
    ----------
    preset : dict
        As `presets.load_preset` gives it.
    folders : list of paths
        Data folders, where `tables` are not given.
    out : path
        The bundle's folder.
    work : path, optional
        State of the training; `<out>.work` without.
    device, seed, share
        See `stages.train_stages` and `open_tables`; epochs of a fixed number of rows shrink with the share.
    warm : dict, optional
        Stage name -> state dict to start from (a refresh).
    tables : dict of shards.Table, optional
        By split.
    log : callable
        Told a line at each step.

    Returns
    -------
    dgl_broker.model.Bundle
    """
    from dgl_broker.model import save_bundle
    from dgl_broker.model.bundle import make_bundle
    from dgl_broker.model.device import choose_device
    from dgl_broker.model.fusion import Fusion

    started = time.monotonic()
    where, name = choose_device(device)
    out = Path(out)
    work = out.with_name(f"{out.name}.work") if work is None else Path(work)
    tables = open_tables(folders, share=share) if tables is None else tables
    card = {**preset["card"], "metrics": {}}
    check_input(tables, card)
    counts, leaks = check_tables(tables)
    if leaks:
        log(f"the published splits share {leaks} with each other")
    for split, classes in counts.items():
        log(f"{split}: " + ", ".join(f"{c} {n['alerts']} alerts of {n['systems']} systems" for c, n in classes.items()))
    paper_mode = preset["stack"].get("mode") == "paper"
    train = _joined(tables, ("train", "stack", "calibration", "null")) if paper_mode else tables["train"]
    if where.type == "cpu":
        train = packed(train, work / "rows")
    training = smaller_epochs(preset["training"], share)
    networks, summary = train_stages(train, tables["validation"], card, training, work, where, seed, warm=warm)
    missing = sorted({"lonet", "glonet", "munet"} - set(networks))
    if missing:
        raise ConfigError(f"preset: stages leave {', '.join(missing)} untrained; a bundle needs all three")
    networks = {n: net.cpu() for n, net in networks.items()}
    said = ("epochs", "best_epoch", "validation", "seconds", "parameters")
    card["training"] = {
        "about": preset.get("about", ""),
        "seed": seed,
        "share": share,
        "device": name,
        "simulator_data": tables["train"].info.get("simulator_data"),
        "splits": counts,
        "leaks": leaks,
        "stages": {stage: {n: found[n] for n in said} for stage, found in summary.items()},
    }
    if paper_mode:
        # The authors hold nothing back but validation and test: what we keep for stack, calibration and null trains here.
        bare = make_bundle({"limits": [], **card}, networks, Fusion())
        augmentation = preset["training"].get("augmentation", {})
        svm, accuracy = fit_authors_svm(bare, train, tables["validation"], card, augmentation, device, seed)
        card["training"]["svm_accuracy_on_validation"] = accuracy
        fusion, calibration = Fusion(svm=svm, mode="paper"), None
    else:
        card, fusion, calibration = fit_stack(card, networks, tables, preset["stack"], device, seed)
    card["training"]["minutes"] = round((time.monotonic() - started) / 60, 1)
    bundle = save_bundle(out, card, networks, fusion, calibration, overwrite=True)
    log(f"{out}: bundle {bundle.id} {bundle.sha256[:12]}, {card['training']['minutes']} minutes on {name}")
    return bundle


def smaller_epochs(training, share):
    """Settings whose epochs draw as many rows of each system where only a share of the systems is trained on."""
    groups = {name: smaller_epochs(group, share) for name, group in training.get("groups", {}).items()}
    rows = {"rows_per_epoch": max(1, round(share * training["rows_per_epoch"]))} if training.get("rows_per_epoch") else {}
    return {**training, **({"groups": groups} if groups else {}), **rows}


def make_baseline_from(name, preset, folders, out, work=None, device="auto", seed=1, share=1.0, tables=None, log=print):
    """Train a baseline network and save it; `preset` gives the input (its card) and nothing else."""
    import torch

    from dgl_broker.model.device import choose_device

    where, device_name = choose_device(device)
    out = Path(out)
    work = out.with_name(f"{out.name}.work") if work is None else Path(work)
    tables = open_tables(folders, share=share) if tables is None else tables
    check_input(tables, preset["card"])
    check_tables(tables)
    train = packed(_joined(tables, ("train", "stack", "calibration", "null")), work / "rows")
    torch.manual_seed(int(unit_hash("weights", seed, name) * 2**31))
    net = build_baseline(name, preset["card"])
    settings = Settings.of({**COMMON, **BASELINES[name], "validation_rows": len(tables["validation"]), "seed": seed})
    summary = Trainer(train, tables["validation"], preset["card"], where).fit(name, net, settings, work)
    about = {"seed": seed, "share": share, "device": device_name, **json.loads(json.dumps(summary))}
    save_baseline(out, name, preset["card"], net.cpu(), about)
    log(f"{out}: baseline {name}, best epoch {summary['best_epoch']}, validation {summary['validation']}")
    return out


def _joined(tables, splits):
    """The rows of several splits as one table."""
    return Table.joined([tables[s] for s in splits if s in tables])
