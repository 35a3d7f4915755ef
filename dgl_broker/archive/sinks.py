"""What a replay leaves: the columns of a table of scores, and a folder of dead letters.

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
    ("injected", pa.bool_()),
    ("judged_by", pa.string()),
]
NEVER_NULL = {"survey", "alert_id", "status"}

FACT_TYPES = {"number": pa.float64(), "bool": pa.bool_(), "text": pa.string()}


def table_schema(cut_columns=(), fact_columns=None):
    """Arrow schema of a score table; `cut.<filter>.<criterion>` columns (bool, null where unknown) follow, then the facts."""
    fields = [pa.field(name, kind, nullable=name not in NEVER_NULL) for name, kind in SCORE_FIELDS]
    facts = {} if fact_columns is None else fact_columns.kinds
    fields += [pa.field(f"cut.{name}", pa.bool_()) for name in cut_columns]
    return pa.schema(fields + [pa.field(name, FACT_TYPES[kind]) for name, kind in facts.items()])


def write_columns(path, columns, more=None):
    """A Parquet table of columns as a score table has them, and `row`, whole or not at all.

    Parameters
    ----------
    path : Path
    columns : dict of str to sequence
        NaN and None are null.
    more : dict, optional
        Arrow's name of the type of columns that a score table does not have.

    Raises
    ------
    StateError
        If it cannot be written.
    """
    kinds = {"row": pa.int64(), **dict(SCORE_FIELDS), **(more or {})}
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


def letter_of(outcome):
    """(entry, content) of a dead-lettered outcome: what the index says of it, and the message's bytes."""
    content = _content(outcome.message)
    kafka = outcome.message.topic is not None
    entry = {
        "source": f"{outcome.message.topic}[{outcome.message.partition}]" if kafka else outcome.message.source,
        "source_row": outcome.message.offset if kafka else outcome.message.source_row,
        "reason": outcome.reason,
        "error": outcome.error,
        "traceback": outcome.traceback,
        "bytes": len(content),
    }
    return entry, content


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
        self.add(letter_of(outcome) for outcome in outcomes if outcome.status == "dead_lettered")

    def add(self, letters):
        """Keep letters as `letter_of` gives them.

        Raises
        ------
        StateError
            If the folder cannot be written.
        """
        try:
            self._clear()
            for entry, content in letters:
                self._keep(entry, content)
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

    def _keep(self, entry, content):
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.count:08d}.bin"
        (self.folder / name).write_bytes(content)
        with self.index.open("a") as index:
            index.write(json.dumps({"file": name, **entry}) + "\n")
        self.count += 1
