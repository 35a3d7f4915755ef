"""The nouns between survey and network: a message, and the alert that every survey's packet becomes.

One unit system: nJy (difference flux is signed), MJD TAI at mid-exposure, degrees ICRS, arcsec.
"""

from dataclasses import dataclass, field

import numpy as np

BANDS = "ugrizy"
DETECTION, FORCED, UPPER_LIMIT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came: from Kafka (topic, partition, offset) or from an archive (source, source_row).

    `packet` is set where an archive has decoded it already (a row of a table, one of many in a container): a
    `dgl_broker.wire.Packet`, or the PacketError that reading it gave. `injected` is set where a replay mixed it in: it is
    never published, and never to be taken for real.
    """

    value: bytes
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    key: bytes | None = None
    timestamp_ms: int | None = None
    headers: tuple = ()
    source: str | None = None
    source_row: int | None = None
    packet: object | None = None
    injected: bool = False

    def where(self):
        """Its place in words, for errors and dead letters."""
        if self.topic is not None:
            return f"{self.topic}[{self.partition}]@{self.offset}"
        return f"{self.source}#{self.source_row}" if self.source is not None else "a message from memory"


@dataclass(frozen=True, slots=True)
class LightCurve:
    """What was known of an object's flux at the alert's time, the trigger included, sorted by time.

    All of shape (n,). `flux_njy` is difference flux, signed. `kind` is DETECTION, FORCED or UPPER_LIMIT; an upper limit
    has flux 0 and, as error, a fifth of its 5-sigma limit. `total_njy` is the flux on the visit image, host included
    (NaN where the survey gives none). `band` indexes `BANDS`.
    """

    mjd_tai: np.ndarray
    band: np.ndarray
    flux_njy: np.ndarray
    flux_err_njy: np.ndarray
    kind: np.ndarray
    total_njy: np.ndarray
    total_err_njy: np.ndarray

    def __len__(self):
        return len(self.mjd_tai)

    @property
    def n_detections(self):
        """Detections, trigger included."""
        return int(np.count_nonzero(self.kind == DETECTION))

    @property
    def bands_detected(self):
        """Bands with a detection, in the order of `BANDS`, as a string."""
        seen = set(self.band[self.kind == DETECTION].tolist())
        return "".join(b for i, b in enumerate(BANDS) if i in seen)


@dataclass(frozen=True, slots=True)
class Cutouts:
    """The three stamps as the packet holds them (FITS bytes, gzipped or plain), or None; decoded late, for survivors only.

    `to_njy` is what one pixel unit of (science, template, difference) is in nJy; NaN where no zero point is known, negative
    where the survey flips the sign of a negative subtraction's stamp (ZTF does), so that the product is always signed flux.
    `pixel_scale_arcsec` is the scale where the header has no matrix (ZTF: rows grow south, columns west, the source on
    the centre of a stamp of `full_side`); None where the header's matrix holds (LSST).
    """

    science: bytes | None
    template: bytes | None
    difference: bytes | None
    to_njy: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pixel_scale_arcsec: float | None = None
    full_side: int | None = None
    detector_xy: tuple[float, float] | None = None  # the source on the detector [px], tells which side of a stamp is cut off


@dataclass(frozen=True, slots=True, eq=False)
class Alert:
    """One alert of any survey.

    `first_detection_mjd_tai` is the object's first detection as the survey states it, not that of a history that slides.
    `n_detections` counts those the survey knows of, trigger included (at least those in the light curve).
    `facts` maps standard names (see `dgl_broker.surveys.FACTS`) to float, int, str, bool or None; a name that is absent or
    None is unknown. Pre-cuts and the context of the example read it; nothing in it is later than the trigger.
    """

    survey: str
    schema: str
    alert_id: int
    object_id: str | None
    ra: float
    dec: float
    mjd_tai: float
    band: str
    flux_njy: float
    flux_err_njy: float
    reliability: float | None
    is_solar_system: bool
    first_detection_mjd_tai: float | None
    n_detections: int
    light_curve: LightCurve
    cutouts: Cutouts
    facts: dict = field(default_factory=dict)

    @property
    def name(self):
        """`survey alert_id`, as errors name it."""
        return f"{self.survey} {self.alert_id}"
