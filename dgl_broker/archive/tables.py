"""Tables of scores: outcomes as rows, rows packed for the ledger, and the Parquet files that are made of them."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dgl_broker import __version__
from dgl_broker.archive.fact_columns import FactColumns
from dgl_broker.archive.files import PIECE_BYTES
from dgl_broker.archive.sinks import table_schema
from dgl_broker.errors import StateError
from dgl_broker.nights import nights_of
from dgl_broker.outputs.records import score_record, table_row

ROWS_A_GROUP = 20_000
_PACKED = pa.ipc.IpcWriteOptions(compression="zstd")


class Rows:
    """Outcomes of a scorer as rows of one schema.

    Parameters
    ----------
    scorer : dgl_broker.scorer.Scorer
    filters : iterable of Filter
        All that may judge.
    ungated : bool
        Write one column for each pre-cut, and for each fact that the pre-cuts speak of.
    """

    def __init__(self, scorer, filters, ungated=False):
        self.scorer = scorer
        filters = list(filters)
        names = (f"{f.name}.{c.name}" for f in filters for c in f.require) if ungated else ()
        self.cut_columns = tuple(dict.fromkeys(names))
        self.facts = FactColumns(filters, ungated)
        metadata = {
            "dgl_broker_version": __version__,
            "bundle_id": scorer.bundle_id,
            "bundle_sha256": scorer.bundle_sha256,
            "filters": json.dumps([{"name": f.name, "version": f.version} for f in filters]),
        }
        self.schema = table_schema(self.cut_columns, self.facts).with_metadata(metadata)

    def pack(self, outcomes, judged_by):
        """The rows of outcomes that were read, as bytes; dead letters have none.

        Parameters
        ----------
        outcomes : list of Outcome
        judged_by : list of str
            Of each outcome: by which verdicts, as `archive.verdicts` says.
        """
        rows = [self._row(o, by) for o, by in zip(outcomes, judged_by, strict=True) if o.status != "dead_lettered"]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.schema, options=_PACKED) as stream:
            stream.write_batch(pa.RecordBatch.from_pylist(rows, self.schema))
        return sink.getvalue().to_pybytes()

    def _row(self, outcome, judged_by):
        record = score_record(outcome, self.scorer.bundle_id, self.scorer.bundle_sha256)
        row = {**table_row(record), "injected": record.get("injected"), "judged_by": judged_by}
        row |= {f"cut.{name}": outcome.cuts.get(name) for name in self.cut_columns}
        return row | self.facts.of(outcome.alert)


def unpack(packed):
    """The record batch of packed rows."""
    with pa.ipc.open_stream(packed) as stream:
        return stream.read_next_batch()


class TableFile:
    """A Parquet file written in row groups of one size, whatever the pieces, and put in place whole at the end."""

    def __init__(self, path, schema):
        self.path, self.schema = Path(path), schema
        self._partial = self.path.with_name(f".{self.path.name}.part")
        self._waiting, self._n_waiting, self.n_rows = [], 0, 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._partial, schema, compression="zstd")
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {error}") from error

    def add(self, batch):
        """Take in a record batch."""
        if batch.num_rows:
            self._waiting.append(batch)
            self._n_waiting += batch.num_rows
            self.n_rows += batch.num_rows
        while self._n_waiting >= ROWS_A_GROUP:
            self._flush(ROWS_A_GROUP)

    def _flush(self, n):
        table = pa.Table.from_batches(self._waiting, self.schema)
        self._write(table.slice(0, n))
        self._waiting = table.slice(n).to_batches()
        self._n_waiting = table.num_rows - min(n, table.num_rows)

    def _write(self, table):
        try:
            self._writer.write_table(table.combine_chunks(), row_group_size=ROWS_A_GROUP)
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {error}") from error

    def close(self):
        """Put the file in its place; what the manifest says of it."""
        if self._n_waiting:
            self._flush(self._n_waiting)
        try:
            self._writer.close()
            digest = file_sha256(self._partial)
            os.replace(self._partial, self.path)
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {error}") from error
        return {"name": str(self.path), "rows": self.n_rows, "sha256": digest}

    def abandon(self):
        """Leave no half file behind."""
        with suppress(OSError):  # a full disk: what stopped it is told, not this
            self._writer.close()
        self._partial.unlink(missing_ok=True)


def file_sha256(path):
    """Hash of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def write_tables(packed, schema, place):
    """Packed rows as Parquet files, one or one a night.

    Parameters
    ----------
    packed : iterable of bytes
    schema : pyarrow.Schema
    place : callable
        Night -> path of its file; the same for all where there is one.

    Returns
    -------
    list of dict
        `name`, `rows` and `sha256` of each file.
    """
    files = {}
    by_night = place("2000-01-01") != place("2000-01-02")
    try:
        if not by_night:
            files[None] = TableFile(place(None), schema)
        for one in packed:
            batch = unpack(one)
            for night, part in _parts(batch) if by_night else ((None, batch),):
                if night not in files:
                    files[night] = TableFile(place(night), schema)
                files[night].add(part)
        return [files[night].close() for night in sorted(files, key=str)]
    except BaseException:
        for file in files.values():
            file.abandon()
        raise


def _parts(batch):
    """(night, rows) of a record batch."""
    if not batch.num_rows:
        return []
    survey = batch.column("survey")[0].as_py()
    nights = nights_of(survey, batch.column("mjd_tai").to_numpy(zero_copy_only=False))
    return [(night, batch.filter(pa.array(nights == night))) for night in dict.fromkeys(nights.tolist())]
