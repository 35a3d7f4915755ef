"""Schemas by id from a registry that speaks Confluent's HTTP API (also Karapace, Apicurio, Redpanda)."""

import time
from collections import OrderedDict
from urllib.parse import urlsplit, urlunsplit

import requests

from dgl_broker.errors import InputUnavailable, PacketError, ServiceFailed
from dgl_broker.wire.limits import DEFAULT
from dgl_broker.wire.schema_sources import NamedSchemas
from dgl_broker.wire.schema_tree import shown
from dgl_broker.wire.writer_schema import WriterSchema, parse_json

UNKNOWN_FOR_S = 60.0  # how long an id that the registry lacks is not asked for again
MAX_UNKNOWN = 10_000
MAX_REFERENCES = 64
NOT_FOUND_CODES = {40401, 40402, 40403}  # subject, version, schema not found
PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


class RegistrySchemas:
    """Schemas of a registry, each asked for once and kept for good.

    Parameters
    ----------
    url : str
        With or without a path; a user and password in it are taken out of it.
    user, password : str, optional
        For basic authentication.
    timeout_s : float
        Of one request.
    retries : int
        Further attempts where the registry does not answer or is busy, 0.5 s, 1 s, 2 s ... apart.
    limits : Limits
    """

    def __init__(self, url, user=None, password=None, timeout_s=10.0, retries=4, limits=DEFAULT):
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self.timeout_s, self.retries, self.limits = timeout_s, retries, limits
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/vnd.schemaregistry.v1+json, application/json"
        user, password = user or parts.username, password or parts.password
        if user is not None:
            self._session.auth = (user, password or "")
        self._schemas = {}
        self._unknown = OrderedDict()

    def __repr__(self):
        return f"registry {self.url}"

    def close(self):
        """Gives its connections back."""
        self._session.close()

    def check(self):
        """Raises if the registry does not answer: what readiness and `check-config` ask.

        Raises
        ------
        ServiceFailed, InputUnavailable
        """
        self._get("/schemas/types", "its types", list)

    def writer_schema(self, number):
        """The `WriterSchema` of an id.

        Raises
        ------
        PacketError
            `unknown_schema` where the registry has none of this id, `bad_schema` where it is unusable.
        ServiceFailed
            Where the registry does not answer, after all retries.
        InputUnavailable
            Where it answers that we may not, or is no schema registry.
        """
        if number in self._schemas:
            return self._schemas[number]
        if time.monotonic() < self._unknown.get(number, 0.0):
            raise _unknown(number, self)
        answer = self._get(f"/schemas/ids/{number}", f"schema id {number}")
        if answer is None:
            self._unknown[number] = time.monotonic() + UNKNOWN_FOR_S
            if len(self._unknown) > MAX_UNKNOWN:
                self._unknown.popitem(last=False)
            raise _unknown(number, self)
        if answer.get("schemaType", "AVRO") != "AVRO":
            raise PacketError("bad_schema", f"schema id {number} is {str(answer['schemaType'])[:40]}, expected AVRO")
        named = NamedSchemas()
        self._add_references(answer, named, set())
        self._schemas[number] = WriterSchema(_schema_of(answer, number), self.limits, named, number)
        return self._schemas[number]

    def _add_references(self, answer, named, seen):
        """Reads the schemas that an answer refers to, and those that they refer to."""
        references = answer.get("references") or []
        if not isinstance(references, list) or not all(isinstance(one, dict) for one in references):
            raise PacketError("bad_schema", f"a schema refers to {shown(references)}, expected a list of subjects and versions")
        for reference in references:
            subject, version = reference.get("subject"), reference.get("version")
            if not isinstance(subject, str) or not isinstance(version, int):
                raise PacketError("bad_schema", f"a schema refers to {shown(reference)}, expected a subject and a version")
            if (subject, version) in seen:
                continue
            seen.add((subject, version))
            if len(seen) > MAX_REFERENCES:
                raise PacketError("bad_schema", f"schema refers to more than {MAX_REFERENCES} others")
            what = f"subject {subject} version {version}"
            found = self._get(f"/subjects/{requests.utils.quote(subject, safe='')}/versions/{version}", what)
            if found is None:
                raise PacketError("unknown_schema", f"{what}, to which a schema refers: not in {self}")
            self._add_references(found, named, seen)
            named.add(_schema_of(found, what))

    def _get(self, path, what, kind=dict):
        """JSON object (or list) of an answer, or None where the registry says that there is none."""
        problem = None
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(0.5 * 2 ** (attempt - 1))
            try:
                answer = self._session.get(self.url + path, timeout=self.timeout_s)
            except (requests.ConnectionError, requests.Timeout) as error:
                problem = type(error).__name__
                continue
            except requests.RequestException as error:
                raise InputUnavailable(f"{self}: {what}: {type(error).__name__}") from error
            if answer.status_code in PASSING_STATUS:
                problem = f"status {answer.status_code}"
                continue
            return self._content(answer, what, kind)
        raise ServiceFailed(f"{self}: {what}: {problem}, {self.retries + 1} times")

    def _content(self, answer, what, kind=dict):
        if answer.status_code in (401, 403):
            raise InputUnavailable(
                f"{self}: {what}: not allowed (status {answer.status_code}); user and password are asked for"
            )
        try:
            content = answer.json()
        except ValueError:
            content = None
        if answer.status_code == 404 and isinstance(content, dict) and content.get("error_code") in NOT_FOUND_CODES:
            return None
        if answer.status_code != 200 or not isinstance(content, kind):
            raise InputUnavailable(f"{self}: {what}: status {answer.status_code}, no answer of a schema registry")
        return content


def _unknown(number, source):
    return PacketError("unknown_schema", f"schema id {number}: not in {source}")


def _schema_of(answer, what):
    """The schema of an answer, which is JSON within JSON."""
    text = answer.get("schema")
    if not isinstance(text, str):
        raise PacketError("bad_schema", f"{what}: registry's answer has no schema")
    return parse_json(text)
