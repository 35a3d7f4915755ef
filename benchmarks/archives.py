"""Archives: Spark against `replay --shard` on the same packed files, and what one file an alert costs.

Spark lives in an environment of its own: DGL_SPARK_PYTHON names its interpreter where this one has no pyspark.
"""

import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from benchmarks import kafka_topic as bench
from benchmarks.report import Measure, NotRun, spread

TITLE = "11. Archives: Spark against replay's shards"
N, FILES = 4000, 4
ONE_A_FILE = 800  # alerts of the archive that has a file for each


def run(options):
    """Yields a `Measure` of packed archives and of single files, on two processes each."""
    python = spark_python()
    n, singles, rounds = (80, 40, 1) if options.quick else (N, ONE_A_FILE, 3)
    with tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        folder = Path(folder)
        write_archives(folder, n, singles)
        rates = {}
        for turn in range(rounds):
            for name, count in (("packed", n), ("singles", singles)):
                rates.setdefault(f"replay, 2 shards, {name}", []).append(replayed(folder, name, count, turn))
            for name, rate in by_spark(python, folder, {"packed": n, "singles": singles}).items():
                rates.setdefault(f"Spark, 2 tasks, {name}", []).append(rate)
    ratios = {
        f"Spark over replay, {name}": _over(rates[f"Spark, 2 tasks, {name}"], rates[f"replay, 2 shards, {name}"])
        for name in ("packed", "singles")
    }
    ratios |= {
        f"packed over singles, {who}": _over(rates[f"{who}, packed"], rates[f"{who}, singles"])
        for who in ("replay, 2 shards", "Spark, 2 tasks")
    }
    notes = {
        "archives": f"packed: {n} real ZTF alerts in {FILES} tars; singles: {singles} of them, a file each; all scored",
        "measured": "from the first alert to the last: Python, Java and the networks are up before",
    }
    ways = {name: spread(values) for name, values in rates.items()}
    yield Measure("ZTF, ungated", "alerts a second", ways, ratios, notes=notes)


def _over(one, other):
    return spread([a / b for a, b in zip(one, other, strict=True)])


def spark_python():
    """The interpreter that has pyspark and this package.

    Raises
    ------
    NotRun
        If there is none.
    """
    named = os.environ.get("DGL_SPARK_PYTHON") or (sys.executable if importlib.util.find_spec("pyspark") else None)
    if named is None:
        raise NotRun("no pyspark here, and DGL_SPARK_PYTHON names no interpreter that has it (tox -e host-spark makes one)")
    return named


def write_archives(folder, n, singles):
    """`packed`: some tars; `singles`: a file for each alert."""
    from kafka.flow import ZtfTemplates

    templates = ZtfTemplates()
    (folder / "packed").mkdir(parents=True)
    (folder / "singles").mkdir()
    for file in range(FILES):
        with tarfile.open(folder / f"packed/{file}.tar", "w") as tar:
            for k in range(file, n, FILES):
                value = templates.packet(k)
                entry = tarfile.TarInfo(f"{k}.avro")
                entry.size = len(value)
                tar.addfile(entry, io.BytesIO(value))
    for k in range(singles):
        (folder / f"singles/{k:06}.avro").write_bytes(templates.packet(k))


def replayed(folder, name, count, turn):
    """Alerts a second of two shards beside each other: of each its own rate, which begins when its networks are up."""
    jobs = []
    out = folder / f"scores_{name}_{turn}"
    for shard in (0, 1):
        command = [sys.executable, "-m", "dgl_broker", "replay", str(folder / name), "--survey", "ztf", "--out", str(out)]
        jobs.append(subprocess.Popen([*command, "--shard", f"{shard}/2"], **_quietly()))
    for process in jobs:
        said, _ = process.communicate(timeout=1800)
        if process.returncode:
            raise RuntimeError(said.decode()[-3000:])
    accounts = [json.loads(path.read_text())["accounts"] for path in folder.glob(f"{out.name}.shard-*.manifest.json")]
    total, rate = (sum(one[what] for one in accounts) for what in ("consumed", "alerts_per_s"))
    if total != count:
        raise RuntimeError(f"two shards of {name} had {total} alerts, expected {count}")
    return rate


def _quietly():
    return {
        "cwd": bench.ROOT,
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }


def by_spark(python, folder, counts):
    """Alerts a second by archive, in a session whose workers have their networks already."""
    out = folder / "spark.json"
    environ = {"PYTHONPATH": str(bench.ROOT), "PYSPARK_PYTHON": python}
    options = _quietly()
    options["env"] |= environ
    done = subprocess.run([python, "-m", "benchmarks.archives", str(folder), str(out)], timeout=1800, **options)
    if done.returncode:
        raise RuntimeError(done.stdout.decode()[-3000:])
    found = json.loads(out.read_text())
    if {name: rows for name, (rows, _) in found.items()} != counts:
        raise RuntimeError(f"Spark gave {found}, expected {counts}")
    return {name: rows / seconds for name, (rows, seconds) in found.items()}


def score_on_spark(folder, out):
    """In Spark's own interpreter: rows and seconds of each archive, as JSON."""
    from pyspark.sql import SparkSession

    from dgl_broker.hosts.spark import score_files

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
    found = {}
    for name in ("singles", "singles", "packed"):  # the first time, for the networks, is measured and thrown away
        began = time.monotonic()
        rows = score_files(spark, [Path(folder) / name], "ztf", partitions=FILES).select("status").collect()
        found[name] = (len(rows), time.monotonic() - began)
    Path(out).write_text(json.dumps(found))
    spark.stop()


if __name__ == "__main__":
    score_on_spark(*sys.argv[1:])
