"""From `broker.yaml` and the environment to `Settings`, or to the list of all that is wrong with them.

`DGL_BROKER__SECTION__KEY` overrides a key of the file; under KAFKA the dots of librdkafka's keys are underscores, so that
`sasl.password` is `DGL_BROKER__KAFKA__SASL_PASSWORD`. A secret stands in the environment only: one in the file is a problem.
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from dgl_broker.errors import ConfigError
from dgl_broker.librdkafka import properties, property_problem
from dgl_broker.settings_model import SECRET, Settings, is_secret_kafka_key, parse_start, password_in_url
from dgl_broker.yaml_reader import read_yaml, read_yaml_text

__all__ = ["Problem", "Settings", "check_settings", "load_settings", "parse_start"]
PREFIX = "DGL_BROKER__"
# Ours to set: what the accounts and the delivery rest on.
RESERVED = {
    "enable.auto.commit": "nothing: offsets are committed when their outcomes are out",
    "auto.commit.enable": "nothing: offsets are committed when their outcomes are out",
    "enable.auto.offset.store": "nothing: offsets are committed when their outcomes are out",
    "enable.partition.eof": "nothing: it is always on",
    "delivery.report.only.error": "nothing: every report is checked",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration."""

    key: str
    found: str
    expected: str

    def __str__(self):
        return f"{self.key}: found {self.found}, expected {self.expected}"


def _nearest(name, known):
    close = difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.5)
    if close:
        return f"; the nearest known one is {close[0]}"
    return f"; known are {', '.join(sorted(known))}" if len(known) < 30 else ""


def _section_of(model, key):
    """The section class that `key` of `model` holds, or None where it holds a value."""
    field = model.model_fields.get(key)
    options = [] if field is None else [field.annotation, *get_args(field.annotation)]
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _is_text(model, key):
    """Whether `key` of `model` takes plain text, so that a value from the environment is not read as YAML."""
    field = model.model_fields.get(key)
    if field is None:
        return False
    options = {field.annotation, *get_args(field.annotation)}
    return bool(options & {str, SecretStr}) and not options & {int, float, list} and get_origin(field.annotation) is not list


def _override(raw, environ):
    """Lay the environment over `raw`; the problems met."""
    problems = []
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        *sections, key = name[len(PREFIX) :].lower().split("__")
        if sections == ["kafka"]:
            if isinstance(raw["kafka"], dict):
                raw["kafka"][key.replace("_", ".")] = environ[name]
            continue
        model, target, unknown = Settings, raw, None
        for part in sections:
            section = _section_of(model, part)
            if section is None:
                unknown = part
                break
            model, target = section, target.setdefault(part, {}) if isinstance(target, dict) else target
        if unknown is None and key not in model.model_fields:
            unknown = key
        if unknown is not None:
            problems.append(Problem(name, f"unknown key {unknown!r}", f"a known one{_nearest(unknown, model.model_fields)}"))
        elif isinstance(target, dict):
            try:
                target[key] = environ[name] if _is_text(model, key) else read_yaml_text(environ[name], name)
            except ConfigError:
                problems.append(Problem(name, "text that is not YAML", "a value"))
    return problems


def _secrets_in_file(raw):
    """Secrets that the file holds itself."""
    problems = []

    def add(key, variable):
        problems.append(Problem(key, "a secret in the file", f"it in the environment, as {variable}"))

    for key in raw.get("kafka") if isinstance(raw.get("kafka"), dict) else ():
        if is_secret_kafka_key(str(key)):
            add(f"kafka.{key}", f"{PREFIX}KAFKA__{str(key).upper().replace('.', '_')}")
    for section, values in raw.items():
        for key, value in values.items() if isinstance(values, dict) and section != "kafka" else ():
            url = isinstance(value, str) and password_in_url(value)
            if (url or (isinstance(key, str) and key.endswith("_password"))) and value is not None:
                add(f"{section}.{key}", f"{PREFIX}{section.upper()}__{key.upper()}")
    return problems


def _kafka_problems(kafka, delivery):
    problems = []
    known = {p.name for p in properties().values() if not p.callback}
    if not kafka.get("bootstrap.servers"):
        problems.append(Problem("kafka.bootstrap.servers", "nothing", "the brokers, host:port[,host:port...]"))
    for key, value in kafka.items():
        if key in RESERVED:
            problems.append(Problem(f"kafka.{key}", _shown(key, value), RESERVED[key]))
        elif key not in known:
            problems.append(Problem(f"kafka.{key}", "an unknown key", f"one of librdkafka's{_nearest(key, known)}"))
        elif said := property_problem(key, value):
            said = said if not is_secret_kafka_key(key) else "what librdkafka accepts"
            problems.append(Problem(f"kafka.{key}", _shown(key, value), f"what librdkafka accepts: {said}"))
    mechanism = kafka.get("sasl.mechanism", kafka.get("sasl.mechanisms", ""))
    if str(mechanism).upper() == "GSSAPI" and property_problem("builtin.features", "sasl_gssapi"):
        expected = "another mechanism, or a librdkafka with Kerberos (confluent-kafka's wheels have none; see the README)"
        problems.append(Problem("kafka.sasl.mechanism", "GSSAPI", expected))
    if "transactional.id" in kafka and delivery != "exactly_once":
        problems.append(Problem("kafka.transactional.id", "one without delivery: exactly_once", "none"))
    if str(kafka.get("auto.offset.reset", "earliest")) not in ("earliest", "latest", "smallest", "largest", "beginning", "end"):
        problems.append(Problem("kafka.auto.offset.reset", str(kafka["auto.offset.reset"]), "'earliest' or 'latest'"))
    return problems


def _shown(key, value):
    text = "(hidden)" if SECRET.search(str(key)) or (isinstance(value, str) and password_in_url(value)) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _value_at(raw, loc):
    for part in loc:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _model_at(loc):
    model = Settings
    for part in loc:
        section = _section_of(model, part) if model and isinstance(part, str) else None
        if section is None:
            return None
        model = section
    return model


def _field_problem(raw, error):
    """One of pydantic's errors as a `Problem`."""
    loc = error["loc"]
    # Members of a union stand in the location as words of their own, such as `str`.
    while loc and loc[-1] in ("str", "int", "float", "bool"):
        loc = loc[:-1]
    key = ".".join(str(part) for part in loc)
    if error["type"] == "missing":
        model = _model_at(loc[:-1])
        field = model.model_fields.get(loc[-1]) if model else None
        return Problem(key, "nothing", (field.description if field else None) or "a value")
    if error["type"] == "extra_forbidden":
        known = _model_at(loc[:-1]).model_fields
        return Problem(key, "an unknown key", f"a known one{_nearest(loc[-1], known)}")
    expected = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] in ("model_type", "dict_type", "model_attributes_type"):
        expected = "a mapping of keys"
    elif error["type"] == "too_short":
        expected = "at least one"
    elif loc[0] == "kafka":
        expected = "text, a number, true or false"
    return Problem(key, _shown(loc[-1] if loc else "", _value_at(raw, loc)), expected)


def _cross_problems(settings):
    """What single keys cannot show."""
    problems = []
    ours = {
        "output.scores": settings.scores_topic,
        "output.candidates": settings.candidates_topic,
        "output.dead_letters": settings.dead_letters_topic,
    }
    if settings.output.desc:
        ours["output.desc.topic"] = settings.output.desc.topic
    seen = {}
    for key, topic in ours.items():
        if topic in settings.input.topics:
            problems.append(Problem(key, topic, "another topic than those that are read: it would feed itself"))
        if topic in seen:
            problems.append(Problem(key, topic, f"another topic than {seen[topic]} has"))
        seen.setdefault(topic, key)
    if settings.companions.store == "redis" and not settings.companions.url:
        problems.append(Problem("companions.url", "nothing", "the URL of the server, redis://host:port/db"))
    if settings.output.desc and settings.survey != "lsst":
        problems.append(Problem("output.desc", "it with survey ztf", "survey: lsst, whose alerts BrokerMessage holds"))
    return problems


def _resolve_paths(raw, folder):
    """Relative paths of the file are relative to its folder; names of shipped things have no slash and no suffix."""

    def resolved(text):
        is_path = isinstance(text, str) and "://" not in text and ("/" in text or text.endswith((".yaml", ".yml")))
        return str((folder / Path(text).expanduser()).resolve()) if is_path else text

    out = dict(raw)
    for key in ("bundle", "status"):
        if key in out:
            out[key] = resolved(out[key])
    if isinstance(out.get("filters"), list):
        out["filters"] = [resolved(f) for f in out["filters"]]
    output = out.get("output", {})
    places = [(out.get("input"), "schemas"), (output, "spill")]
    if isinstance(output, dict):
        out["output"] = output
        output.setdefault("spill", "spill")
        places.append((output.get("desc"), "schemas"))
    for values, key in places:
        if isinstance(values, dict) and isinstance(values.get(key), str) and "://" not in values[key]:
            values[key] = str((folder / Path(values[key]).expanduser()).resolve())
    return out


def check_settings(path, environ=None):
    """(settings or None, problems) of the file `path` under the environment `environ`.

    Raises
    ------
    ConfigError, InputUnavailable
        If the file is not there or is not YAML, so that nothing more can be said.
    """
    environ = os.environ if environ is None else environ
    raw = read_yaml(path)
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        return None, [Problem(str(path), type(raw).__name__, "a mapping of keys")]
    problems = _secrets_in_file(raw)
    raw.setdefault("kafka", {})
    raw.setdefault("input", {})
    problems += _override(raw, environ)
    raw = _resolve_paths(raw, Path(path).resolve().parent)
    if isinstance(raw["kafka"], dict):
        raw["kafka"] = {str(k): v for k, v in raw["kafka"].items()}
    settings = None
    try:
        settings = Settings.model_validate(raw)
        problems += _cross_problems(settings)
    except ValidationError as error:
        told = set()
        for one in error.errors(include_url=False, include_context=False):
            problem = _field_problem(raw, one)
            if problem.key not in told:
                told.add(problem.key)
                problems.append(problem)
    if isinstance(raw["kafka"], dict):
        kafka = {k: v for k, v in raw["kafka"].items() if isinstance(v, str | int | float | bool)}
        problems += _kafka_problems(kafka, raw.get("delivery"))
    return (None if problems else settings), problems


def load_settings(path, environ=None):
    """Settings of the file `path` under the environment's overrides.

    Parameters
    ----------
    path : path
        `broker.yaml`. Relative paths in it are relative to its folder.
    environ : mapping, optional
        `os.environ` where not given. `DGL_BROKER__SECTION__KEY` overrides a key.

    Raises
    ------
    ConfigError
        With every problem, each with its key, what was found and what was expected.
    InputUnavailable
        If there is no such file.
    """
    settings, problems = check_settings(path, environ)
    if problems:
        raise ConfigError(f"{path}:\n" + "\n".join(f"  {problem}" for problem in problems))
    return settings
