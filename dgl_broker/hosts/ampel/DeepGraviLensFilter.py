"""The T0 filter: lets through what the streaming filter passed, by asking the service for its score.

AMPEL's alerts carry no cutouts, so nothing is scored here, and what has no score yet is rejected.
"""

from typing import Literal

from ampel.abstract.AbsAlertFilter import AbsAlertFilter
from ampel.protocol.AmpelAlertProtocol import AmpelAlertProtocol
from ampel.secret.NamedSecret import NamedSecret

from dgl_broker.client import Client

NO_SCORE, REFUSED, NOT_PASSED = -1, -2, -3  # rejection codes


class DeepGraviLensFilter(AbsAlertFilter):
    """Accepts an alert that passed one of the filters in force or, where it is given, reaches `min_log_odds`.

    Rejection codes: -1 the service has no score of it, -2 it was refused, -3 it did not pass. A service that does not answer
    for `patience_s` is an error, which AMPEL counts, and at `error_max` of which it stops: it is no rejection.
    """

    #: whose alerts come
    survey: Literal["ztf", "lsst"]
    #: of `dgl-broker serve`
    url: str = "http://127.0.0.1:8060"
    token: None | NamedSecret[str] = None
    #: accept from this log likelihood ratio on, whatever the filters say
    min_log_odds: None | float = None
    #: count only these filters' verdicts
    filters: None | list[str] = None
    #: for one answer [s]
    timeout_s: float = 10.0
    #: how long to try again where the service does not answer [s]
    patience_s: float = 60.0

    def post_init(self) -> None:
        """Open the connection; it is kept between alerts."""
        token = None if self.token is None else self.token.get()
        self._client = Client(self.url, token, self.timeout_s, self.patience_s)

    def process(self, alert: AmpelAlertProtocol) -> None | bool | int:
        """Whether an alert is accepted, or its rejection code."""
        answer = self._client.score_of(self.survey, alert.id)
        if answer.status != "scored":
            return NO_SCORE if answer.status == "unknown" else REFUSED
        if self.min_log_odds is not None:
            return True if answer.log_odds >= self.min_log_odds else NOT_PASSED
        passed = answer.passed if self.filters is None else set(answer.passed) & set(self.filters)
        return True if passed else NOT_PASSED
