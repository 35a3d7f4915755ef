"""Which filter versions each worker has in force, and since when: a file a worker, in a folder that machines may share."""

import datetime
import json
import os
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from dgl_broker.selection.filter_files import content_sha256
from dgl_broker.selection.write_file import write_atomically

HEARTBEAT_S = 10.0
SILENT_AFTER_S = 60.0  # six heartbeats: a worker may be in a long batch
FORGOTTEN_AFTER_S = 86400.0  # files of workers that were killed are cleared away by their neighbours


def utc_text(seconds):
    """A POSIX time as ISO 8601, UTC, to the millisecond."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class WorkerStatus:
    """This worker's file.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    worker : str, optional
        Name of this worker, unique among those that share the folder; by default host, process id and four random digits.
    bundle_sha256 : str, optional
    """

    def __init__(self, folder, worker=None, bundle_sha256=None, heartbeat_s=HEARTBEAT_S, clock=time.time):
        self.folder = Path(folder)
        self.worker = worker or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.path = self.folder / f"{self.worker}.json"
        self.problem = None
        self._bundle_sha256 = bundle_sha256
        self._heartbeat_s, self._clock = heartbeat_s, clock
        self._started = clock()
        self._since = {}
        self._written, self._written_at = None, None

    def write(self, filters, problems):
        """Says what is in force, if that has changed or a heartbeat is due.

        A folder that cannot be written costs the report, not the alerts: `problem` says so, and whoever waits for this
        worker sees it lag.
        """
        now = self._clock()
        said = {f.name: (f.version, f.source) for f in filters}, dict(problems)
        if said == self._written and abs(now - self._written_at) < self._heartbeat_s:
            return
        for f in filters:
            since = self._since.get(f.name)
            if since is None or since[0] != f.version:
                self._since[f.name] = (f.version, now)
        record = {
            "worker": self.worker,
            "started": utc_text(self._started),
            "seen": utc_text(now),
            "bundle_sha256": self._bundle_sha256,
            "filters": {
                f.name: {
                    "version": f.version,
                    "since": utc_text(self._since[f.name][1]),
                    "sha256": content_sha256(f),
                    "tuned": f.is_tuned,
                    "source": f.source,
                }
                for f in filters
            },
            "problems": dict(problems),
        }
        try:
            first = self._written is None
            if first:
                self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(record, indent=1) + "\n", durable=False)
            if first:
                self._clear_forgotten(self.path.stat().st_mtime)
            self.problem = None
        except OSError as error:
            self.problem = f"status {self.path}: {error.strerror}"
        # Also where it failed: the next try comes with the next heartbeat, not with every batch.
        self._written, self._written_at = said, now

    def _clear_forgotten(self, now):
        for path in self.folder.glob("*.json"):
            try:
                if now - path.stat().st_mtime > FORGOTTEN_AFTER_S:
                    path.unlink()
            except OSError:
                pass  # another worker was quicker

    def remove(self):
        """Takes the file away: this worker has stopped."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            self.problem = f"status {self.path}: {error.strerror}"


@dataclass(frozen=True)
class Worker:
    """A worker as its status file says; `silent` if it has not been heard of for long."""

    worker: str
    seen: str
    silent: bool
    versions: dict
    since: dict
    problems: dict
    bundle_sha256: str | None = None


def read_workers(folder, now=None, silent_after_s=SILENT_AFTER_S):
    """The workers of a status folder, by name; files that are no status are left out.

    The age is that of the file, by the clock of the machine that holds it, so that clocks of workers need not agree.
    """
    now = time.time() if now is None else now
    workers = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            age = now - path.stat().st_mtime
            record = json.loads(path.read_text())
            filters = record["filters"]
            workers.append(
                Worker(
                    record["worker"],
                    record["seen"],
                    age > silent_after_s,
                    {name: int(f["version"]) for name, f in filters.items()},
                    {name: f["since"] for name, f in filters.items()},
                    dict(record.get("problems", {})),
                    record.get("bundle_sha256"),
                )
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # gone meanwhile, or not ours
    return workers
