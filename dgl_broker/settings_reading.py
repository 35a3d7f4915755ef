"""Settings files of any of our processes: the file, the environment over it, and the list of all that is wrong with them.

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
from dgl_broker.settings_model import SECRET, Settings, is_secret_kafka_key, password_in_url
from dgl_broker.yaml_reader import read_yaml, read_yaml_text

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


def _override(raw, environ, root):
    """Lay the environment over `raw`, the keys of a `root`; the problems met."""
    problems = []
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        *sections, key = name[len(PREFIX) :].lower().split("__")
        if sections == ["kafka"]:
            if isinstance(raw["kafka"], dict):
                raw["kafka"][key.replace("_", ".")] = environ[name]
            continue
        model, target, unknown = root, raw, None
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
    """Secrets that the file holds itself, at any depth."""
    problems = []

    def add(key, variable):
        problems.append(Problem(key, "a secret in the file", f"it in the environment, as {variable}"))

    def walk(values, where):
        for key, value in values.items():
            place = (*where, str(key))
            if isinstance(value, dict) and place != ("kafka",):
                walk(value, place)
            elif value is not None and (_is_secret_key(place[-1]) or (isinstance(value, str) and password_in_url(value))):
                add(".".join(place), PREFIX + "__".join(place).upper())

    for key in raw.get("kafka") if isinstance(raw.get("kafka"), dict) else ():
        if is_secret_kafka_key(str(key)):
            add(f"kafka.{key}", f"{PREFIX}KAFKA__{str(key).upper().replace('.', '_')}")
    walk(raw, ())
    return problems


def _is_secret_key(key):
    return key == "token" or key.endswith(("_password", "_token"))


def kafka_problems(kafka, delivery=None):
    """What is wrong with a `kafka` section: keys that librdkafka does not know or that are ours, values it does not take."""
    kafka = {k: v for k, v in kafka.items() if isinstance(v, str | int | float | bool)}
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


def _model_at(loc, model):
    for part in loc:
        section = _section_of(model, part) if model and isinstance(part, str) else None
        if section is None:
            return None
        model = section
    return model


def _field_problem(raw, error, root):
    """One of pydantic's errors on a `root` as a `Problem`."""
    loc = error["loc"]
    # Members of a union stand in the location as words of their own, such as `str`.
    while loc and loc[-1] in ("str", "int", "float", "bool"):
        loc = loc[:-1]
    key = ".".join(str(part) for part in loc)
    if error["type"] == "missing":
        model = _model_at(loc[:-1], root)
        field = model.model_fields.get(loc[-1]) if model else None
        return Problem(key, "nothing", (field.description if field else None) or "a value")
    if error["type"] == "extra_forbidden":
        known = _model_at(loc[:-1], root).model_fields
        return Problem(key, "an unknown key", f"a known one{_nearest(loc[-1], known)}")
    expected = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] in ("model_type", "dict_type", "model_attributes_type"):
        expected = "a mapping of keys"
    elif error["type"] == "too_short":
        expected = "at least one"
    elif loc[0] == "kafka":
        expected = "text, a number, true or false"
    return Problem(key, _shown(loc[-1] if loc else "", _value_at(raw, loc)), expected)


def resolved_path(text, folder):
    """A path of the file, relative to its folder; names of shipped things have no slash and no suffix, and stay."""
    is_path = isinstance(text, str) and "://" not in text and ("/" in text or text.endswith((".yaml", ".yml")))
    return str((folder / Path(text).expanduser()).resolve()) if is_path else text


def read_layered(path, environ=None, root=Settings):
    """(keys of the file with the environment laid over them, problems), or (None, problems) where they are no mapping.

    Parameters
    ----------
    path : path
    environ : mapping, optional
        `os.environ` where not given.
    root : class
        The `Section` that the keys are of.

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
    problems += _override(raw, environ, root)
    if isinstance(raw["kafka"], dict):
        raw["kafka"] = {str(k): v for k, v in raw["kafka"].items()}
    return raw, problems


def validated(raw, root=Settings):
    """(a `root` of these keys or None, problems)."""
    try:
        return root.model_validate(raw), []
    except ValidationError as error:
        problems = {}
        for one in error.errors(include_url=False, include_context=False):
            problem = _field_problem(raw, one, root)
            problems.setdefault(problem.key, problem)
        return None, list(problems.values())


def raise_problems(path, problems):
    """ConfigError that tells all problems of the file, if there are any."""
    if problems:
        raise ConfigError(f"{path}:\n" + "\n".join(f"  {problem}" for problem in problems))
