"""Kept packets read: by survey and alert id, the bytes as they came and the companion stamps as they were used.

with KeptPackets.open("scores.kept") as kept:
    kept.value("ztf", 2475433850315015009)     # bytes, or None where that alert was not kept
    kept.alert("ztf", 2475433850315015009)     # decoded, for stamps and light curve
"""

import sqlite3
import threading
from pathlib import Path

from dgl_broker import surveys, wire
from dgl_broker.alert import Message
from dgl_broker.archive.keep import FILE, FORMAT
from dgl_broker.archive.places import beside
from dgl_broker.companions.companion import decode_companion
from dgl_broker.errors import InputUnavailable, PacketError
from dgl_broker.wire.codecs import inflate
from dgl_broker.wire.limits import DEFAULT
from dgl_broker.wire.writer_schema import WriterSchema, parse_json


class KeptPackets:
    """Kept packets of one or several folders, such as the shards of a replay; the first that has an alert gives it.

    May be used by several threads; a folder that a running filter writes is read as it stands.
    """

    def __init__(self, files):
        self.files = tuple(files)
        self._lock = threading.Lock()
        self._databases = [_connect(path) for path in self.files]
        self._schemas = {}

    @classmethod
    def open(cls, *folders):
        """The kept packets of these folders.

        Raises
        ------
        InputUnavailable
            If one holds no kept packets.
        """
        return cls([Path(folder) / FILE for folder in folders])

    @classmethod
    def beside(cls, scores):
        """The kept packets beside a table of scores, those of all its shards; None where none were kept."""
        folders = kept_folders(scores)
        return cls.open(*folders) if folders else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the files."""
        with self._lock:
            for database in self._databases:
                database.close()
            self._databases = []

    def __len__(self):
        return sum(self._ask("SELECT COUNT(*) FROM packets", ())[n][0][0] for n in range(len(self._databases)))

    def __contains__(self, key):
        survey, alert_id = key
        return self._row("1", survey, alert_id) is not None

    def ids(self):
        """(survey, alert id) of all that are kept, the best first, those without a score last."""
        asked = "SELECT survey, alert_id, log_odds FROM packets"
        rows = {(s, i): score for rows in reversed(self._ask(asked, ())) for s, i, score in rows}
        return sorted(rows, key=lambda key: (rows[key] is None, -(rows[key] or 0.0), key))

    def value(self, survey, alert_id):
        """The packet's bytes as they came, or None where it was not kept.

        A row of a broker's table comes as an Avro container that says the same; Rubin's frames name their schema by id,
        which `schemas` has.
        """
        found = self._row("codec, value", survey, alert_id)
        return None if found is None else inflate(found[0], found[1], DEFAULT.file_block_bytes)

    def message(self, survey, alert_id):
        """The packet as a `Message` for a `Scorer`, or None."""
        found = self._row("codec, value, key, source, source_row", survey, alert_id)
        if found is None:
            return None
        codec, value, key, source, row = found
        return Message(inflate(codec, value, DEFAULT.file_block_bytes), key=key, source=source, source_row=row)

    def alert(self, survey, alert_id):
        """The decoded `Alert`, or None.

        Raises
        ------
        PacketError
            If it cannot be read, such as a frame of a schema that was not kept.
        """
        message = self.message(survey, alert_id)
        return None if message is None else surveys.read_alert(wire.decode(message, survey, self.schemas))

    def companions(self, survey, alert_id):
        """{band: Companion} as the example of this alert was made of them; empty where there were none.

        Raises
        ------
        InputUnavailable
            If they are damaged.
        """
        asked = "SELECT band, value FROM companions WHERE survey = ? AND alert_id = ?"
        found = {}
        object_id = None
        for rows in self._ask(asked, (survey, int(alert_id))):
            for band, value in rows:
                object_id = object_id or self.alert(survey, alert_id).object_id
                try:
                    found.setdefault(band, decode_companion(value, survey, object_id, band))
                except ValueError as error:
                    raise InputUnavailable(f"kept companion of {survey} {alert_id} in {band}: {error}") from error
        return found

    @property
    def schemas(self):
        """Source of the writer's schemas of framed packets, for `wire.decode` and `Scorer`."""
        return _KeptSchemas(self)

    def _row(self, columns, survey, alert_id):
        asked = f"SELECT {columns} FROM packets WHERE survey = ? AND alert_id = ?"
        return next((rows[0] for rows in self._ask(asked, (survey, int(alert_id))) if rows), None)

    def _ask(self, question, values):
        """Rows of each file."""
        with self._lock:
            try:
                return [database.execute(question, values).fetchall() for database in self._databases]
            except sqlite3.Error as error:
                raise InputUnavailable(f"kept packets {', '.join(map(str, self.files))}: {error}") from error


class _KeptSchemas:
    """Writer's schemas by id, as `wire` asks for them."""

    def __init__(self, kept):
        self._kept = kept

    def __repr__(self):
        return "the kept schemas"

    def check(self):
        """Always there."""

    def writer_schema(self, number):
        known = self._kept._schemas
        if number not in known:
            found = self._kept._ask("SELECT schema FROM schemas WHERE id = ?", (number,))
            text = next((rows[0][0] for rows in found if rows), None)
            if text is None:
                raise PacketError("unknown_schema", f"schema id {number}: was not kept with the packets")
            known[number] = WriterSchema(parse_json(text), schema_id=number)
        return known[number]


def kept_folders(scores):
    """Folders of kept packets that belong to a table of scores: `<stem>.kept`, and `<stem>.shard-I-of-N.kept` of shards."""
    return [folder for folder in beside(scores, "kept", shards=True) if (folder / FILE).is_file()]


def _connect(path):
    if not path.is_file():
        raise InputUnavailable(f"{path.parent}: no kept packets ({FILE}) in it")
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False, timeout=60.0)
        found = database.execute("SELECT value FROM about WHERE name = 'format'").fetchone()
    except sqlite3.Error as error:
        raise InputUnavailable(f"{path}: not kept packets: {error}") from error
    if found is None or found[0] != FORMAT:
        raise InputUnavailable(f"{path}: kept packets of format {found and found[0]}, expected {FORMAT}")
    return database
