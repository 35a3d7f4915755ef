"""Our own schemas in a registry: registered once, at the start, under the subject of their topic."""

import json
import time

import requests

from dgl_broker.errors import ConfigError, ServiceFailed
from dgl_broker.wire.registry import PASSING_STATUS, RegistrySchemas

INCOMPATIBLE = 409


class OutputRegistry(RegistrySchemas):
    """A registry that also takes schemas."""

    def register(self, subject, schema):
        """Id of `schema` under `subject`; the registry gives the id it had, where it has this schema already.

        Raises
        ------
        ServiceFailed
            If the registry does not answer, after all retries.
        ConfigError
            If it refuses the schema as incompatible with an earlier one of the subject.
        InputUnavailable
            If it answers that we may not, or is no schema registry.
        """
        what = f"subject {subject}"
        path = f"{self.url}/subjects/{requests.utils.quote(subject, safe='')}/versions"
        body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        problem = None
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(0.5 * 2 ** (attempt - 1))
            try:
                answer = self._session.post(path, json=body, timeout=self.timeout_s)
            except (requests.ConnectionError, requests.Timeout) as error:
                problem = type(error).__name__
                continue
            if answer.status_code in PASSING_STATUS:
                problem = f"status {answer.status_code}"
                continue
            if answer.status_code == INCOMPATIBLE:
                raise ConfigError(f"{self}: {what}: our schema is not compatible with the one that stands there")
            content = self._content(answer, what)
            if isinstance(content, dict) and isinstance(content.get("id"), int):
                return content["id"]
            problem = "an answer without an id"
        raise ServiceFailed(f"{self}: {what}: {problem}, {self.retries + 1} times")
