"""The thread that brings the store up to the topics, and what it can say of how far it is."""

import logging
import threading
import time

from dgl_broker.errors import DglError, InputUnavailable, PacketError, ServiceFailed
from dgl_broker.serve.answers import api_record
from dgl_broker.serve.store import SURVEY_BYTE
from dgl_broker.stream.following import Following
from dgl_broker.wire.records import read_record

log = logging.getLogger(__name__)
REGISTRY_WAIT_S = 5.0


class Follower:
    """Follows the scores topics into a store.

    Parameters
    ----------
    store : ScoreStore
    kafka : dict
        librdkafka's keys.
    topics : list of str
    schemas : RegistrySchemas, optional
        Of the score records, where they are framed.
    on_failure : callable, optional
        (error), once, when the disk or the code failed; nothing is followed after that.

    Attributes
    ----------
    followed, unreadable : int
        Records put into the store; messages that are none of ours.
    """

    def __init__(self, store, kafka, topics, schemas=None, on_failure=None, clock=time.time):
        self.store, self.schemas = store, schemas
        self.followed = self.unreadable = 0
        self._clock = clock
        self._following = Following(kafka, topics, store.places(), clock)
        self._stored = dict(self._following.positions)
        self._on_failure = on_failure or (lambda error: None)
        self._state = (None, None, False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self):
        """Begin to follow."""
        self._thread.start()

    def close(self):
        """Put away what is in hand, then end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._following.close()

    def state(self):
        """`StoreState` as a dict, now."""
        behind, complete_until, connected = self._state
        seconds = None if complete_until is None else round(max(0.0, self._clock() - complete_until), 3)
        return {"behind_messages": behind, "behind_s": seconds, "following": connected and self._thread.is_alive()}

    @property
    def expired(self):
        """Offsets that retention took before they were read."""
        return self._following.expired

    def _run(self):
        following = self._following
        try:
            while not self._stop.is_set():
                self._put(following.read())
                following.look()
                self._state = (following.behind, following.complete_until, following.connected)
        except Exception as error:  # noqa: BLE001 - the disk, a bug: as in `run`, the process ends
            log.log(logging.ERROR, "following stopped: %s", error, exc_info=not isinstance(error, DglError))
            self._on_failure(error)

    def _put(self, messages):
        records = []
        for message in messages:
            try:
                records.append(self._record(message))
            except _Stopped:
                return  # nothing of this is in the store: it is read again
            except (PacketError, KeyError, TypeError, ValueError) as error:
                self.unreadable += 1
                place = f"{message.topic()}[{message.partition()}]@{message.offset()}"
                log.warning("%s: no score record: %s", place, error)
        if records or self._following.positions != self._stored:
            self.store.write(records, self._following.positions)
            self._stored = dict(self._following.positions)
            self.followed += len(records)

    def _record(self, message):
        record = self._decoded(message)
        if record["survey"] not in SURVEY_BYTE or not -(2**63) <= int(record["alert_id"]) < 2**63:
            raise ValueError(f"survey {record['survey']!r}, alert {record['alert_id']!r}")
        kind, timestamp_ms = message.timestamp()
        return api_record(record, timestamp_ms if kind else int(self._clock() * 1000.0))

    def _decoded(self, message):
        """The record of a message; waits for the registry of its schema as long as that is not to be had."""
        while True:
            try:
                return read_record(message.value() or b"", self.schemas)
            except (ServiceFailed, InputUnavailable) as error:
                log.warning("%s", error)
                self._state = (*self._state[:2], False)
                if self._stop.wait(REGISTRY_WAIT_S):
                    raise _Stopped from error


class _Stopped(Exception):
    """The follower is to end while it waits."""
