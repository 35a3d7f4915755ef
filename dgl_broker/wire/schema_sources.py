"""Where the schema of a framed message comes from, by its id: a folder of schema files, or a registry over HTTP.

Schemas are immutable by id, so what was once read is kept for good. An id that is not there concerns one message
(`unknown_schema`); a folder or registry that cannot be read concerns all of them and stops the process.
"""

import re
import time
from pathlib import Path

from dgl_broker.errors import InputUnavailable, PacketError
from dgl_broker.wire.limits import DEFAULT
from dgl_broker.wire.schema_tree import full_name
from dgl_broker.wire.writer_schema import WriterSchema, parse_json

_ALERT_FILE = re.compile(r"lsst\.v(\d+)_(\d+)\.alert\.avsc")
_ID_FILE = re.compile(r"(\d+)\.avsc")
RESCAN_S = 10.0  # how often a folder is searched again for ids that were not there


class FolderSchemas:
    """Schemas in a folder and all folders below it: `<id>.avsc`, or `lsst.vM_m.alert.avsc` (id 100 M + m) beside its parts.

    Parameters
    ----------
    path : str or Path
    limits : Limits

    Raises
    ------
    InputUnavailable
        If the folder cannot be read, or two files of different content claim one id.
    """

    def __init__(self, path, limits=DEFAULT):
        self.path, self.limits = Path(path), limits
        self._schemas = {}
        self._files = {}
        self._scan()

    def __repr__(self):
        return f"folder {self.path}"

    def _scan(self):
        if not self.path.is_dir():
            raise InputUnavailable(f"schemas: {self.path} is no folder")
        files = {}
        for file in sorted(self.path.rglob("*.avsc")):
            number = _id_of_file(file.name)
            if number is None:
                continue
            other = files.setdefault(number, file)
            if other != file and other.read_bytes() != file.read_bytes():
                raise InputUnavailable(f"schemas: {other} and {file} differ, both are schema {number}")
        self._files, self._scanned = files, time.monotonic()

    def ids(self):
        """Ids that there are, sorted."""
        return sorted(self._files)

    def check(self):
        """Raises if the folder is gone: what readiness asks."""
        if not self.path.is_dir():
            raise InputUnavailable(f"schemas: {self.path} is no folder")

    def writer_schema(self, number):
        """The `WriterSchema` of an id.

        Raises
        ------
        PacketError
            `unknown_schema` where there is none, `bad_schema` where it is unusable.
        InputUnavailable
            Where its file cannot be read.
        """
        if number in self._schemas:
            return self._schemas[number]
        if number not in self._files and time.monotonic() - self._scanned > RESCAN_S:
            self._scan()  # a new version was put there while running
        if number not in self._files:
            raise PacketError("unknown_schema", f"schema id {number}: not in {self.path}, which has {_listed(self.ids())}")
        file = self._files[number]

        def beside(name):
            part = file.with_name(f"{name}.avsc")
            return (_read(part), name.rpartition(".")[0]) if part.is_file() else None

        self._schemas[number] = WriterSchema(_read(file), self.limits, beside, number)
        return self._schemas[number]


def _id_of_file(name):
    found = _ALERT_FILE.fullmatch(name)
    if found:
        return 100 * int(found[1]) + int(found[2])
    found = _ID_FILE.fullmatch(name)
    return int(found[1]) if found else None


def _read(file):
    try:
        return parse_json(file.read_bytes())
    except OSError as error:
        raise InputUnavailable(f"schemas: {file}: {error.strerror or error}") from error


def _listed(ids):
    shown = ", ".join(str(i) for i in ids[:20])
    return f"{shown}, ..." if len(ids) > 20 else shown or "none"


class NamedSchemas:
    """Types that a registry's answer refers to, by full name, as `WriterSchema` asks for them."""

    def __init__(self):
        self._types = {}

    def add(self, schema):
        """Takes in the named types that a schema defines, those nested in it too; `bad_schema` where it nests without end."""
        try:
            self._walk(schema, "")
        except RecursionError as error:
            raise PacketError("bad_schema", "schema that another refers to nests too deeply") from error

    def _walk(self, schema, namespace):
        if isinstance(schema, list):
            for branch in schema:
                self._walk(branch, namespace)
        elif isinstance(schema, dict):
            if schema.get("type") in ("record", "error", "enum", "fixed"):
                name = full_name(schema, namespace)
                namespace = name.rpartition(".")[0]
                self._types[name] = (schema, namespace)
            fields = schema.get("fields")
            for inner in fields if isinstance(fields, list) else ():
                self._walk(inner.get("type") if isinstance(inner, dict) else None, namespace)
            for part in ("items", "values", "type"):
                self._walk(schema.get(part), namespace)

    def __call__(self, name):
        return self._types.get(name)


def schema_source(place, user=None, password=None, **options):
    """The source that a configuration names: a folder, the URL of a registry, or None for none.

    Parameters
    ----------
    place : str, Path or None
    user, password : str, optional
        For a registry.
    options
        Further ones of `RegistrySchemas`.
    """
    if place is None:
        return None
    if str(place).startswith(("http://", "https://")):
        from dgl_broker.wire.registry import RegistrySchemas

        return RegistrySchemas(str(place), user, password, **options)
    return FolderSchemas(place)
