"""The ledger of a replay, or of one shard of it: how far it is and all that it has found so far, in one SQLite file.

A batch's rows, dead letters and counts are committed in one transaction, so that a replay that was stopped anywhere, or
killed, goes on with the batch after the last one; the tables are written from the ledger when all is done.
"""

import glob
import hashlib
import json
import sqlite3
from collections import Counter
from contextlib import suppress
from pathlib import Path

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.observe.summary import Tally

FORMAT = 1
LARGE_BYTES = 128 * 1024 * 1024  # of a dead letter, such as the rest of a damaged file of alerts: kept in a file of its own
TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (n INTEGER PRIMARY KEY, tally TEXT NOT NULL, rows BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS letters (batch INTEGER NOT NULL, n INTEGER NOT NULL, entry TEXT NOT NULL, content BLOB,
    PRIMARY KEY (batch, n));
"""


def plan_sha256(plan):
    """Hash of what a replay was asked to do; equal plans give equal results."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Ledger:
    """A ledger, begun or gone on with.

    Parameters
    ----------
    path : path
    plan : dict
        All that the result depends on: inputs with their hashes, bundle, filters, which part, how batches are cut.
    restart : bool
        Begin anew, whatever is there.

    Raises
    ------
    ConfigError
        If the file belongs to another plan; it names what differs.
    StateError
        If it cannot be written, or another process holds it.
    """

    def __init__(self, path, plan, restart=False):
        self.path, self.plan = Path(path), plan
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if restart:
                self._unlink()
            self._db = sqlite3.connect(self.path, timeout=1.0, isolation_level=None)
            # Held for as long as it is open: two processes on one shard would spoil each other's work.
            self._db.executescript("PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = 16384;" + TABLES)
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute("COMMIT")
            self._begin()
        except sqlite3.OperationalError as error:
            held = "another process holds it" if "locked" in str(error) else str(error)
            raise StateError(f"{self.path}: {held}") from error
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"{self.path}: no ledger, or it cannot be written: {error}") from error

    def _begin(self):
        kept = dict(self._db.execute("SELECT name, value FROM about"))
        if not kept:
            values = {"format": str(FORMAT), "plan": json.dumps(self.plan), "sha256": plan_sha256(self.plan)}
            self._db.executemany("INSERT INTO about VALUES (?, ?)", values.items())
        elif kept.get("format") != str(FORMAT) or kept.get("sha256") != plan_sha256(self.plan):
            self._db.close()
            differs = _difference(json.loads(kept.get("plan", "{}")), self.plan)
            raise ConfigError(
                f"{self.path}: an unfinished replay of other things: {differs}. Finish it as it was begun, take --restart to"
                " begin anew, or choose another --out"
            )

    @property
    def n_batches(self):
        """Batches that are done."""
        return self._db.execute("SELECT COALESCE(MAX(n) + 1, 0) FROM batches").fetchone()[0]

    def commit(self, n, tally, rows, letters):
        """A batch is done.

        Parameters
        ----------
        n : int
            Its number: that of the batches before it.
        tally : Tally
        rows : bytes
            As `tables.pack_rows` gives them.
        letters : list of (dict, bytes)
            Entry and content of each dead letter.

        Raises
        ------
        StateError
        """
        try:
            self._db.execute("BEGIN")
            with self._db:
                self._db.execute("INSERT INTO batches VALUES (?, ?, ?)", (n, _tally_text(tally), rows))
                for k, (entry, content) in enumerate(letters):
                    if len(content) > LARGE_BYTES:
                        self._large(n, k).write_bytes(content)
                        content = None
                    self._db.execute("INSERT INTO letters VALUES (?, ?, ?, ?)", (n, k, json.dumps(entry), content))
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"{self.path}: cannot be written: {error}") from error

    def tallies(self):
        """Counts of the batches that are done, in order."""
        for (text,) in self._db.execute("SELECT tally FROM batches ORDER BY n"):
            yield _tally_of(text)

    def rows(self):
        """Rows of the batches, in order, as they were packed."""
        for (rows,) in self._db.execute("SELECT rows FROM batches ORDER BY n"):
            yield rows

    def letters(self):
        """(entry, content) of the dead letters, in order."""
        for n, k, entry, content in self._db.execute("SELECT batch, n, entry, content FROM letters ORDER BY batch, n"):
            yield json.loads(entry), self._large(n, k).read_bytes() if content is None else content

    def close(self):
        """Close the file; it stays, to be gone on with."""
        self._db.close()

    def remove(self):
        """Close and take it away: the result is written."""
        self._db.close()
        try:
            self._unlink()
        except OSError as error:
            raise StateError(f"{self.path}: cannot be removed: {error.strerror}") from error

    def _large(self, n, k):
        return self.path.with_name(f"{self.path.name}.letter-{n}-{k}")

    def _unlink(self):
        self.path.unlink(missing_ok=True)
        for letter in self.path.parent.glob(f"{glob.escape(self.path.name)}.letter-*"):
            letter.unlink()
        with suppress(OSError):
            self.path.with_name(self.path.name + "-journal").unlink()


def _tally_text(tally):
    return json.dumps({name: dict(v) if isinstance(v := getattr(tally, name), Counter) else v for name in tally.__slots__})


def _tally_of(text):
    values = json.loads(text)
    return Tally(**{name: Counter(v) if isinstance(v, dict) else v for name, v in values.items()})


def _difference(before, now):
    """The first thing that differs between two plans, in words."""
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            return f"{key} was {_short(before.get(key))}, is {_short(now.get(key))}"
    return "its format"


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
