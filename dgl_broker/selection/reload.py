"""Filters read anew while the program runs, by atomic rename and version."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from dgl_broker.errors import DglError, InputUnavailable
from dgl_broker.selection.filter_files import is_shipped, parse_filter
from dgl_broker.selection.status import WorkerStatus

STATUS_FOLDER = "status"


@dataclass(frozen=True)
class Change:
    """What became of a changed file: taken (`refused` None), or refused for a reason while the old version stays in force."""

    name: str
    from_version: int
    to_version: int | None = None
    refused: str | None = None

    def __str__(self):
        if self.refused is None:
            return f"filter {self.name}: version {self.to_version} in force, before {self.from_version}"
        return f"filter {self.name}: version {self.from_version} stays in force, the file is refused: {self.refused}"


def read_stamped(path):
    """The bytes of a file, and a stamp that tells this content of it from any other.

    The stamp is taken from the open file, so that it is the one of the bytes read even when the file is replaced meanwhile.

    Raises
    ------
    InputUnavailable
        If it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
            return data, _stamp(os.fstat(file.fileno()))
    except OSError as error:
        raise InputUnavailable(f"{path}: {error.strerror}") from error


def _stamp(stat):
    # The inode tells a renamed file from its forerunner where both were written in one tick of the clock.
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _stamp_of(path):
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


class Reloader:
    """Watches the files that filters came from; filters without a source stay as they are.

    Parameters
    ----------
    filters : sequence of Filter
    """

    def __init__(self, filters):
        # Unknown at first: a change between reading a filter and watching it is then seen by the first refresh.
        self._stamps = {f.name: () for f in filters if f.source is not None}
        self.problems = {}
        self._status = {}

    def refresh(self, filters, refusal):
        """Filters as they are to be in force now, and what changed.

        Parameters
        ----------
        filters : tuple of Filter
            Those in force.
        refusal : callable
            New `Filter` to the reason why it may not replace the one in force, or None.

        Returns
        -------
        filters : tuple of Filter
        changes : tuple of Change
        """
        changes = []
        in_force = []
        for old in filters:
            new = old
            if old.name in self._stamps and _stamp_of(old.source) != self._stamps[old.name]:
                new, change = self._read(old, refusal)
                changes += [change] if change is not None else []
            in_force.append(new)
        in_force = tuple(in_force)
        self._write_status(in_force)
        return in_force, tuple(changes)

    def _read(self, old, refusal):
        """The filter now in force for `old`, and the change, if it is one."""
        try:
            data, self._stamps[old.name] = read_stamped(old.source)
            new = parse_filter(data, old.source)
            why = _not_after(old, new) or refusal(new)
        except DglError as error:
            if isinstance(error, InputUnavailable):
                self._stamps[old.name] = None  # the stamp of a file that is not there
            new, why = None, str(error)
        if why is not None:
            if new is None and self._stamps[old.name] is not None:
                self._stamps[old.name] = ()  # perhaps caught half written within one tick of the clock: read it again
            known = self.problems.get(old.name) == why
            self.problems[old.name] = why
            return old, None if known else Change(old.name, old.version, refused=why)
        self.problems.pop(old.name, None)
        if new == old:
            return old, None
        return new, Change(old.name, old.version, new.version)

    def report_status(self, filters, folder, **options):
        """Opens a status file in the folder, or beside each filter's file; where not given, none beside shipped ones."""
        self.close()
        folders = defaultdict(set)
        for f in filters:
            if f.source is not None and (folder is not None or not is_shipped(f.source)):
                folders[Path(folder) if folder is not None else Path(f.source).parent / STATUS_FOLDER].add(f.name)
        self._status = {WorkerStatus(place, **options): names for place, names in folders.items()}
        self._write_status(filters)

    def _write_status(self, filters):
        for status, names in self._status.items():
            mine = [f for f in filters if f.name in names]
            status.write(mine, {name: why for name, why in self.problems.items() if name in names})

    def close(self):
        """Takes the status files away."""
        for status in self._status:
            status.remove()
        self._status = {}


def _not_after(old, new):
    """Why `new` may not follow `old`: a score must be able to say by its version how it was judged."""
    if new == old:
        return None
    if new.name != old.name:
        return f"name {new.name!r}, expected {old.name!r}"
    if new.version <= old.version:
        what = "other content under the same" if new.version == old.version else "a lower"
        return f"{what} version {new.version}, expected a version above {old.version}; a roll-back is a new version too"
    return None
