"""Units, image and manifests: they parse, and the commands, ports, pages and keys in them are the program's own."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml

from dgl_broker import __version__
from dgl_broker.cli import _parser
from dgl_broker.settings import check_settings

ROOT = Path(__file__).parents[1]
OPS = ROOT / "ops"
UNITS = sorted((OPS / "systemd").glob("*.service"))
PROGRAM = "/opt/dgl-broker/bin/dgl-broker"


class Unit(RawConfigParser):
    """A unit's file: keys as they are written, one that stands twice as a list."""

    def __init__(self, path):
        class Lists(dict):
            def __setitem__(self, key, value):
                if isinstance(value, list) and key in self:
                    self[key].extend(value)
                else:
                    super().__setitem__(key, value)

        super().__init__(strict=False, dict_type=Lists, interpolation=None, comment_prefixes=("#",))
        self.optionxform = str
        self.read_string(path.read_text())

    def all(self, section, key):
        """Every value of a key, comments and blank lines between them left out."""
        return [line for line in self[section].get(key, "").splitlines() if line and not line.startswith("#")]

    def command(self, key, instance="lsst"):
        """The words of a command for an instance."""
        return shlex.split(self["Service"][key].split("\n")[0].replace("%i", instance))


def parse(words):
    """What the program's own parser makes of a command line, without the program's name."""
    return _parser(next(w for w in words if not w.startswith("-"))).parse_args(words)


def test_there_are_units_for_the_filter_and_its_reports():
    assert [unit.name for unit in UNITS] == ["dgl-broker-report@.service", "dgl-broker@.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_unit_starts_the_program_with_arguments_that_it_knows(path):
    unit = Unit(path)
    for key in ("ExecStartPre", "ExecStart"):
        program, *words = unit.command(key)
        assert program == PROGRAM
        args = parse(words)
        assert args.config == Path("/etc/dgl-broker/lsst.yaml")
    service = unit["Service"]
    assert service["User"] not in ("", "root") and service["NoNewPrivileges"] == "yes"
    # What the program's own exit codes mean: signals are an orderly end; configuration and guards do not pass by themselves.
    assert set(service["SuccessExitStatus"].split()) == {str(128 + s) for s in (signal.SIGTERM, signal.SIGINT)}
    assert set(service["RestartPreventExitStatus"].split()) == {"2", "7"}


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_overrides_of_the_unit_are_keys_of_the_configuration(path, tmp_path):
    given = dict(line.split("=", 1) for line in Unit(path).all("Service", "Environment") if line.startswith("DGL_BROKER__"))
    least = tmp_path / "broker.yaml"
    least.write_text("survey: ztf\nkafka: {bootstrap.servers: 'b:1'}\ninput: {topics: [alerts]}\n")
    assert check_settings(least, given)[1] == []


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_systemd_finds_nothing_wrong(path, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on PATH")
    # The program is not installed where the unit says; everything else is judged as it stands.
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def documents(path):
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def workloads():
    """(name, pod's spec, [its containers]) of every workload."""
    out = []
    for name in ("run.yaml", "report.yaml"):
        for document in documents(OPS / "kubernetes/base" / name):
            if document["kind"] in ("StatefulSet", "Deployment"):
                pod = document["spec"]["template"]["spec"]
                out.append((name, document, pod, [*pod.get("initContainers", ()), *pod["containers"]]))
    return out


@pytest.fixture(scope="module")
def configuration():
    """The example's settings, its secrets given."""
    environ = {"DGL_BROKER__KAFKA__SASL_PASSWORD": "x", "DGL_BROKER__INPUT__SCHEMAS_PASSWORD": "x"}
    settings, problems = check_settings(OPS / "kubernetes/base/broker.yaml", environ)
    assert problems == []
    return settings


def test_kubernetes_workloads_run_verbs_of_the_program_unprivileged(configuration):
    found = workloads()
    assert [document["kind"] for _, document, _, _ in found] == ["StatefulSet", "Deployment"]
    for name, document, pod, containers in found:
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 10001
        labels = document["spec"]["template"]["metadata"]["labels"]
        assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
        mounted = {v["name"] for v in pod["volumes"]} | {
            c["metadata"]["name"] for c in document["spec"].get("volumeClaimTemplates", ())
        }
        for container in containers:
            args = parse(container["args"])
            assert str(args.config) == "/etc/dgl-broker/broker.yaml"
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {m["name"] for m in container["volumeMounts"]} <= mounted, name
        writable = {m["mountPath"] for c in containers for m in c["volumeMounts"] if not m.get("readOnly")}
        if name == "run.yaml":
            assert any(Path(configuration.output.spill).is_relative_to(path) for path in writable)
            assert any(Path(configuration.status).is_relative_to(path) for path in writable)


def test_probes_ask_pages_that_the_program_serves_on_the_port_that_it_takes(configuration):
    from dgl_broker.observe.health import Health, serve
    from dgl_broker.observe.metrics import Metrics

    asked = set()
    for _, _, pod, _ in workloads():
        for container in pod["containers"]:
            (port,) = container["ports"]
            assert port["containerPort"] == configuration.metrics.port and configuration.metrics.host == "0.0.0.0"
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                get = container[probe]["httpGet"]
                assert get["port"] == port["name"]
                asked.add((probe, get["path"]))
    assert asked == {("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = serve(Health(), Metrics(), "127.0.0.1", port)
    try:
        for _, path in asked:
            assert status(f"http://127.0.0.1:{server.server_port}{path}") in (200, 503)
    finally:
        server.shutdown()
        server.server_close()


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_service_selects_the_pods_of_the_filter():
    parts = documents(OPS / "kubernetes/base/run.yaml")
    pods = parts[0]["spec"]["template"]["metadata"]["labels"]
    service = next(p for p in parts if p["kind"] == "Service")
    assert (
        service["spec"]["selector"].items() <= pods.items() and service["metadata"]["name"] == parts[0]["spec"]["serviceName"]
    )


def test_kustomize_builds_base_and_overlay():
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on PATH")
    built = {}
    for name in ("base", "gpu"):
        done = subprocess.run([kubectl, "kustomize", str(OPS / "kubernetes" / name)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        built[name] = {d["kind"]: d for d in yaml.safe_load_all(done.stdout)}
    config = built["base"]["ConfigMap"]["metadata"]["name"]
    for kind in ("StatefulSet", "Deployment"):
        pod = built["base"][kind]["spec"]["template"]["spec"]
        assert {"configMap": {"name": config}, "name": "config"} in pod["volumes"]
        assert all(c["image"].endswith(f":{__version__}") for c in pod["containers"])
    (container,) = built["gpu"]["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"name": "DGL_BROKER__DEVICE", "value": "cuda"} in container["env"]


def instructions():
    """[(stage, instruction, value)] of the Containerfile, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (OPS / "Containerfile").read_text(), flags=re.M).replace("\\\n", " ")
    out, stage = [], -1
    for line in text.splitlines():
        if line.strip():
            word, value = line.split(None, 1)
            stage += word == "FROM"
            out.append((stage, word, value.strip()))
    return out


def test_image_runs_the_program_as_a_numbered_user_who_is_not_root():
    last = instructions()[-1][0]
    final = [(word, value) for stage, word, value in instructions() if stage == last]
    said = dict(final)
    uid, gid = said["USER"].split(":")
    assert int(uid) >= 1000 and int(gid) >= 1000
    assert [word for word, _ in final].index("USER") < [word for word, _ in final].index("ENTRYPOINT")
    assert f"--uid {uid}" in said["RUN"] and f"--gid {gid}" in said["RUN"] and f"-o {uid} -g {gid}" in said["RUN"]
    assert json.loads(said["ENTRYPOINT"]) == ["dgl-broker"]
    assert parse(json.loads(said["CMD"])).verb == "run"
    assert said["EXPOSE"] == "9109" and said["STOPSIGNAL"] == "SIGTERM"
    for _, _, _, containers in workloads():
        assert all(c["image"] == "dgl-broker" for c in containers)


def test_image_is_built_from_what_it_copies(tmp_path):
    """Packaging sees in the copied files alone, which is what the image installs, all that it sees in the repository."""

    def packaged(folder):
        base = tmp_path / f"{folder.name}-info"
        base.mkdir()
        command = [sys.executable, "-W", "ignore", "setup.py", "-q", "egg_info", "--egg-base", str(base)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (listed,) = base.glob("*.egg-info/SOURCES.txt")
        rooms = ("dgl_broker/", "schemas/", "filters/")
        return {line for line in listed.read_text().split() if line.startswith(rooms)}

    copied, only = set(), tmp_path / "copied"
    only.mkdir()
    for stage, word, value in instructions():
        if word == "COPY" and not value.startswith("--from"):
            for source in value.split()[:-1]:
                copied.add(source)
                if stage == 0:
                    (only / source).symlink_to(ROOT / source)
    found = packaged(only)
    assert (
        found == packaged(ROOT) and {"schemas/report.avsc", "filters/lensed_sn_lsst.yaml", "dgl_broker/cli/report.py"} <= found
    )
    ignored = (OPS / "Containerfile.dockerignore").read_text().split()
    assert ignored[0] == "*" and {f"!{source}" for source in copied} <= set(ignored)


def test_extras_that_the_image_asks_for_are_the_packages():
    (install,) = [v for _, word, v in instructions() if word == "RUN" and "pip install" in v]
    extras = re.search(r"wheel\[(.*?)\]", install)[1].split(",")
    text = (ROOT / "setup.py").read_text()
    assert extras and all(re.search(rf'^\s+"{extra}": ', text, re.M) for extra in extras)


@pytest.mark.kafka
@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_unit_runs_becomes_ready_and_stops_as_it_says(path, kafka, tmp_path):
    """What systemd does, by hand: both commands with the unit's environment, its readiness, its signal, its status."""
    from kafka import flow

    unit, name = Unit(path), re.sub(r"\W", "_", path.stem)
    kafka.create_topic(f"{name}.in", 2)
    flow.tiny_bundle(tmp_path / "bundle", "ztf", 1.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "survey": "ztf",
        "bundle": "./bundle",
        "filters": [],
        "kafka": {"bootstrap.servers": kafka.bootstrap_servers, "group.id": name},
        "input": {"topics": [f"{name}.in"]},
        "output": {key: f"{name}.{key}" for key in ("scores", "candidates", "dead_letters")},
        "reports": {"topic": f"{name}.reports"},
        "metrics": {"port": port},
    }
    (tmp_path / "lsst.yaml").write_text(json.dumps(settings))

    def command(key):
        words = [
            w.replace("/etc/dgl-broker", str(tmp_path)).replace("/var/lib/dgl-broker", str(tmp_path)) for w in unit.command(key)
        ]
        return [sys.executable, "-m", "dgl_broker", *words[1:]]

    given = dict(line.split("=", 1) for line in unit.all("Service", "Environment"))
    if "DGL_BROKER__METRICS__PORT" in given:
        given["DGL_BROKER__METRICS__PORT"] = str(port)  # that of the unit may be taken on this machine
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **given}
    if path.name == "dgl-broker@.service":  # the other's is the same, and takes seconds: it loads the bundle
        before = subprocess.run(command("ExecStartPre"), env=environ, capture_output=True, text=True, cwd=tmp_path)
        assert before.returncode == 0, before.stdout + before.stderr
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command("ExecStart"), env=environ, stdout=log, stderr=log, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 90
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            try:
                if status(f"http://127.0.0.1:{port}/readyz") == 200:
                    break
            except OSError:
                pass  # it does not listen yet
            time.sleep(0.1)
        assert status(f"http://127.0.0.1:{port}/healthz") == 200
        process.send_signal(getattr(signal, unit["Service"]["KillSignal"]))
        assert str(process.wait(int(unit["Service"]["TimeoutStopSec"]))) in unit["Service"]["SuccessExitStatus"].split()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)
    (summary,) = tmp_path.glob("lsst*summary.json")
    assert json.loads(summary.read_text())["ended"] == "by a signal"
