"""Where a replay's outcomes go: one Parquet table of scores, and a folder of dead letters.

Ids are int64 without nulls: a message that could not be read has no row, its bytes lie with the dead letters. Rows and dead
letters together are what was consumed.
"""

import base64
import json
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dgl_broker.errors import StateError
from dgl_broker.outputs.records import as_json

# In a folder of dead letters: the scores of those that were replayed after a fix, known by this mark in its metadata.
REPLAYED_TABLE, REPLAYED_MARK = "scores.parquet", b"dgl_broker.replayed_dead_letters"

SCORE_FIELDS = [
    ("survey", pa.string()),
    ("alert_id", pa.int64()),
    ("object_id", pa.string()),
    ("mjd_tai", pa.float64()),
    ("ra", pa.float64()),
    ("dec", pa.float64()),
    ("band", pa.string()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("p_no_lens", pa.float64()),
    ("p_lens", pa.float64()),
    ("p_lensed_sn_ia", pa.float64()),
    ("p_lensed_sn_cc", pa.float64()),
    ("p_lsn", pa.float64()),
    ("log_odds", pa.float64()),
    ("posterior", pa.float64()),
    ("prevalence", pa.float64()),
    ("p_value", pa.float64()),
    ("p_value_floor", pa.float64()),
    ("stratum", pa.string()),
    ("member_p_lsn", pa.list_(pa.float64())),
    ("spread", pa.float64()),
    ("bands_used", pa.string()),
    ("n_epochs", pa.int32()),
    ("companion_alert_ids", pa.list_(pa.int64())),
    ("verdicts", pa.string()),
    ("bundle_id", pa.string()),
    ("bundle_sha256", pa.string()),
    ("calibration_id", pa.string()),
    ("device", pa.string()),
    ("precision", pa.string()),
    ("message_id", pa.string()),
    ("source", pa.string()),
    ("source_row", pa.int64()),
    ("shadow_bundle_id", pa.string()),
    ("shadow_bundle_sha256", pa.string()),
    ("shadow_reason", pa.string()),
    ("shadow_p_no_lens", pa.float64()),
    ("shadow_p_lens", pa.float64()),
    ("shadow_p_lensed_sn_ia", pa.float64()),
    ("shadow_p_lensed_sn_cc", pa.float64()),
    ("shadow_p_lsn", pa.float64()),
    ("shadow_log_odds", pa.float64()),
    ("shadow_posterior", pa.float64()),
]
NEVER_NULL = {"survey", "alert_id", "status"}
ROWS_A_GROUP = 20_000


FACT_TYPES = {"number": pa.float64(), "bool": pa.bool_(), "text": pa.string()}


def table_schema(cut_columns=(), fact_columns=None):
    """Arrow schema of a score table; `cut.<filter>.<criterion>` columns (bool, null where unknown) follow, then the facts."""
    fields = [pa.field(name, kind, nullable=name not in NEVER_NULL) for name, kind in SCORE_FIELDS]
    facts = {} if fact_columns is None else fact_columns.kinds
    fields += [pa.field(f"cut.{name}", pa.bool_()) for name in cut_columns]
    return pa.schema(fields + [pa.field(name, FACT_TYPES[kind]) for name, kind in facts.items()])


class ScoreTable:
    """A Parquet file of outcomes, written in row groups and put in place whole at the end.

    Parameters
    ----------
    path : Path
    to_row : callable
        Outcome to a dict with the names of `SCORE_FIELDS`.
    cut_columns : sequence of str
        `<filter>.<criterion>`, one column each.
    metadata : dict of str to str
        Kept in the file: bundle, filters, program version.
    fact_columns : dgl_broker.archive.fact_columns.FactColumns, optional
    """

    def __init__(self, path, to_row, cut_columns=(), metadata=None, fact_columns=None):
        self.path = Path(path)
        self.to_row = to_row
        self.cut_columns = tuple(cut_columns)
        self.fact_columns = fact_columns
        self.schema = table_schema(self.cut_columns, fact_columns).with_metadata(metadata or {})
        self._partial = self.path.with_name(self.path.name + ".part")
        self._rows = []
        self.n_rows = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._partial, self.schema, compression="zstd")
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {error}") from error

    def write(self, outcomes):
        """Rows of the outcomes that were read; dead letters have none."""
        for outcome in outcomes:
            if outcome.status != "dead_lettered":
                row = self.to_row(outcome)
                row |= {f"cut.{name}": outcome.cuts.get(name) for name in self.cut_columns}
                row |= {} if self.fact_columns is None else self.fact_columns.of(outcome.alert)
                self._rows.append(row)
        if len(self._rows) >= ROWS_A_GROUP:
            self._flush()

    def _flush(self):
        if self._rows:
            try:
                self._writer.write_table(pa.Table.from_pylist(self._rows, self.schema))
            except OSError as error:
                raise StateError(f"{self.path}: cannot be written: {error}") from error
            self.n_rows += len(self._rows)
            self._rows = []

    def close(self):
        """Write what is left and put the table in its place."""
        self._flush()
        try:
            self._writer.close()
            os.replace(self._partial, self.path)
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {error}") from error

    def abandon(self):
        """Leave no half table behind."""
        with suppress(OSError):  # a full disk: what stopped the replay is told, not this
            self._writer.close()
        self._partial.unlink(missing_ok=True)


def write_columns(path, columns):
    """A Parquet table of columns as a score table has them, and `row`, whole or not at all.

    Parameters
    ----------
    path : Path
    columns : dict of str to sequence
        NaN and None are null.

    Raises
    ------
    StateError
        If it cannot be written.
    """
    kinds = {"row": pa.int64(), **dict(SCORE_FIELDS)}
    table = pa.table({name: pa.array(values, kinds[name], from_pandas=True) for name, values in columns.items()})
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, partial, compression="zstd")
        os.replace(partial, path)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error}") from error


def _plain(value):
    """What JSON can say: bytes as base64, times and the like as text."""
    if isinstance(value, dict):
        return {str(name): _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _content(message):
    """The bytes of a message; a row of a table, or one alert of a container of many, has none of its own and becomes JSON."""
    if message.value or message.packet is None:
        return message.value
    record = getattr(message.packet, "row", None) or getattr(message.packet, "record", None)
    return as_json(_plain(record)).encode()


def is_table_of_replayed(path):
    """Whether a file is the table that `deadletters replay` makes of a folder's letters, and no one else's."""
    try:
        return REPLAYED_MARK in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


class DeadLetterFolder:
    """Undecodable messages as files, and `index.jsonl` with why; made when the first one comes.

    What an earlier replay left in the folder goes when the first outcomes come, as its table does: what lies there belongs to
    the table beside it. So does the table of letters that were replayed since: it says which need no replay, and these are
    others now.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.index = self.folder / "index.jsonl"
        self.count = 0
        self._is_cleared = False

    def write(self, outcomes):
        """Keep the bytes of the dead-lettered ones."""
        try:
            self._clear()
            for outcome in outcomes:
                if outcome.status == "dead_lettered":
                    self._keep(outcome)
        except OSError as error:
            raise StateError(f"{self.folder}: cannot be written: {error}") from error

    def _clear(self):
        if not self._is_cleared and self.index.is_file():
            for old in self.folder.glob("[0-9]" * 8 + ".bin"):
                old.unlink()
            self.index.unlink()
            if is_table_of_replayed(self.folder / REPLAYED_TABLE):
                (self.folder / REPLAYED_TABLE).unlink()
            with suppress(OSError):  # something else lies there
                self.folder.rmdir()
        self._is_cleared = True

    def _keep(self, outcome):
        self.folder.mkdir(parents=True, exist_ok=True)
        name, content = f"{self.count:08d}.bin", _content(outcome.message)
        entry = {
            "file": name,
            "source": outcome.message.source,
            "source_row": outcome.message.source_row,
            "reason": outcome.reason,
            "error": outcome.error,
            "traceback": outcome.traceback,
            "bytes": len(content),
        }
        (self.folder / name).write_bytes(content)
        with self.index.open("a") as index:
            index.write(json.dumps(entry) + "\n")
        self.count += 1
