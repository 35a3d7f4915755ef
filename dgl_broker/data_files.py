"""Where the schemas and filters that ship with the package lie: in an installed wheel and in a checkout alike."""

from pathlib import Path

from dgl_broker.errors import InputUnavailable

_PACKAGE = Path(__file__)


def folder(name):
    """Folder of the shipped `schemas` or `filters`.

    `package_dir` puts them inside the package in a wheel; in a checkout, editable or bare, they stand beside it.
    """
    inside = _PACKAGE.with_name(name)
    return inside if inside.is_dir() else _PACKAGE.parents[1] / name


def _shipped(kind, name):
    path = folder(kind) / name
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in folder(kind).glob("*") if p.is_file())) or "none"
        raise InputUnavailable(f"no shipped file {kind}/{name}; there are: {there}")
    return path


def schema_path(name):
    """Path of a shipped schema, `name` relative to `schemas/`, such as `score.avsc`.

    Raises
    ------
    InputUnavailable
        If there is none of that name.
    """
    return _shipped("schemas", name)


def filter_path(name):
    """Path of a shipped filter, with or without `.yaml`.

    Raises
    ------
    InputUnavailable
        If there is none of that name.
    """
    return _shipped("filters", name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
