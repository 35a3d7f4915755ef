"""Files that lie: configurations, filters and bundles, damaged as text, as JSON and as bytes, by who knows the format too.

Each is read, or is a `DglError` that says what is wrong, soon; nothing else is raised, nothing runs.
"""

import hashlib
import json
import random
import time

import numpy as np
import pytest
from fuzz import of_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_bundles import fitted_fusion, members, tiny_card

from dgl_broker.data_files import folder
from dgl_broker.errors import ConfigError, DglError
from dgl_broker.model import Ensemble, NetworkShape, fit_null, load_bundle, save_bundle
from dgl_broker.model.bundle import CALIBRATION, CARD, SVM, WEIGHTS
from dgl_broker.selection import load_filter
from dgl_broker.settings import check_settings
from dgl_broker.yaml_reader import read_yaml_text

BROKER = b"""survey: ztf
kafka: {bootstrap.servers: 'broker:9092', group.id: dgl}
input: {topics: ['ztf_{night:%Y%m%d}_programid1'], nights: 2, start: committed}
output: {refused: 0.01, spill: spill}
batch: {max_alerts: 256, max_wait_s: 1.0}
limits: {rows: 20000, seconds: 2.0}
filters: [lensed_sn_ztf]
log: {format: json}
"""
NINES = b"\n".join(
    [b"a0: &a0 [x, x]", *(b"a%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 10))]
)
# What a line may be replaced by, begin with or hold as its value.
FRAGMENTS = (
    NINES, b"!!python/object/apply:os.system [ls]", b"!!binary aGk=", b"&a [*a]", b"*nope", b"\xff\xfe", b"\0", b"\t",
    b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"? [a, b]\n: c", b"[" * 200, b"{" * 200, b"- " * 300, b"%YAML 9.9\n---", b"---\n---",
    b"...", b"'", b'"\\ud800"', b'"\\x00"', b"<<: {survey: lsst}", b"survey: ztf", b"null: null", b"1: 2", b"true: x",
    b"unknown: 1", b"|\n  text", b"9" * 400, b"-" + b"9" * 5000, b"0x" + b"f" * 300, b"1e99999", b"-.inf", b".nan",
    b"99999999999999999999", b"-1", b"0", b"[]", b"{}", b"~",
)  # fmt: skip


def damaged_text(rng, raw):
    """A YAML file with a line or some bytes changed."""
    if rng.random() < 0.4:
        return rng.choice(of_bytes.ALL)(rng, raw, BROKER)
    lines = raw.split(b"\n")
    at, fragment = rng.randrange(len(lines)), rng.choice(FRAGMENTS)
    key = lines[at].partition(b":")[0]
    lines[at] = rng.choice((fragment, fragment + b" " + lines[at], key + b": " + fragment, lines[at] + b" " + fragment))
    return b"\n".join(lines)


def ends(read):
    """What reading gave: a value or a DglError whose text is short enough to be read and can be written anywhere."""
    start = time.process_time()
    try:
        found = read()
    except DglError as error:
        found = error
        assert 0 < len(str(error).encode()) < 20_000
    assert time.process_time() - start < 2.0
    return found


def test_a_damaged_configuration_is_told_or_read(tmp_path):
    path, seen = tmp_path / "broker.yaml", set()
    for n in range(400):
        path.write_bytes(damaged_text(random.Random(f"settings {n}"), BROKER))
        found = ends(lambda: check_settings(path, {}))
        if isinstance(found, ConfigError):
            seen.add("no YAML")
            continue
        made, problems = found
        assert (made is None) == bool(problems)
        seen.add("problems" if problems else "settings")
        assert all(str(problem).encode() for problem in problems)
    assert seen == {"no YAML", "problems", "settings"}


@pytest.mark.parametrize("name", ["lensed_sn_lsst", "lensed_sn_ztf"])
def test_a_damaged_filter_is_told_or_read(tmp_path, name):
    path, raw = tmp_path / "one.yaml", (folder("filters") / f"{name}.yaml").read_bytes()
    found = []
    for n in range(200):
        path.write_bytes(damaged_text(random.Random(f"{name} {n}"), raw))
        found.append(ends(lambda: load_filter(path)))
    refused = sum(isinstance(one, ConfigError) for one in found)
    assert len(found) / 2 < refused < len(found)  # some changes are of comments


def test_integers_beyond_64_bits_are_refused_in_their_place():
    with pytest.raises(ConfigError, match="<text>:2:4: an integer of more than 64 bits"):
        read_yaml_text("a: 9223372036854775807\nb: 9223372036854775808")
    with pytest.raises(ConfigError, match="an integer of more than 64 bits"):
        read_yaml_text("0x" + "f" * 300)


yaml_text = st.text("abc:- []{}&*!#|>'\"\n\t?,%@`~0129.eEx", max_size=60) | st.text(max_size=30)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(yaml_text)
def test_any_text_is_plain_data_or_a_configuration_error(text):
    def plain(value):
        if isinstance(value, dict):
            return all(plain(k) and plain(v) for k, v in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool)

    try:
        assert plain(read_yaml_text(text))
    except ConfigError as error:
        assert str(error).startswith("<text>")


@pytest.fixture(scope="module")
def bundle_files(tmp_path_factory):
    """Name -> bytes of a small bundle with a null."""
    path = tmp_path_factory.mktemp("bundle") / "tiny"
    bundle = save_bundle(path, tiny_card(), members(NetworkShape.from_card(tiny_card())), fitted_fusion())
    rng = np.random.default_rng(0)
    facts = [{"n_detections": n % 9, "snr": 5.0} for n in range(3000)]
    fit_null(rng.normal(size=3000), facts, scores_sha256=bundle.scores_sha256).save(path / CALIBRATION)
    return {name: (path / name).read_bytes() for name in (CARD, WEIGHTS, SVM, CALIBRATION)}


ODD = (
    None, True, False, 0, -1, 1, 3, 7, 2**31, 2**63, 10**30, 10**400, 1e308, 1e-300, -0.5, "", "x", "\ud800", "../..", "nan",
    "x" * 3000, [], {}, [[]], [None], [1, 2, 3], {"a": 1}, ["template"] * 50,
)  # fmt: skip


def nodes(value):
    """(holder, key) of everything within a JSON document."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from nodes(value[key])


def damaged_json(rng, raw):
    """A JSON document with one or two of its values gone, odd, larger or smaller, or with one more."""
    document = json.loads(raw)
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(list(nodes(document)))
        number = isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool)
        kind = rng.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder["odd"] = rng.choice(ODD)
        elif kind == 2 and number:
            holder[key] *= rng.choice((0, -1, 2, 0.5, 1000, 10**6))
        else:
            holder[key] = rng.choice(ODD)
    return json.dumps(document).encode()


def test_a_damaged_bundle_is_told_or_loads(bundle_files, tmp_path):
    seen = {}
    for n in range(300):
        rng, files = random.Random(f"bundle {n}"), dict(bundle_files)
        name = rng.choice((CARD, CARD, CARD, CALIBRATION, WEIGHTS, SVM))
        if name in (CARD, CALIBRATION) and rng.random() < 0.8:
            files[name] = damaged_json(rng, files[name])
        else:
            files[name] = rng.choice(of_bytes.ALL)(rng, files[name], rng.choice(list(files.values())))
        if name in (WEIGHTS, SVM) and rng.random() < 0.9:  # as one who knows the format would, with the card made to agree
            card = json.loads(files[CARD])
            card["hashes"][name] = {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])}
            files[CARD] = json.dumps(card).encode()
        if name != CALIBRATION and rng.random() < 0.5:
            del files[CALIBRATION]
        for old in tmp_path.iterdir():
            old.unlink()
        for file, content in files.items():
            (tmp_path / file).write_bytes(content)
        found = ends(lambda: Ensemble(load_bundle(tmp_path)))
        seen[type(found).__name__] = seen.get(type(found).__name__, 0) + 1
    assert set(seen) == {"ConfigError", "StateError", "Ensemble"} and min(seen.values()) > 10


def test_a_card_that_cannot_be_written_cannot_be_hashed_and_is_refused(bundle_files, tmp_path):
    for name, raw in bundle_files.items():
        (tmp_path / name).write_bytes(raw)
    card = json.loads(bundle_files[CARD]) | {"about": "half a pair: \ud800"}
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="card.json: not a JSON document"):
        load_bundle(tmp_path)
