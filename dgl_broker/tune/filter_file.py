"""A filter's file as tuning sees it: what is in force now, who judges by it, and what has become of it before."""

from functools import lru_cache
from pathlib import Path

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.selection.arrival import read_arrival
from dgl_broker.selection.audit import log_path, read_log, version_content
from dgl_broker.selection.filter_files import find_filter, is_shipped, parse_filter
from dgl_broker.selection.reload import STATUS_FOLDER, read_stamped
from dgl_broker.selection.status import read_workers
from dgl_broker.selection.words import differences


class FilterFile:
    """The file of one filter.

    Parameters
    ----------
    path_or_name : path or str
        A file, or the name of a shipped filter.
    status : path, optional
        Folder where the workers report; beside the file where not given.
    """

    def __init__(self, path_or_name, status=None):
        self.path = Path(find_filter(path_or_name))
        self.status = Path(status) if status is not None else self.path.parent / STATUS_FOLDER
        self._stamp = self._filter = None

    @property
    def name(self):
        """Name of the filter."""
        return self.in_force.name

    @property
    def in_force(self):
        """The filter as the file has it now; it is parsed when the file has changed.

        Raises
        ------
        ConfigError, InputUnavailable
            If it is broken or gone.
        """
        data, stamp = read_stamped(self.path)
        if stamp != self._stamp:
            self._filter, self._stamp = parse_filter(data, str(self.path)), stamp
        return self._filter

    @property
    def is_shipped(self):
        """Whether it lies in the package's own folder, which no one changes: an upgrade brings its own again."""
        return is_shipped(self.path)

    def copy_to(self, folder):
        """Copies the file into a folder, as it is; its path there.

        Raises
        ------
        ConfigError
            If a file of its name is there: it may have been changed.
        StateError
            If it cannot be written.
        """
        copied = Path(folder).absolute() / self.path.name
        try:
            copied.parent.mkdir(parents=True, exist_ok=True)
            with open(copied, "xb") as file:
                file.write(self.path.read_bytes())
        except FileExistsError as error:
            raise ConfigError(f"{copied}: is there already") from error
        except OSError as error:
            raise StateError(f"{copied}: {error.strerror}") from error
        return copied

    def version(self, number):
        """The filter as it was in a version, or None where neither file nor log has it."""
        now = self.in_force
        if number == now.version:
            return now
        entries, _ = read_log(log_path(self.path))
        try:
            return version_content(entries, now.name, number)
        except ConfigError:
            return None

    def workers(self):
        """Workers that run this filter, as their status files say."""
        name = self.name
        return [w for w in read_workers(self.status) if name in w.versions]

    def arrival(self, version=None):
        """How far a version, by default that of the file, has come."""
        now = self.in_force
        return read_arrival(self.status, now.name, now.version if version is None else version)

    def history(self):
        """Changes, the newest first, and the numbers of lines of the log that cannot be read.

        Returns
        -------
        changes : list of dict
            `version, when, who, why, action, threshold, from_version, from_threshold, changes` (words), `bundle_sha256`.
        broken : list of int
        """
        entries, broken = read_log(log_path(self.path))
        name = self.name
        return [_told(e) for e in reversed(entries) if e["filter"] == name], broken


@lru_cache(maxsize=512)  # a log of years is read at every look at the page
def _parsed(content):
    return parse_filter(content, "audit log")


def _told(entry):
    to, from_ = entry["to"], entry.get("from")
    new, old = _parsed(to["content"]), None if from_ is None else _parsed(from_["content"])
    return {
        "version": to["version"],
        "when": entry["when"],
        "who": entry["who"],
        "why": entry["why"],
        "action": entry["action"],
        "threshold": to["threshold"],
        "from_version": None if from_ is None else from_["version"],
        "from_threshold": None if from_ is None else from_["threshold"],
        "changes": differences(old, new),
        "bundle_sha256": new.bundle_sha256,
    }
