"""Packets behind the scores: those kept beside the tables, or, where they still lie, those that the tables were made from."""

import threading
from collections import OrderedDict
from pathlib import Path

from dgl_broker import surveys, wire
from dgl_broker.archive.files import kind_of
from dgl_broker.archive.keep import FILE
from dgl_broker.archive.kept import KeptPackets
from dgl_broker.archive.sources import FileSource
from dgl_broker.errors import DglError, InputUnavailable

REMEMBERED = 400  # decoded alerts; a mature one of Rubin takes some 100 kB
NOT_KEPT = "its packet was not kept: replay with --keep-packets top:2000, or give --packets DIR"


class Packets:
    """Decoded alerts by survey and id.

    Parameters
    ----------
    tables : sequence of path
        Score tables; packets kept beside them are found.
    folder : path, optional
        Kept packets elsewhere, or the folder of packets that was replayed.
    schemas : folder, URL or SchemaSource, optional
        Writers' schemas of framed packets in such a folder.

    Raises
    ------
    InputUnavailable
        If `folder` is not there.
    """

    def __init__(self, tables, folder=None, schemas=None):
        self._kept = [kept for table in tables if (kept := KeptPackets.beside(table)) is not None]
        self._folder = None
        if folder is not None and (Path(folder) / FILE).is_file():
            self._kept.append(KeptPackets.open(folder))
        elif folder is not None:
            self._folder = Path(folder)
            if not self._folder.is_dir():
                raise InputUnavailable(f"--packets {folder}: no such folder")
        self._schemas = wire.schema_source(schemas) if not hasattr(schemas, "writer_schema") else schemas
        self._names = None
        self._known = OrderedDict()
        self._lock = threading.Lock()

    def __bool__(self):
        return bool(self._kept) or self._folder is not None

    def alert(self, survey, alert_id, source=None, row=0):
        """The decoded `Alert`, or why there is none, as text.

        Parameters
        ----------
        survey : str
        alert_id : int
        source, row : str and int, optional
            Where the table says that the packet came from.
        """
        key = (survey, alert_id)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        try:
            found = self._find(survey, alert_id, source, row) or NOT_KEPT
        except DglError as error:
            found = f"its packet cannot be read: {error}"
        with self._lock:
            self._known[key] = found
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _find(self, survey, alert_id, source, row):
        for kept in self._kept:
            alert = kept.alert(survey, alert_id)
            if alert is not None:
                return alert
        path = self._path(source)
        if path is None:
            return None
        if kind_of(path) == "tar":
            return "it lies in a tar, which is not searched: replay with --keep-packets top:2000"
        for message in FileSource(path).messages(survey):
            if message.source_row == row:
                alert = surveys.read_alert(wire.decode(message, survey, self._schemas))
                return alert if alert.alert_id == alert_id else None
        return None

    def _path(self, source):
        """The file of that name in the folder, however deep."""
        if self._folder is None or not source:
            return None
        if self._names is None:
            self._names = {p.name: p for p in self._folder.rglob("*") if p.is_file()}
        return self._names.get(Path(source.partition(":")[0]).name) or self._names.get(Path(source).name)
