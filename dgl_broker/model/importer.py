"""The authors' published weights into a bundle: their checkpoints as they are, their pickled SVM never.

Files are `<set>_<Net>_informed_network.pt` (github.com/nicolopinci/deepgravilens; doi:10.5281/zenodo.7860294), read as
tensors only. The SVM is fitted on arrays in the layout of the published data set where they are given.
"""

import hashlib
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dgl_broker.errors import ConfigError, InputUnavailable, StateError
from dgl_broker.model.bundle import MAX_FILE_BYTES, check_tensor, make_bundle, save_bundle
from dgl_broker.model.ensemble import Ensemble
from dgl_broker.model.fitting import choose_svm, fit_fusion, fit_svm
from dgl_broker.model.fusion import Fusion
from dgl_broker.model.fusion_networks import build_network
from dgl_broker.model.shape import NetworkShape
from dgl_broker.paper_example import batch_from_arrays
from dgl_broker.scores import CLASSES

DECAM_ZERO_POINTS_MAG = [26.58, 26.78, 26.75, 26.48]  # griz, of 1 count/s; DeepZipper's high_cad_data.yaml, full_data.yaml


@dataclass(frozen=True)
class PublishedSet:
    """One of the paper's four sets: the authors' name for it, and what its data are.

    Cadence and zero points are those of the simulations' configuration (github.com/deepskies/DeepZipper, Simulations/);
    DES-deep draws its zero points per epoch, so these are their medians.
    """

    theirs: str
    n_steps: int
    pixel_scale_arcsec: float
    cadence_days: float
    zero_points_mag: list


SETS = {
    "desi_dot": PublishedSet("high_cad_data", 14, 0.263, 3.0, DECAM_ZERO_POINTS_MAG),
    "lsst_wide": PublishedSet("lsst_data", 14, 0.2, 12.0, [28.30, 28.13, 27.79, 27.40]),
    "des_wide": PublishedSet("full_data", 7, 0.263, 200.0, DECAM_ZERO_POINTS_MAG),
    "des_deep": PublishedSet("des_deep_data", 14, 0.263, 7.0, [30.83, 30.79, 31.17, 31.46]),
}
UnpicklingError = torch.serialization.pickle.UnpicklingError  # what torch.load raises for anything but tensors
MEMBER_NETWORKS = {"lonet": "LoNet", "glonet": "GloNet", "munet": "MuNet"}
SCORE_BLOCK = 2048  # samples scored at a time, so that the data set need not fit into memory


def published_set(name):
    """The set of that name; ConfigError names those there are."""
    if name not in SETS:
        raise ConfigError(f"set {name!r}, expected one of {', '.join(SETS)}")
    return SETS[name]


def paper_card(name):
    """Card of a paper bundle for set `name`, without weights, fusion or hashes."""
    known = published_set(name)
    return {
        "id": name,
        "kind": "paper",
        "survey": None,
        "trained": True,
        "input": {
            "image": {
                "side": 45,
                "bands": "griz",
                "pixel_scale_arcsec": known.pixel_scale_arcsec,
                "zero_points_mag": list(known.zero_points_mag),
            },
            "light_curve": {"steps": known.n_steps, "bands": "griz", "cadence_days": known.cadence_days},
            "minimum": {"n_bands": 4, "valid_fraction": 1.0},
        },
        "network": {},
        "limits": [
            "The networks were trained on the published simulations, whose classes can partly be told from their galaxies; "
            "published accuracies do not carry over to other data.",
            "Input is a griz mean image and the aperture light curve of the whole blend, each scaled 0..1 per sample; "
            "difference fluxes of alerts are another thing.",
        ],
    }


def read_checkpoint(path, network):
    """State dict of a published checkpoint: its tensors, checked against `network`.

    Raises
    ------
    InputUnavailable
        No such file.
    StateError
        Not a checkpoint of tensors only, or not of this network.
    """
    path = Path(path)
    if not path.is_file():
        raise InputUnavailable(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as err:
        raise StateError(f"{path}: not a checkpoint of torch 1.6 or later: {err}") from err
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > MAX_FILE_BYTES:
        raise StateError(f"{path}: compressed or above {MAX_FILE_BYTES} bytes, which no checkpoint of torch is")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about oddities that are refused below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, EOFError, AttributeError, KeyError, TypeError) as err:
        reason = next(iter(str(err).splitlines()), repr(err))
        raise StateError(f"{path}: not a checkpoint of tensors only: {reason}") from err
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in found.items()):
        raise StateError(f"{path}: holds a {type(found).__name__}, expected tensors by name")
    needed = network.state_dict()
    missing, unknown = sorted(set(needed) - set(found)), sorted(set(found) - set(needed))
    if missing or unknown:
        raise StateError(
            f"{path}: not a {type(network).__name__}: {len(missing)} tensors missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}"
        )
    for name, value in needed.items():
        if found[name].layout != torch.strided:
            raise StateError(f"{path}: {name} is {found[name].layout}, expected a dense tensor")
        check_tensor(found[name], value, name, str(path))
    return {name: found[name].detach() for name in needed}


def import_weights(folder, name, out, svm_data=None, overwrite=False):
    """A paper bundle from the published checkpoints of set `name`.

    Parameters
    ----------
    folder : path
        Holds the checkpoints, or a folder of the authors' name for the set that does.
    name : {"desi_dot", "lsst_wide", "des_wide", "des_deep"}
    out : path
        Folder of the bundle.
    svm_data : path, optional
        Arrays in the layout of the published data set: half of the systems fit the SVM, half the regression. Without, the
        members are fused by their mean log-probability, and the bundle's id, which stands in every record, says so.

    Returns
    -------
    Bundle
    """
    known = published_set(name)
    folder = _with_files(folder, known.theirs, f"{known.theirs}_LoNet_informed_network.pt")
    shape = NetworkShape.paper(known.n_steps)
    networks = {}
    for member, network in MEMBER_NETWORKS.items():
        net = build_network(network, shape)
        net.load_state_dict(read_checkpoint(folder / f"{known.theirs}_{network}_informed_network.pt", net))
        networks[member] = net.eval()
    card = paper_card(name)
    card["origin"] = f"published checkpoints {known.theirs}_*_informed_network.pt"
    if svm_data is None:
        card["id"] = f"{name}_mean_log_prob"
        card["limits"].append(
            "No data for the SVM were given: the members are fused by their mean log-probability, renormalised; "
            "the class mix of the prior is assumed, not measured."
        )
        return save_bundle(out, card, networks, Fusion(), overwrite=overwrite)
    log_prob, labels, systems, n_dropped = member_outputs(svm_data, name, card, networks)
    fusion, metrics = fit_published(log_prob, labels, systems)
    card["metrics"] = {"fusion": {**metrics, "n_unusable": n_dropped}}
    card["limits"].append(
        "The SVM and the regression were fitted on the data given at import, which the networks may have seen."
    )
    return save_bundle(out, card, networks, fusion, overwrite=overwrite)


def fit_published(log_prob, labels, systems):
    """SVM on one half of the systems, regression on the other: the Fusion and numbers for the card."""
    first = np.array([int(s[:8], 16) % 2 == 0 for s in systems])
    for half, what in ((first, "the SVM"), (~first, "the regression")):
        lacking = [c for i, c in enumerate(CLASSES) if not (labels[half] == i).any()]
        if lacking:
            raise ConfigError(f"SVM data: no system of {', '.join(lacking)} in the half for {what}; more systems are needed")
    probabilities = np.exp(log_prob.reshape(len(log_prob), -1))
    chosen, accuracy = choose_svm(probabilities[first], labels[first], groups=systems[first])
    svm = fit_svm(probabilities[first], labels[first], **chosen)
    fusion = fit_fusion(log_prob[~first], labels[~first], svm=svm)
    metrics = {
        "n_svm": int(first.sum()),
        "n_regression": int((~first).sum()),
        "svm": chosen,
        "svm_accuracy_cross_validated": round(accuracy, 4),
    }
    return fusion, metrics


def member_outputs(folder, name, card, networks):
    """Outputs of the members for the published data set.

    Returns
    -------
    log_prob : array, shape (N, 3, 4)
    labels : array, shape (N,)
    systems : array of str, shape (N,)
        Hash of the light curve: copies of an event, whose images are turned, share it.
    n_dropped : int
        Samples that are constant or not finite.
    """
    known = published_set(name)
    first = f"GROUP_1_ims_{known.n_steps}.npy"
    folder = _with_files(folder, known.theirs, first)
    ensemble = Ensemble(make_bundle(card, networks, Fusion()))
    log_prob, labels, systems, n_dropped = [], [], [], 0
    for label in range(len(CLASSES)):
        images = _array(folder / f"GROUP_{label + 1}_ims_{known.n_steps}.npy")
        curves = _array(folder / f"GROUP_{label + 1}_lcs_{known.n_steps}.npy")
        if len(images) != len(curves) or images[:1].size != 4 * 45 * 45 * len(images[:1]):
            raise StateError(f"{folder}: group {label + 1} has images {images.shape} and light curves {curves.shape}")
        for start in range(0, len(images), SCORE_BLOCK):
            block = np.asarray(images[start : start + SCORE_BLOCK], np.float32).reshape(-1, 4, 45, 45)
            curve = np.asarray(curves[start : start + SCORE_BLOCK], np.float32)
            batch, usable = batch_from_arrays(block, curve, card)
            table = ensemble.score(batch)
            usable &= table.finite
            n_dropped += int((~usable).sum())
            log_prob.append(table.member_log_prob[usable])
            labels.append(np.full(int(usable.sum()), label))
            systems += [hashlib.sha256(c.tobytes()).hexdigest() for c in curve[usable]]
    return np.concatenate(log_prob), np.concatenate(labels), np.array(systems), n_dropped


def _with_files(folder, theirs, file):
    """`folder`, or the folder of the authors' name in it, whichever holds `file`."""
    folder = Path(folder)
    for place in (folder, folder / theirs):
        if (place / file).is_file():
            return place
    raise InputUnavailable(f"{folder}: no {file}, nor {theirs}/{file}")


def _array(path):
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise InputUnavailable(f"{path}: no plain numpy array: {err}") from err
