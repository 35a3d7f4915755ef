"""Bundles: a folder with card, weights, SVM and fusion, and the null of the p-values, every part checked on loading.

`card.json` is the law: it says what the tensors must be and what their files hash to. Nothing in a bundle is code.
"""

import copy
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.model.calibration import Calibration
from dgl_broker.model.card import CARD, bundle_sha256, check_card, find_bundle, read_card, scores_sha256
from dgl_broker.model.fusion import Fusion
from dgl_broker.model.fusion_networks import build_members
from dgl_broker.model.shape import NetworkShape
from dgl_broker.model.weights_file import pack, unpack
from dgl_broker.scores import CLASSES

WEIGHTS, SVM, CALIBRATION = "weights.safetensors", "svm.safetensors", "calibration.json"
MAX_FILE_BYTES = 2**31
MAX_PARAMETERS = 500_000_000  # the published ensemble has 54 million
TRUNKS = ("cnn", "gru", "fc")


@dataclass(frozen=True, eq=False)
class Bundle:
    """Networks with everything that turns their output into scores.

    `networks` maps "lonet", "glonet", "munet" to modules in evaluation mode; a trunk that two of them share is one module.
    `sha256` covers weights, SVM, fusion and card, not the null of the p-values.
    """

    card: dict
    networks: dict
    fusion: Fusion
    calibration: Calibration | None
    sha256: str
    path: Path | None = None

    @property
    def id(self):
        """Id on the card."""
        return self.card["id"]

    @property
    def kind(self):
        """ "alert" or "paper"."""
        return self.card["kind"]

    @property
    def survey(self):
        """ "lsst", "ztf", or None for paper bundles."""
        return self.card["survey"]

    @property
    def trained(self):
        """False while the weights are random."""
        return self.card["trained"]

    @property
    def svm(self):
        """The SVM's arrays, or None."""
        return self.fusion.svm

    @property
    def shape(self):
        """What the networks take in."""
        return self.networks["lonet"].shape

    @property
    def scores_sha256(self):
        """Hash of what the log-odds depend on; a calibration carries that of the bundle it was fitted on."""
        return scores_sha256(self.card)


def load_bundle(name, survey=None):
    """The bundle in a folder, of an id that ships, or "default" for `survey`.

    Raises
    ------
    ConfigError
        There is none, or its card does not say what a card must.
    StateError
        A file is missing, truncated, or not what the card says.
    """
    path = find_bundle(name, survey)
    raw = _read(path / CARD, 2**24)
    card = read_card(raw, str(path / CARD))
    check_card(card, str(path / CARD))
    weights = _verified(path, WEIGHTS, card)
    svm = _verified(path, SVM, card)
    calibration = None
    if (path / CALIBRATION).exists():
        calibration = Calibration.from_file(path / CALIBRATION)
        if calibration.scores_sha256 != scores_sha256(card):
            raise StateError(
                f"{path / CALIBRATION}: fitted on log-odds of {calibration.scores_sha256}, this bundle gives those of "
                f"{scores_sha256(card)}; calibrate again"
            )
    return _assemble(card, weights, svm, calibration, path)


def make_bundle(card, networks, fusion, calibration=None):
    """A bundle in memory, just as `save_bundle` and `load_bundle` would give it."""
    return _assembled(card, networks, fusion, calibration)[0]


def save_bundle(path, card, networks, fusion, calibration=None, overwrite=False):
    """Write a bundle's folder, whole or not at all, and give it as it loads.

    Parameters
    ----------
    path : path
        Folder to make; one that holds a bundle is replaced with `overwrite`.
    card : dict
        `id`, `kind`, `survey`, `trained`, `input`, and what else there is to say (`metrics`, `limits`, `prior`, ...).
        Classes, widths, fusion, class mix and hashes are filled in from the other arguments.
    networks : dict of Network
        "lonet", "glonet", "munet".
    fusion : Fusion
    calibration : Calibration, optional
        Fitted on this bundle's log-odds.

    Raises
    ------
    ConfigError
        The card does not say what it must, or does not fit the networks.
    StateError
        The folder is there already, or cannot be written.
    """
    path = Path(path)
    bundle, files = _assembled(card, networks, fusion, calibration)
    if path.exists() and not (overwrite and (path / CARD).is_file()):
        raise StateError(f"{path}: exists already" + (" and holds no bundle" if overwrite else ""))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            for name, raw in files.items():
                (fresh / name).write_bytes(raw)
            fresh.chmod(0o755)
            if path.exists():
                retired = fresh.with_name(fresh.name + ".old")
                path.rename(retired)
                fresh.rename(path)
                shutil.rmtree(retired)
            else:
                fresh.rename(path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as err:
        raise StateError(f"{path}: cannot be written: {err.strerror or err}") from err
    return Bundle(bundle.card, bundle.networks, bundle.fusion, bundle.calibration, bundle.sha256, path)


def _assembled(card, networks, fusion, calibration):
    """Bundle and file contents; everything goes through the checks of loading."""
    card = copy.deepcopy(card)
    shape = networks["lonet"].shape
    filled = fusion.card()
    card["classes"] = list(CLASSES)
    card["network"] = {**card.get("network", {}), "widths": shape.widths.to_dict()}
    card["fusion"] = filled["fusion"]
    card["prior"] = {**card.get("prior", {}), **filled["prior"]}
    card.setdefault("metrics", {})
    card.setdefault("limits", [])
    tensors = {f"{member}/{key}": v for member, net in networks.items() for key, v in net.state_dict().items()}
    weights, svm = pack(tensors), pack(fusion.tensors(), share=False)
    card["hashes"] = {name: _hash(raw) for name, raw in ((WEIGHTS, weights), (SVM, svm))}
    card = json.loads(json.dumps(card, allow_nan=False))
    check_card(card, f"bundle {card.get('id')}")
    if calibration is not None and calibration.scores_sha256 != scores_sha256(card):
        raise ConfigError(f"bundle {card['id']}: the calibration is of other log-odds ({calibration.scores_sha256})")
    bundle = _assemble(card, weights, svm, calibration, None)
    files = {CARD: (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode(), WEIGHTS: weights, SVM: svm}
    if calibration is not None:
        files[CALIBRATION] = (json.dumps(calibration.to_dict(), indent=1) + "\n").encode()
    return bundle, files


def _assemble(card, weights, svm, calibration, path):
    """Bundle from checked card and the bytes of its files."""
    networks = _networks(card, *unpack(weights, WEIGHTS))
    fusion = Fusion.from_tensors(unpack(svm, SVM)[0], card)
    return Bundle(card, networks, fusion, calibration, bundle_sha256(card), path)


def _networks(card, tensors, stored_as):
    """Members with their weights; sizes, types and values are checked before anything large is built."""
    shape = NetworkShape.from_card(card)
    with torch.device("meta"):
        members = build_members(shape)
    needed = {f"{member}/{key}": v for member, net in members.items() for key, v in net.state_dict().items()}
    n_parameters = sum(v.numel() for v in needed.values())
    if n_parameters > MAX_PARAMETERS:
        raise ConfigError(f"bundle {card['id']}: {n_parameters} parameters, expected at most {MAX_PARAMETERS}")
    missing, unknown = sorted(set(needed) - set(tensors)), sorted(set(tensors) - set(needed))
    if missing or unknown:
        raise StateError(
            f"{WEIGHTS}: {len(missing)} tensors missing{_first(missing)}, {len(unknown)} unknown{_first(unknown)}, "
            "expected those of the card's networks"
        )
    for name, value in needed.items():
        check_tensor(tensors[name], value, name, WEIGHTS)
    for trunk in TRUNKS:
        lonet, munet = (members[m]._modules.get(trunk) for m in ("lonet", "munet"))
        keys = lonet.state_dict() if lonet is not None and munet is not None else {}
        if keys and all(stored_as[f"munet/{trunk}.{k}"] == stored_as[f"lonet/{trunk}.{k}"] for k in keys):
            members["munet"].add_module(trunk, lonet)
    for member, net in members.items():
        # Equal tensors are stored once, but only a shared trunk is one in memory: else training one would change the other.
        names = {key: f"{member}/{key}" for key in net.state_dict()}
        state = {key: tensors[n] if stored_as[n] == n else tensors[n].clone() for key, n in names.items()}
        net.load_state_dict(state, assign=True)
        for parameter in net.parameters():
            parameter.requires_grad_(False)
    return members


def check_tensor(found, needed, name, where):
    """Raise StateError unless a tensor has the shape and type of `needed` and finite values (variances above 0)."""
    if found.shape != needed.shape or found.dtype != needed.dtype:
        raise StateError(f"{where}: {name} is {_kind(found)}, expected {_kind(needed)}")
    if found.dtype.is_floating_point and not bool(torch.isfinite(found).all()):
        raise StateError(f"{where}: {name} holds values that are not finite")
    if name.endswith("running_var") and bool((found < 0).any()):
        raise StateError(f"{where}: {name} holds variances below 0")


def _kind(tensor):
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _first(names):
    return f" (first {names[0]})" if names else ""


def _hash(raw):
    return {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}


def _read(path, limit):
    try:
        size = path.stat().st_size
        if size > limit:
            raise StateError(f"{path}: {size} bytes, expected at most {limit}")
        return path.read_bytes()
    except OSError as err:
        raise StateError(f"{path}: cannot be read: {err.strerror or err}") from err


def _verified(path, name, card):
    """Bytes of a file whose size and hash are those on the card."""
    said = card["hashes"].get(name)
    if said is None:
        raise ConfigError(f"{path / CARD}: hashes has no {name}, expected its sha256 and bytes")
    raw = _read(path / name, MAX_FILE_BYTES)
    if len(raw) != said["bytes"]:
        raise StateError(f"{path / name}: {len(raw)} bytes, the card says {said['bytes']}: truncated or replaced")
    found = hashlib.sha256(raw).hexdigest()
    if found != said["sha256"]:
        raise StateError(f"{path / name}: sha256 {found}, the card says {said['sha256']}: damaged or replaced")
    return raw
