"""The keys of `broker.yaml`, their kinds and defaults. `settings` reads them.

Only `survey`, `kafka.bootstrap.servers` and `input.topics` must be given.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from dgl_broker.topic_names import TOPIC, is_topic_or_template
from dgl_broker.wire.limits import DEFAULT, Limits

SCORABLE, ALL, NONE = "scorable", "all", "none"
SECRET = re.compile(r"(password|secret|passphrase|key\.pem)\Z")


def is_secret_kafka_key(key):
    """Whether a librdkafka key holds a secret."""
    return SECRET.search(key) is not None


def password_in_url(url):
    """The password in `scheme://user:password@host`, or None."""
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _expect(test, expected):
    """Validator that asks `test(value)` and otherwise says `expected`."""

    def check(value):
        if not test(value):
            raise ValueError(expected)
        return value

    return check


def parse_start(text):
    """`input.start` as it is ("committed", "earliest", "latest"), or an ISO time as ms since 1970 (UTC where no zone is given).

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text in ("committed", "earliest", "latest"):
        return text
    when = datetime.fromisoformat(text)
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def _is_start(text):
    try:
        parse_start(text)
    except ValueError:
        return False
    return True


def _refused(value):
    if value in (ALL, SCORABLE, NONE) or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1):
        return value
    raise ValueError("'all', 'scorable', 'none' or a rate from 0 to 1")


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Topic = Annotated[str, AfterValidator(_expect(TOPIC.match, "a topic's name: letters, digits, '.', '_' and '-', at most 249"))]
InputTopic = Annotated[
    str,
    AfterValidator(
        _expect(is_topic_or_template, "a topic's name, or a template with the date in it such as ztf_{night:%Y%m%d}_programid1")
    ),
]
Device = Annotated[str, AfterValidator(_expect(re.compile(r"cpu|cuda(:\d+)?").fullmatch, "'cpu', 'cuda' or 'cuda:N'"))]
Start = Annotated[str, AfterValidator(_expect(_is_start, "'committed', 'earliest', 'latest' or an ISO time"))]
HttpUrl = Annotated[str, AfterValidator(_expect(re.compile(r"https?://[^\s/]+.*").fullmatch, "an http:// or https:// URL"))]


class Section(BaseModel):
    """A mapping of the file: nothing unknown in it, nothing converted on the quiet."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Input(Section):
    """What is read."""

    topics: list[InputTopic] = Field(min_length=1, description="topics to read, by name or by a template with the night's date")
    nights: Count = Field(2, description="how many nights a template stands for, the present one included")
    start: Start = Field("committed", description="where to start in topics that exist at the start")
    schemas: str | None = Field(None, description="folder or registry URL of the packets' schemas")
    schemas_user: str | None = Field(None, description="user of the registry that `schemas` names")
    schemas_password: SecretStr | None = Field(None, description="its password, from the environment")
    programids: list[int] = Field([1], description="ZTF programmes whose alerts may be published; 1 is the public one")


class Desc(Section):
    """DESC's `BrokerMessage`, for its stations; v10 LSST alerts only."""

    topic: Topic = Field(description="topic of the messages")
    schemas: str = Field(description="folder with fastdb.v10_0_0.BrokerMessage.avsc and the official lsst.v10_0 schemas")
    broker_name: str = Field("dgl-broker", description="brokerName, agreed with DESC; it never changes")
    classifier_name: str = Field("DeepGraviLens", description="classifierName")
    class_id: int = Field(2221, description="class that p_lsn is given to: 2221, SN-like/Other; the rest goes to 200, Residual")


class Output(Section):
    """What is written. `None` for the three topics means `dgl.<survey>.scores`, `.candidates`, `.deadletters`."""

    scores: Topic | None = Field(None, description="topic of the score records; by default `dgl.<survey>.scores`")
    candidates: Topic | None = Field(None, description="topic of what passes a filter; by default `dgl.<survey>.candidates`")
    dead_letters: Topic | None = Field(None, description="topic of what cannot be read; by default `dgl.<survey>.deadletters`")
    registry: HttpUrl | None = Field(None, description="schema registry for our schemas; without: Avro containers")
    registry_user: str | None = Field(None, description="user of that registry")
    registry_password: SecretStr | None = Field(None, description="its password, from the environment")
    refused: Annotated[str | float, BeforeValidator(_refused)] = Field(
        SCORABLE, description="which refusals are published: all, scorable (all but those of pre-cuts), none, or a rate of them"
    )
    spill: str = Field("spill", description="folder for dead letters larger than the broker's limit")
    desc: Desc | None = Field(None, description="DESC's BrokerMessage as well: the keys below")


class Batch(Section):
    """When a batch closes: on size or on age, whichever comes first."""

    max_alerts: Annotated[int, Field(ge=1, le=100_000)] = Field(256, description="a batch closes at this many messages")
    max_wait_s: Positive = Field(1.0, description="or this long after its first one [s]")


class Companions(Section):
    """The store of earlier stamps (`companions.py`)."""

    store: Literal["none", "redis"] = Field("none", description="'none', or 'redis' for any server that speaks its protocol")
    url: str | None = Field(None, description="redis://host:port/db; a password in it only in the environment")
    remember: dict[str, Any] = Field(
        default_factory=dict, description="criteria on the packet, as in a filter's require; by default all that are scored"
    )
    expire_days: Positive = Field(30.0, description="how long stamps are kept [days]")


class Overload(Section):
    """What is let go when we are late."""

    max_age_s: Positive | None = Field(None, description="alerts older than this by Kafka's timestamp are refused `too_old`")


class Workers(Section):
    """Several processes under one supervisor."""

    count: Count | None = Field(None, description="processes in one group, as `--workers`; by default one without a supervisor")
    threads: Count | None = Field(None, description="threads of each; by default the cores shared out, or OMP_NUM_THREADS")
    max_restarts: Annotated[int, Field(ge=0)] = Field(
        10, description="deaths of a worker in a row, without a batch delivered, after which one more ends them all"
    )


class PacketLimits(Section):
    """Beyond these a message is a dead letter (`too_large`, `too_slow`), or its alert refused (`stamp_bytes`: `bad_cutout`)."""

    message_bytes: Count = Field(DEFAULT.message_bytes, description="bytes of one message")
    inflated_bytes: Count = Field(DEFAULT.inflated_bytes, description="bytes of one alert once inflated")
    stamp_bytes: Count = Field(DEFAULT.stamp_bytes, description="bytes of one stamp once inflated")
    rows: Count = Field(DEFAULT.rows, description="rows of one history")
    seconds: Positive = Field(DEFAULT.seconds, description="CPU time of decoding one message [s]")


class Reports(Section):
    """What `dgl-broker report` tells of the candidates, and how often."""

    topic: Topic | None = Field(None, description="topic of the reports; by default `dgl.<survey>.reports`")
    state: Topic | None = Field(None, description="compacted topic of what was reported, one partition; `<topic>.state`")
    group_id: str | None = Field(None, description="consumer group of the stage; by default `<group.id>-reports`")
    max_per_night: Count = Field(50, description="reports of a night, of all states together, at most")
    min_log_odds: Finite | None = Field(None, description="candidates below are not reported; by default the filter decides")
    filters: list[str] | None = Field(None, description="names of the filters whose candidates are reported; by default all")
    brighter_mag: Positive = Field(1.0, description="an object is reported as brighter when it is so by so much [mag]")
    webhook: HttpUrl | None = Field(None, description="URL that each report is posted to, as JSON")
    webhook_token: SecretStr | None = Field(None, description="bearer token for it, from the environment")


class MetricsPort(Section):
    """Where /metrics, /healthz and /readyz are served; `port` None is nowhere."""

    port: Port | None = Field(None, description="port of /metrics, /healthz and /readyz; if taken, the next free one")
    host: str = Field("127.0.0.1", description="address it is bound to")
    reference: str | None = Field(None, description="scores of a reference night (`dgl-broker reference`), to see drift")


class Service(Section):
    """How long Kafka and the registry may fail before the process gives up (exit 5)."""

    max_failures: Count = Field(10, description="failures of a service in a row that end the process (exit 5)")
    timeout_s: Positive = Field(30.0, description="how long one answer may take [s]")


class Log(Section):
    """How the log is written, to standard error."""

    format: Literal["text", "json"] = Field("text", description="'text', or 'json' for one object a line")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is told")


class Settings(Section):
    """All of it. `kafka` holds librdkafka's own keys, unchanged."""

    survey: Literal["ztf", "lsst"] = Field(description="'ztf' or 'lsst'")
    bundle: str = Field("default", description="id of a shipped bundle, or the folder of one")
    shadow_bundle: str | None = Field(
        None, description="another bundle that scores beside and judges nothing, so that it has scores before it takes over"
    )
    device: Device = Field("cpu", description="'cpu', 'cuda' or 'cuda:N'; what is not there is not replaced")
    delivery: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once", description="produce, flush, commit; or outputs and offsets in one transaction"
    )
    prevalence: Annotated[float, Field(gt=0, lt=1)] = Field(1e-6, description="share of lensed supernovae in the stream")
    filters: list[str] | None = Field(
        None, description="files, or names of shipped filters; by default `lensed_sn_<survey>`; `[]` scores everything"
    )
    # Not shown: passwords are among them, as plain text.
    kafka: dict[str, str | int | float | bool] = Field(
        repr=False, description="librdkafka's keys, bootstrap.servers among them"
    )
    input: Input
    output: Output = Output()
    batch: Batch = Batch()
    companions: Companions = Companions()
    limits: PacketLimits = PacketLimits()
    overload: Overload = Overload()
    workers: Workers = Workers()
    reports: Reports = Reports()
    metrics: MetricsPort = MetricsPort()
    service: Service = Service()
    log: Log = Log()
    status: str | None = Field(
        None,
        description="folder where each worker says which filters it has in force; by default one beside the filters' files",
    )

    @field_validator("filters")
    @classmethod
    def _no_filter_twice(cls, value):
        if value is not None and len(set(value)) != len(value):
            raise ValueError("each filter once")
        return value

    @property
    def packet_limits(self):
        """`limits` as `dgl_broker.wire` takes them, with what is not configured."""
        return Limits(**self.limits.model_dump())

    @property
    def filters_in_force(self):
        """The filters of the file, or the shipped one of the survey where the file says nothing."""
        return [f"lensed_sn_{self.survey}"] if self.filters is None else list(self.filters)

    @property
    def group_id(self):
        """The consumer group."""
        return str(self.kafka.get("group.id", f"dgl-broker-{self.survey}"))

    @property
    def scores_topic(self):
        """Topic of the score records."""
        return self.output.scores or f"dgl.{self.survey}.scores"

    @property
    def candidates_topic(self):
        """Topic of what passes a filter."""
        return self.output.candidates or f"dgl.{self.survey}.candidates"

    @property
    def dead_letters_topic(self):
        """Topic of what could not be read."""
        return self.output.dead_letters or f"dgl.{self.survey}.deadletters"

    @property
    def reports_topic(self):
        """Topic of the reports of objects."""
        return self.reports.topic or f"dgl.{self.survey}.reports"

    @property
    def reports_state_topic(self):
        """Topic of what was reported."""
        return self.reports.state or f"{self.reports_topic}.state"

    @property
    def reports_group_id(self):
        """The consumer group of the stage that reports."""
        return self.reports.group_id or f"{self.group_id}-reports"

    @property
    def published_programids(self):
        """ZTF programmes whose alerts may be published; None where the survey has no programmes."""
        return frozenset(self.input.programids) if self.survey == "ztf" else None

    def secrets(self):
        """Every secret text in here, for the log to leave out."""
        found = [str(v) for k, v in self.kafka.items() if is_secret_kafka_key(k)]
        hidden = (self.input.schemas_password, self.output.registry_password, self.reports.webhook_token)
        found += [s.get_secret_value() for s in hidden if s]
        urls = (self.companions.url, self.input.schemas, self.output.registry, self.reports.webhook)
        in_urls = [password_in_url(u) for u in urls if u]
        found += [form for secret in in_urls if secret for form in (secret, unquote(secret))]
        return [secret for secret in found if secret]
