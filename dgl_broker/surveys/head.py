"""What the first stage of decoding tells of an alert: enough to judge the cheap pre-cuts and to name what they refuse."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class AlertHead:
    """The trigger of an alert whose histories were not decoded; attributes as those of `dgl_broker.alert.Alert`.

    `schema` lacks the version where a broker's copy states it at its end. `facts` holds what is known for sure: a fact that is
    absent needs the second stage, one that is None is unknown for good.
    """

    survey: str
    schema: str
    alert_id: int
    object_id: str | None
    ra: float
    dec: float
    mjd_tai: float
    band: str
    is_solar_system: bool
    facts: dict = field(default_factory=dict)

    @property
    def name(self):
        """`survey alert_id`, as errors name it."""
        return f"{self.survey} {self.alert_id}"
