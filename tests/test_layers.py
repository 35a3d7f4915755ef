"""Imports run downwards only, each third party has its door, and what must start without torch does."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dgl_broker"

# From the ground up. A module may import what is below its own line, and its own room.
LAYERS = [
    {"errors", "message_id"},
    {"alert", "native", "scores", "client", "data_files", "yaml_reader", "photometry", "librdkafka", "topic_names"},
    {"nights", "stamps", "stamp_quality", "light_curve", "north_up", "wire"},
    {"surveys", "companions", "context", "planes"},
    {"example", "companion_desk"},
    {"paper_example", "html"},
    {"selection", "model", "outputs"},
    {"pipeline", "shadow", "reports"},
    {"scorer"},
    {"settings_model"},
    {"settings_reading"},
    {"sim", "settings", "settings_rekey", "observe"},
    {"stream", "archive", "evaluation"},
    {"training", "tune", "explain", "hosts"},
    {"demo", "serve", "validate"},
    {"cli"},
    {"__main__"},
]
DOORS = {
    "confluent_kafka": {"stream", "librdkafka"},
    "redis": {"companions"},
    "cramjam": {"wire"},
    "zstandard": {"wire"},
    "pydantic": {"settings_model", "settings_reading", "settings_rekey", "serve", "tune"},
    "sklearn": {"model", "training"},
    "erfa": {"photometry"},
    "pyarrow": {"archive", "training", "evaluation"},
    "torch": {"model", "training", "evaluation", "cli"},  # cli: the number of threads of train and evaluate
    "fastavro": {"wire", "surveys"},  # surveys: the writers of simulated packets
    "requests": {"wire", "outputs", "stream", "client", "hosts"},  # hosts: the error that TOM Toolkit answers its user with
    "prometheus_client": {"observe"},
    "fastapi": {"serve", "tune"},
    "starlette": {"serve", "tune"},
    "uvicorn": {"serve", "tune"},
    "lmdb": {"serve"},
    "lenstronomy": {"sim"},
    "sncosmo": {"sim"},
    "speclite": {"sim"},
    "yaml": {"yaml_reader", "selection"},
    "deflate": {"stamps", "surveys"},
    "pandas": {"hosts"},
    "pyspark": {"hosts"},
}
WITHOUT_TORCH = [
    "dgl_broker.wire",
    "dgl_broker.surveys",
    "dgl_broker.selection",
    "dgl_broker.archive.sources",
    "dgl_broker.client",
    "dgl_broker.serve.server",  # one that only answers from its store scores nothing
    "dgl_broker.tune.desk",
    "dgl_broker.cli",
]


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if path.stat().st_size:
            yield path, parts[0] if parts != ("__init__",) else None


def imported(path):
    """Full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def level(room):
    return next((n for n, rooms in enumerate(LAYERS) if room in rooms), None)


def test_every_room_has_its_place():
    rooms = {room for _, room in modules() if room}
    assert rooms - set().union(*LAYERS) == set()


def test_imports_run_downwards_only():
    wrong = []
    for path, room in modules():
        for name in imported(path):
            parts = name.split(".")
            if room is None or parts[0] != "dgl_broker" or len(parts) < 2 or level(parts[1]) is None:
                continue
            if parts[1] != room and level(parts[1]) >= level(room):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_third_parties_have_one_door():
    wrong = []
    for path, room in modules():
        for name in imported(path):
            first = name.split(".")[0]
            if first in DOORS and room not in DOORS[first]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {first}")
    assert not wrong


def test_every_third_party_is_required_by_the_package():
    text = (PACKAGE.parent / "setup.py").read_text()
    required = {name.lower().replace("-", "_") for name in re.findall(r'"([A-Za-z][\w-]*)[>=]=', text)}
    names = {name.split(".")[0] for path, _ in modules() for name in imported(path)} - {"dgl_broker", "__future__"}
    other_name = {
        "ampel": "ampel_core",
        "apf": "apf_base",
        "hop": "hop_client",
        **dict.fromkeys(("crispy_forms", "django"), "tomtoolkit"),
        **dict.fromkeys(("tom_alerts", "tom_dataproducts", "tom_dataservices", "tom_targets"), "tomtoolkit"),
        "pittgoogle": "pittgoogle_client",
        "erfa": "pyerfa",
        "sklearn": "scikit_learn",
        "yaml": "pyyaml",
    }
    third_parties = {n for n in names if n not in sys.stdlib_module_names}
    assert len(third_parties) > 15 and {n for n in third_parties if other_name.get(n, n) not in required} == set()


def test_no_room_is_crowded():
    assert {str(p): n for p, _ in modules() if (n := len(p.read_text().splitlines())) > 330} == {}


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_starts_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0


def test_no_code_from_data():
    banned = {"pickle", "cPickle", "joblib", "dill", "marshal", "shelve"}
    wrong = []
    for path, _ in modules():
        if path.name == "array_pickle.py":
            continue  # the one unpickler, which admits arrays and builtin containers only
        # An error may be named without anything being unpickled.
        wrong += [f"{path}: {n}" for n in imported(path) if n.split(".")[0] in banned and n != "pickle.UnpicklingError"]
        text = path.read_text().replace("safetensors.torch.load(", "")
        if "torch.load(" in text and "weights_only=True" not in text:
            wrong.append(f"{path}: torch.load without weights_only")
        if "allow_pickle=True" in text:
            wrong.append(f"{path}: allow_pickle=True")
    assert not wrong
