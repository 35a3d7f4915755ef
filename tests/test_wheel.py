"""The wheel has everything it needs, and works from another folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from simulated import packets

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel, unpacked into a folder of its own: what `pip install` does, without fetching torch once more."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    unpacked = folder / "site"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)
    return unpacked


def run(wheel, folder, *args):
    code = "import sys, dgl_broker.cli; assert sys.path[0] in dgl_broker.__file__; sys.exit(dgl_broker.cli.main(sys.argv[1:]))"
    paths = f"sys.path[:] = [{str(wheel)!r}, *(p for p in sys.path if p not in ('', {str(ROOT)!r}))]"
    program = f"import sys; {paths}; {code}"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DGL_SHARED", "DGL_SIM_DATA")}
    return subprocess.run([sys.executable, "-c", program, *args], cwd=folder, capture_output=True, text=True, env=environment)


def test_the_wheel_holds_schemas_filters_and_bundles(wheel):
    assert list((wheel / "dgl_broker/schemas").glob("*.avsc")) and list((wheel / "dgl_broker/filters").glob("*.yaml"))
    assert (wheel / "dgl_broker/tune/page/index.html").is_file()
    shipped = {p.parent.name for p in (ROOT / "dgl_broker/bundles").glob("*/card.json")}
    assert {p.parent.name for p in (wheel / "dgl_broker/bundles").glob("*/card.json")} == shipped
    for bundle in shipped:
        assert (wheel / "dgl_broker/bundles" / bundle / "weights.safetensors").is_file()
    for kind in ("*.css", "*.json"):
        inside = {p.relative_to(wheel) for p in (wheel / "dgl_broker").rglob(kind)}
        assert {p.relative_to(ROOT) for p in (ROOT / "dgl_broker").rglob(kind)} <= inside


def test_demo_runs_from_the_wheel_in_another_folder(wheel, tmp_path):
    done = run(wheel, tmp_path, "demo", "--alerts", "40", "--survey", "lsst")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo.html").is_file() and "consumed 40" in done.stdout


def test_replay_runs_from_the_wheel_in_another_folder(wheel, tmp_path):
    (tmp_path / "a.avro").write_bytes(packets("lsst", 4)[0][0])
    done = run(wheel, tmp_path, "replay", "a.avro", "--survey", "lsst", "--schemas", str(wheel / "dgl_broker/schemas/write"),
               "--filters", "lensed_sn_lsst", "--out", "s.parquet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "consumed 1 = " in done.stdout
