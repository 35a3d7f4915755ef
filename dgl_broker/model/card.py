"""A bundle's card: what it must say, and the hashes over it. Needs no torch."""

import hashlib
import json
import os
import re
from pathlib import Path

from dgl_broker.errors import ConfigError
from dgl_broker.scores import CLASSES

SHIPPED = Path(__file__).parents[1] / "bundles"
CARD = "card.json"

KINDS = ("alert", "paper")
SURVEYS = ("lsst", "ztf")
MAX_CARD_BYTES = 4 * 2**20
MAX_DIGITS = 20  # of an integer of 64 bits, sign included
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

# What a log-odds depends on; metrics, limits and words on the card do not change it.
SCORING_PARTS = ("kind", "survey", "classes", "input", "network", "fusion", "prior", "hashes")


def default_bundle(survey):
    """Path of the bundle that ships for a survey, whether or not it is there."""
    return SHIPPED / survey


def shipped_bundles():
    """Ids of the bundles in the package."""
    return sorted(p.parent.name for p in SHIPPED.glob(f"*/{CARD}"))


def find_bundle(name, survey=None):
    """Folder that a bundle's name stands for: "default" for a survey, the id of one that ships, or a path.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name == "default":
        if survey is None:
            raise ConfigError('bundle "default": needs a survey, "lsst" or "ztf"; for others name a folder or an id')
        path = default_bundle(survey)
        if not (path / CARD).is_file():
            raise ConfigError(f'bundle "default": none ships for survey {survey!r}; there are {shipped_bundles() or "none"}')
        return path
    if isinstance(name, str) and (SHIPPED / name / CARD).is_file() and os.sep not in name:
        return SHIPPED / name
    path = Path(name)
    if not path.is_dir():
        raise ConfigError(f"bundle {str(name)!r}: no such folder, and those that ship are {shipped_bundles() or 'none'}")
    if not (path / CARD).is_file():
        raise ConfigError(f"bundle {str(name)!r}: the folder holds no {CARD}")
    return path


def canonical(value):
    """JSON bytes that are the same for the same content: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def bundle_sha256(card):
    """Hash of a bundle: of its card, which holds the hashes of weights, SVM and fusion, but not of the p-values' null."""
    return hashlib.sha256(canonical(card)).hexdigest()


def scores_sha256(card):
    """Hash of what the log-odds depend on: a null fitted on them stays valid while this does."""
    return hashlib.sha256(canonical({part: card.get(part) for part in SCORING_PARTS})).hexdigest()


def json_document(text):
    """What a JSON text holds.

    Raises
    ------
    ValueError
        It is none, or holds what cannot be compared or hashed: NaN, integers of more than 64 bits, halves of surrogate pairs.
    """

    def refuse(name):
        raise ValueError(f"{name} is not a number of JSON")

    def integer(digits):
        if len(digits) > MAX_DIGITS:
            raise ValueError(f"an integer of {len(digits)} digits")
        return int(digits)

    try:
        found = json.loads(text, parse_constant=refuse, parse_int=integer)
        canonical(found)
    except RecursionError as err:
        raise ValueError("nested too deeply") from err
    return found


def read_card(raw, where):
    """The card in the bytes of `card.json`; ConfigError where it is not a JSON table."""
    if len(raw) > MAX_CARD_BYTES:
        raise ConfigError(f"{where}: {len(raw)} bytes, expected at most {MAX_CARD_BYTES}")

    try:
        card = json_document(raw)
    except ValueError as err:
        raise ConfigError(f"{where}: not a JSON document: {err}") from err
    if not isinstance(card, dict):
        raise ConfigError(f"{where}: holds a {type(card).__name__}, expected a table")
    return card


def check_card(card, where):
    """Raise ConfigError unless the card says what every bundle must: what was found and what was expected."""

    def expect(good, key, wanted):
        if not good:
            raise ConfigError(f"{where}: {key} is {repr(card.get(key))[:200]}, expected {wanted}")

    bundle_id = card.get("id")
    expect(isinstance(bundle_id, str) and ID_PATTERN.fullmatch(bundle_id), "id", "letters, digits, '_', '.', '-'")
    expect(card.get("kind") in KINDS, "kind", " or ".join(KINDS))
    paper = card["kind"] == "paper"
    expect(card.get("survey") in (SURVEYS + ((None,) if paper else ())), "survey", " or ".join(SURVEYS))
    expect(card.get("classes") == list(CLASSES), "classes", f"{list(CLASSES)}")
    expect(type(card.get("trained")) is bool, "trained", "true or false")
    for key in ("input", "network", "fusion", "prior", "metrics"):
        expect(isinstance(card.get(key), dict), key, "a table")
    limits = card.get("limits")
    expect(isinstance(limits, list) and all(isinstance(line, str) for line in limits), "limits", "a list of sentences")
    minimum = card["input"].get("minimum")
    if not isinstance(minimum, dict):
        raise ConfigError(f"{where}: input.minimum is {repr(minimum)[:200]}, expected a table")
    hashes = card.get("hashes")
    good = isinstance(hashes, dict) and all(_is_hash(h) for h in hashes.values())
    expect(good, "hashes", "sha256 and bytes of each file")


def _is_hash(entry):
    return isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and type(entry.get("bytes")) is int
