"""Files that are whole or not there: readers see the old content or the new one, never half of it."""

import os
import secrets
from pathlib import Path


def write_atomically(path, text, durable=True):
    """Writes a text file by renaming a finished one over it.

    Parameters
    ----------
    path : path
    text : str
    durable : bool
        Flush file and folder to the disk before returning, so that a power cut does not undo it.

    Raises
    ------
    OSError
        If it cannot be written; then the old file is as it was.
    """
    path = Path(path)
    # Same folder, since a rename is atomic only within one file system; hidden and of another suffix, so that no one reads it.
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder):
    """Flushes a folder, so that names made or changed in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
