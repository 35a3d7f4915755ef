"""The folder of dead letters that a replay leaves (`index.jsonl` and files), listed and replayed.

What is replayed goes to `scores.parquet` in that folder, one row a letter, with the letter's id in `dead_letter_id`: the table
is both the result and the memory of what was replayed, and it is replaced whole, so the two cannot disagree.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dgl_broker.alert import Message
from dgl_broker.archive.sinks import REPLAYED_MARK, REPLAYED_TABLE, table_schema
from dgl_broker.errors import InputUnavailable, StateError
from dgl_broker.outputs.kept import DeadLetter, fail_again, is_wanted, new_account, open_letter
from dgl_broker.outputs.records import dead_letter_id, score_record, table_row

BATCH_BYTES = 64 * 1024 * 1024


class LetterFolder:
    """One folder.

    Parameters
    ----------
    folder : path

    Raises
    ------
    InputUnavailable
        If it has no `index.jsonl`.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.index = self.folder / "index.jsonl"
        self.table = self.folder / REPLAYED_TABLE
        if not self.index.is_file():
            raise InputUnavailable(f"{self.folder}: no index.jsonl in it, expected the folder <out>.deadletters of a replay")

    def letters(self, reason=None, since_ms=None):
        """Its dead letters in order; files are read one at a time, for their hashes.

        Raises
        ------
        InputUnavailable
            If the index is not as a replay writes it.
        """
        with self.index.open() as lines:
            for n, line in enumerate(lines):
                try:
                    letter = self._letter(n, json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise InputUnavailable(f"{self.index}: line {n + 1}: {error!r}, expected a dead letter's entry") from error
                if is_wanted(letter, reason, since_ms):
                    yield letter

    def _letter(self, n, entry):
        path = self.folder / Path(entry["file"]).name  # inside this folder, whatever the index says
        place = Message(b"", source=entry["source"], source_row=entry["source_row"])
        value, time_ms = b"", None
        with contextlib.suppress(OSError):
            value = path.read_bytes()
            time_ms = int(path.stat().st_mtime * 1000)
        its_id = dead_letter_id("folder", Message(value, source=entry["source"], source_row=entry["source_row"]))

        def read():
            try:
                content = path.read_bytes()
            except OSError as error:
                raise InputUnavailable(f"{path}: {error.strerror}") from error
            if str(entry["source"]).endswith(".parquet"):
                raise InputUnavailable(f"{path}: a row of {entry['source']}, kept to be read by people: replay that table")
            return Message(content, source=entry["source"], source_row=entry["source_row"])

        return DeadLetter(
            id=its_id,
            number=str(n),
            reason=entry["reason"],
            error=entry["error"] or "",
            traceback=entry["traceback"],
            time_ms=time_ms,
            where=place.where(),
            size=len(value),
            open=read,
        )

    def find(self, name):
        """The letter of this id or number.

        Raises
        ------
        InputUnavailable
        """
        for letter in self.letters():
            if name in (letter.id, letter.number):
                return letter
        raise InputUnavailable(f"{self.folder}: no dead letter {name}")

    def replayed(self):
        """Ids of those in the table."""
        if not self.table.is_file():
            return set()
        try:
            column = pq.read_table(self.table, columns=["dead_letter_id"])["dead_letter_id"]
        except (OSError, KeyError, pa.ArrowException) as error:
            raise StateError(f"{self.table}: not a table of replayed dead letters: {error}") from error
        return set(column.to_pylist())

    def replay(self, scorer, reason=None, since_ms=None, batch_size=256, stop=lambda: False):
        """Score what was not replayed before; the account, as `outputs.kept.new_account` has it.

        Raises
        ------
        StateError
            If another replay of this folder runs, or the table cannot be written; nothing is half done then.
        """
        account = new_account()
        with self._alone():
            done, again, rows = self.replayed(), set(), _Rows(self.table)
            try:
                for letters, messages in _batches(self.letters(reason, since_ms), done, again, account, batch_size):
                    for letter, outcome in zip(letters, scorer.score(messages), strict=True):
                        if outcome.status == "dead_lettered":
                            fail_again(account, outcome)
                            continue
                        account[outcome.status] += 1
                        row = table_row(score_record(outcome, scorer.bundle_id, scorer.bundle_sha256))
                        rows.add({**row, "dead_letter_id": letter.id})
                    rows.flush()
                    if stop():
                        break
                rows.close()
            except BaseException:
                rows.abandon()
                raise
        return account

    @contextlib.contextmanager
    def _alone(self):
        with self.index.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StateError(f"{self.folder}: another replay of this folder is running") from error
            yield


def _batches(letters, done, again, account, batch_size):
    """(letters, their messages) by batches, those left out counted."""
    some, messages, n_bytes = [], [], 0
    for letter in letters:
        account["seen"] += 1
        if letter.id in done:
            account["replayed_before"] += 1
            continue
        if letter.id in again:
            account["repeated"] += 1
            continue
        again.add(letter.id)
        message = open_letter(account, letter)
        if message is None:
            continue
        some.append(letter)
        messages.append(message)
        n_bytes += letter.size
        if len(some) >= batch_size or n_bytes > BATCH_BYTES:
            yield some, messages
            some, messages, n_bytes = [], [], 0
    if some:
        yield some, messages


class _Rows:
    """Rows added to a table that is there or not: the old ones and the new ones in a new file, put in place at the end."""

    schema = table_schema().append(pa.field("dead_letter_id", pa.string(), nullable=False))

    def __init__(self, path):
        self.path = path
        self.partial = path.with_name(f".{path.name}.{os.getpid()}")
        self.writer, self.rows = None, []

    def add(self, row):
        self.rows.append(row)

    def flush(self):
        if not self.rows:
            return
        try:
            if self.writer is None:
                marks = {REPLAYED_MARK: b"true"}
                self.writer = pq.ParquetWriter(self.partial, self.schema.with_metadata(marks), compression="zstd")
                if self.path.is_file():
                    with pq.ParquetFile(self.path) as old:
                        for batch in old.iter_batches():
                            self.writer.write_table(pa.Table.from_batches([batch]).select(self.schema.names).cast(self.schema))
            self.writer.write_table(pa.Table.from_pylist(self.rows, self.schema))
        except (OSError, pa.ArrowException) as error:
            raise StateError(f"{self.path}: cannot be written: {error}") from error
        self.rows = []

    def close(self):
        self.flush()
        if self.writer is None:
            return
        try:
            self.writer.close()
            with open(self.partial, "rb") as written:
                os.fsync(written.fileno())
            os.replace(self.partial, self.path)
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {error}") from error

    def abandon(self):
        if self.writer is not None:
            with contextlib.suppress(OSError):
                self.writer.close()
            self.partial.unlink(missing_ok=True)


def original_bytes(letter, path):
    """Write a letter's bytes to a new file of mode 0600; their sha256.

    Raises
    ------
    InputUnavailable
        If the bytes are not to be had.
    StateError
        If the file is there already or cannot be written.
    """
    value = letter.open().value
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(value)
    except OSError as error:
        raise StateError(f"{path}: the bytes cannot be written: {error.strerror}") from error
    return hashlib.sha256(value).hexdigest()
