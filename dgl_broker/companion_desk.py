"""What the pipeline asks of companions, in terms of alerts: which an alert may use, and what an alert leaves for later ones."""

import math
from collections import Counter

from dgl_broker.companions import Companion, Key, with_batch
from dgl_broker.errors import PacketError
from dgl_broker.stamps import MAX_INFLATED, read_stamp


def companion_of(alert, stamp_bytes=MAX_INFLATED):
    """The stamps that an alert leaves, or None where it has no object or no readable stamp."""
    if alert.object_id is None or alert.is_solar_system:
        return None
    try:
        template = read_stamp(alert.cutouts.template, "template", alert.cutouts, stamp_bytes)
        difference = read_stamp(alert.cutouts.difference, "difference", alert.cutouts, stamp_bytes)
    except PacketError:
        return None  # the alert itself is refused for it, with the reason
    if template is None and difference is None:
        return None
    return Companion(
        alert.survey, alert.object_id, alert.band, alert.alert_id, alert.mjd_tai, template, difference, alert.ra, alert.dec
    )


class CompanionDesk:
    """A store seen from the pipeline.

    Parameters
    ----------
    store : as `dgl_broker.companions.open_store` gives
    remember : callable, optional
        Facts of an alert to whether its stamps are kept; None keeps all. Fixed at start, so that what a score depends on
        does not change while the filter runs.
    stamp_bytes : int
        Most that a stamp may have once inflated.
    """

    def __init__(self, store, remember=None, stamp_bytes=MAX_INFLATED):
        self.store, self._stamp_bytes = store, stamp_bytes
        self.remembers = remember or (lambda facts: True)

    def _offer(self, alert):
        return companion_of(alert, self._stamp_bytes) if self.remembers(alert.facts) else None

    def fetch(self, alerts):
        """Per alert {band: Companion} of its own past, centred on the alert's position; earlier ones of the batch count."""
        keys = [Key(a.survey, a.object_id, a.mjd_tai, a.alert_id, a.band) for a in alerts]
        seen = Counter((a.survey, a.object_id) for a in alerts)
        offered = [self._offer(a) if a.object_id and seen[a.survey, a.object_id] > 1 else None for a in alerts]
        found = with_batch(self.store.fetch(keys), keys, offered)
        # A batch may span longer than a store keeps a stamp: what would have expired there does not count here either.
        oldest = getattr(self.store, "expire_days", math.inf)
        return [
            {band: c.centred_on(a.ra, a.dec) for band, c in bands.items() if a.mjd_tai - c.mjd_tai <= oldest}
            for a, bands in zip(alerts, found)
        ]

    def remember(self, alerts):
        """Keep the stamps of alerts whose batch is done."""
        offered = (self._offer(alert) for alert in alerts)
        self.store.remember([companion for companion in offered if companion is not None])

    def close(self):
        """Close the store."""
        self.store.close()
