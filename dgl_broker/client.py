"""Asks a running `dgl-broker serve`; needs `requests` and nothing else, so that any host can have it.

    client = Client("http://127.0.0.1:8060", token=os.environ["DGL_BROKER__TOKEN"])
    client.score("lsst", packets)                 # one Answer each, in order
    client.score_of("ztf", 2475433850315015009)   # what the filter published of one alert
    client.scores_of_object("ztf", "ZTF18abudxnw")

Ids are integers here and never pass through a float.
"""

import base64
import time
from dataclasses import dataclass, field

import requests

from dgl_broker.errors import ConfigError, InputUnavailable, ServiceFailed

AT_ONCE = 64  # packets in one request: below the service's default limit, also in bytes for the largest packets seen
PASSING = (408, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of one alert.

    Attributes
    ----------
    status : str
        "scored", "refused", "dead_lettered", or of a lookup "unknown": the filter published nothing of this alert that the
        service has. With `is_behind` that may change.
    reason, error : str or None
        Why it is refused or could not be read; the same for people.
    record : dict
        Fields of `schemas/score.avsc`; empty where there is none.
    behind_s : float or None
        All that was published longer ago than this is in the service's store; None where it does not know, and for packets.
    """

    status: str
    reason: str | None = None
    error: str | None = None
    record: dict = field(default_factory=dict)
    behind_s: float | None = None

    @property
    def alert_id(self):
        """Exact 64-bit id, or None."""
        return self.record.get("alert_id")

    @property
    def log_odds(self):
        """The score to rank by, or None."""
        return self.record.get("log_odds")

    @property
    def passed(self):
        """Names of the filters that the alert passed."""
        return tuple(v["filter"] for v in self.record.get("verdicts", ()) if v["passed"])

    @property
    def version(self):
        """What the score comes from: bundle's id and the first digits of its hash."""
        bundle, digest = self.record.get("bundle_id"), self.record.get("bundle_sha256")
        return None if bundle is None else f"{bundle}@{(digest or '')[:8]}"

    def is_behind(self, seconds):
        """Whether the store may lack what was published so many seconds ago."""
        return self.behind_s is None or self.behind_s > seconds


class Client:
    """A connection to one service; not to be shared by threads.

    Parameters
    ----------
    url : str
        Such as "http://127.0.0.1:8060".
    token : str, optional
    timeout_s : float
        For one answer.
    patience_s : float
        How long to try again while the service is busy (429) or does not answer; after that ServiceFailed is raised.
    verify : bool or str
        Whether the certificate is checked; the file of an authority to check it by.
    """

    def __init__(self, url, token=None, timeout_s=30.0, patience_s=60.0, verify=True):
        if not str(url).startswith(("http://", "https://")):
            raise ConfigError(f"url {url!r}, expected http:// or https://")
        self.url, self.timeout_s, self.patience_s = url.rstrip("/"), timeout_s, patience_s
        self._session = requests.Session()
        self._session.verify = verify
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def close(self):
        """Give the connection back."""
        self._session.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def score(self, survey, packets, at_once=AT_ONCE):
        """One `Answer` a packet, in order.

        Parameters
        ----------
        survey : "ztf" or "lsst"
        packets : sequence of bytes
            Each a Confluent frame or an Avro container of one alert.
        at_once : int
            Packets in one request.

        Raises
        ------
        ServiceFailed
            If the service does not answer, or stays too busy for `patience_s`.
        ConfigError
            If it does not know the token, or finds the request wrong.
        InputUnavailable
            If it scores no packets of this survey.
        """
        packets, found = list(packets), []
        for start in range(0, len(packets), at_once):
            body = {"packets": [base64.b64encode(p).decode() for p in packets[start : start + at_once]]}
            answer = self._ask("POST", "/v1/score", params={"survey": survey}, json=body)
            found += [_answer(o["record"], None, o) for o in answer["outcomes"]]
        return found

    def score_of(self, survey, alert_id):
        """The `Answer` of one alert that the filter has seen; its status is "unknown" where there is none.

        Raises
        ------
        ServiceFailed, ConfigError, InputUnavailable
            As `score`; the last if the service follows no filter.
        """
        answer = self._ask("GET", f"/v1/scores/{survey}/{int(alert_id)}")
        return _looked_up(answer, [answer.get("record")])[0]

    def scores_of_object(self, survey, object_id, limit=100):
        """`Answer`s of an object's alerts, the latest first; empty where there are none.

        Raises
        ------
        ServiceFailed, ConfigError, InputUnavailable
            As `score_of`.
        """
        quoted = requests.utils.quote(str(object_id), safe="")
        answer = self._ask("GET", f"/v1/objects/{survey}/{quoted}", params={"limit": limit})
        return _looked_up(answer, answer.get("records", []))

    def status(self):
        """What the service says of itself, as a dict."""
        return self._ask("GET", "/v1/status")

    def _ask(self, method, path, **how):
        deadline, wait_s = time.monotonic() + self.patience_s, 0.5
        while True:
            try:
                response = self._session.request(method, self.url + path, timeout=self.timeout_s, **how)
                problem = None if response.status_code not in PASSING else _said(response)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                response, problem = None, type(error).__name__
            if problem is None:
                return self._content(response, path)
            asked = response.headers.get("Retry-After", "") if response is not None else ""
            wait_s = min(float(asked) if asked.isdecimal() else 2 * wait_s, LONGEST_WAIT_S)
            if time.monotonic() + wait_s > deadline:
                raise ServiceFailed(f"{self.url}{path}: {problem}")
            time.sleep(wait_s)

    def _content(self, response, path):
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ServiceFailed(f"{self.url}{path}: status {response.status_code}, no answer of dgl-broker serve")
        if response.status_code == 200 or content.get("code") == "not_found" and content.get("store") is not None:
            return content
        kind = InputUnavailable if response.status_code == 404 else ConfigError
        raise kind(f"{self.url}{path}: {_said(response)}")


def _said(response):
    try:
        return f"status {response.status_code}: {response.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def _looked_up(answer, records):
    behind = (answer.get("store") or {}).get("behind_s")
    return [Answer("unknown", behind_s=behind) if r is None else _answer(r, behind, r) for r in records]


def _answer(record, behind_s, outcome):
    if record is not None:
        companions = [int(one) for one in record["companion_alert_ids"]]
        record = {**record, "alert_id": int(record["alert_id"]), "companion_alert_ids": companions}
    return Answer(outcome["status"], outcome["reason"], outcome.get("error"), record or {}, behind_s)
