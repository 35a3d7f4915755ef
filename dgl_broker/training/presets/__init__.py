"""Recipes as JSON: what a bundle is to be, what it is trained on and how. `load_preset` reads them."""

import json
from importlib.resources import files
from pathlib import Path

from dgl_broker.errors import ConfigError, InputUnavailable

SETS = ("desi_dot", "lsst_wide", "des_wide", "des_deep")
KEYS = {"about", "card", "training", "stack", "plan"}


def preset_names():
    """Names of the presets that ship, such as `lsst_alert`."""
    return sorted(p.name.removesuffix(".json") for p in files(__name__).iterdir() if p.name.endswith(".json"))


def load_preset(name):
    """A preset: one that ships, by name, or a JSON file by path.

    Returns
    -------
    dict
        `about`, `card` (id, kind, survey, input, network, limits), `training` (see `stages.train_stages`), `stack` (see
        `stack.DEFAULTS`), and `plan` (see `plan.check_plan`) where it says what to simulate; survey and input are filled in.

    Raises
    ------
    ConfigError
        If there is none of that name, or it has unknown keys.
    InputUnavailable
        If the file cannot be read.
    """
    path = Path(name) if name.endswith(".json") else files(__name__) / f"{name}.json"
    if not path.is_file():
        raise ConfigError(f"preset {name!r}: none of that name, expected a JSON file or one of {', '.join(preset_names())}")
    try:
        preset = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputUnavailable(f"preset {path}: cannot be read: {error}") from error
    unknown = sorted(set(preset) - KEYS)
    if unknown or not {"card", "training"} <= set(preset):
        raise ConfigError(f"preset {path}: unknown keys {unknown}, expected card, training and some of {sorted(KEYS)}")
    preset.setdefault("stack", {})
    if "plan" in preset:
        preset["plan"] = {"survey": preset["card"]["survey"], "input": preset["card"]["input"], **preset["plan"]}
    return preset
