"""Lasair: annotates the objects of one Lasair filter with the scores of ours.

Lasair's stream brings object ids (its full alerts come without cutouts), the scores are asked of the service, and annotations
go back over Lasair's API, one an object, the last one valid. An object stands on a list in a local file from before its message
is committed until its annotation is accepted, so neither a crash nor an hour without API calls loses one.

`python -m dgl_broker.hosts.lasair --help` has the command.
"""

import argparse
import json
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter

from lasair import LasairError, lasair_client

from dgl_broker.client import Client
from dgl_broker.errors import ConfigError, ServiceFailed
from dgl_broker.stream.taking import Taker

log = logging.getLogger(__name__)
CANDIDATE, NO_CANDIDATE = "lensed_sn_candidate", "no_candidate"
BATCH = 100  # annotations in one call: calls are what Lasair counts
LIMITED_WAIT_S = 600.0  # after "request limit exceeded": limits are by the hour
FAILED_WAIT_S = 30.0
SCORE_WAITS_S = (60.0, 300.0, 900.0)  # when to look again for a score that is not there yet
OBJECT_ID = {"ztf": "objectId", "lsst": "diaObjectId"}


class Annotator:
    """The loop.

    Parameters
    ----------
    survey : "ztf" or "lsst"
    service : dgl_broker.client.Client
    lasair : lasair.lasair_client
    annotator : str
        Name of the annotator that the Lasair team has given to the token.
    state : path
        File of the list and of what was sent; made if it is not there.
    min_change : float
        An annotation whose class is the same is sent again only if log-odds moved by as much.
    url : str
        With `{object_id}` in it, shown with the annotation.
    packet_of : callable, optional
        object id -> (packet of its newest alert or None): then that is scored, in the place of a lookup.
    """

    def __init__(self, survey, service, lasair, annotator, state, min_change=0.1, url="", packet_of=None, clock=time.time):
        self.survey, self.service, self.lasair, self.annotator = survey, service, lasair, annotator
        self.min_change, self.url, self.packet_of, self.clock = min_change, url, packet_of, clock
        self.counts = Counter()
        self._not_before = 0.0
        self._db = sqlite3.connect(state, isolation_level=None)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS waiting (object_id TEXT PRIMARY KEY, due REAL, tries INTEGER)")
        self._db.execute("CREATE TABLE IF NOT EXISTS sent (object_id TEXT PRIMARY KEY, class TEXT, log_odds REAL)")

    def close(self):
        """Let go of the file."""
        self._db.close()

    def take(self, values):
        """Put the objects of these messages (bytes) on the list; on disk when this returns."""
        with self._db:
            self._db.execute("BEGIN")
            for value in values:
                object_id = self._object_id(value)
                self.counts["messages"] += 1
                if object_id is None:
                    self.counts["unreadable"] += 1
                    continue
                self._db.execute("INSERT OR REPLACE INTO waiting VALUES (?, ?, 0)", (object_id, self.clock()))

    def work(self):
        """Look up what is due and send what has changed; what cannot be done now stays on the list."""
        now = self.clock()
        if now < self._not_before:
            return
        query = "SELECT object_id, tries FROM waiting WHERE due <= ? ORDER BY due LIMIT ?"
        changed = []
        for object_id, tries in self._db.execute(query, (now, BATCH)).fetchall():
            try:
                annotation = self._annotation(object_id)
            except ServiceFailed as error:
                log.warning("%s", error)
                self._wait(FAILED_WAIT_S)
                break
            if annotation is None:
                self._no_score(object_id, tries)
            elif self._is_news(annotation):
                changed.append(annotation)
            else:
                self.counts["unchanged"] += 1
                self._done(object_id)
        if changed:
            self._send(changed)

    @property
    def listed(self):
        """Objects on the list."""
        return self._db.execute("SELECT count(*) FROM waiting").fetchone()[0]

    def _object_id(self, value):
        try:
            found = json.loads(value)[OBJECT_ID[self.survey]]
        except (ValueError, KeyError, TypeError):
            return None
        # A float may have lost digits; JSON's integers are exact in Python.
        return str(found) if isinstance(found, str | int) and not isinstance(found, bool) and found != "" else None

    def _annotation(self, object_id):
        """What is to be said of an object, or None where it has no score (yet)."""
        packet = None if self.packet_of is None else self.packet_of(object_id)
        if packet is not None:
            answers = self.service.score(self.survey, [packet])
        else:
            answers = self.service.scores_of_object(self.survey, object_id)
        scored = [a for a in answers if a.status == "scored"]
        if not scored:
            return None
        newest, best = scored[0], max(a.log_odds for a in scored)
        verdicts = ", ".join(f"{v['filter']} {'passed' if v['passed'] else 'not passed'}" for v in newest.record["verdicts"])
        versions = ".".join(f"v{v['version']}" for v in newest.record["verdicts"][:2])
        text = f"DeepGraviLens on alert {newest.alert_id}: log-odds {newest.log_odds:.2f} for a lensed supernova; {verdicts}"
        return {
            "objectId": object_id,
            "topic": self.annotator,
            "classification": CANDIDATE if newest.passed else NO_CANDIDATE,
            "version": f"{newest.record['bundle_sha256'][:8]}{versions}"[:16],
            "explanation": text,
            "classdict": {
                "log_odds": newest.log_odds,
                "max_log_odds": best,
                "p_lsn": newest.record["p_lsn"],
                "p_value": newest.record["p_value"],
                "n_scored": len(scored),
                "alert_id": str(newest.alert_id),
                "bundle": newest.version,
                "passed": list(newest.passed),
            },
            "url": self.url.format(object_id=object_id),
        }

    def _is_news(self, annotation):
        before = self._db.execute("SELECT class, log_odds FROM sent WHERE object_id = ?", (annotation["objectId"],)).fetchone()
        if before is None or before[0] != annotation["classification"]:
            return True
        return abs(before[1] - annotation["classdict"]["log_odds"]) >= self.min_change

    def _send(self, annotations):
        try:
            self._check(self.lasair.annotate_list(annotations))
        except (LasairError, OSError) as error:  # OSError: requests' own, which its client lets through
            status = _status(error)
            if len(annotations) > 1 and status in (400, 404):
                for one in annotations:  # one of them is not liked: the others need not wait for it
                    if self.clock() >= self._not_before:
                        self._send([one])
                return
            self._failed(annotations, status, str(getattr(error, "message", error)))
            return
        for one in annotations:
            self.counts["annotated"] += 1
            self._done(one["objectId"], one)

    @staticmethod
    def _check(answer):
        if isinstance(answer, dict) and answer.get("error"):
            raise LasairError(str(answer["error"]))

    def _failed(self, annotations, status, text):
        if status == 401:
            raise ConfigError(f"lasair: {text}: is the token that of the annotator {self.annotator}?")
        if status in (400, 404):
            log.warning("lasair: %s: %s", annotations[0]["objectId"], text)
            self.counts["unknown_object" if status == 404 else "not_accepted"] += 1
            self._done(annotations[0]["objectId"])
            return
        self.counts["limited" if status == 429 else "failed"] += 1
        log.warning("lasair: %s; %d annotations wait", text.splitlines()[0], len(annotations))
        self._wait(LIMITED_WAIT_S if status == 429 else FAILED_WAIT_S)

    def _no_score(self, object_id, tries):
        if tries >= len(SCORE_WAITS_S):
            self.counts["no_score"] += 1
            self._done(object_id)
            return
        due = self.clock() + SCORE_WAITS_S[tries]
        self._db.execute("UPDATE waiting SET due = ?, tries = ? WHERE object_id = ?", (due, tries + 1, object_id))

    def _done(self, object_id, annotation=None):
        """Off the list; in one transaction with what was sent."""
        with self._db:
            self._db.execute("BEGIN")
            if annotation is not None:
                said = (object_id, annotation["classification"], annotation["classdict"]["log_odds"])
                self._db.execute("INSERT OR REPLACE INTO sent VALUES (?, ?, ?)", said)
            self._db.execute("DELETE FROM waiting WHERE object_id = ?", (object_id,))

    def _wait(self, seconds):
        self._not_before = self.clock() + seconds


def _status(error):
    """HTTP's status within the words of Lasair's client, or None."""
    text = str(getattr(error, "message", ""))
    known = {"Bad Request": 400, "Unauthorized": 401, "Request limit exceeded": 429, "HTTP return code 404": 404}
    return next((status for words, status in known.items() if text.startswith(words)), None)


def run(annotator, taker, stop, poll_s=1.0):
    """Take messages and work until told to stop; a message is committed once its object is on the list."""
    while not stop.is_set():
        messages = taker.take(BATCH, poll_s)
        if messages:
            annotator.take(m.value() or b"" for m in messages)
            taker.have(messages)
        annotator.work()


def main(argv=None):
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--survey", choices=list(OBJECT_ID), required=True)
    parser.add_argument("--topic-in", required=True, help="Lasair's Kafka topic of one filter")
    parser.add_argument("--annotator", required=True, help="name that the Lasair team has given the annotator")
    parser.add_argument("--state", required=True, help="file of what is to be annotated and what was")
    parser.add_argument("--kafka", required=True, help="Lasair's Kafka, host:port, as Lasair's pages have it")
    parser.add_argument("--group", default="deepgravilens")
    parser.add_argument("--endpoint", default="https://api.lasair.lsst.ac.uk/api", help="Lasair's API")
    parser.add_argument("--service", default="http://127.0.0.1:8060", help="dgl-broker serve")
    parser.add_argument("--min-change", type=float, default=0.1, help="of log-odds, to annotate the same class again")
    parser.add_argument("--url", default="", help="shown with an annotation; {object_id} in it is replaced")
    args = parser.parse_args(argv)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    token = os.environ.get("LASAIR_TOKEN")
    if not token:
        parser.error("LASAIR_TOKEN is not set")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    taker = Taker({"bootstrap.servers": args.kafka}, args.group, [args.topic_in])
    lasair = lasair_client(token, endpoint=args.endpoint)
    with Client(args.service, os.environ.get("DGL_SERVICE_TOKEN"), patience_s=0.0) as service:
        annotator = Annotator(args.survey, service, lasair, args.annotator, args.state, args.min_change, args.url)
        try:
            run(annotator, taker, stop)
        finally:
            taker.close()
            annotator.close()
            print(json.dumps(dict(sorted(annotator.counts.items()))))


if __name__ == "__main__":
    main()
