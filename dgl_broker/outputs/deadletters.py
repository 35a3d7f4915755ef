"""A message that could not be read, as a record: its bytes as they came, where from, and why.

Bytes larger than the broker takes are spilled to a file, named by their hash so that a second attempt makes no second file,
and the record points there.
"""

import hashlib
import json
import os
import socket
from pathlib import Path

from dgl_broker import __version__
from dgl_broker.errors import StateError
from dgl_broker.outputs.records import dead_letter_id

MAX_BESIDE_BYTES = 2048  # of key and headers that stay in a record whose bytes are spilled


def _header_bytes(value):
    return value.encode() if isinstance(value, str) else value


def _writable(text):
    """Text that UTF-8 can hold: JSON, and so a schema, may spell halves of surrogate pairs, and an error may quote them."""
    return text if text is None else text.encode("utf-8", "backslashreplace").decode()


def dead_letter_record(outcome, survey, bundle_sha256=None, now_ms=None):
    """One dead-lettered outcome as a dict with the fields of `schemas/dead_letter.avsc`.

    Parameters
    ----------
    outcome : Outcome
        Dead-lettered, with its message.
    survey : str
        The survey that the filter reads.
    bundle_sha256 : str, optional
        Bundle in force.
    now_ms : int, optional
        When the record is made [ms since 1970].
    """
    message = outcome.message
    return {
        "survey": survey,
        "reason": outcome.reason or "unknown",
        "error": _writable(outcome.error or ""),
        "traceback": _writable(outcome.traceback),
        "topic": message.topic if message.topic is not None else message.source,
        "partition": message.partition,
        "offset": message.offset if message.offset is not None else message.source_row,
        "key": message.key,
        "headers": [{"name": str(name), "value": _header_bytes(value)} for name, value in message.headers or ()],
        "timestamp_ms": message.timestamp_ms,
        "value": message.value,
        "size": len(message.value),
        "value_sha256": hashlib.sha256(message.value).hexdigest(),
        "spilled_to": None,
        "alert_id": outcome.alert_id,
        "bundle_sha256": bundle_sha256,
        "software": f"dgl-broker {__version__}",
        "message_id": dead_letter_id(survey, message),
        "dead_lettered_ms": now_ms,
    }


def spill(record, folder):
    """The record with its bytes moved to a file in `folder` (mode 0600), synced before this returns.

    A long key and long headers go into a JSON file beside it, in hexadecimal, so that what is left of the record is small. The
    bytes' file is named by their hash, for equal ones are kept once; that of key and headers by the letter's id, since messages
    of equal bytes may differ in these.

    Raises
    ------
    StateError
        If a file cannot be written: the process must stop with the offset uncommitted.
    """
    folder = Path(folder)
    path = folder / f"{record['value_sha256']}.bin"
    beside = len(record["key"] or b"") + sum(len(h["name"]) + len(h["value"] or b"") for h in record["headers"])
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, record["value"])
        if beside > MAX_BESIDE_BYTES:
            headers = [[h["name"], h["value"] and h["value"].hex()] for h in record["headers"]]
            kept = {"key": record["key"] and record["key"].hex(), "headers": headers}
            _write(folder / f"{record['message_id']}.json", json.dumps(kept).encode())
            record = {**record, "key": None, "headers": []}
        # The folder too: a rename that is not on the disk is lost with the power, and the offset would be committed.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StateError(f"{path}: a dead letter of {record['size']} bytes cannot be spilled: {error.strerror}") from error
    return {**record, "value": None, "spilled_to": f"{socket.gethostname()}:{path.resolve()}"}


def _write(path, content):
    """Write a file whole or not at all, readable by this user alone."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
