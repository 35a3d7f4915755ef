"""Filters as files: `filters/*.yaml`, one selection each, data and no code.

Everything wrong with a file is said at once, each with its key, what was found and what was expected.
"""

import datetime
import hashlib
import re
from dataclasses import fields
from pathlib import Path

import yaml

from dgl_broker import data_files
from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.selection.criteria import LONGEST_TEXT, NAME, read_criteria, write_criteria
from dgl_broker.selection.facts import prepare
from dgl_broker.selection.filters import Filter, OperatingPoint
from dgl_broker.selection.problems import Problems, check_number
from dgl_broker.yaml_reader import read_yaml_text

# Scores that a threshold may be set on, with their range: the higher, the likelier a lensed supernova.
SCORE_RANGES = {
    "log_odds": (-700.0, 700.0),
    "posterior": (0.0, 1.0),
    "p_lsn": (0.0, 1.0),
    "p_lensed_sn_ia": (0.0, 1.0),
    "p_lensed_sn_cc": (0.0, 1.0),
}
METRICS = {
    "completeness": (0.0, 1.0),
    "fpr": (0.0, 1.0),
    "purity": (0.0, 1.0),
    "candidates_per_night": (0.0, 1e9),
}
SURVEYS = ("lsst", "ztf")
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_BYTES = 1_000_000
LEAST_COUNTS = 3  # a rate below 3/n is not known from n negatives, at 95 % and with none found (Hanley & Lippman-Hand 1983)


KEYS = tuple(f.name for f in fields(Filter) if f.name != "source")
_POINT_KEYS = tuple(f.name for f in fields(OperatingPoint))


def load_filter(path_or_name):
    """The filter of a file, or of a shipped one by name; a `Filter` is returned as it is.

    Raises
    ------
    InputUnavailable
        If there is no such file.
    ConfigError
        With everything that is wrong with it, each with key, what was found and what was expected.
    """
    if isinstance(path_or_name, Filter):
        return path_or_name
    return read_filter(find_filter(path_or_name))


def find_filter(path_or_name):
    """Path of a filter: the file of that path if there is one, else the shipped filter of that name."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    if len(path.parts) == 1:
        return data_files.filter_path(str(path))
    raise InputUnavailable(f"{path}: no such file")


def is_shipped(path):
    """Whether a file lies in the package's own folder, where nothing is written: an upgrade brings its own again."""
    return Path(path).resolve().is_relative_to(data_files.folder("filters").resolve())


def read_filter(path):
    """The filter in a file; raises as `load_filter`."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputUnavailable(f"{path}: {error.strerror}") from error
    return parse_filter(data, str(path))


def parse_filter(text, source="filter"):
    """The filter that a YAML text (str or UTF-8 bytes) says.

    Raises
    ------
    ConfigError
        With everything that is wrong.
    """
    if isinstance(text, bytes):
        if len(text) > MAX_BYTES:
            raise ConfigError(f"{source}: {len(text)} bytes, expected at most {MAX_BYTES}")
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{source}: byte {error.start} is not UTF-8") from error
    data = read_yaml_text(text, source)
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: {type(data).__name__}, expected a mapping with the keys {', '.join(KEYS)}")
    problems = Problems(source)
    for key in data:
        if key not in KEYS:
            problems.unknown_key("", key, KEYS)
    values = {key: value for key, value in data.items() if key in KEYS}
    _check_name(values, problems)
    _check_text(values, "description", problems)
    _check_one_of(values, "survey", SURVEYS, problems)
    _check_bundle(values, problems)
    values["require"] = read_criteria(values.get("require"), problems)
    if values.get("survey") is not None and any(criterion.name == "survey" for criterion in values["require"]):
        problems.add("require.survey", "beside the filter's own survey", "one or the other")
    _check_threshold(values, problems)
    values["operating_point"] = _read_point(values.get("operating_point"), problems)
    for key, high in (("completeness_floor", 1.0), ("max_candidates_per_night", 1e9)):
        if values.get(key) is not None:
            check_number(values[key], 0.0, high, problems, key)
    problems.raise_any()
    criteria = {fact for criterion in values["require"] for fact in criterion.facts}
    prepare(criteria)
    return Filter(**values, source=source)


def _check_name(values, problems):
    if not (isinstance(values.get("name"), str) and NAME.fullmatch(values["name"])):
        problems.add("name", repr(values.get("name")), "lower-case letters, digits and _, at most 63")
    version = values.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= 2**31 - 1:
        problems.add("version", repr(version), "a whole number from 1")


def _check_text(values, key, problems):
    if values.get(key) is None:
        values[key] = ""
    elif not isinstance(values[key], str) or len(values[key]) > LONGEST_TEXT:
        problems.add(key, repr(values[key])[:60], f"text of at most {LONGEST_TEXT} characters")


def _check_one_of(values, key, allowed, problems):
    if values.get(key) is not None and values[key] not in allowed:
        problems.add(key, repr(values[key]), f"{', '.join(allowed)} or null")


def _check_bundle(values, problems):
    found = values.get("bundle_sha256")
    if found is not None and not (isinstance(found, str) and SHA256.fullmatch(found)):
        problems.add("bundle_sha256", repr(found), "64 hexadecimal digits, or null for a filter that is not tuned yet")


def _check_threshold(values, problems):
    score = values.setdefault("score", "log_odds")
    if not isinstance(score, str) or score not in SCORE_RANGES:
        problems.add("score", repr(score), " or ".join(SCORE_RANGES))
    elif "threshold" not in values:
        problems.add("threshold", "is missing", "a number")
    else:
        unit = "nat" if score == "log_odds" else ""
        check_number(values["threshold"], *SCORE_RANGES[score], problems, "threshold", unit)


def _read_point(point, problems):
    if point is None:
        return None
    if not isinstance(point, dict):
        problems.add("operating_point", repr(point), f"a mapping with {', '.join(_POINT_KEYS)}")
        return None
    before = len(problems)
    for key in point:
        if key not in _POINT_KEYS:
            problems.unknown_key("operating_point", key, _POINT_KEYS)
    values = {key: value for key, value in point.items() if key in _POINT_KEYS}
    metric = values.get("metric")
    if not isinstance(metric, str) or metric not in METRICS:
        problems.add("operating_point.metric", repr(metric), " or ".join(METRICS))
        return None
    numbers = [values.get(key) for key in ("lo", "value", "hi")]
    for key, number in zip(("lo", "value", "hi"), numbers):
        if number is not None:
            check_number(number, *METRICS[metric], problems, f"operating_point.{key}")
    n_neg = values.get("n_neg")
    if n_neg is not None and (not isinstance(n_neg, int) or isinstance(n_neg, bool) or n_neg < 0):
        problems.add("operating_point.n_neg", repr(n_neg), "the number of negatives, or null")
    _check_text(values, "data", problems)
    date = values.get("date")
    if date is not None and not _is_date(date):
        problems.add("operating_point.date", repr(date), "a date as 2026-11-22, or null")
    if len(problems) > before:
        return None
    order = [number for number in numbers if number is not None]
    if order != sorted(order):
        problems.add("operating_point", f"lo, value, hi {order}", "lo <= value <= hi")
    if metric == "fpr" and n_neg and values.get("value") is not None and values["value"] < LEAST_COUNTS / n_neg:
        least = f"at least 3/n_neg = {LEAST_COUNTS / n_neg:.2g}, below which {n_neg} negatives say nothing"
        problems.add("operating_point.value", values["value"], least)
    return OperatingPoint(**values) if len(problems) == before else None


def _is_date(text):
    try:
        return isinstance(text, str) and datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


class _Writer(yaml.SafeDumper):
    """Quotes every text that is not plainly a word, since readers of YAML disagree on what `no` and `1e-4` are."""

    def ignore_aliases(self, data):
        return True


_WORD = re.compile(r"[a-z][a-z0-9_]*")
_NO_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))


def _represent_text(writer, text):
    style = None if _WORD.fullmatch(text) and text not in _NO_WORDS else '"'
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Writer.add_representer(str, _represent_text)


def dump_filter(filter_):
    """The YAML text of a filter: `parse_filter(dump_filter(f)) == f`. Reasons live in `why` and `description`, so they stay."""
    data = {key: getattr(filter_, key) for key in ("name", "version", "description", "survey", "bundle_sha256")}
    data["require"] = write_criteria(filter_.require)
    data |= {"score": filter_.score, "threshold": filter_.threshold}
    point = filter_.operating_point
    data["operating_point"] = None if point is None else {key: getattr(point, key) for key in _POINT_KEYS}
    data |= {key: getattr(filter_, key) for key in ("completeness_floor", "max_candidates_per_night")}
    return yaml.dump(data, Dumper=_Writer, sort_keys=False, default_flow_style=None, width=120, allow_unicode=False)


def content_sha256(filter_):
    """Hash of what a filter says, whatever its file looks like."""
    return hashlib.sha256(dump_filter(filter_).encode()).hexdigest()
