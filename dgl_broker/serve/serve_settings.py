"""The keys of `serve.yaml`, and the file and the environment read into them."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from dgl_broker.settings_model import (
    Batch,
    Count,
    Device,
    HttpUrl,
    Log,
    Port,
    Positive,
    Section,
    Topic,
    is_secret_kafka_key,
    password_in_url,
)
from dgl_broker.settings_reading import Problem, kafka_problems, raise_problems, read_layered, resolved_path, validated

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MIB = 1024 * 1024


class Survey(Section):
    """One survey whose packets are scored."""

    bundle: str = Field("default", description="id of a shipped bundle, or the folder of one")
    filters: list[str] | None = Field(
        None, description="files, or names of shipped filters; by default `lensed_sn_<survey>`; `[]` scores everything"
    )
    schemas: str | None = Field(None, description="folder or registry URL of the packets' schemas")
    schemas_user: str | None = Field(None, description="user of the registry that `schemas` names")
    schemas_password: SecretStr | None = Field(None, description="its password, from the environment")
    ungated: bool = Field(False, description="score also what the filters' pre-cuts refuse")
    programids: list[int] = Field([1], description="ZTF programmes whose alerts are scored; 1 is the public one")


class Surveys(Section):
    """The surveys whose packets are scored; one that is left out is not."""

    ztf: Survey | None = Field(None, description="packets of ZTF are scored: the keys below")
    lsst: Survey | None = Field(None, description="packets of Rubin/LSST are scored: the same keys")


class ServeBatch(Batch):
    """When a batch closes: on size or on age, whichever comes first."""

    max_wait_s: Positive = Field(0.02, description="or this long after its first request [s]")


class Limits(Section):
    """What one client, and all of them, may ask for."""

    packets: Count = Field(256, description="packets in one request")
    request_bytes: Annotated[int, Field(ge=1024)] = Field(64 * MIB, description="bytes of one request's body")
    queue_packets: Count = Field(2048, description="packets that wait at most, of all requests; beyond: 429")
    queue_bytes: Annotated[int, Field(ge=1024)] = Field(512 * MIB, description="bytes of all requests at hand; beyond: 429")
    receive_s: Positive = Field(30.0, description="how long a request's body may take to arrive [s]; beyond: 408")
    answer_s: Positive = Field(30.0, description="how long scoring a request may take, waiting included [s]; beyond: 504")
    connections: Count = Field(512, description="connections at once; beyond: 503")


class Store(Section):
    """The store that follows the scores topics."""

    path: str = Field(description="folder of the store, on a local disk")
    topics: list[Topic] = Field(["dgl.ztf.scores", "dgl.lsst.scores"], min_length=1, description="topics that it follows")
    registry: HttpUrl | None = Field(None, description="schema registry of the score records; without: Avro containers")
    registry_user: str | None = Field(None, description="user of that registry")
    registry_password: SecretStr | None = Field(None, description="its password, from the environment")
    keep_days: Positive = Field(90.0, description="how long a score is kept [days]")
    max_bytes: Annotated[int, Field(ge=MIB)] = Field(
        16 * 1024 * MIB, description="largest size of the store's file; near it the oldest scores go first"
    )


class Tls(Section):
    """Certificate and key, PEM files."""

    certificate: str = Field(description="file of the certificate chain")
    key: str = Field(description="file of its private key")


class ServeSettings(Section):
    """All of it. `kafka` holds librdkafka's own keys, unchanged."""

    host: str = Field("127.0.0.1", description="address that is bound to; any but loopback needs a token")
    port: Port = Field(8060, description="port")
    token: SecretStr | None = Field(None, description="what clients must send, from the environment: DGL_BROKER__TOKEN")
    tls: Tls | None = Field(None, description="serve https: the keys below")
    surveys: Surveys = Surveys()
    device: Device = Field("cpu", description="'cpu', 'cuda' or 'cuda:N'; what is not there is not replaced")
    prevalence: Annotated[float, Field(gt=0, lt=1)] = Field(1e-6, description="share of lensed supernovae in the stream")
    batch: ServeBatch = ServeBatch()
    limits: Limits = Limits()
    store: Store | None = Field(None, description="answer what the filter published: the keys below")
    kafka: dict[str, str | int | float | bool] = Field({}, description="librdkafka's keys, for the store")
    log: Log = Log()

    def filters_of(self, survey):
        """Filters of a survey that is scored: of the file, or the shipped one."""
        chosen = getattr(self.surveys, survey).filters
        return [f"lensed_sn_{survey}"] if chosen is None else list(chosen)

    @property
    def scored_surveys(self):
        """Names of the surveys whose packets are scored."""
        return tuple(name for name in Surveys.model_fields if getattr(self.surveys, name) is not None)

    def secrets(self):
        """Every secret text in here, for the log to leave out."""
        found = [str(v) for k, v in self.kafka.items() if is_secret_kafka_key(k)]
        sections = [getattr(self.surveys, name) for name in self.scored_surveys]
        secret = [self.token, self.store and self.store.registry_password, *(s.schemas_password for s in sections)]
        found += [s.get_secret_value() for s in secret if s]
        found += [password_in_url(u) for u in (self.store and self.store.registry, *(s.schemas for s in sections)) if u]
        return [text for text in found if text]


def _resolve_paths(raw, folder):
    """Relative paths are relative to the file's folder."""

    def put(section, key, always=False):
        text = section.get(key) if isinstance(section, dict) else None
        if isinstance(text, str):
            there = str((folder / Path(text).expanduser()).resolve()) if "://" not in text else text
            section[key] = there if always else resolved_path(text, folder)

    surveys = raw.get("surveys")
    for section in surveys.values() if isinstance(surveys, dict) else ():
        put(section, "bundle")
        put(section, "schemas", always=True)
        if isinstance(section, dict) and isinstance(section.get("filters"), list):
            section["filters"] = [resolved_path(f, folder) for f in section["filters"]]
    put(raw.get("store"), "path", always=True)
    for key in ("certificate", "key"):
        put(raw.get("tls"), key, always=True)


def _cross_problems(settings):
    problems = []
    if not settings.scored_surveys and settings.store is None:
        problems.append(Problem("surveys", "nothing, and no store", "surveys to score, a store to answer from, or both"))
    if settings.host not in LOOPBACK and settings.token is None:
        problems.append(Problem("token", f"none, with host {settings.host}", "one in the environment, as DGL_BROKER__TOKEN"))
    if settings.token is not None and not _is_sendable(settings.token.get_secret_value()):
        problems.append(Problem("token", "one that no header can carry", "at least 16 printable ASCII characters, no blanks"))
    if settings.limits.packets > settings.limits.queue_packets:
        problems.append(Problem("limits.packets", str(settings.limits.packets), "at most limits.queue_packets"))
    if settings.limits.request_bytes > settings.limits.queue_bytes:
        problems.append(Problem("limits.request_bytes", str(settings.limits.request_bytes), "at most limits.queue_bytes"))
    return problems


def _is_sendable(token):
    return len(token) >= 16 and all("!" <= c <= "~" for c in token)


def check_serve_settings(path, environ=None):
    """(settings or None, problems) of `serve.yaml` under the environment's overrides.

    Raises
    ------
    ConfigError, InputUnavailable
        If the file is not there or is not YAML, so that nothing more can be said.
    """
    raw, problems = read_layered(path, environ, ServeSettings)
    if raw is None:
        return None, problems
    _resolve_paths(raw, Path(path).resolve().parent)
    settings, found = validated(raw, ServeSettings)
    problems += found
    if settings is not None:
        problems += _cross_problems(settings)
    if raw.get("store") is not None and isinstance(raw["kafka"], dict):
        problems += kafka_problems(raw["kafka"])
    return (None if problems else settings), problems


def load_serve_settings(path, environ=None):
    """Settings of `serve.yaml`; arguments and errors as `dgl_broker.settings.load_settings` has them."""
    settings, problems = check_serve_settings(path, environ)
    raise_problems(path, problems)
    return settings
