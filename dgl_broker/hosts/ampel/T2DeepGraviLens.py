"""The state T2 unit: the score that the filter gave the newest alert of a state, asked of the service.

AMPEL keeps no cutouts at T2, so nothing is scored here.
"""

import time
from collections.abc import Iterable
from typing import Literal

from ampel.abstract.AbsStateT2Unit import AbsStateT2Unit
from ampel.content.DataPoint import DataPoint
from ampel.content.T1Document import T1Document
from ampel.enum.DocumentCode import DocumentCode
from ampel.secret.NamedSecret import NamedSecret
from ampel.struct.UnitResult import UnitResult
from ampel.types import UBson

from dgl_broker.client import Client
from dgl_broker.errors import ServiceFailed

CANDIDATE = "DGL_CANDIDATE"


class T2DeepGraviLens(AbsStateT2Unit):
    """Document codes: OK with the score record as body; T2_MISSING_INFO where the alert was refused (the reason is in the
    body) or the filter published nothing of it; RERUN_REQUESTED where the score may still come, or the service does not answer.
    """

    #: whose alerts the channel has
    survey: Literal["ztf", "lsst"]
    #: of `dgl-broker serve`
    url: str = "http://127.0.0.1:8060"
    token: None | NamedSecret[str] = None
    #: for one answer [s]
    timeout_s: float = 10.0
    #: how long after the state was made a score that is not there may still come [s]
    wait_s: float = 600.0

    def post_init(self) -> None:
        """Open the connection; it is kept between documents."""
        token = None if self.token is None else self.token.get()
        # Without patience: a document that must wait is asked for again, and others go on meanwhile.
        self._client = Client(self.url, token, self.timeout_s, patience_s=0.0)

    def process(self, compound: T1Document, datapoints: Iterable[DataPoint]) -> UBson | UnitResult:
        """The result of one state."""
        alert_id = newest_alert(self.survey, datapoints)
        if alert_id is None:
            return UnitResult(body={"status": "unknown", "reason": "no_detection"}, code=DocumentCode.T2_MISSING_INFO)
        try:
            answer = self._client.score_of(self.survey, alert_id)
        except ServiceFailed as error:
            self.logger.warn(str(error))  # AMPEL's logger, not the standard one
            return UnitResult(code=DocumentCode.RERUN_REQUESTED)
        if answer.status == "scored":
            return UnitResult(body=known(answer.record), tag=CANDIDATE if answer.passed else None)
        if answer.status == "refused":
            return UnitResult(body=known(answer.record), code=DocumentCode.T2_MISSING_INFO)
        age_s = max(0.0, time.time() - max((m["ts"] for m in compound["meta"]), default=0.0))
        if age_s < self.wait_s or answer.is_behind(age_s):
            return UnitResult(code=DocumentCode.RERUN_REQUESTED)
        body = {"alert_id": alert_id, "status": "unknown", "reason": "not_published"}
        return UnitResult(body=body, code=DocumentCode.T2_MISSING_INFO)


def newest_alert(survey, datapoints):
    """Alert id of the latest detection among a state's data points, or None; exact, as AMPEL has it.

    ZTF's detections have their candid as id, limits a negative one; LSST's have `diaSourceId` in the body, under a hash.
    """
    found = None
    for dp in datapoints:
        body = dp["body"]
        if survey == "ztf" and dp["id"] > 0 and "magpsf" in body:
            one = (body["jd"], dp["id"])
        elif survey == "lsst" and "diaSourceId" in body:
            one = (body["midpointMjdTai"], body["diaSourceId"])
        else:
            continue
        found = one if found is None or one > found else found
    return None if found is None else found[1]


def known(record):
    """A score record without what is null or empty: the document's body."""
    return {name: value for name, value in record.items() if value not in (None, [])}
