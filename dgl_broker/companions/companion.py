"""What a companion is, which an alert may use, and what every store counts."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.companions import codec
from dgl_broker.stamps import Stamp

SURVEY_BANDS = {"ztf": "gri", "lsst": "ugrizy"}
DEFAULT_EXPIRE_DAYS = 30.0  # days; about the time over which a lensed supernova is one event, and ZTF's window of history
COUNTERS = (
    "asked",  # alerts looked up
    "found",  # companions given
    "newer",  # stamps there, but not from before the alert
    "expired",  # stamps there, but older than expire_days (in-process store; a server expires its own)
    "corrupt",  # entries that are foreign, damaged or of another object
    "skipped",  # alerts not looked up, because the server failed shortly before
    "failed_reads",  # round trips of reading that failed
    "slow_reads",  # round trips of reading that did not come back in time
    "written",  # stamps kept
    "outdated",  # stamps not kept, because a newer one was there
    "skipped_writes",  # stamps not kept, because the server failed or was full shortly before
    "failed_writes",  # stamps not kept, because the server failed
    "full",  # stamps not kept, because the server is full
    "evicted",  # stamps given up for newer ones (in-process store; a server evicts on its own)
)


class Key(NamedTuple):
    """Which companions an alert may have: those of its object, in other bands, from before (mjd_tai, alert_id)."""

    survey: str
    object_id: str | None
    before_mjd_tai: float
    before_alert_id: int
    own_band: str


@dataclass(frozen=True, slots=True, eq=False)
class Companion:
    """Stamps that one alert leaves for later ones of its object.

    `ra`, `dec` [deg] is the sky position of the stamps' (x0, y0); `mjd_tai` the mid-exposure.
    """

    survey: str
    object_id: str
    band: str
    alert_id: int
    mjd_tai: float
    template: Stamp | None
    difference: Stamp | None
    ra: float = 0.0
    dec: float = 0.0

    @property
    def when(self):
        """(mjd_tai, alert_id), by which companions are ordered."""
        return self.mjd_tai, self.alert_id

    def centred_on(self, ra, dec):
        """The same pixels, with (x0, y0) moved to another sky position [deg].

        Two alerts of one object lie up to the separation of its images apart, so stamps laid over each other by their
        alerts' own positions would be out of register. Tangent plane to first order: exact to 1e-4 px for 30 arcsec.
        """
        east = ((ra - self.ra + 180.0) % 360.0 - 180.0) * math.cos(math.radians(self.dec)) * 3600.0
        north = (dec - self.dec) * 3600.0

        def moved(stamp):
            if stamp is None:
                return None
            dx, dy = np.linalg.solve(stamp.matrix, (east, north))
            return replace(stamp, x0=stamp.x0 + float(dx), y0=stamp.y0 + float(dy))

        return replace(self, ra=ra, dec=dec, template=moved(self.template), difference=moved(self.difference))


def as_stored(companion):
    """The companion as any store gives it back: pixels rounded to float16 times a scale.

    Companions from the same batch go through it too, else a score would tell whether the cache was used.
    """
    return Companion(*_by_name(codec.decode(codec.encode(companion))))


def _by_name(fields):
    survey, object_id, band, alert_id, mjd_tai, ra, dec, template, difference = fields
    return survey, object_id, band, alert_id, mjd_tai, template, difference, ra, dec


def decode_companion(data, survey, object_id, band):
    """A companion from stored bytes, which must be of this object and band.

    Raises
    ------
    dgl_broker.companions.codec.CorruptCompanion
        If they are not.
    """
    companion = Companion(*_by_name(codec.decode(data)))
    if (companion.survey, companion.object_id, companion.band) != (survey, object_id, band):
        raise codec.CorruptCompanion(
            f"entry of {companion.survey} {companion.object_id} {companion.band}, expected {survey} {object_id} {band}"
        )
    return companion


def other_bands(key):
    """Bands in which the survey could have companions for this alert."""
    return [b for b in SURVEY_BANDS.get(key.survey, BANDS) if b != key.own_band]


def with_batch(found, keys, offered):
    """What the store gave, and what earlier alerts of the same objects in this batch offer: per other band the newest before.

    Parameters
    ----------
    found : list of dict
        Band to `Companion`, from `store.fetch(keys)`.
    keys : list of Key
    offered : list of Companion or None
        What each alert of the batch will leave in the store; None for those that will not.

    Returns
    -------
    list of dict
        Band to `Companion`, one dict for each key.
    """
    by_object = {}
    for companion in offered:
        if companion is not None:
            by_object.setdefault((companion.survey, companion.object_id), []).append(companion)
    rounded = {}
    result = []
    for key, bands in zip(keys, found, strict=True):
        best = dict(bands)
        for companion in by_object.get((key.survey, key.object_id), ()):
            before = companion.when < (key.before_mjd_tai, key.before_alert_id)
            if not before or companion.band == key.own_band:
                continue
            held = best.get(companion.band)
            if held is None or held.when < companion.when:
                if id(companion) not in rounded:
                    rounded[id(companion)] = as_stored(companion)
                best[companion.band] = rounded[id(companion)]
        result.append(best)
    return result
