"""The authors' order of training: single-mode networks first, then the fusing networks from their weights.

DeepCNN, ShallowGRU and SmallImageFC are trained to classify alone; LoNet starts with the trained CNN and GRU in it, MuNet
with all three, and both are trained on as a whole; GloNet starts from nothing (Pinciroli Vago & Fraternali 2023,
doi:10.1007/s00521-023-08766-9, and their code at commit 2ecf054: training.py, utils.py).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.training.checkpoint import load_weights
from dgl_broker.training.train import Trainer
from dgl_broker.training.train_settings import Settings


@dataclass(frozen=True)
class Stage:
    """One network: `start` maps a part of it to the stage that it takes that part's weights from; `frozen` parts keep them."""

    name: str
    network: str
    start: tuple[tuple[str, str], ...] = ()
    frozen: tuple[str, ...] = ()
    settings: str = "fusion"


STAGES = (
    Stage("deepcnn", "DeepCNN", settings="image"),
    Stage("gru", "ShallowGRU", settings="light_curve"),
    Stage("fc", "SmallImageFC", settings="image"),
    Stage("lonet", "LoNet", (("cnn", "deepcnn"), ("gru", "gru"))),
    Stage("munet", "MuNet", (("cnn", "deepcnn"), ("gru", "gru"), ("fc", "fc"))),
    Stage("glonet", "GloNet"),
)
SHARED = tuple(
    Stage(s.name, s.network, (("cnn", "lonet.cnn"), ("gru", "lonet.gru"), ("fc", "fc")), ("cnn",)) if s.name == "munet" else s
    for s in STAGES
)
"""As `STAGES`, but MuNet looks through LoNet's trained CNN, which stays as it is: the trunk is stored once."""


def settings_of(training, group, seed):
    """`Settings` of a stage: those common to all, then those of its group ("image", "light_curve", "fusion", "glonet")."""
    common = {k: v for k, v in training.items() if k not in ("stages", "shared_trunk", "groups")}
    own = training.get("groups", {}).get(group, {})
    return Settings.of({**common, **own, "seed": seed})


def start_from(net, part, state):
    """Load the weights of `state` into the part of `net` (the whole of it for an empty name).

    Raises
    ------
    StateError
        If a key or a shape does not agree: a start by halves would pass for a start.
    """
    target = net.get_submodule(part) if part else net
    try:
        target.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        raise StateError(f"{type(net).__name__}.{part}: weights to start from do not fit: {error}") from error


def train_stages(train, validation, card, training, folder, device, seed=1, build=None, warm=None):
    """Train all networks of the ensemble.

    Parameters
    ----------
    train, validation : shards.Table
    card : dict
        With `id`, `kind`, `input`, `network`.
    training : dict
        Settings common to all networks, `groups` of settings, `shared_trunk` (bool), `stages` (names, where not all).
    folder : path
        Its state; what is finished there is not done again, what is begun goes on.
    device : torch.device
    seed : int
    build : callable, optional
        Network's name -> module with fresh weights.
    warm : dict, optional
        Stage name -> state dict to start from in place of the authors' way (for a refresh).

    Returns
    -------
    networks : dict of torch.nn.Module
        "lonet", "glonet", "munet" where trained, else the stages that were, in evaluation mode on `device`.
    summary : dict
        Per stage what `Trainer.fit` gives.
    """
    stages = SHARED if training.get("shared_trunk") else STAGES
    wanted = training.get("stages")
    if wanted:
        unknown = sorted(set(wanted) - {s.name for s in stages})
        if unknown:
            raise ConfigError(f"training.stages: {', '.join(unknown)} unknown, expected {[s.name for s in stages]}")
        stages = [s for s in stages if s.name in wanted]
    if build is None:
        from dgl_broker.model import NetworkShape, build_network

        shape = NetworkShape.from_card(card)

        def build(name):
            return build_network(name, shape)

    folder = Path(folder)
    _agree(folder, card, training, seed)
    trainer = Trainer(train, validation, card, device)
    made, summary = {}, {}
    for stage in stages:
        torch.manual_seed(_init_seed(seed, stage.name))
        net = build(stage.network)
        if warm and stage.name in warm:
            start_from(net, "", warm[stage.name])
        else:
            for part, source in stage.start:
                start_from(net, part, _weights(folder, source))
        for part in stage.frozen:
            freeze(net.get_submodule(part))
        group = "glonet" if stage.name == "glonet" and "glonet" in training.get("groups", {}) else stage.settings
        summary[stage.name] = trainer.fit(stage.name, net, settings_of(training, group, seed), folder)
        made[stage.name] = net
    (folder / "summary.json").write_text(json.dumps(summary, indent=1))
    members = {name: made[name] for name in ("lonet", "glonet", "munet") if name in made}
    return members or made, summary


def freeze(module):
    """No gradient, and batch normalisation and dropout as in use: the module computes what it computed."""
    for p in module.parameters():
        p.requires_grad_(False)
    module.eval()
    module.train = lambda mode=True: module


def _weights(folder, source):
    """State dict of a finished stage, or of a part of it ("lonet.cnn")."""
    stage, _, part = source.partition(".")
    path = Path(folder) / stage / "best.safetensors"
    if not path.is_file():
        raise ConfigError(f"training: stage {stage} is needed to start from and was not trained: {path}")
    state = load_weights(path)
    return {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")} if part else state


def _init_seed(seed, name):
    from dgl_broker.training.splits import unit_hash

    return int(unit_hash("weights", seed, name) * 2**31)


def _agree(folder, card, training, seed):
    """Keep what this training is, or see that the state that is there is of the same."""
    what = {"input": card["input"], "network": card.get("network"), "training": training, "seed": seed}
    path = folder / "training.json"
    if path.is_file():
        if json.loads(path.read_text()) != json.loads(json.dumps(what)):
            raise ConfigError(f"{folder}: holds the state of another training (see training.json); use another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(what, indent=1))
