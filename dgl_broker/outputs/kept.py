"""Dead letters read back: what failed and why, by reason, and the bytes as they came, spilled ones too."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dgl_broker.alert import Message
from dgl_broker.errors import InputUnavailable


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    Attributes
    ----------
    id : str
        Deterministic: of the place it came from and its bytes.
    number : str
        Where it lies: `partition:offset` on a topic, its number in a folder.
    time_ms : int or None
        When it was dead-lettered [ms since 1970 UTC].
    where : str
        Place of the original message.
    size : int
        Of the original bytes.
    open : callable
        () -> Message, as it came; raises InputUnavailable where its bytes are not to be had.
    """

    id: str
    number: str
    reason: str
    error: str
    traceback: str | None
    time_ms: int | None
    where: str
    size: int
    open: Callable

    def as_dict(self):
        """All that is known of it but its bytes."""
        names = ("id", "number", "reason", "error", "traceback", "where", "size")
        return {**{name: getattr(self, name) for name in names}, "dead_lettered": time_text(self.time_ms)}


def time_text(time_ms):
    """ISO time in UTC to the ms, or None."""
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000.0, UTC).isoformat(timespec="milliseconds")


def letter_of_record(record, number, spill_folder=None):
    """A record of the dead-letter topic as a `DeadLetter`.

    Parameters
    ----------
    record : dict
        With the fields of `schemas/dead_letter.avsc`.
    number : str
    spill_folder : path, optional
        Where a spilled file is looked for when it is not where the record says.
    """
    place = Message(b"", topic=record["topic"], partition=record["partition"], offset=record["offset"])
    return DeadLetter(
        id=record["message_id"],
        number=number,
        reason=record["reason"],
        error=record["error"],
        traceback=record["traceback"],
        time_ms=record["dead_lettered_ms"],
        where=place.where(),
        size=record["size"],
        open=lambda: _message(record, spill_folder),
    )


def _message(record, spill_folder):
    key, headers = record["key"], [(h["name"], h["value"]) for h in record["headers"]]
    value = record["value"]
    if value is None:
        value, beside = _spilled(record, spill_folder)
        if beside is not None and key is None and not headers:
            key, headers = beside
    return Message(
        value=value,
        topic=record["topic"],
        partition=record["partition"],
        offset=record["offset"],
        key=key,
        timestamp_ms=record["timestamp_ms"],
        headers=tuple(headers),
    )


def _spilled(record, spill_folder):
    """(bytes, (key, headers) or None) of the spilled file, its hash checked."""
    host, _, named = (record["spilled_to"] or ":").partition(":")
    places = [Path(named)] if named else []
    if spill_folder is not None:
        places.append(Path(spill_folder) / f"{record['value_sha256']}.bin")
    for path in places:
        try:
            value = path.read_bytes()
        except OSError:
            continue
        if hashlib.sha256(value).hexdigest() != record["value_sha256"]:
            raise InputUnavailable(f"{path}: not the bytes that were spilled: sha256 differs from {record['value_sha256']}")
        return value, _beside(path.with_name(f"{record['message_id']}.json"))
    where = f"{named or '?'} on {host or '?'}"
    raise InputUnavailable(f"{record['message_id']}: its {record['size']} bytes were spilled to {where}, and are not there")


def _beside(path):
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text())
        headers = [(name, None if value is None else bytes.fromhex(value)) for name, value in kept["headers"]]
        return None if kept["key"] is None else bytes.fromhex(kept["key"]), headers
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputUnavailable(f"{path}: key and headers of a spilled dead letter cannot be read: {error}") from error


class Groups:
    """Dead letters counted by reason; one example a reason is kept, never its bytes."""

    def __init__(self):
        self._groups = {}
        self.count = 0

    def add(self, letter):
        """Count one; the first with a traceback is the example, else the first."""
        self.count += 1
        group = self._groups.setdefault(letter.reason, {"count": 0, "bytes": 0, "first": None, "last": None, "example": None})
        group["count"] += 1
        group["bytes"] += letter.size
        if letter.time_ms is not None:
            group["first"] = letter.time_ms if group["first"] is None else min(group["first"], letter.time_ms)
            group["last"] = letter.time_ms if group["last"] is None else max(group["last"], letter.time_ms)
        if group["example"] is None or (letter.traceback and not group["example"]["traceback"]):
            group["example"] = letter.as_dict()

    def as_list(self):
        """[{reason, count, bytes, first, last, example}], the most frequent first."""
        rows = sorted(self._groups.items(), key=lambda item: (-item[1]["count"], item[0]))
        return [
            {"reason": reason, **group, "first": time_text(group["first"]), "last": time_text(group["last"])}
            for reason, group in rows
        ]


def is_wanted(letter, reason=None, since_ms=None):
    """Whether a letter is of this reason and not older than this; one without a time is never too old."""
    if reason is not None and letter.reason != reason:
        return False
    return since_ms is None or letter.time_ms is None or letter.time_ms >= since_ms


def new_account():
    """Account of a replay of dead letters, all zero.

    seen = replayed_before + repeated + unavailable + failed_again + scored + refused.
    """
    names = ("seen", "replayed_before", "repeated", "unavailable", "failed_again", "scored", "refused")
    return {**dict.fromkeys(names, 0), "failed_again_by_reason": {}, "unavailable_why": []}


def open_letter(account, letter):
    """A letter's message, or None with it counted as unavailable and, of the first hundred, why."""
    try:
        return letter.open()
    except InputUnavailable as error:
        account["unavailable"] += 1
        if len(account["unavailable_why"]) < 100:
            account["unavailable_why"].append(str(error))
        return None


def fail_again(account, outcome):
    """Count a letter that cannot be read now either."""
    account["failed_again"] += 1
    reasons = account["failed_again_by_reason"]
    reasons[outcome.reason] = reasons.get(outcome.reason, 0) + 1
