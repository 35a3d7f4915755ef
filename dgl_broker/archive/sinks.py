"""Where a replay's outcomes go: one Parquet table of scores, and a folder of dead letters.

Ids are int64 without nulls: a message that could not be read has no row, its bytes lie with the dead letters. Rows and dead
letters together are what was consumed.
"""

import base64
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dgl_broker.errors import StateError

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
]
NEVER_NULL = {"survey", "alert_id", "status"}
ROWS_A_GROUP = 20_000


def table_schema(cut_columns=()):
    """Arrow schema of a score table; `cut.<filter>.<criterion>` columns (bool, null where unknown) follow."""
    fields = [pa.field(name, kind, nullable=name not in NEVER_NULL) for name, kind in SCORE_FIELDS]
    return pa.schema(fields + [pa.field(f"cut.{name}", pa.bool_()) for name in cut_columns])


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
    """

    def __init__(self, path, to_row, cut_columns=(), metadata=None):
        self.path = Path(path)
        self.to_row = to_row
        self.cut_columns = tuple(cut_columns)
        self.schema = table_schema(self.cut_columns).with_metadata(metadata or {})
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
        self._writer.close()
        os.replace(self._partial, self.path)

    def abandon(self):
        """Leave no half table behind."""
        self._writer.close()
        self._partial.unlink(missing_ok=True)


def _as_json(packet):
    """A row of a table, or one alert of a container of many, as JSON: there are no bytes of its own to keep."""
    record = getattr(packet, "row", None) or getattr(packet, "record", None)

    def plain(value):
        return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

    return json.dumps(record, default=plain).encode()


class DeadLetterFolder:
    """Undecodable messages as files, and `index.jsonl` with why; made when the first one comes."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.count = 0

    def write(self, outcomes):
        """Keep the bytes of the dead-lettered ones."""
        for outcome in outcomes:
            if outcome.status == "dead_lettered":
                self._keep(outcome)

    def _keep(self, outcome):
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.count:08d}.bin"
        entry = {
            "file": name,
            "source": outcome.message.source,
            "source_row": outcome.message.source_row,
            "reason": outcome.reason,
            "error": outcome.error,
            "traceback": outcome.traceback,
            "bytes": len(outcome.message.value),
        }
        content = outcome.message.value or _as_json(outcome.message.packet)
        try:
            (self.folder / name).write_bytes(content)
            with (self.folder / "index.jsonl").open("w" if self.count == 0 else "a") as index:
                index.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise StateError(f"{self.folder}: cannot be written: {error}") from error
        self.count += 1
