"""The scores that the filter published, by alert and by object: an LMDB on a local disk, one writer, any number of readers.

Records and the place in the topic up to which they were read are written in one transaction, so that after a crash the store
goes on exactly where it was. Of several records of one alert (another bundle, a replayed dead letter) the one published last
is kept. What is too old goes, and near the size limit the oldest go first.
"""

import contextlib
import fcntl
import json
import struct
import time
import zlib
from pathlib import Path

import lmdb

from dgl_broker.errors import StateError

FORMAT = b"1"
SURVEY_BYTE = {"ztf": b"z", "lsst": b"l"}
FULL, TRIMMED = 0.8, 0.75  # shares of the largest size: LMDB needs free pages to write, also to delete
DROPPED_AT_ONCE = 1000  # oldest records, in one transaction
MAX_OBJECT_BYTES = 200  # LMDB's keys have 511 at most
DAY_MS = 86_400_000
_HEAD = struct.Struct(">Q")  # published_ms, before the record, so that ages are compared without decoding it


def _score_key(survey, alert_id):
    return SURVEY_BYTE[survey] + struct.pack(">q", alert_id)


def _object_prefix(survey, object_id):
    return SURVEY_BYTE[survey] + object_id.encode() + b"\0"


def _sortable(value):
    """8 bytes that sort as the number does, as IEEE 754's do with the sign turned."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", value))
    return struct.pack(">Q", bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63))


class ScoreStore:
    """The store in `folder`, made if it is not there.

    Parameters
    ----------
    folder : path
    max_bytes : int
        Largest size of the file.
    keep_days : float
        How long a record is kept after it was published.
    clock : callable
        Seconds since 1970.

    Raises
    ------
    StateError
        If it cannot be opened, is not a store of this format, or another process writes it.
    """

    def __init__(self, folder, max_bytes=2**34, keep_days=90.0, clock=time.time):
        self.folder, self.max_bytes, self.keep_ms = Path(folder), int(max_bytes), int(keep_days * DAY_MS)
        self.dropped = {"age": 0, "size": 0}
        self._clock = clock
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / "writer.lock", "w")  # noqa: SIM115  held until close
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise StateError(f"store {folder}: another process writes it") from error
        except OSError as error:
            raise StateError(f"store {folder}: {error.strerror}") from error
        try:
            self._env = lmdb.open(str(self.folder), map_size=self.max_bytes, max_dbs=5, max_readers=512)
            names = (b"scores", b"objects", b"ages", b"places", b"about")
            self._scores, self._objects, self._ages, self._places, self._about = (self._env.open_db(n) for n in names)
            with self._env.begin(write=True) as txn:
                found = txn.get(b"format", db=self._about)
                if found is None:
                    txn.put(b"format", FORMAT, db=self._about)
        except lmdb.Error as error:
            self._lock.close()
            raise StateError(f"store {folder}: {error}") from error
        if found not in (None, FORMAT):
            self.close()
            raise StateError(f"store {folder}: format {found.decode(errors='replace')}, expected {FORMAT.decode()}")

    def close(self):
        """Let go of it; everything that was written is on disk."""
        self._env.close()
        self._lock.close()

    def write(self, records, places):
        """Put records in and note how far the topics are read, all or nothing.

        Parameters
        ----------
        records : list of dict
            As `dgl_broker.serve.answers.api_record` makes them, `published_ms` given.
        places : dict
            (topic, partition) -> offset of the next message.

        Raises
        ------
        StateError
            If the disk fails, or the largest size is too small even for what is new.
        """
        while True:
            try:
                self._drop_old()
                with self._env.begin(write=True) as txn:
                    for record in records:
                        self._put(txn, record)
                    for (topic, partition), offset in places.items():
                        txn.put(f"{topic}\0{partition}".encode(), struct.pack(">q", offset), db=self._places)
                return
            except lmdb.MapFullError as error:
                if not self._drop_oldest(DROPPED_AT_ONCE):
                    raise StateError(f"store {self.folder}: max_bytes {self.max_bytes} is too small") from error
            except lmdb.Error as error:
                raise StateError(f"store {self.folder}: {error}") from error

    def score(self, survey, alert_id):
        """The record of an alert, or None."""
        with self._env.begin(buffers=True) as txn:
            found = txn.get(_score_key(survey, alert_id), db=self._scores)
            return None if found is None else _unpacked(found)

    def object_scores(self, survey, object_id, limit):
        """(number of alerts of an object, the records of the last `limit` of them, the latest trigger first)."""
        prefix = _object_prefix(survey, object_id)
        with self._env.begin(buffers=True) as txn:
            cursor, keys = txn.cursor(db=self._objects), []
            if cursor.set_range(prefix):
                for key in cursor.iternext(values=False):
                    if bytes(key[: len(prefix)]) != prefix:
                        break
                    keys.append(bytes(key[-8:]))
            last = keys[-limit:][::-1]
            return len(keys), [_unpacked(txn.get(SURVEY_BYTE[survey] + key, db=self._scores)) for key in last]

    def places(self):
        """(topic, partition) -> offset of the next message that is to be read."""
        with self._env.begin() as txn:
            found = {}
            for key, value in txn.cursor(db=self._places):
                topic, _, partition = key.decode().partition("\0")
                found[topic, int(partition)] = struct.unpack(">q", value)[0]
            return found

    def __len__(self):
        with self._env.begin() as txn:
            return txn.stat(self._scores)["entries"]

    @property
    def used_bytes(self):
        """Bytes of the pages that hold something."""
        with self._env.begin() as txn:
            stats = [txn.stat(db) for db in (self._scores, self._objects, self._ages, self._places, self._about)]
        return sum(s["psize"] * (s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"]) for s in stats)

    def _put(self, txn, record):
        key, published = _score_key(record["survey"], int(record["alert_id"])), int(record["published_ms"])
        before = txn.get(key, db=self._scores)
        if before is not None:
            if _HEAD.unpack_from(before)[0] > published:
                return  # a newer one is there: this one was redelivered
            self._forget(txn, key, before)
        txn.put(key, _packed(record, published), db=self._scores)
        txn.put(_HEAD.pack(published) + key, b"", db=self._ages)
        if (place := self._object_key(record, key)) is not None:
            txn.put(place, b"", db=self._objects)

    def _object_key(self, record, key):
        object_id = record["object_id"]
        if object_id is None or not 0 < len(object_id.encode()) <= MAX_OBJECT_BYTES or "\0" in object_id:
            return None
        return _object_prefix(record["survey"], object_id) + _sortable(record["mjd_tai"] or 0.0) + key[1:]

    def _forget(self, txn, key, packed):
        txn.delete(packed[: _HEAD.size] + key, db=self._ages)
        if (place := self._object_key(_unpacked(packed), key)) is not None:
            txn.delete(place, db=self._objects)
        txn.delete(key, db=self._scores)

    def _drop_old(self):
        oldest = int(self._clock() * 1000.0) - self.keep_ms
        if oldest > 0:
            self.dropped["age"] += self._drop(_HEAD.pack(oldest), DROPPED_AT_ONCE)
        if self.used_bytes > FULL * self.max_bytes:
            while self.used_bytes > TRIMMED * self.max_bytes and self._drop_oldest(DROPPED_AT_ONCE):
                pass

    def _drop_oldest(self, at_most):
        dropped = self._drop(None, at_most)
        self.dropped["size"] += dropped
        return dropped

    def _drop(self, before, at_most):
        """Drop the oldest records, at most so many and none published at or after `before`; how many there were."""
        with self._env.begin(write=True) as txn:
            keys = []
            with contextlib.closing(txn.cursor(db=self._ages)) as cursor:
                for key in cursor.iternext(values=False):
                    if len(keys) == at_most or (before is not None and key[: _HEAD.size] >= before):
                        break
                    keys.append(key[_HEAD.size :])
            for key in keys:
                self._forget(txn, key, txn.get(key, db=self._scores))
        return len(keys)


def _packed(record, published_ms):
    return _HEAD.pack(published_ms) + zlib.compress(json.dumps(record, separators=(",", ":")).encode(), 1)


def _unpacked(packed):
    return json.loads(zlib.decompress(packed[_HEAD.size :]))
