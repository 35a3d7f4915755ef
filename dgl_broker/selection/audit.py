"""Changes of filters in force: who, when, why, from what to what, in an append-only log beside them; and the way back.

`audit.jsonl` has one JSON object a line. Each holds the whole filter before and after, so that any version can be restored from
the log alone. A line that a crash cut short is reported and skipped, never repaired.
"""

import datetime
import fcntl
import json
import os
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dgl_broker.errors import ConfigError, GuardRefused, StateError
from dgl_broker.selection.filter_files import content_sha256, dump_filter, parse_filter, read_filter
from dgl_broker.selection.status import utc_text
from dgl_broker.selection.write_file import sync_folder, write_atomically

LOG = "audit.jsonl"


class StaleVersion(GuardRefused):
    """Another change came first: the filter in force is not the one that the change was made for."""


def log_path(filter_path):
    """The audit log of a filter's file: `audit.jsonl` beside it."""
    return Path(filter_path).parent / LOG


@contextmanager
def _locked(path):
    """The log open for appending, held by this process alone."""
    try:
        file = open(path, "a+b")  # noqa: SIM115 - closed below
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _append(file, entry):
    line = json.dumps(entry, ensure_ascii=True, allow_nan=False).encode() + b"\n"
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(end - 1)
        if file.read(1) != b"\n":  # a line that a crash cut short stays on its own
            line = b"\n" + line
    file.write(line)
    file.flush()
    os.fsync(file.fileno())


def read_log(path):
    """The entries of an audit log, oldest first, and the numbers of lines that cannot be read.

    Returns
    -------
    entries : list of dict
        `when, who, why, action, filter, from, to`; `from` (None for a new filter) and `to` have `version, threshold, score,
        sha256, content`.
    broken : list of int
        Line numbers from 1.
    """
    entries, broken = [], []
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            sound = isinstance(entry["to"]["version"], int) and isinstance(entry["to"]["content"], str)
            sound = sound and all(isinstance(entry[key], str) for key in ("when", "who", "why", "action", "filter"))
        except (ValueError, KeyError, TypeError):
            sound = False
        if sound:
            entries.append(entry)
        else:
            broken.append(number)
    return entries, broken


def _described(filter_):
    if filter_ is None:
        return None
    said = {key: getattr(filter_, key) for key in ("version", "threshold", "score")}
    return said | {"sha256": content_sha256(filter_), "content": dump_filter(filter_)}


def activate(path, new, who, why, expected_version, refusals=(), action="activate", clock=time.time, above=0):
    """Puts a filter into force: the log first, then the file by atomic rename.

    A crash between the two leaves an entry whose version never came into force; the next change takes a version above it.

    Parameters
    ----------
    path : path
        File of the filter.
    new : Filter
        Its version is set here: above every version that the file or the log has had.
    who, why : str
        Not empty.
    expected_version : int or None
        Version that the change was made for; None for a filter whose file is not there yet.
    refusals : sequence of str
        Reasons of the guards, from `dgl_broker.selection.guard.activation_refusals`.
    above : int
        A version that this name has had elsewhere: the new one is above it as well.

    Returns
    -------
    Filter
        As it is in force now.

    Raises
    ------
    StaleVersion
        If another version is in force than expected.
    GuardRefused
        If there are refusals.
    ConfigError
        If `who` or `why` is empty, or the name is not that of the file's filter.
    StateError
        If log or file cannot be written.
    """
    for key, text in (("who", who), ("why", why)):
        if not (isinstance(text, str) and text.strip()):
            raise ConfigError(f"{key} {text!r}, expected a name or reason for the audit log")
    path = Path(path)
    with _locked(log_path(path)) as file:
        old = read_filter(path) if path.exists() else None
        found = None if old is None else old.version
        if found != expected_version:
            raise StaleVersion(f"{path}: version {found} is in force, the change was made for version {expected_version}")
        if old is not None and new.name != old.name:
            raise ConfigError(f"{path}: name {new.name!r}, expected {old.name!r}")
        if refusals:
            raise GuardRefused("; ".join(refusals), refusals)
        entries, _ = read_log(log_path(path))
        used = [e["to"]["version"] for e in entries if e["filter"] == new.name]
        version = max([above, 0 if old is None else old.version, *used]) + 1
        new = replace(new, version=version, source=str(path))
        entry = {
            "when": utc_text(clock()),
            "who": who,
            "why": why,
            "action": action,
            "filter": new.name,
            "file": path.name,
            "from": _described(old),
            "to": _described(new),
        }
        try:
            _append(file, entry)
            sync_folder(path.parent)
            write_atomically(path, entry["to"]["content"])
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from error
    return new


def version_content(entries, name, version):
    """The filter of a version, from the log.

    Raises
    ------
    ConfigError
        If the log does not have it.
    StateError
        If what it has does not match its hash.
    """
    for entry in reversed(entries):
        for said in (entry["to"], entry.get("from")):
            if entry["filter"] == name and said is not None and said["version"] == version:
                filter_ = parse_filter(said["content"], f"audit of {entry['when']}")
                if content_sha256(filter_) != said["sha256"]:
                    raise StateError(f"audit of {entry['when']}: version {version} of {name} does not match its hash")
                return filter_
    had = sorted({e["to"]["version"] for e in entries if e["filter"] == name})
    raise ConfigError(f"filter {name}: no version {version} in the audit log, expected one of {had}")


def roll_back(path, to_version, who, why, expected_version, refusals=None, clock=time.time):
    """Puts an earlier version into force again, as a new version; arguments and errors as `activate`.

    Parameters
    ----------
    refusals : callable, optional
        The restored `Filter` to the reasons of the guards, such as that it was tuned for another bundle.
    """
    entries, _ = read_log(log_path(path))
    old = version_content(entries, read_filter(path).name, to_version)
    reasons = () if refusals is None else tuple(refusals(old))
    return activate(path, old, who, why, expected_version, reasons, action=f"roll_back to {to_version}", clock=clock)


def in_force_at(entries, name, when):
    """The filter that the log has in force at a time, or None where it does not reach back so far.

    By the log's times, so approximate: workers take a new version some seconds after it was written.

    Parameters
    ----------
    when : datetime.datetime
        With a time zone.
    """
    mine = [e for e in entries if e["filter"] == name]
    past = [e for e in mine if datetime.datetime.fromisoformat(e["when"]) <= when]
    if past:
        return version_content(mine, name, past[-1]["to"]["version"])
    if mine and mine[0].get("from"):
        return version_content(mine, name, mine[0]["from"]["version"])
    return None
