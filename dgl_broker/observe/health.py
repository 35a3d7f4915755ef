"""/metrics, /healthz and /readyz on one port, loopback unless configured."""

import json
import logging
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dgl_broker.errors import StateError
from dgl_broker.observe.metrics import CONTENT_TYPE

log = logging.getLogger(__name__)
PORTS_TRIED = 100
STALE_S = 600.0  # a loop that has not come round for this long hangs; librdkafka's max.poll.interval is half of it


class Health:
    """Whether the process lives (its loop comes round) and is ready (every condition holds)."""

    def __init__(self, conditions=("bundle", "partitions", "schemas")):
        self._conditions = dict.fromkeys(conditions, False)
        self._beat = time.monotonic()

    def beat(self, at=None):
        """The loop came round, now or at a time of `time.monotonic`."""
        self._beat = time.monotonic() if at is None else at

    def set(self, condition, holds):
        """Take note of one condition of readiness."""
        self._conditions[condition] = bool(holds)

    @property
    def alive(self):
        """Whether the loop came round of late."""
        return time.monotonic() - self._beat < STALE_S

    @property
    def ready(self):
        """Whether every condition holds."""
        return self.alive and all(self._conditions.values())

    def as_dict(self):
        """The conditions and what they come to."""
        return {"alive": self.alive, "ready": self.ready, **self._conditions}


def serve(health, metrics, host, port):
    """Serve in a thread; the server, whose `server_port` is `port` or, where that is taken, the next free one.

    Raises
    ------
    StateError
        If none of a hundred ports is free, or the host is none of this machine's.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            if path == "/metrics":
                self._answer(200, metrics.text(), CONTENT_TYPE)
            elif path in ("/healthz", "/readyz"):
                good = health.alive if path == "/healthz" else health.ready
                self._answer(200 if good else 503, json.dumps(health.as_dict()).encode(), "application/json")
            else:
                self._answer(404, b"metrics are at /metrics\n", "text/plain")

        def _answer(self, status, body, content_type):
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass  # a scrape every few seconds is no news

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request, client_address):
            if not isinstance(sys.exc_info()[1], ConnectionError):  # who asked did not wait for the answer: no news
                super().handle_error(request, client_address)

    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        try:
            server = Server((host, candidate), Handler)
            break
        except OSError as error:
            problem = error
    else:
        raise StateError(f"metrics.port {port}: {problem.strerror}, and so are the next {PORTS_TRIED - 1}")
    if candidate != port:
        log.warning("metrics port %d is taken; serving on %d", port, candidate)
    log.info("metrics on http://%s:%d/metrics", host, candidate)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
