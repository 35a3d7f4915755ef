"""BOOM and Babamul: a consumer of their streams that has alerts scored by the service and commits when the scores are out.

Alerts of Babamul's public streams hold histories and what the survey measured, their cutouts come from its API; those of one's
own BOOM filters (its schema `Alert`) hold cutouts and fluxes. Both are read as the survey's own packet (`surveys/boom.py`).

`python -m dgl_broker.hosts.babamul --help` has the command.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path

from babamul import AlertConsumer, api
from babamul.exceptions import APIAuthenticationError, APIError, APINotFoundError

from dgl_broker.client import Client
from dgl_broker.errors import ConfigError, PacketError, ServiceFailed, StateError
from dgl_broker.outputs.records import as_json
from dgl_broker.selection.write_file import sync_folder
from dgl_broker.stream.taking import commit, take
from dgl_broker.surveys.boom import CUTOUTS, SURVEYS, packet_of_babamul, packet_of_boom
from dgl_broker.wire import encode_packet
from dgl_broker.wire.records import read_record

log = logging.getLogger(__name__)
BATCH = 100  # also the most that Babamul's API gives cutouts of in one call
PATIENCE_S = 240.0  # Kafka gives a member up after 300 s without a poll
API_WAITS_S = (1.0, 5.0, 20.0)


class Stream(AlertConsumer):
    """Babamul's consumer with its own settings and login; what it takes is committed by `have`, and by nothing else."""

    def __init__(self, topics, **options):
        super().__init__(topics, auto_commit=False, **options)

    def take(self, at_most, wait_s):
        """Up to so many messages, those that come within `wait_s`."""
        return take(self._ensure_consumer(), at_most, wait_s)

    def have(self, messages):
        """Commit these."""
        commit(self._ensure_consumer(), messages)


class Scoring:
    """From messages to scores.

    Parameters
    ----------
    service : dgl_broker.client.Client
    sink : callable
        (list of dict), one a message in order: where it came from, `status`, `reason`, `error` (the same for people), and the
        score `record` where there is one. What it takes must be safe when it returns: the messages are committed then.
    dead_letters : path, optional
        Folder for the bytes of what cannot be read, by us or by the service, each with its result as JSON beside it.
    stop : threading.Event, optional
        Cuts waiting short.
    """

    def __init__(self, service, sink, dead_letters=None, stop=None):
        self.service, self.sink = service, sink
        self.dead_letters = None if dead_letters is None else Path(dead_letters)
        self.stop = stop or threading.Event()
        self.counts = Counter()

    def batch(self, messages):
        """Score these messages and hand the results to the sink.

        Raises
        ------
        ServiceFailed, ConfigError, StateError
            Before anything of the batch is handed on.
        """
        results, alerts = [None] * len(messages), {}
        for n, message in enumerate(messages):
            try:
                alerts[n] = _decoded(message.value())
            except PacketError as error:
                results[n] = self._dead(message, error.reason, error.detail)
        stamps = self._cutouts(alerts.values())
        packets = {}
        for n, alert in alerts.items():
            try:
                packet = packet_of_boom(alert) if is_boom(alert) else packet_of_babamul(alert, stamps.get(alert.get("candid")))
                packets.setdefault(packet.survey, {})[n] = encode_packet(packet)
            except PacketError as error:
                results[n] = self._dead(messages[n], error.reason, error.detail)
        for survey, encoded in packets.items():
            for n, answer in zip(encoded, self.service.score(survey, encoded.values())):
                if answer.status == "dead_lettered":
                    results[n] = self._dead(messages[n], answer.reason, answer.error)
                    continue
                self.counts[answer.status] += 1
                results[n] = _result(messages[n], answer.status, answer.reason, answer.error, answer.record or None)
        if self.dead_letters is not None and any(one["status"] == "dead_lettered" for one in results):
            sync_folder(self.dead_letters)  # names too, before the commit
        self.sink(results)

    def _dead(self, message, reason, error):
        """The result of a message that cannot be read; its bytes are kept, and why beside them."""
        self.counts["dead_lettered"] += 1
        log.warning("%s: %s: %s", _place(message), reason, error)
        found = _result(message, "dead_lettered", reason, error, None)
        if self.dead_letters is not None:
            name = f"{message.topic()}.{message.partition()}.{message.offset()}"
            try:
                self.dead_letters.mkdir(parents=True, exist_ok=True)
                _write(self.dead_letters / f"{name}.avro", message.value() or b"")
                _write(self.dead_letters / f"{name}.json", as_json(found).encode())
            except OSError as problem:
                raise StateError(f"{self.dead_letters}: a dead letter cannot be kept: {problem.strerror}") from problem
        return found

    def _cutouts(self, alerts):
        """candid -> {name: bytes} of those alerts that come without, from the API; what it does not have is left out."""
        wanted = {}
        for alert in alerts:
            if not is_boom(alert) and not any(alert.get(name) for name in CUTOUTS):
                wanted.setdefault("LSST" if _is_lsst(alert) else "ZTF", []).append(alert["candid"])
        found = {}
        for survey, candids in wanted.items():
            bulk = self._asked(lambda s=survey, c=candids: api.get_cutouts_bulk(s, c)) or {}
            # The bulk call logs what fails and goes on: whether a stamp does not exist is asked one by one.
            for candid in candids:
                one = bulk.get(candid) or self._asked(lambda s=survey, c=candid: api.get_cutouts(s, c))
                if one is not None:
                    found[candid] = {name: getattr(one, name) or None for name in CUTOUTS}
                else:
                    self.counts["no_cutouts"] += 1
        return found

    def _asked(self, question):
        """The API's answer, None where it says that there is none; ServiceFailed where it does not answer."""
        for wait in (*API_WAITS_S, None):
            try:
                return question()
            except APINotFoundError:
                return None
            except APIAuthenticationError as error:
                raise ConfigError(f"babamul's API: {error}; is BABAMUL_API_TOKEN right?") from error
            except APIError as error:
                if wait is None or self.stop.wait(wait):
                    raise ServiceFailed(f"babamul's API: {error}") from error


def is_boom(alert):
    """Whether an alert is of BOOM's own schema `Alert`, not of Babamul's streams."""
    return "photometry" in alert and alert.get("survey") in (*SURVEYS, "DECAM")


def _is_lsst(alert):
    candidate = alert.get("candidate")
    return isinstance(candidate, dict) and ("diaSourceId" in candidate or "dia_source" in candidate)


def _decoded(value):
    """An alert as a dict, by our own bounded reader: Babamul's has no limits, and what it raises on bad bytes ends its loop."""
    alert = read_record(value or b"")
    if not isinstance(alert.get("candid"), int):
        raise PacketError("missing_field", "no candid")
    return alert


def _place(message):
    return f"{message.topic()}[{message.partition()}]@{message.offset()}"


def _result(message, status, reason, error, record):
    return {"from": _place(message), "status": status, "reason": reason, "error": error, "record": record}


def _write(path, content):
    """A file on disk; written again where its batch comes again."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def json_lines(path):
    """A sink that appends to a file, one JSON object a line (64-bit ids as text), on disk when it returns."""

    def sink(results):
        with open(path, "a") as out:
            out.writelines(as_json(one) + "\n" for one in results)
            out.flush()
            os.fsync(out.fileno())

    return sink


def run(stream, scoring, stop, wait_s=5.0):
    """Take, score, hand on, commit, until told to stop."""
    while not stop.is_set():
        messages = stream.take(BATCH, wait_s)
        if messages:
            scoring.batch(messages)
            stream.have(messages)


def main(argv=None):
    """The command; Kafka's login and the API's token by Babamul's own variables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--topics", nargs="+", required=True, help="Babamul's, such as babamul.lsst.no-ztf-match.hosted, or a BOOM filter's"
    )
    parser.add_argument("--out", required=True, help="file that scores are appended to, one JSON object a line")
    parser.add_argument("--group", default="deepgravilens")
    parser.add_argument("--offset", choices=["latest", "earliest"], default="earliest", help="where to begin the first time")
    parser.add_argument("--server", help="Kafka, host:port; by default Babamul's")
    parser.add_argument("--service", default="http://127.0.0.1:8060", help="dgl-broker serve")
    parser.add_argument("--dead-letters", help="folder for what cannot be read")
    args = parser.parse_args(argv)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stream = Stream(args.topics, server=args.server, group_id=args.group, offset=args.offset)
    with Client(args.service, os.environ.get("DGL_SERVICE_TOKEN"), patience_s=PATIENCE_S) as service:
        scoring = Scoring(service, json_lines(args.out), args.dead_letters, stop)
        try:
            run(stream, scoring, stop)
        finally:
            stream.close()
            print(json.dumps(dict(sorted(scoring.counts.items()))))


if __name__ == "__main__":
    main()
