"""What comes out: class scores, verdicts of filters, and the one outcome that each message has."""

from dataclasses import dataclass, field

CLASSES = ("no_lens", "lens", "lensed_sn_ia", "lensed_sn_cc")
MEMBERS = ("lonet", "glonet", "munet")


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one alert.

    `p_*` are fused class probabilities at the mix of the calibration split; `p_lsn` is the sum of the last two.
    `log_odds` is the natural-log likelihood ratio logit(p_lsn) - logit(share of lensed supernovae in that split), float64;
    `posterior` applies the declared `prevalence` to it. `p_value` is conformal against the null of `stratum`, None
    without calibration. `member_p_lsn` follows `MEMBERS`; `spread` is their standard deviation in logit.
    """

    p_no_lens: float
    p_lens: float
    p_lensed_sn_ia: float
    p_lensed_sn_cc: float
    p_lsn: float
    log_odds: float
    posterior: float
    prevalence: float
    p_value: float | None
    p_value_floor: float | None
    stratum: str | None
    member_p_lsn: tuple[float, ...]
    spread: float
    bundle_id: str
    bundle_sha256: str
    calibration_id: str | None
    device: str
    precision: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one filter says: `failed` holds (criterion, value) of each criterion not met, in the filter's order."""

    filter: str
    version: int
    passed: bool
    failed: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """What a shadow bundle says of an alert: its `Scores`, or None and why. It judges nothing."""

    bundle_id: str
    bundle_sha256: str
    scores: Scores | None
    reason: str | None = None


@dataclass(slots=True)
class Outcome:
    """The one outcome of one message.

    `status` is "scored", "refused" or "dead_lettered"; `reason` is None for scored ones. `error` is the text for people.
    `cuts` maps "<filter>.<criterion>" to True (met), False (not met) or None (unknown) where pre-cuts were judged.
    `companions` are the earlier stamps that the example was made of, as they were used. `shadow` is what another bundle says
    of the alert, where one scores beside.
    """

    status: str
    message: object
    reason: str | None = None
    error: str | None = None
    traceback: str | None = None
    alert: object | None = None
    completeness: object | None = None
    scores: Scores | None = None
    verdicts: tuple[Verdict, ...] = ()
    cuts: dict[str, bool | None] = field(default_factory=dict)
    message_id: str | None = None
    companions: tuple = ()
    shadow: Beside | None = None

    @property
    def alert_id(self):
        """Exact 64-bit id as int, or None where the message could not be read so far."""
        return None if self.alert is None else self.alert.alert_id

    @property
    def object_id(self):
        """Object's id as str, or None where there is none."""
        return None if self.alert is None else self.alert.object_id

    @property
    def is_injected(self):
        """Whether it is no real source: mixed in by a replay, or synthetic in the survey's own images. None where unknown."""
        if getattr(self.message, "injected", False):
            return True
        known = None if self.alert is None else self.alert.facts.get("is_injected")
        return None if known is None else bool(known)
