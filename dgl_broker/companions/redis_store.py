"""Companions in any server that speaks the Redis protocol (Redis, Valkey, KeyDB, Dragonfly): the door to redis-py.

Best effort: nothing that the server does raises. What it costs is counted, and after a failure it is left alone for a while,
so that a dead server does not cost a timeout per batch. A full server should evict (`maxmemory-policy allkeys-lru`); without,
it refuses writes and what it holds stays readable.
"""

import queue
import threading
import time

from dgl_broker.companions.codec import HEADER, CorruptCompanion, decode_when, encode
from dgl_broker.companions.companion import COUNTERS, DEFAULT_EXPIRE_DAYS, decode_companion, other_bands
from dgl_broker.errors import ConfigError

FORMAT = 1  # of keys and values; another format lives beside, under other keys
SECONDS_A_DAY = 86400


class Breaker:
    """Whether to ask a server that failed: not before a pause, which doubles with every further failure.

    Parameters
    ----------
    first_s, longest_s : float
        First and longest pause [s].
    """

    def __init__(self, first_s=1.0, longest_s=60.0, clock=time.monotonic):
        self._first_s, self._longest_s, self._clock = first_s, longest_s, clock
        self._pause_s, self._until = 0.0, None

    @property
    def is_open(self):
        """True while the server is to be left alone."""
        return self._until is not None and self._clock() < self._until

    def failed(self):
        """A failure: pause."""
        self._pause_s = min(max(self._first_s, 2 * self._pause_s), self._longest_s)
        self._until = self._clock() + self._pause_s

    def succeeded(self):
        """It works again."""
        self._pause_s, self._until = 0.0, None


def within(seconds, function, *args):
    """What a call returns, if it does within so many seconds of wall clock.

    A socket's own timeout bounds each wait and not their sum: a server that sends a byte now and then, or a resolver that
    does not answer, would hold a batch for minutes. The call goes on in a thread of its own, which no exit waits for.

    Raises
    ------
    TimeoutError
        If it does not return in time; else whatever the call raises.
    """
    answer = queue.SimpleQueue()

    def run():
        try:
            answer.put((function(*args), None))
        except Exception as error:  # noqa: BLE001 - handed to the caller, who knows what to answer
            answer.put((None, error))

    threading.Thread(target=run, daemon=True, name="companions").start()
    try:
        value, error = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds} s") from None
    if error is not None:
        raise error
    return value


def _connect(url, timeout_s):
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise ConfigError("companions.store redis needs redis-py: pip install 'dgl-broker[redis]'") from error
    if not url:
        raise ConfigError("companions.url is empty, expected such as redis://localhost:6379/0")
    try:
        # No retries: the library's own would turn one timeout into several in each batch.
        return redis.Redis.from_url(
            url,
            protocol=2,
            decode_responses=False,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
    except ValueError as error:
        # Without the URL itself, which may hold a password.
        raise ConfigError("companions.url: expected redis://, rediss:// or unix:// and a server") from error


class RedisStore:
    """Companions shared by all workers and machines.

    Parameters
    ----------
    url : str
        `redis://host:port/db`, `rediss://` or `unix://`.
    expire_days : float
        TTL of an entry, kept by the server.
    timeout_s : float
        For connecting and for each wait on the socket.
    deadline_s : float
        For reading, and for writing, the companions of a batch in all.
    client : redis.Redis, optional
        Instead of one made from the URL.
    """

    def __init__(
        self,
        url,
        expire_days=DEFAULT_EXPIRE_DAYS,
        timeout_s=0.25,
        deadline_s=1.0,
        prefix="dgl",
        client=None,
        clock=time.monotonic,
    ):
        self.counters = dict.fromkeys(COUNTERS, 0)
        self._client = client if client is not None else _connect(url, timeout_s)
        self._ttl_s = max(1, round(expire_days * SECONDS_A_DAY))
        self._deadline_s = deadline_s
        self._prefix = f"{prefix}:{FORMAT}"
        self._reads, self._writes = Breaker(clock=clock), Breaker(clock=clock)

    @property
    def is_down(self):
        """True while the server is left alone after a failure."""
        return self._reads.is_open or self._writes.is_open

    def _failures(self):
        """Everything that an unreachable, overloaded or foreign server makes the client raise.

        ValueError: a server that speaks another protocol, whose answer does not parse.
        """
        from redis.exceptions import RedisError

        return RedisError, OSError, ValueError

    def _name(self, survey, object_id, band):
        return f"{self._prefix}:{survey}:{object_id}:{band}".encode()

    def fetch(self, keys):
        """Per key a dict of band to `Companion`, all in one round trip; empty dicts where the server fails."""
        result = [{} for _ in keys]
        wanted = {}
        for i, key in enumerate(keys):
            if key.object_id is not None:
                for band in other_bands(key):
                    wanted.setdefault((key.survey, key.object_id, band), []).append(i)
        n_asked = sum(key.object_id is not None for key in keys)
        if not wanted:
            return result
        if self._reads.is_open:
            self.counters["skipped"] += n_asked
            return result
        self.counters["asked"] += n_asked
        try:
            values = within(self._deadline_s, self._client.mget, [self._name(*entry) for entry in wanted])
        except self._failures() as error:
            self.counters["slow_reads" if isinstance(error, TimeoutError) else "failed_reads"] += 1
            self._give_up(self._reads)
            return result
        self._reads.succeeded()
        for (entry, askers), data in zip(wanted.items(), values):
            if data is None:
                continue
            try:
                companion = decode_companion(data, *entry)
            except CorruptCompanion:
                self.counters["corrupt"] += 1
                continue
            for i in askers:
                if companion.when < (keys[i].before_mjd_tai, keys[i].before_alert_id):
                    result[i][companion.band] = companion
                    self.counters["found"] += 1
                else:
                    self.counters["newer"] += 1
        return result

    def remember(self, companions):
        """Keeps the stamps of these alerts, each but where a newer one of its object and band is there.

        Two workers that write one object and band at the same instant may leave the older: it is a cache.
        """
        newest = {}
        for companion in companions:
            name = self._name(companion.survey, companion.object_id, companion.band)
            held = newest.get(name)
            if held is None or held.when <= companion.when:
                newest[name] = companion
        self.counters["outdated"] += len(companions) - len(newest)
        if not newest:
            return
        if self._writes.is_open or self._reads.is_open:
            self.counters["skipped_writes"] += len(newest)
            return
        from redis.exceptions import OutOfMemoryError

        try:
            fresh, answers = within(self._deadline_s, self._write_newest, newest)
        except self._failures():
            self.counters["failed_writes"] += len(newest)
            self._give_up(self._writes)
            return
        self.counters["outdated"] += len(newest) - len(fresh)
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        n_full = sum(isinstance(answer, OutOfMemoryError) for answer in failed)
        self.counters["full"] += n_full
        self.counters["failed_writes"] += len(failed) - n_full
        self.counters["written"] += len(answers) - len(failed)
        if failed:
            self._writes.failed()
        else:
            self._writes.succeeded()

    def _give_up(self, breaker):
        """Leave the server alone for a while, and close what a call that is still out there holds open."""
        breaker.failed()
        self._client.connection_pool.disconnect()

    def _write_newest(self, newest):
        """(name, companion) of those newer than what the server holds, and its answers to writing them."""
        fresh = self._newer_than_held(newest)
        return fresh, self._write(fresh) if fresh else []

    def _newer_than_held(self, newest):
        pipeline = self._client.pipeline(transaction=False)
        for name in newest:
            pipeline.getrange(name, 0, HEADER.size - 1)
        heads = pipeline.execute(raise_on_error=False)
        fresh = []
        for (name, companion), head in zip(newest.items(), heads):
            # A foreign value under our key (an error here, or bytes that are not ours) is overwritten.
            held = decode_when(head) if isinstance(head, bytes) else None
            if held is None or held <= companion.when:
                fresh.append((name, companion))
        return fresh

    def _write(self, fresh):
        pipeline = self._client.pipeline(transaction=False)
        for name, companion in fresh:
            pipeline.set(name, encode(companion), ex=self._ttl_s)
        return pipeline.execute(raise_on_error=False)

    def close(self):
        """Closes the connections."""
        self._client.close()
