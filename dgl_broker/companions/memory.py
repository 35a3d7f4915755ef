"""Companions kept nowhere, and companions kept in this process."""

from collections import OrderedDict

from dgl_broker.companions.codec import decode_when, encode
from dgl_broker.companions.companion import COUNTERS, DEFAULT_EXPIRE_DAYS, decode_companion, other_bands

DEFAULT_MEMORY_BYTES = 1 << 30  # some 250,000 pairs of LSST stamps


class NoStore:
    """Keeps nothing: the default."""

    def __init__(self):
        self.counters = dict.fromkeys(COUNTERS, 0)

    def fetch(self, keys):
        """No companions for any key."""
        return [{} for _ in keys]

    def remember(self, companions):
        """Keeps nothing."""

    def close(self):
        """Nothing to close."""


class MemoryStore:
    """Companions in this process, for replays in order of time.

    Parameters
    ----------
    expire_days : float
        Stamps older than this before an alert are not used: what a server's TTL does in the live stream.
    max_bytes : int
        Beyond it the stamps written longest ago are given up.
    """

    def __init__(self, expire_days=DEFAULT_EXPIRE_DAYS, max_bytes=DEFAULT_MEMORY_BYTES):
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.expire_days = expire_days
        self.max_bytes = max_bytes
        self._entries = OrderedDict()
        self._bytes = 0

    def fetch(self, keys):
        """Per key a dict of band to `Companion`: the newest stamp of each other band, where it is from before the alert."""
        result = []
        for key in keys:
            bands = {}
            self.counters["asked"] += key.object_id is not None
            for band in other_bands(key):
                data = self._entries.get((key.survey, key.object_id, band))
                if data is None:
                    continue
                when = decode_when(data)
                if not when < (key.before_mjd_tai, key.before_alert_id):
                    self.counters["newer"] += 1
                elif key.before_mjd_tai - when[0] > self.expire_days:
                    self.counters["expired"] += 1
                else:
                    bands[band] = decode_companion(data, key.survey, key.object_id, band)
                    self.counters["found"] += 1
            result.append(bands)
        return result

    def remember(self, companions):
        """Keeps the stamps of these alerts, each but where a newer one of its object and band is there."""
        for companion in companions:
            entry = (companion.survey, companion.object_id, companion.band)
            held = self._entries.get(entry)
            if held is not None and decode_when(held) > companion.when:
                self.counters["outdated"] += 1
                continue
            data = encode(companion)
            self._bytes += len(data) - (0 if held is None else len(held))
            self._entries[entry] = data
            self._entries.move_to_end(entry)
            self.counters["written"] += 1
            while self._bytes > self.max_bytes:
                _, gone = self._entries.popitem(last=False)
                self._bytes -= len(gone)
                self.counters["evicted"] += 1

    def close(self):
        """Forgets everything."""
        self._entries.clear()
        self._bytes = 0
