"""Packets kept beside their scores: those that scored best, or all, with the companion stamps as they were used.

A folder holds one SQLite file, `packets.sqlite`, which several processes of one machine may write; `archive.kept` reads it.
What is kept depends on the alerts and the rule alone, not on the order in which they came nor on how often.
"""

import json
import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dgl_broker import wire
from dgl_broker.companions.codec import encode
from dgl_broker.errors import ConfigError, PacketError, StateError
from dgl_broker.nights import night_of
from dgl_broker.wire.codecs import compress

FILE = "packets.sqlite"
FORMAT = "1"
CODEC = "zstandard"
BUSY_S = 60.0  # how long another process may hold the file
TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS packets (
    survey TEXT NOT NULL, alert_id INTEGER NOT NULL, night TEXT NOT NULL, shelf TEXT NOT NULL, log_odds REAL,
    bundle_sha256 TEXT, message_id TEXT, source TEXT, source_row INTEGER, codec TEXT NOT NULL, key BLOB, value BLOB NOT NULL,
    PRIMARY KEY (survey, alert_id));
CREATE INDEX IF NOT EXISTS packets_by_score ON packets (shelf, log_odds DESC, survey, alert_id);
CREATE TABLE IF NOT EXISTS companions (
    survey TEXT NOT NULL, alert_id INTEGER NOT NULL, band TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (survey, alert_id, band));
CREATE TABLE IF NOT EXISTS schemas (survey TEXT NOT NULL, id INTEGER NOT NULL, schema TEXT NOT NULL, PRIMARY KEY (survey, id));
"""
_COLUMNS = "survey, alert_id, night, shelf, log_odds, bundle_sha256, message_id, source, source_row, codec, key, value"
# The better of two alerts of one id stays, so that it does not matter which came first.
_INSERT = f"""
INSERT INTO packets ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (survey, alert_id) DO UPDATE SET ({_COLUMNS}) =
    ({", ".join(f"excluded.{name.strip()}" for name in _COLUMNS.split(","))})
WHERE COALESCE(excluded.log_odds, -1e300) > COALESCE(packets.log_odds, -1e300)
"""
_PRUNE = """
DELETE FROM packets WHERE shelf = ? AND rowid IN
    (SELECT rowid FROM packets WHERE shelf = ? ORDER BY log_odds DESC, survey, alert_id LIMIT -1 OFFSET ?)
"""
_ORPHANS = """
DELETE FROM companions WHERE NOT EXISTS
    (SELECT 1 FROM packets AS p WHERE p.survey = companions.survey AND p.alert_id = companions.alert_id)
"""


@dataclass(frozen=True)
class KeepRule:
    """Which packets are kept: the `best` so many that were scored, or, where it is None, all that were read."""

    best: int | None = None

    def __str__(self):
        return "all" if self.best is None else f"top:{self.best}"


def parse_keep(text):
    """`top:2000` or `all` as a `KeepRule`, `none` as None.

    Raises
    ------
    ConfigError
        If it is none of them.
    """
    if text == "none":
        return None
    if text == "all":
        return KeepRule()
    kind, _, number = text.partition(":")
    if kind == "top" and number.isascii() and number.isdecimal() and int(number) > 0:
        return KeepRule(int(number))
    raise ConfigError(f"--keep-packets {text!r}, expected top:N such as top:2000, all or none")


def clear_kept(folder):
    """Take away what an earlier replay kept in a folder, and the folder where nothing else is in it.

    Raises
    ------
    StateError
    """
    folder = Path(folder)
    try:
        for path in (folder / FILE, folder / f"{FILE}-journal"):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"{folder}: cannot be cleared: {error.strerror}") from error
    with suppress(OSError):  # not there, or something else lies in it
        folder.rmdir()


def put_in_place(folder, final):
    """Move what was kept in `folder` to `final`, instead of what an earlier replay kept there.

    Raises
    ------
    StateError
    """
    folder, final = Path(folder), Path(final)
    if not (folder / FILE).is_file():
        return  # there already: the process was killed between this and what came next
    clear_kept(final)
    try:
        final.mkdir(parents=True, exist_ok=True)
        os.replace(folder / FILE, final / FILE)
        folder.rmdir()
    except OSError as error:
        raise StateError(f"{final}: cannot be written: {error.strerror}") from error


class Keeper:
    """Keeps packets of outcomes in a folder.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    rule : KeepRule
    survey : str
    schemas : dgl_broker.wire.SchemaSource, optional
        Of framed packets: the schemas that they name are kept as well, so that the folder can be read on its own.
    nights : int, optional
        Judge each night by itself, and let go of all but the newest so many: for a stream that runs for months. By default
        the best of all nights are kept.

    Raises
    ------
    StateError
        If the folder cannot be written, or holds something else.
    """

    def __init__(self, folder, rule, survey, schemas=None, nights=None):
        self.folder, self.rule, self.survey, self.schemas, self.nights = Path(folder), rule, survey, schemas, nights
        self._floors = {}
        self._known_ids = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.folder / FILE, timeout=BUSY_S, isolation_level=None)
            self._db.executescript("PRAGMA page_size = 16384; PRAGMA synchronous = NORMAL;" + TABLES)
            self._db.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", (FORMAT,))
            self._db.execute("INSERT OR REPLACE INTO about VALUES ('rule', ?)", (str(rule),))
            found = self._db.execute("SELECT value FROM about WHERE name = 'format'").fetchone()[0]
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"{self.folder}: packets cannot be kept there: {error}") from error
        if found != FORMAT:
            raise StateError(f"{self.folder}: kept packets of format {found}, expected {FORMAT}")

    def take(self, outcomes):
        """Keep what belongs there of a batch's outcomes; dead letters are kept elsewhere.

        Raises
        ------
        StateError
            If the disk does not take it.
        """
        wanted = [o for o in outcomes if self._is_wanted(o)]
        if not wanted:
            return
        rows = [self._row(outcome) for outcome in wanted]
        shelves = {row[3] for row in rows}
        try:
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                for row, outcome in zip(rows, wanted, strict=True):
                    if self._db.execute(_INSERT, row).rowcount:
                        self._set_companions(row[:2], outcome.companions)
                self._prune(shelves)
                self._keep_schemas(wanted)
            for shelf in shelves:
                self._floors[shelf] = self._floor(shelf)
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._db.rollback()
            raise StateError(f"{self.folder}: packets cannot be kept there: {error}") from error

    def close(self):
        """Close the file."""
        self._db.close()

    def _shelf(self, outcome):
        """What an outcome competes within: its night, or everything."""
        return night_of(outcome.alert.survey, outcome.alert.mjd_tai) if self.nights else ""

    def _is_wanted(self, outcome):
        if outcome.alert is None or outcome.status == "dead_lettered":
            return False
        if self.rule.best is None:
            return True
        return outcome.scores is not None and outcome.scores.log_odds >= self._floors.get(self._shelf(outcome), -float("inf"))

    def _row(self, outcome):
        alert, message = outcome.alert, outcome.message
        value = message.value
        if not value:
            packet = message.packet
            if packet is None or isinstance(packet, PacketError):
                raise StateError(f"{alert.name}: an outcome without its packet")
            value = wire.encode_packet(packet)
        return (
            alert.survey,
            int(alert.alert_id),
            night_of(alert.survey, alert.mjd_tai),
            self._shelf(outcome),
            None if outcome.scores is None else float(outcome.scores.log_odds),
            None if outcome.scores is None else outcome.scores.bundle_sha256,
            outcome.message_id,
            message.topic if message.topic is not None else message.source,
            message.offset if message.topic is not None else message.source_row,
            CODEC,
            message.key,
            compress(CODEC, value),
        )

    def _set_companions(self, key, companions):
        self._db.execute("DELETE FROM companions WHERE survey = ? AND alert_id = ?", key)
        rows = [(*key, companion.band, encode(companion)) for companion in companions]
        self._db.executemany("INSERT INTO companions VALUES (?, ?, ?, ?)", rows)

    def _prune(self, shelves):
        gone = 0
        if self.rule.best is not None:
            for shelf in shelves:
                gone += self._db.execute(_PRUNE, (shelf, shelf, self.rule.best)).rowcount
        if self.nights:
            newest = "SELECT DISTINCT night FROM packets ORDER BY night DESC LIMIT ?"
            old = f"DELETE FROM packets WHERE night NOT IN ({newest})"
            gone += self._db.execute(old, (self.nights,)).rowcount
        if gone:
            self._db.execute(_ORPHANS)

    def _floor(self, shelf):
        """Log-odds below which nothing can come in any more; with other processes at work the true one may be higher."""
        if self.rule.best is None:
            return -float("inf")
        n, least = self._db.execute("SELECT COUNT(*), MIN(log_odds) FROM packets WHERE shelf = ?", (shelf,)).fetchone()
        return least if n >= self.rule.best else -float("inf")

    def _keep_schemas(self, outcomes):
        for outcome in outcomes:
            value = outcome.message.value
            if value[:1] != b"\0" or (number := int.from_bytes(value[1:5], "big")) in self._known_ids:
                continue
            if self.schemas is not None:
                schema = self.schemas.writer_schema(number)
                text = json.dumps({**schema.tree, "name": schema.name, "version": schema.version})
                self._db.execute("INSERT OR IGNORE INTO schemas VALUES (?, ?, ?)", (self.survey, number, text))
            self._known_ids.add(number)
