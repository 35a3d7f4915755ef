"""Hopskotch: sends reports of objects on, to a topic of SCiMMA's Kafka, by its own client.

A report is taken from `dgl.<survey>.reports`, published, and committed once Hopskotch's Kafka has it: at least once, with the
same `message_id` each time. What is said, and how often, was decided before, by `dgl-broker report`.

`python -m dgl_broker.hosts.hopskotch --help` has the command.
"""

import argparse
import json
import logging
import signal
import sys
import threading
from collections import Counter
from datetime import timedelta

from hop import Stream
from hop.models import AvroBlob, JSONBlob

from dgl_broker.errors import PacketError, ServiceFailed
from dgl_broker.hosts.reported import gcn_notice, read_report, registry_of
from dgl_broker.outputs.avro import load_schema
from dgl_broker.reports.records import webhook_body
from dgl_broker.settings import load_settings
from dgl_broker.stream.taking import Taker

log = logging.getLogger(__name__)
BATCH = 50
DELIVERED_S = 60.0


class Sender:
    """Reports to one topic of Hopskotch.

    Parameters
    ----------
    url : str
        Such as kafka://kafka.scimma.org/deepgravilens.reports.
    form : "json", "avro" or "gcn"
        The report with ids as text and a line for people; the report in its schema; a GCN-like notice.
    auth : bool or hop.auth.Auth
        True: what `hop auth add` has kept.
    page : str
        Template of a page about an object, for notices.
    test : bool
        Mark all as tests: hop's readers leave them out unless they ask for them.
    schemas : RegistrySchemas, optional
        Where reports are framed.
    """

    def __init__(self, url, form="json", auth=True, page="", test=False, schemas=None):
        self.form, self.page, self.test, self.schemas = form, page, test, schemas
        self.counts = Counter()
        self._refused = []
        self._producer = Stream(auth=auth).open(url, "w", produce_timeout=timedelta(seconds=DELIVERED_S))

    def close(self):
        """Let go of the connection."""
        self._producer.close()

    def send(self, values):
        """Publish these messages of the reports' topic; all of them are with Hopskotch when this returns.

        Raises
        ------
        ServiceFailed
            If one is not.
        """
        for value in values:
            try:
                report = read_report(value, self.schemas)
            except PacketError as error:
                self.counts["unreadable"] += 1
                log.error("not sent: %s", error)
                continue
            headers = {"message_id": report["message_id"], "survey": report["survey"], "state": report["state"]}
            self._producer.write(
                message_of(report, self.form, self.page, self.test),
                headers=headers,
                delivery_callback=self._delivered,
                test=self.test,
                key=report["object_id"],
            )
        left = self._producer.flush(timedelta(seconds=DELIVERED_S))
        if left or self._refused:
            raise ServiceFailed(f"hopskotch: {left + len(self._refused)} reports not delivered: {self._refused[:1]}")

    def _delivered(self, error, _message):
        if error is not None:
            self._refused.append(error.str())
        else:
            self.counts["sent"] += 1


def message_of(report, form="json", page="", test=False):
    """A report as a message of hop's."""
    if form == "avro":
        return AvroBlob(report, load_schema("report"))
    if form == "gcn":
        return JSONBlob(gcn_notice(report, page, test))
    return JSONBlob(json.loads(webhook_body(report)))


def run(taker, sender, stop, wait_s=1.0):
    """Take, send, commit, until told to stop."""
    while not stop.is_set():
        messages = taker.take(BATCH, wait_s)
        if messages:
            sender.send(m.value() for m in messages)
            taker.have(messages)


def main(argv=None):
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", required=True, help="broker.yaml of `dgl-broker report`: its Kafka and its topic of reports"
    )
    parser.add_argument("--to", required=True, help="kafka://kafka.scimma.org/TOPIC")
    parser.add_argument("--form", choices=["json", "avro", "gcn"], default="json")
    parser.add_argument("--group", default="deepgravilens-hopskotch")
    parser.add_argument(
        "--page", default="", help="for notices: page of an object, with {survey}, {object_id}, {alert_id} in it"
    )
    parser.add_argument("--test", action="store_true", help="mark all as tests")
    parser.add_argument("--no-auth", action="store_true", help="for a Kafka that asks for no login")
    args = parser.parse_args(argv)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = load_settings(args.config)
    out = settings.output
    password = out.registry_password.get_secret_value() if out.registry_password else None
    taker = Taker({**settings.kafka, "isolation.level": "read_committed"}, args.group, [settings.reports_topic])
    schemas = registry_of(out.registry, out.registry_user, password)
    sender = Sender(args.to, args.form, not args.no_auth, args.page, args.test, schemas)
    try:
        run(taker, sender, stop)
    finally:
        taker.close()
        sender.close()
        print(json.dumps(dict(sorted(sender.counts.items()))))


if __name__ == "__main__":
    main()
