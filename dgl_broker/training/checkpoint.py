"""State of a network in training on disk: tensors as safetensors, everything else as JSON, both replaced whole.

Model, optimiser and the best weights so far are one generation: `state.json` names the file that belongs to it, so that a
crash between two writes leaves the older generation.
"""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dgl_broker.errors import StateError


def _flat(model, optimizer, best, average):
    tensors = {f"model/{k}": v for k, v in model.items()}
    tensors |= {f"best/{k}": v for k, v in best.items()}
    tensors |= {f"average/{k}": v for k, v in average.items()}
    for number, state in optimizer["state"].items():
        tensors |= {f"optimizer/{number}/{k}": v for k, v in state.items()}
    return {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}


def save_state(folder, generation, model, optimizer, best, average, progress):
    """Write one generation and forget the one before the last.

    Parameters
    ----------
    folder : Path
    generation : int
        The epoch.
    model, best, average : dict of tensors
        State dicts; `best` may be empty before the first evaluation, `average` where none is kept.
    optimizer : dict
        `optimizer.state_dict()`.
    progress : dict
        Anything JSON holds.
    """
    try:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"state-{generation:04d}.safetensors"
        fresh = folder / f".{name}.part"
        save_file(_flat(model, optimizer, best, average), fresh)
        fresh.replace(folder / name)
        part = folder / ".state.json.part"
        part.write_text(
            json.dumps({**progress, "generation": generation, "tensors": name, "groups": optimizer["param_groups"]})
        )
        part.replace(folder / "state.json")
        for old in folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()
    except OSError as error:
        raise StateError(f"{folder}: training state cannot be written: {error}") from error


def load_state(folder):
    """The last whole generation, or None: dict with `model`, `best`, `average`, `optimizer`, and `progress`."""
    folder = Path(folder)
    if not (folder / "state.json").is_file():
        return None
    try:
        progress = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / progress["tensors"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise StateError(f"{folder}: training state cannot be trusted: {error}; delete the folder to start again") from error
    found = {"model": {}, "best": {}, "average": {}, "progress": progress}
    state = {}
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        if part == "optimizer":
            number, name = name.split("/", 1)
            state.setdefault(int(number), {})[name] = value
        else:
            found[part][name] = value
    found["optimizer"] = {"state": state, "param_groups": progress.pop("groups")}
    return found


def save_weights(path, state):
    """A state dict as safetensors, replaced whole."""
    try:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.part")
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in state.items()}, fresh)
        fresh.replace(path)
    except OSError as error:
        raise StateError(f"{path}: weights cannot be written: {error}") from error


def load_weights(path):
    """A state dict; raises StateError where the file cannot be trusted."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StateError(f"{path}: weights cannot be read: {error}") from error
