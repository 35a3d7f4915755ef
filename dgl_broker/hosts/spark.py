"""Apache Spark: archives and streams scored where they lie, the networks loaded once in each of its Python workers.

`score_packets` takes packets as bytes (files, Kafka), `score_files` names of archives as `replay` reads them, `with_scores`
alerts whose fields are columns already. All three go through `Scorer`: the scores are those of the stream and of `replay`.
"""

import json
from functools import cache
from itertools import islice

import numpy as np
import pandas as pd
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from dgl_broker import wire
from dgl_broker.alert import Message
from dgl_broker.archive.sinks import SCORE_FIELDS, letter_of
from dgl_broker.archive.sources import FileSource, find_files, read_content
from dgl_broker.errors import ConfigError, PacketError
from dgl_broker.outputs.records import score_record, table_row
from dgl_broker.scorer import BATCH, Scorer
from dgl_broker.wire.reduce import reader_schema

# Arrow's names for the types of a table of scores, as Spark's and as pandas' that keep integers exact where some are null.
TYPES = {
    "string": (StringType(), object),
    "int64": (LongType(), "Int64"),
    "int32": (IntegerType(), "Int32"),
    "double": (DoubleType(), "float64"),
    "bool": (BooleanType(), "boolean"),
    "list<item: double>": (ArrayType(DoubleType()), object),
    "list<item: int64>": (ArrayType(LongType()), object),
    "binary": (BinaryType(), object),
}
# The columns of `replay`'s table, which has no row for what could not be read; here its bytes and what is wrong with it follow.
COLUMNS = {name: str(kind) for name, kind in SCORE_FIELDS if name != "judged_by"} | {"error": "string", "packet": "binary"}
SCORES = StructType([StructField(name, TYPES[kind][0]) for name, kind in COLUMNS.items()])
# What stands in one column beside an alert's own: `passed` is whether any filter passed it, null where none judged.
BRIEF = {
    "status": "string",
    "reason": "string",
    "passed": "bool",
    "log_odds": "double",
    "p_lsn": "double",
    "p_no_lens": "double",
    "p_lens": "double",
    "p_lensed_sn_ia": "double",
    "p_lensed_sn_cc": "double",
    "p_value": "double",
    "spread": "double",
    "verdicts": "string",
    "bundle_id": "string",
    "bundle_sha256": "string",
    "error": "string",
}
BRIEF_SCORES = StructType([StructField(name, TYPES[kind][0]) for name, kind in BRIEF.items()])
FILE_COLUMN, STREAM_COLUMN = "content", "value"  # of Spark's sources `binaryFile` and `kafka`
PLACE = ("topic", "partition", "offset", "timestamp", "key", "path")


def score_packets(df, survey, column=None, **options):
    """One row for each message of a DataFrame of packets, with the columns of a table of scores (`SCORES`).

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        Bytes in `column`: one packet as it is sent, or a container of many alerts (also gzipped). Where there are `topic`,
        `partition`, `offset` and `timestamp`, or `path`, as Spark's own sources give them, rows say where they come from.
    survey : "lsst" or "ztf"
    column : str, optional
        By default `content` (`binaryFile`) or `value` (`kafka`), whichever is there.
    **options
        As `Scorer` takes them, what JSON can say: `bundle`, `filters`, `schemas`, `device`, `prevalence`, `ungated`, ...

    Returns
    -------
    pyspark.sql.DataFrame
        What cannot be read has `status` "dead_lettered", its bytes in `packet` and the text in `error`.
    """
    column = column or next((c for c in (FILE_COLUMN, STREAM_COLUMN) if c in df.columns), None)
    if column not in df.columns:
        raise ConfigError(f"no column {column or f'{FILE_COLUMN} or {STREAM_COLUMN}'}; there are {', '.join(df.columns)}")
    places = {name: F.col(name) for name in PLACE if name in df.columns}
    if "timestamp" in places:
        places["timestamp"] = F.unix_millis(F.col("timestamp"))  # as a time, it would come in the session's own zone
    kept = df.select(F.col(column).alias(STREAM_COLUMN), *(place.alias(name) for name, place in places.items()))
    return kept.mapInPandas(_Job(survey, options, _messages_of_rows), SCORES)


def score_files(spark, paths, survey, partitions=None, **options):
    """As `score_packets`, of archives that every worker reaches by name: files, folders, tars, tables, as `replay` reads them.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    paths : list of path
        Pack alerts: a file is read by one worker from its beginning to its end, and one file an alert is what costs.
    survey : "lsst" or "ztf"
    partitions : int, optional
        How many tasks share the files; by default one a file, at most a thousand.
    """
    names = [(str(path.resolve()),) for path in find_files(paths)]
    # Sliced, since a shuffle would give some tasks several files and others none.
    tasks = min(partitions or 1000, len(names))
    found = spark.createDataFrame(spark.sparkContext.parallelize(names, tasks), "path string")
    return found.mapInPandas(_Job(survey, options, _messages_of_files), SCORES)


def with_scores(df, survey, column="deepgravilens", **options):
    """The same alerts with a column of scores (`BRIEF_SCORES`) beside their own.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        Alerts in the survey's own spelling, as Fink's tables have them. Columns that the reader knows are handed on.
    survey : "lsst" or "ztf"
    column : str
        Name of the new column.
    **options
        As `Scorer` takes them.
    """
    fields = reader_schema(survey)["fields"]
    known = [pruned(df, name, field["type"]).alias(name) for name, field in fields.items() if name in df.columns]
    # As one array of one struct: in columns of their own, whole numbers become floats where one of them is null.
    return df.withColumn(column, scores_udf(survey, **options)(F.array(F.struct(*known))))


def scores_udf(survey, **options):
    """The pandas UDF behind `with_scores`: an array that holds an alert as a struct -> `BRIEF_SCORES`."""
    text = json.dumps(options, sort_keys=True)

    def scored(alerts: pd.Series) -> pd.DataFrame:
        return brief_frame(score_rows([plain(one)[0] for one in alerts], survey, text))

    return pandas_udf(scored, BRIEF_SCORES)


@cache
def worker_scorer(survey, options):
    """The `Scorer` of this Python worker, made once.

    Parameters
    ----------
    survey : str
    options : str
        As JSON.
    """
    return Scorer(survey=survey, **json.loads(options))


def score_rows(rows, survey, options="{}"):
    """An `Outcome` for each row of a table of alerts, as dicts of plain values; see `worker_scorer` for the rest."""
    return worker_scorer(survey, options).score([_message_of_row(row, survey) for row in rows])


def brief_frame(outcomes):
    """Outcomes as the columns of `BRIEF_SCORES`; what has no value is null."""
    return _frame([_row(outcome) for outcome in outcomes], BRIEF)


def empty_brief(n, status, reason, error):
    """`BRIEF_SCORES` of `n` alerts of which there is nothing but why."""
    return _frame([{"status": status, "reason": reason, "error": error}] * n, BRIEF)


def plain(value):
    """A cell as Spark's workers see it (arrays, rows, numpy's numbers) as Python's own values, so that ids stay exact."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if hasattr(value, "asDict"):  # pyspark.sql.Row
        return {name: plain(one) for name, one in value.asDict().items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(one) for one in value]
    if isinstance(value, bytearray):
        return bytes(value)
    return None if value is pd.NA or value is pd.NaT else value.item() if isinstance(value, np.generic) else value


class _Job:
    """What `mapInPandas` runs in a worker: frames in, frames of scores out, a batch of the networks at a time."""

    def __init__(self, survey, options, messages_of):
        self.survey, self.options, self.messages_of = survey, json.dumps(options, sort_keys=True), messages_of

    def __call__(self, frames):
        scorer = worker_scorer(self.survey, self.options)
        messages = self.messages_of(frames, self.survey)
        while batch := list(islice(messages, min(scorer.batch_size, BATCH))):
            yield _frame([_row(outcome, scorer) for outcome in scorer.score(batch)], COLUMNS)


def _messages_of_rows(frames, survey):
    """Messages of frames of packets; a file's may hold many alerts."""
    for frame in frames:
        places = [frame[name] if name in frame else [None] * len(frame) for name in PLACE]
        for value, topic, partition, offset, timestamp, key, path in zip(frame[STREAM_COLUMN], *places, strict=True):
            value = b"" if value is None else bytes(value)
            if topic is None:
                yield from read_content(value, path, survey)
                continue
            when = None if pd.isna(timestamp) else int(timestamp)
            yield Message(value, topic, int(partition), int(offset), None if key is None else bytes(key), when)


def _messages_of_files(frames, survey):
    for frame in frames:
        for path in frame["path"]:
            yield from FileSource(path).messages(survey)


def _message_of_row(row, survey):
    try:
        packet = wire.packet_from_record(survey, row)
    except PacketError as error:
        packet = error
        packet.row = row
    return Message(b"", packet=packet)


def _row(outcome, scorer=None):
    """One outcome as a row: of a table of scores, or where it could not be read of what is known of it."""
    if outcome.alert is None:
        entry, content = letter_of(outcome)
        place = {name: entry[name] for name in ("source", "source_row")}
        return {**place, "status": outcome.status, "reason": outcome.reason, "error": outcome.error, "packet": content}
    provenance = () if scorer is None else (scorer.bundle_id, scorer.bundle_sha256)
    record = score_record(outcome, *provenance)
    letter = {"packet": letter_of(outcome)[1]} if outcome.status == "dead_lettered" else {}
    passed = any(v.passed for v in outcome.verdicts) if outcome.verdicts else None
    return {**table_row(record), "injected": record["injected"], "passed": passed, "error": outcome.error, **letter}


def _frame(rows, columns):
    """Rows as a frame of exactly these columns; integers beside nulls stay integers."""
    return pd.DataFrame({n: pd.Series([row.get(n) for row in rows], dtype=TYPES[kind][1]) for n, kind in columns.items()})


def pruned(df, name, wanted):
    """A column with only those of its fields that are read: what is left out need not be brought to the worker."""
    return _picked(F.col(name), df.schema[name].dataType, wanted)


def _picked(column, there, wanted):
    kinds = [w for w in (wanted if isinstance(wanted, list) else [wanted]) if isinstance(w, dict)]
    if isinstance(there, ArrayType) and kinds and "items" in kinds[0]:
        return F.transform(column, lambda item: _picked(item, there.elementType, kinds[0]["items"]))
    if isinstance(there, StructType) and kinds and "fields" in kinds[0]:
        fields = kinds[0]["fields"]
        inner = [_picked(column[n], there[n].dataType, fields[n]["type"]).alias(n) for n in there.names if n in fields]
        if inner:
            return F.when(column.isNotNull(), F.struct(*inner))
    return column
