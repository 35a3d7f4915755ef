"""An HTTP server that gives recorded answers, for clients of services that are not here."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Scripted:
    """Answers of one server.

    `answers` maps "METHOD /path" (or "METHOD /path/*") to a list of answers, taken one after another, the last one for good:
    (status, JSON or bytes), with headers as a third part where wanted, or a callable (request) -> such an answer. A request is
    a dict of method, path, query, headers, body; all are kept in `requests`.
    """

    def __init__(self, answers):
        self.answers = {key: list(value) for key, value in answers.items()}
        self.requests = []
        self.lock = threading.Lock()

    def answer(self, request):
        """The next answer to a request."""
        with self.lock:
            self.requests.append(request)
            key = f"{request['method']} {request['path']}"
            if key not in self.answers:
                key = next((k for k in self.answers if k.endswith("*") and f"{key}".startswith(k[:-1])), None)
            if key is None:
                return 404, {"detail": "nothing recorded for this"}
            left = self.answers[key]
            found = left.pop(0) if len(left) > 1 else left[0]
        return found(request) if callable(found) else found

    def bodies(self, path):
        """Bodies of the requests to a path, in order."""
        return [r["body"] for r in self.requests if r["path"] == path]


@contextlib.contextmanager
def serving(answers):
    """A running server; `script.url` is its address."""
    script = Scripted(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self):
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with contextlib.suppress(ValueError):
                body = json.loads(body)
            request = {"method": self.command, "path": parts.path, "query": parse_qs(parts.query)}
            answer = script.answer(request | {"headers": dict(self.headers), "body": body})
            if answer is None:  # the connection breaks
                self.close_connection = True
                self.connection.close()
                return
            status, content, *headers = answer
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers[0] if headers else {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass  # a client that breaks off is no news

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
