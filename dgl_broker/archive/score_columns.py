"""Tables of scores read as columns into memory: a million rows in about a second, ids exact.

Numbers are float64 with NaN where null (true and false are 1 and 0), whole numbers that are ids int64, text is held as codes
into its different words.
"""

import json
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dgl_broker.archive.sinks import table_schema
from dgl_broker.errors import InputUnavailable
from dgl_broker.outputs.records import table_row

NEEDED = ("survey", "alert_id", "object_id", "mjd_tai", "status", "log_odds", "bundle_sha256")
EXACT = ("alert_id", "source_row")
NO_ROW = -1  # where a whole number is null
PIECE = 20_000  # records that stand in memory as such at a time


@dataclass(frozen=True, eq=False)
class Words:
    """A column of text: `code` (n,) int32 into `words`, -1 where null."""

    code: np.ndarray
    words: tuple[str, ...]

    def __len__(self):
        return len(self.code)

    def text(self, rows=slice(None)):
        """The words themselves, "" where null."""
        return np.array([*self.words, ""])[self.code[rows]]

    def one(self, row):
        """The word of one row, None where null."""
        return None if self.code[row] < 0 else self.words[self.code[row]]


@dataclass(frozen=True, eq=False)
class ScoreColumns:
    """One table: `n` rows, columns by name, and what its files say of themselves."""

    path: Path
    n: int
    numbers: dict
    words: dict
    metadata: dict = field(default_factory=dict)


def read_score_columns(path, wanted):
    """The columns of a table of scores, one file or a folder of them (partitioned, or a replay's shards).

    Parameters
    ----------
    path : path
    wanted : callable
        Name of a column to whether it is to be read; columns of lists never are.

    Returns
    -------
    ScoreColumns
        A column that a file lacks is null there.

    Raises
    ------
    InputUnavailable
        If it cannot be read, or is no table of scores.
    """
    path = Path(path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputUnavailable(f"{path}: no .parquet file in it, expected a table of `dgl-broker replay`")
    tables, metadata = [], {}
    for file in files:
        try:
            schema = pq.read_schema(file)
            missing = [name for name in NEEDED if name not in schema.names]
            if missing:
                raise InputUnavailable(f"{file}: no column {', '.join(missing)}; expected a table of `dgl-broker replay`")
            names = [f.name for f in schema if not pa.types.is_list(f.type) and wanted(f.name)]
            # Through the file itself: a reader of data sets would take folders' names for columns.
            with pq.ParquetFile(file) as opened:
                tables.append(opened.read(columns=names))
        except (OSError, pa.ArrowException) as error:
            raise InputUnavailable(f"{file}: cannot be read: {error}") from error
        metadata |= {k.decode(): v.decode(errors="replace") for k, v in (schema.metadata or {}).items()}
    metadata.pop("ARROW:schema", None)
    return _columns(path, tables, metadata)


def columns_of_records(records, name, wanted):
    """As `read_score_columns`, of score records as they are published.

    Parameters
    ----------
    records : iterable of dict
        With the fields of `schemas/score.avsc`.
    name : str
        Where they come from.
    wanted : callable
    """
    fields = [f for f in table_schema() if not pa.types.is_list(f.type) and wanted(f.name)]
    schema, records = pa.schema([pa.field(f.name, f.type) for f in fields]), iter(records)
    tables, judged_by = [schema.empty_table()], set()
    while piece := list(islice(records, PIECE)):
        judged_by |= {(v["filter"], v["version"]) for record in piece for v in record["verdicts"]}
        rows = [{**table_row(record), "injected": record.get("injected")} for record in piece]
        tables.append(pa.Table.from_pylist(rows, schema))
    filters = json.dumps([{"name": f, "version": v} for f, v in sorted(judged_by)])
    return _columns(Path(name), tables, {"filters": filters})


def _columns(path, tables, metadata):
    try:
        table = pa.concat_tables([t.replace_schema_metadata(None) for t in tables], promote_options="default")
    except pa.ArrowException as error:
        raise InputUnavailable(f"{path}: its files do not go together: {error}") from error
    numbers, words = {}, {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            words[name] = _words(column)
        elif name in EXACT:
            numbers[name] = column.fill_null(NO_ROW).to_numpy(zero_copy_only=False)
        else:
            numbers[name] = column.cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
    return ScoreColumns(path, table.num_rows, numbers, words, metadata)


def _words(column):
    encoded = column.dictionary_encode()
    code = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Words(code, tuple(encoded.dictionary.to_pylist()))
