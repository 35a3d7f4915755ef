"""The packets of a request: what its body holds, as messages for the scorer; and schemas that do not hold it up."""

import base64
import binascii
import json
import threading
import time

from dgl_broker.alert import Message
from dgl_broker.errors import DglError, PacketError, ServiceFailed
from dgl_broker.wire import DEFAULT, decode_all
from dgl_broker.wire.containers import MAGIC, Container

LEFT_ALONE_S = 10.0  # a registry that failed


class BadBody(DglError):
    """A body that is not what its type says; `status` is HTTP's."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def messages_of_bytes(body, survey, at_most):
    """Messages of a framed packet, or of a container of one or many alerts.

    One alert stays as it came, so that it meets the very code that the stream has; what cannot be read is one message, a
    dead letter to be.

    Raises
    ------
    BadBody
        If there are more than `at_most`.
    """
    if body[:4] == MAGIC:
        try:
            count = sum(n for n, _, _ in Container(body, DEFAULT).blocks())
        except PacketError:
            count = 1
        if count > at_most:
            raise BadBody(413, f"a container of {count} alerts, at most {at_most} in a request")
        if count > 1:
            return [Message(raw, packet=packet) for packet, raw in decode_all(body, survey)]
    return [Message(body)]


def messages_of_json(body, at_most):
    """Messages of `{"packets": [base64, ...]}`, one packet each.

    Raises
    ------
    BadBody
    """
    try:
        packets = json.loads(body)["packets"]
        if not isinstance(packets, list):
            raise TypeError("packets")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadBody(422, 'body: expected {"packets": [base64 text, ...]}') from error
    if len(packets) > at_most:
        raise BadBody(413, f"{len(packets)} packets, at most {at_most} in a request")
    messages = []
    for n, text in enumerate(packets):
        try:
            messages.append(Message(base64.b64decode(text, validate=True)))
        except (ValueError, TypeError, binascii.Error) as error:
            raise BadBody(422, f"packets[{n}]: expected base64 text") from error
    return messages


class SteadySchemas:
    """A source of schemas that, after a failure, is not asked for new ones for a while: each asking may take seconds.

    Parameters
    ----------
    source : dgl_broker.wire.SchemaSource
    """

    def __init__(self, source):
        self.source = source
        self._known = {}
        self._not_before = 0.0
        self._lock = threading.Lock()

    def check(self):
        """Raises if the source is not to be had."""
        self.source.check()

    def writer_schema(self, number):
        """As the source has it; ServiceFailed at once where it failed a moment ago."""
        with self._lock:
            if number in self._known:
                return self._known[number]
            if time.monotonic() < self._not_before:
                raise ServiceFailed(f"schema id {number}: {self.source!r} failed a moment ago")
            try:
                self._known[number] = self.source.writer_schema(number)
            except PacketError:
                raise
            except DglError:
                self._not_before = time.monotonic() + LEFT_ALONE_S
                raise
            return self._known[number]
