"""The compiled decoder, Python's patterns, and fastavro, which judges: one outcome, to the bit, for packets of all kinds."""

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import time
import tracemalloc
from itertools import combinations
from pathlib import Path

import numpy as np
import packets as made
import pytest
import setuptools
from decoders import BUILT, decoder_used, everything, plain
from fuzz.mutations import Schemas, mutants

from dgl_broker import native
from dgl_broker.errors import ConfigError, PacketError
from dgl_broker.north_up import place_north_up, place_scaled
from dgl_broker.planes import place_planes
from dgl_broker.stamp_quality import level_and_noise
from dgl_broker.stamps import Stamp, all_valid
from dgl_broker.surveys.values import columns, integers, meanings, present
from dgl_broker.wire import DEFAULT, FolderSchemas, Limits, decode, decode_all, encode_container
from dgl_broker.wire.containers import Container
from dgl_broker.wire.histories import History, Layout
from dgl_broker.wire.pattern import PatternProgram
from dgl_broker.wire.writer_schema import WriterSchema

ROOT = Path(__file__).parents[1]


needs_native = pytest.mark.skipif(BUILT is None, reason="the compiled decoder was not built: no cargo, or DGL_DECODER=python")
QUICK = ["python", pytest.param("native", marks=needs_native)]


def of_both(read, quick, judge="fastavro"):
    """What `read()` gives with each of two decoders: with the judge first."""
    found = []
    for name in (judge, quick):
        with decoder_used(name):
            found.append(read())
    return found


def official():
    """Rubin's own schemas."""
    package = pytest.importorskip("lsst.alert.packet", reason="needs lsst-alert-packet for Rubin's own schemas")
    return FolderSchemas(Path(package.__file__).parent / "schema")


def records_in(path):
    """Every packet of a container file, or what is wrong with it."""
    return [
        plain(p.record) if not isinstance(p, PacketError) else (p.reason, p.detail) for p, _ in decode_all(path.read_bytes())
    ]


@pytest.mark.parametrize("quick", QUICK)
@pytest.mark.parametrize("path", sorted((ROOT / "tests/data/alerts").glob("*.avro")), ids=lambda path: path.stem)
def test_real_packets_give_the_same_to_the_bit(path, quick):
    judge, found = of_both(lambda: everything(path.read_bytes(), official()), quick)
    assert found == judge and len(judge) in (1, 7)
    judge, found = of_both(lambda: records_in(path), quick)
    assert found == judge


@pytest.mark.parametrize("quick", QUICK)
def test_all_real_packets_give_the_same_to_the_bit(shared, quick):
    paths = sorted((shared / "data/alerts").rglob("*.avro"))
    assert len(paths) > 200

    def hashes():
        schemas = official()
        found = [everything(path.read_bytes(), schemas) for path in paths]
        return [hashlib.sha256(repr(one).encode()).hexdigest() for one in found]

    judge, found = of_both(hashes, quick)
    assert [path for path, a, b in zip(paths, judge, found) if a != b] == []


@pytest.mark.parametrize("quick", QUICK)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers like 1e300 overflow, with either
def test_hostile_packets_have_the_same_outcome(quick):
    some = list(mutants(20260307, 800))
    judge, found = of_both(lambda: [everything(value, source) for source in [Schemas()] for _, value, _ in some], quick)
    assert [name for (name, _, _), a, b in zip(some, judge, found) if a != b] == []
    reasons = {one[-1][0] for one in judge if isinstance(one[-1], tuple)}
    assert {"undecodable", "trailing_bytes", "bad_value", "truncated", "too_large"} <= reasons
    assert sum(len(one) == 7 for one in judge) > 100  # read to the end, stamps and all


@pytest.mark.parametrize("quick", QUICK)
def test_either_decoder_reads_what_is_sane_by_itself(monkeypatch, quick):
    # Otherwise everything above would compare fastavro with fastavro.
    monkeypatch.setattr(WriterSchema, "_read_python", None)
    for path in (ROOT / "tests/data/alerts").glob("*.avro"):
        if path.stem in ("516442330015015017", "fink_transfer_20260305"):  # broken; several alerts in one file
            continue
        with decoder_used(quick):
            record = decode(path.read_bytes(), None, official()).record
        histories = [record.get(name) for name in ("prv_candidates", "fp_hists", "prvDiaSources", "prvDiaForcedSources")]
        assert all(isinstance(history, History | None) for history in histories)


ROWS = [
    {"jd": 2460000.5, "fid": 2, "isdiffpos": "t", "magpsf": None, "candid": 2**53 + 1},
    None,
    {"jd": 2460001.5, "fid": None, "isdiffpos": None, "magpsf": 19.25, "candid": -7},
]
ROW_SCHEMA = made.record(
    "row", jd="double", before=["null", "double"], fid=["int", "null"], isdiffpos=["null", "string"], noise="string",
    magpsf=["float", "null"], candid="long", after="boolean",
)  # fmt: skip


@pytest.fixture(params=QUICK)
def history(request):
    """`ROWS`, with fields around them that nobody asks for, as either decoder gives them."""
    schema = made.record("alert", candidate="long", rows={"type": "array", "items": ["null", ROW_SCHEMA]})
    kept = {**ROW_SCHEMA, "fields": [f for f in ROW_SCHEMA["fields"] if f["name"] in ROWS[0]]}
    kept = made.record("alert", rows={"type": "array", "items": ["null", kept]})
    rows = [row and {**row, "before": 1.0, "noise": "abc", "after": True} for row in ROWS]
    value = encode_container(schema, {"candidate": 5, "rows": rows})
    payload, start, stop = Container(value, DEFAULT).one()
    with decoder_used(request.param):
        program = (BUILT.Program if request.param == "native" else PatternProgram).compile(schema, kept, Layout)
        record, end = program.read(payload, start, stop, 10, 10)
        assert end == stop and program.read(payload, start, stop, 2, 10) is None  # more rows than are allowed
        assert program.read(payload, start, stop - 1, 10, 10) is None and program.read(payload, start, start, 10, 10) is None
    return record["rows"]


def test_history_is_the_rows_and_the_columns(history):
    assert isinstance(history, History) and history == ROWS and len(history) == 3
    assert history[1] is None and history[2]["magpsf"] == 19.25 and list(history) == ROWS
    rows = present(history)
    assert rows == [ROWS[0], ROWS[2]] and len(rows) == 2
    np.testing.assert_array_equal(
        columns([rows], ("magpsf", "fid", "jd", "nosuchfield")),
        [[np.nan, 19.25], [2.0, np.nan], [2460000.5, 2460001.5], [np.nan, np.nan]],
    )
    assert integers([rows], ("candid",)).tolist() == [[2**53 + 1, -7]]
    assert integers([rows, rows], ("fid",)).tolist() == [[2, -2, 2, -4]]  # a null gets a negative number of its own
    assert meanings([rows], "isdiffpos", {"t": 1.0, None: 0.0}.get, float).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("fields", [("magpsf", "fid", "jd", "nosuchfield"), ("isdiffpos", "jd")])
def test_columns_of_a_history_are_those_of_its_rows(history, fields):
    rows = present(history)
    np.testing.assert_array_equal(columns([rows], fields), columns([rows.rows()], fields))
    np.testing.assert_array_equal(integers([rows], ("candid", "fid")), integers([rows.rows()], ("candid", "fid")))


@needs_native
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [{**ROWS[0], "jd": jd} for jd in (1e31, -1e31, 1e-31, -0.0, float("inf"))]])
def test_columns_are_the_same_to_the_bit(rows):
    kept = {**ROW_SCHEMA, "fields": [f for f in ROW_SCHEMA["fields"] if f["name"] in ROWS[0]]}
    schema, kept = (made.record("alert", rows={"type": "array", "items": ["null", row]}) for row in (ROW_SCHEMA, kept))
    whole = [row and {**row, "before": 1.0, "noise": "abc", "after": True} for row in rows]
    payload, start, stop = Container(encode_container(schema, {"rows": whole}), DEFAULT).one()
    read = BUILT.Program.compile(schema, kept, Layout).read(payload, start, stop, 10, 10)[0]["rows"]
    fields = ("magpsf", "fid", "jd", "nosuchfield", "candid")
    python, compiled = of_both(lambda: columns([present(read)], fields), "native")
    assert plain(compiled) == plain(python) and compiled.shape == (5, sum(row is not None for row in rows))
    with pytest.raises(ValueError, match="columns of different lengths"):
        BUILT.numbers(bytes(8), bytes(1), 2, [(0, False)], 0.0, 1.0)


@pytest.mark.parametrize("quick", QUICK)
@pytest.mark.parametrize("n_rows", [59, 60])
def test_rows_are_limited_alike(n_rows, quick):
    message = made.lsst_message(made.lsst_record(forced=[made.lsst_forced(-i, i) for i in range(60)]))

    def outcome():
        try:
            return decode(message, None, made.Schemas(), limits=Limits(rows=n_rows)).record["prvDiaForcedSources"]
        except PacketError as error:
            return error.detail

    judge, found = of_both(outcome, quick)
    assert found == judge and isinstance(judge, list if n_rows == 60 else str)


def random_stamps(rng, n, planes, height, width, masked):
    """Pixels, mask, matrices and origins for `place_north_up`: any orientation, some straight, some with holes."""
    pixels = rng.normal(0.0, 100.0, (n, planes, height, width)).astype(np.float32)
    valid = rng.random(pixels.shape) > 0.02 if masked else np.ones(pixels.shape, bool)
    angle = rng.choice([0.0, np.pi, *rng.uniform(0, 2 * np.pi, 6)], n)
    scale = rng.uniform(0.19, 0.21, n)
    matrices = scale[:, None, None] * np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(
        n, 2, 2
    )
    return pixels, valid, matrices, rng.uniform(height / 2 - 4, height / 2 + 4, (n, 2))


@needs_native
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(2, 30, 30), (1, 63, 62), (3, 7, 5)])
def test_stamps_are_put_north_up_to_the_bit(shape, masked):
    stamps = random_stamps(np.random.default_rng(3), 40, *shape, masked)
    python, compiled = of_both(lambda: place_north_up(*stamps, max(shape), 0.2), "native")
    assert plain(compiled) == plain(python) and python[1].any() and not python[1].all()


def stamps_of_alerts(rng, shape):
    """Stamps by number and kind, as `place_planes` takes them: in nJy and not, with holes and without, turned and cut."""
    pixels, valid, matrices, origins = random_stamps(rng, 24, 2, *shape, True)
    valid[::2] = True
    pixels[:4, :, 2:-2, 2:-2], pixels[2:4] = 7.0, 0.25  # no noise at the edge, or none at all
    pixels[valid == 0] = 0.0
    pixels[5, 1, -1, -1] = 1e14
    origins[6:9] += 40.0  # beside the grid
    found = {}
    for n in range(24):
        for p, kind in enumerate(("template", "difference")):
            mask = all_valid(shape) if n % 4 == 0 else valid[n, p]
            turned = matrices[n] if n % 3 else np.array([[-0.2, 0.0], [0.0, -0.2]])
            found[n, kind] = Stamp(pixels[n, p] + np.float32(p == n % 2), mask, turned, *origins[n], in_njy=(n + p) % 3 > 0)
    return found


@needs_native
@pytest.mark.parametrize("shape", [(30, 30), (63, 62), (3, 4), (1, 1), (256, 5)])
def test_stamps_of_alerts_become_planes_to_the_bit(shape):
    stamps = stamps_of_alerts(np.random.default_rng(8), shape)
    python, compiled = of_both(lambda: place_planes(stamps, 31, 0.2, 300.0), "native")
    assert plain(compiled) == plain(python) and len(python) == 48
    alone = {key: place_planes({key: stamp}, 31, 0.2, 300.0)[key] for key, stamp in stamps.items()}
    assert plain(alone) == plain({key: compiled[key] for key in alone})


@needs_native
def test_shapes_that_do_not_go_together_are_refused():
    one, two = np.zeros((5, 5), np.float32), np.zeros((5, 6), np.float32)
    matrices, origins = np.eye(2)[None], np.zeros((1, 2))
    for pixels, masks, n in (([one, two], [None, None], 2), ([one], [np.ones((4, 5), bool)], 1), ([one], [None], 2)):
        with pytest.raises(ValueError, match="arrays of other shapes"):
            place_scaled(pixels, masks, [(0.0, 1.0, np.inf)] * n, matrices, origins, 5, 1.0)
    huge = np.zeros((600, 600), np.float32)
    with pytest.raises(ValueError, match="more pixels than"):
        place_scaled([huge], [None], [(0.0, 1.0, np.inf)], matrices, origins + 300.0, 600, 1.0)


@needs_native
@pytest.mark.parametrize("n", [1, 2, 3, 900, 3969])
def test_level_and_noise_are_numpys_to_the_bit(n):
    rng = np.random.default_rng(n)
    for values in (rng.normal(5.0, 3.0, n), np.round(rng.normal(0.0, 1.0, n)), np.zeros(n)):
        values = values.astype(np.float32)
        level = np.median(values)
        python, compiled = of_both(lambda values=values: level_and_noise(values), "native")
        assert python == (level, 1.4826 * np.median(np.abs(values - level))) and plain(compiled) == plain(python)


def test_patterns_are_made_of_a_schema_that_is_used_again(monkeypatch):
    with decoder_used("python"):
        monkeypatch.setattr(PatternProgram, "uses_before", 1)
        programs = [made.Schemas(id1000=made.LSST_SCHEMA) for _ in range(2)]
        messages = [made.lsst_message(made.lsst_record(forced=[made.lsst_forced(-1.0, 9)]))] * 2
        first, again = (decode(message, None, programs[0]).record["prvDiaForcedSources"] for message in messages)
    assert isinstance(first, list) and isinstance(again, History) and again == first


@pytest.mark.parametrize(("n_bytes", "is_read"), [(999_000, True), (1_001_000, False)])
def test_patterns_leave_what_is_very_long_to_the_decoder_that_looks_at_the_clock(n_bytes, is_read):
    schema, kept = made.record("alert", rest="bytes", candidate="long"), made.record("alert", candidate="long")
    payload, start, stop = Container(encode_container(schema, {"rest": bytes(n_bytes), "candidate": 5}), DEFAULT).one()
    with decoder_used("python"):
        found = PatternProgram.compile(schema, kept, Layout).read(payload, start, stop, 10, 10)
    assert found == (({"candidate": 5}, stop) if is_read else None)


def test_patterns_of_schemas_that_are_forgotten_do_not_stay_in_memory(monkeypatch):
    # `re` keeps 512 patterns by itself. Each schema's are its own: other fields are texts among numbers.
    monkeypatch.setattr("dgl_broker.wire.pattern.program.MOST_KEPT", 2000)
    kept, layouts = made.record("alert", last="long"), list(combinations(range(18), 2))
    with decoder_used("python"):
        tracemalloc.start()
        try:
            for texts in layouts:
                fields = {f"f{k}": "string" if k in texts else "int" for k in range(18)}
                schema = made.record("alert", **fields, last="long")
                assert PatternProgram.compile(schema, kept, Layout).read(bytes(19), 0, 19, 9, 9) == ({"last": 0}, 19)
            grown_mib = tracemalloc.get_traced_memory()[0] / 2**20
        finally:
            tracemalloc.stop()
    assert len(layouts) > 150 and grown_mib < 1.0  # 2.5 without


def test_no_patterns_are_made_of_a_schema_that_would_take_long():
    many = made.record("alert", **{f"text{n}": "string" for n in range(200)})
    start = time.process_time()
    with decoder_used("python"):
        assert (
            PatternProgram.compile(many, made.record("alert", text0="string"), Layout).read(b"\x00" * 200, 0, 200, 9, 9) is None
        )
    assert time.process_time() - start < 0.3  # 0.5 s to make them


def run(code, **environment):
    program = [sys.executable, "-c", code]
    return subprocess.run(program, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True)


def test_the_environment_forces_pure_python():
    code = "import sys; from dgl_broker.cli import main; sys.exit(main(['--version']))"
    assert "(decoder: python)" in run(code, DGL_DECODER="python").stdout
    assert f"(decoder: {'python' if BUILT is None else 'native'})" in run(code, DGL_DECODER="auto").stdout
    wrong = run(code, DGL_DECODER="rust")
    assert wrong.returncode == 2 and "DGL_DECODER 'rust', expected auto, native or python" in wrong.stderr


def test_a_decoder_that_is_asked_for_and_not_there_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "dgl_broker._native", None)
    monkeypatch.delattr("dgl_broker._native", raising=False)
    assert native._chosen("auto") is None
    with pytest.raises(ConfigError, match="the compiled decoder is not there"):
        native._chosen("native")


@needs_native
def test_an_older_build_is_left_out(monkeypatch):
    monkeypatch.setattr(native, "INTERFACE", -1)
    assert native._chosen("auto") is None
    with pytest.raises(ConfigError, match="build it again"):
        native._chosen("native")


@pytest.mark.parametrize("cargo", [None, "/usr/bin/cargo"])
def test_without_a_compiler_the_package_is_pure_python(monkeypatch, cargo):
    pytest.importorskip("setuptools_rust")
    told = {}
    monkeypatch.delenv("DGL_DECODER", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: cargo)
    monkeypatch.setattr(setuptools, "setup", lambda **options: told.update(options))
    runpy.run_path(str(ROOT / "setup.py"))
    assert ("rust_extensions" in told) == (cargo is not None)
    if cargo:
        assert told["rust_extensions"][0].optional and told["options"]["bdist_wheel"] == {"py_limited_api": "cp311"}
