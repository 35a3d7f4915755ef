"""The scalars of YAML 1.2's core schema (section 10.3.2, examples 10.8 and 10.9), and what a hostile file may not do."""

import math
import time

import pytest

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.yaml_reader import read_yaml, read_yaml_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-2E+05", -200000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("0.", 0.0),
        ("12e03", 12000.0),
        ("-.inf", -math.inf),
        ("+.INF", math.inf),
        ("0o7", 7),
        ("0x3A", 58),
        ("-19", -19),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_booleans_and_null_are_those_of_yaml_1_2(text, value):
    read = read_yaml_text(f"key: {text}")["key"]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    "text", ["no", "on", "yes", "off", "y", "N", "12:30:45", "1_000", "2026-11-22", "0b1", "=", "e5", "1e", "."]
)
def test_what_yaml_1_1_would_convert_stays_a_string(text):
    assert read_yaml_text(f"key: {text}") == {"key": text}


def test_nan_is_read():
    assert math.isnan(read_yaml_text(".NaN"))


def test_quoted_number_stays_a_string():
    assert read_yaml_text("key: '1e-4'") == {"key": "1e-4"}


def test_key_given_twice_is_an_error_with_its_line():
    with pytest.raises(ConfigError, match=r"broker.yaml:3:1: key 'a' given twice"):
        read_yaml_text("a: 1\nb: 2\na: 3\n", "broker.yaml")


def test_key_given_twice_in_a_nested_mapping_is_an_error():
    with pytest.raises(ConfigError, match="'port' given twice"):
        read_yaml_text("metrics: {port: 1, port: 2}")


def test_few_aliases_are_allowed():
    assert read_yaml_text("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


def test_bomb_of_aliases_is_refused_at_once():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    start = time.monotonic()
    with pytest.raises(ConfigError, match="more than 20 aliases"):
        read_yaml_text(bomb)
    assert time.monotonic() - start < 1.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("!!python/object/apply:os.system ['true']", "tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !!timestamp x", "tag"),
        ("a: &a [*a]", "'a' holds itself"),
        ("[" * 500 + "]" * 500, "more than 40 levels"),
        ("? [1]\n: 2", "a key must be a scalar"),
        ("- 1\n---\n- 2", "found another document"),
        ("a: b: c", r"<text>:1:5: mapping values are not allowed here"),
        ("a: [1", "<text>:1"),
        ("\x00", "special characters are not allowed"),
        ("x" * 1_000_001, "expected at most 1000000"),
    ],
)
def test_hostile_or_broken_text_is_a_configuration_error(text, says):
    with pytest.raises(ConfigError, match=says):
        read_yaml_text(text)


def test_merge_key_is_an_ordinary_key():
    assert read_yaml_text("<<: {a: 1}") == {"<<": {"a": 1}}


def test_file_is_read_with_its_byte_order_mark_and_errors_name_it(tmp_path):
    path = tmp_path / "broker.yaml"
    path.write_bytes(b"\xef\xbb\xbfsurvey: ztf\n")
    assert read_yaml(path) == {"survey": "ztf"}
    path.write_bytes(b"survey: \xff\n")
    with pytest.raises(ConfigError, match="broker.yaml: byte 8 is not UTF-8"):
        read_yaml(path)
    with pytest.raises(InputUnavailable, match="none.yaml: No such file"):
        read_yaml(tmp_path / "none.yaml")
