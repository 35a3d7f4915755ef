"""A small HTTP registry that speaks what we use of Confluent's API: schemas by id out, schemas of subjects in."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def official_lsst_schemas():
    """id -> schema of the Rubin schema versions, from lsst-alert-packet, with every part written out."""
    from lsst.alert.packet import Schema, get_schema_root

    out = {}
    for path in Path(get_schema_root()).glob("*/*/lsst.v*.alert.avsc"):
        major, minor = int(path.parts[-3]), int(path.parts[-2])
        if major >= 7:
            out[100 * major + minor] = plain(Schema.from_file(str(path)).definition)
    return out


def plain(schema):
    """A parsed schema without fastavro's own marks."""
    if isinstance(schema, dict):
        return {k: plain(v) for k, v in schema.items() if not k.startswith("__")}
    return [plain(s) for s in schema] if isinstance(schema, list) else schema


class Registry:
    """Serves `schemas` (id -> schema) on a loopback port, behind a password where one is given; `down` answers 503.

    Attributes
    ----------
    asked : list of str
        Paths of all GET requests.
    subjects : dict
        Subject -> list of (id, schema) that were posted.
    """

    def __init__(self, schemas=None, user=None, password=None, port=0):
        self.schemas = dict(schemas or {})
        self.asked, self.subjects = [], {}
        self.down = False
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._authorization = None if user is None else f"Basic {token}"
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                registry.asked.append(self.path)
                if self._is_refused():
                    return
                if self.path == "/schemas/types":
                    self._answer(200, ["AVRO"])
                    return
                number = int(self.path.rsplit("/", 1)[1])
                if number in registry.schemas:
                    self._answer(200, {"schema": json.dumps(registry.schemas[number])})
                else:
                    self._answer(404, {"error_code": 40403, "message": "Schema not found"})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self._is_refused():
                    return
                _, _, subject, _ = self.path.split("/")
                self._answer(200, {"id": registry.add(subject, json.loads(body["schema"]))})

            def _is_refused(self):
                if registry.down:
                    self._answer(503, {"error_code": 50301, "message": "down"})
                elif registry._authorization not in (None, self.headers.get("Authorization")):
                    self._answer(401, {"error_code": 401, "message": "Unauthorized"})
                else:
                    return False
                return True

            def _answer(self, status, content):
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, subject, schema):
        """Id of a schema: the one it has, whatever the subject, or the next."""
        number = next((n for n, known in self.schemas.items() if known == schema), None)
        if number is None:
            number = self.schemas and max(self.schemas) + 1 or 1
            self.schemas[number] = schema
        self.subjects.setdefault(subject, []).append((number, schema))
        return number

    def close(self):
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
