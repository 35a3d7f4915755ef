"""The keys of `rekey.yaml`, and the file and the environment read into them.

Where a key means what it means in `broker.yaml`, it has the same name. The section `rekey` is what tells the two apart.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from dgl_broker.settings_model import (
    Batch,
    Input,
    Log,
    PacketLimits,
    Port,
    Section,
    Service,
    Settings,
    Topic,
    Workers,
    is_secret_kafka_key,
    password_in_url,
)
from dgl_broker.settings_reading import Problem, kafka_problems, raise_problems, read_layered, resolved_path, validated


class Rekey(Section):
    """What is written."""

    topic: Topic = Field(description="topic of the slimmed alerts, keyed by object")
    dead_letters: Topic | None = Field(
        None, description="topic of what cannot be read; by default `dgl.<survey>.deadletters`, as of `run`"
    )
    spill: str = Field("spill", description="folder for dead letters larger than the broker's limit")
    science: bool = Field(False, description="keep the stamp of the science image too, which paper bundles read")


class Metrics(Section):
    """Where /metrics, /healthz and /readyz are served; `port` None is nowhere."""

    port: Port | None = Field(None, description="port of /metrics, /healthz and /readyz; if taken, the next free one")
    host: str = Field("127.0.0.1", description="address it is bound to")


class RekeySettings(Section):
    """All of it. `kafka` holds librdkafka's own keys, unchanged."""

    survey: Literal["ztf", "lsst"] = Field(description="'ztf' or 'lsst'")
    filters: list[str] | None = Field(
        None,
        description="whose pre-cuts hold: files, or names of shipped ones; by default `lensed_sn_<survey>`; `[]`: all",
    )
    kafka: dict[str, str | int | float | bool] = Field(description="librdkafka's keys, bootstrap.servers among them")
    input: Input
    rekey: Rekey
    batch: Batch = Batch()
    limits: PacketLimits = PacketLimits()
    workers: Workers = Workers()
    metrics: Metrics = Metrics()
    service: Service = Service()
    log: Log = Log()
    status: str | None = Field(
        None,
        description="folder where each worker says which filters it has in force; by default one beside the filters' files",
    )

    delivery = property(lambda self: "exactly_once", doc="Outputs and offsets are in one transaction.")
    packet_limits = Settings.packet_limits
    filters_in_force = Settings.filters_in_force
    published_programids = Settings.published_programids

    @field_validator("filters")
    @classmethod
    def _no_filter_twice(cls, value):
        if value is not None and len(set(value)) != len(value):
            raise ValueError("each filter once")
        return value

    @property
    def group_id(self):
        """The consumer group."""
        return str(self.kafka.get("group.id", f"dgl-broker-rekey-{self.survey}"))

    @property
    def dead_letters_topic(self):
        """Topic of what could not be read."""
        return self.rekey.dead_letters or f"dgl.{self.survey}.deadletters"

    def secrets(self):
        """Every secret text in here, for the log to leave out."""
        found = [str(v) for k, v in self.kafka.items() if is_secret_kafka_key(k)]
        if self.input.schemas_password:
            found.append(self.input.schemas_password.get_secret_value())
        found.append(self.input.schemas and password_in_url(self.input.schemas))
        return [secret for secret in found if secret]


def _cross_problems(settings):
    """What single keys cannot show."""
    problems = []
    ours = {"rekey.topic": settings.rekey.topic, "rekey.dead_letters": settings.dead_letters_topic}
    for key, topic in ours.items():
        if topic in settings.input.topics:
            problems.append(Problem(key, topic, "another topic than those that are read: it would feed itself"))
    if ours["rekey.topic"] == ours["rekey.dead_letters"]:
        problems.append(Problem("rekey.dead_letters", settings.rekey.topic, "another topic than rekey.topic has"))
    return problems


def _resolve_paths(raw, folder):
    """Lay the file's folder under its relative paths."""
    if "status" in raw:
        raw["status"] = resolved_path(raw["status"], folder)
    if isinstance(raw.get("filters"), list):
        raw["filters"] = [resolved_path(f, folder) for f in raw["filters"]]
    if isinstance(raw.get("rekey"), dict):
        raw["rekey"].setdefault("spill", "spill")
    for values, key in ((raw.get("input"), "schemas"), (raw.get("rekey"), "spill")):
        if isinstance(values, dict) and isinstance(values.get(key), str) and "://" not in values[key]:
            values[key] = str((folder / Path(values[key]).expanduser()).resolve())


def check_rekey_settings(path, environ=None):
    """(settings or None, problems) of the file `path` under the environment `environ`.

    Raises
    ------
    ConfigError, InputUnavailable
        If the file is not there or is not YAML, so that nothing more can be said.
    """
    raw, problems = read_layered(path, environ, RekeySettings)
    if raw is None:
        return None, problems
    for section in ("input", "rekey"):
        raw.setdefault(section, {})
    _resolve_paths(raw, Path(path).resolve().parent)
    settings, found = validated(raw, RekeySettings)
    problems += found
    if settings is not None:
        problems += _cross_problems(settings)
    if isinstance(raw["kafka"], dict):
        problems += kafka_problems(raw["kafka"], "exactly_once")
    return (None if problems else settings), problems


def load_rekey_settings(path, environ=None):
    """Settings of the file `path` under the environment's overrides, as `settings.load_settings`.

    Raises
    ------
    ConfigError
        With every problem, each with its key, what was found and what was expected.
    InputUnavailable
        If there is no such file.
    """
    settings, problems = check_rekey_settings(path, environ)
    raise_problems(path, problems)
    return settings
