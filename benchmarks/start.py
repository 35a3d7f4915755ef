"""A worker's start and memory: `dgl-broker run` from its first instruction to readiness, and after batches of alerts."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.alerts import mixes
from benchmarks.ensemble import paper_width
from benchmarks.report import Measure, at_most, spread
from dgl_broker.model import save_bundle
from dgl_broker.stream.embedded import EmbeddedKafka, Feeder

TITLE = "9. A worker: start to readiness, and memory"
PARTITIONS = 2
BATCHES, BATCH = 4, 256
STARTS = 2
READY_S = 15.0
MEMORY_MIB = {"default bundle": 700.0, "paper width": 1536.0}
PATIENCE_S = 300.0


def run(options):
    """Yields two `Measure`s for each survey: seconds, and memory."""
    found = {mix.survey: mix for mix in mixes(options) if mix.name == "20 earlier rows"}
    for survey, mix in found.items():
        seconds, processor, memory = {}, {}, {}
        for width, limit in MEMORY_MIB.items():
            with TemporaryDirectory() as folder:
                bundle = "default" if width == "default bundle" else str(_saved(survey, Path(folder) / "bundle"))
                starts = [_start(mix, bundle, Path(folder)) for _ in range(1 if options.quick else STARTS - 1)]
                n = BATCH if options.quick else BATCHES * BATCH
                starts.append(_start(mix, bundle, Path(folder), n))
            seconds[width] = spread([start["seconds"] for start in starts])
            processor[f"{width}, CPU time"] = spread([start["cpu_s"] for start in starts])
            memory[f"{width}, ready"] = spread([start["ready_mib"] for start in starts])
            memory[f"{width}, after {n} alerts"] = spread([starts[-1]["after_mib"]])
            memory[f"{width}, most"] = spread([starts[-1]["most_mib"]])
            yield Measure(
                f"{survey.upper()}, {width}: start to readiness",
                "s",
                {"by the clock": seconds[width], "of the processor": processor[f"{width}, CPU time"]},
                goals={"by the clock": at_most(READY_S)},
            )
            names = {name: values for name, values in memory.items() if name.startswith(width)}
            goals = {f"{width}, most": at_most(limit)}
            yield Measure(f"{survey.upper()}, {width}: resident memory", "MiB", names, goals=goals, notes=mix.notes)


def _saved(survey, path):
    if not path.exists():
        bundle = paper_width(survey)
        save_bundle(path, bundle.card, bundle.networks, bundle.fusion)
    return path


def _start(mix, bundle, folder, n_alerts=0):
    """Seconds to readiness and memory [MiB] of one process, which then scores so many alerts."""
    with EmbeddedKafka() as kafka:
        config = _configuration(mix, bundle, folder, kafka)
        for topic in ("alerts", "scores", "candidates", "deadletters"):
            kafka.create_topic(topic, PARTITIONS)
        start = time.monotonic()
        with _process(config["path"], folder) as process:
            _wait(process, lambda: _status(config["port"], "readyz") == 200, "readiness")
            found = {
                "seconds": time.monotonic() - start,
                "cpu_s": _cpu_s(process.pid),
                "ready_mib": _memory(process.pid, "VmRSS"),
            }
            if n_alerts:
                feeder = Feeder(kafka, "alerts", PARTITIONS, "bench", timeout_s=PATIENCE_S)
                for number, value in enumerate(islice(cycle(mix.values), n_alerts)):
                    feeder.send(value, partition=number % PARTITIONS)
                feeder.close()
                _wait(process, lambda: _consumed(config["port"]) >= n_alerts, f"{n_alerts} alerts")
                found |= {"after_mib": _memory(process.pid, "VmRSS"), "most_mib": _memory(process.pid, "VmHWM")}
    return found


def _configuration(mix, bundle, folder, kafka):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "survey": mix.survey,
        "bundle": bundle,
        "filters": [],
        "kafka": {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "bench"},
        "input": {"topics": ["alerts"], "schemas": str(mix.schemas.path) if mix.schemas else None},
        "output": {
            "scores": "scores",
            "candidates": "candidates",
            "dead_letters": "deadletters",
            "spill": str(folder / "spill"),
        },
        "batch": {"max_alerts": BATCH},
        "metrics": {"port": port},
    }
    path = folder / "broker.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return {"path": path, "port": port}


@contextmanager
def _process(config, folder):
    """`dgl-broker run`; ended in order."""
    log = folder / "run.log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "dgl_broker", "run", "--config", str(config)]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    except Exception:
        print(log.read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process, holds, what):
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if process.poll() is not None:
            raise RuntimeError(f"dgl-broker run ended with {process.returncode} before {what}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {what} in {PATIENCE_S:.0f} s")
        time.sleep(0.05)


def _status(port, page):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _consumed(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        found = re.search(r"^dgl_consumed_total(?:\{[^}]*\})? (\S+)", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _memory(pid, name):
    """Of a process [MiB]: resident now (VmRSS), or the most that it ever was (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {name} of process {pid}")


def _cpu_s(pid):
    """Processor time of a process so far [s]."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
