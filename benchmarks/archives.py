"""Archives: Spark against `replay --shard` on the same packed files, their scores, and what one file an alert costs.

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

import numpy as np
import pyarrow.parquet as pq

from benchmarks import kafka_topic as bench
from benchmarks.report import Measure, NotRun, spread

TITLE = "11. Archives: Spark against replay's shards"
N, FILES = 12_000, 4
ROUNDS = 3
FEW = 16  # of the archive that shows what replay takes to start, and for which Spark's workers load their networks
SAME = 1e-4  # within which log-odds of one alert agree from one run to another (docs/design.md): batches round differently


def run(options):
    """Yields a `Measure` of packed archives and of single files, on two processes each."""
    python = spark_python()
    n, rounds = (80, 1) if options.quick else (N, min(options.rounds, ROUNDS))
    with tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        folder = Path(folder)
        write_archives(folder, {"packed": n, "few": FEW}, n)
        rates, taken, apart, starts = {}, {}, [], []
        for turn in range(rounds):
            starts.append(replayed(folder, "few", FEW, turn, "object")[0])
            ours = {}
            for name in ("packed", "singles"):
                for by in ("object", "source"):
                    seconds, ours[name, by] = replayed(folder, name, n, turn, by)
                    taken.setdefault(f"replay, 2 shards by {by}, {name}", []).append(seconds)
            for name, (rate, theirs) in by_spark(python, folder).items():
                rates.setdefault(f"Spark, 2 tasks, {name}", []).append(rate)
                apart += [furthest(ours[name, by], theirs) for by in ("object", "source")]
    start_s = 0.0 if options.quick else float(np.median(starts))  # 80 alerts take no longer than the start's own spread
    rates |= {way: [(n - FEW) / (seconds - start_s) for seconds in found] for way, found in taken.items()}
    ways = {by: f"replay, 2 shards {by}" for by in ("by object", "by source")} | {"Spark": "Spark, 2 tasks"}
    ratios = {
        f"{a} over {b}, {name}": _over(rates[f"{ways[a]}, {name}"], rates[f"{ways[b]}, {name}"])
        for a, b in (("by source", "by object"), ("Spark", "by source"))
        for name in ("packed", "singles")
    }
    ratios |= {f"packed over singles, {way}": _over(rates[f"{way}, packed"], rates[f"{way}, singles"]) for way in ways.values()}
    notes = {
        "archives": f"packed: {n} real ZTF alerts in {FILES} tars; singles: the same, a file each; all scored",
        "scores": f"equal for every alert: log-odds differ by at most {max(apart):.1g}",
        "measured": f"on the wall; of replay less the {start_s:.1f} s that the same command takes for {FEW} alerts, "
        "with its catalogue and tables; of Spark from the call until the rows are there, Java and the networks being up before",
    }
    yield Measure(
        "ZTF, ungated", "alerts a second", {way: spread(values) for way, values in rates.items()}, ratios, notes=notes
    )


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


def write_archives(folder, packed, singles):
    """A folder of some tars for each of `packed` (name to alerts), and `singles`: a file for each alert."""
    from kafka.flow import ZtfTemplates

    templates = ZtfTemplates()
    for name, n in packed.items():
        (folder / name).mkdir(parents=True)
        for file in range(FILES):
            with tarfile.open(folder / f"{name}/{file}.tar", "w") as tar:
                for k in range(file, n, FILES):
                    value = templates.packet(k)
                    entry = tarfile.TarInfo(f"{k}.avro")
                    entry.size = len(value)
                    tar.addfile(entry, io.BytesIO(value))
    (folder / "singles").mkdir()
    for k in range(singles):
        (folder / f"singles/{k:06}.avro").write_bytes(templates.packet(k))


def replayed(folder, name, count, turn, by):
    """Of two shards beside each other, the seconds until both have ended, and the log-odds of each alert."""
    jobs, began = [], time.monotonic()
    out = folder / f"scores_{name}_{turn}_{by}"
    command = [sys.executable, "-m", "dgl_broker", "replay", str(folder / name), "--survey", "ztf", "--out", str(out)]
    for shard in (0, 1):
        jobs.append(subprocess.Popen([*command, "--ungated", "--shard", f"{shard}/2", "--shard-by", by], **_quietly()))
    for process in jobs:
        said, _ = process.communicate(timeout=1800)
        if process.returncode:
            raise RuntimeError(said.decode()[-3000:])
    seconds = time.monotonic() - began
    accounts = [json.loads(path.read_text())["accounts"] for path in folder.glob(f"{out.name}.shard-*.manifest.json")]
    total, scored = (sum(one[what] for one in accounts) for what in ("consumed", "scored"))
    if (total, scored) != (count, count):
        raise RuntimeError(f"two shards of {name} had {total} alerts and scored {scored}, expected {count}")
    tables = [pq.read_table(path, columns=["alert_id", "log_odds"]) for path in sorted(out.rglob("*.parquet"))]
    return seconds, {row["alert_id"]: row["log_odds"] for table in tables for row in table.to_pylist()}


def furthest(ours, theirs):
    """The most that log-odds of one alert differ.

    Raises
    ------
    RuntimeError
        If the alerts are not the same, or one differs by more than `SAME`.
    """
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"{len(ours.keys() ^ theirs.keys())} alerts are scored by one of replay and Spark alone")
    most = float(np.max([abs(ours[its_id] - theirs[its_id]) for its_id in ours]))
    if not most <= SAME:
        raise RuntimeError(f"log-odds of replay and Spark differ by {most:.3g}, expected at most {SAME:g}")
    return most


def _quietly():
    return {
        "cwd": bench.ROOT,
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }


def by_spark(python, folder):
    """Of each archive alerts a second, in a session whose workers have their networks already, and the log-odds of each."""
    out = folder / "spark.json"
    environ = {"PYTHONPATH": str(bench.ROOT), "PYSPARK_PYTHON": python}
    options = _quietly()
    options["env"] |= environ
    done = subprocess.run([python, "-m", "benchmarks.archives", str(folder), str(out)], timeout=1800, **options)
    if done.returncode:
        raise RuntimeError(done.stdout.decode()[-3000:])
    found = json.loads(out.read_text())
    del found["few"]
    for name, (rows, _) in found.items():
        if len(rows) != len(dict(rows)):
            raise RuntimeError(f"Spark gave {len(rows) - len(dict(rows))} alerts of {name} twice")
    return {name: (len(rows) / seconds, dict(rows)) for name, (rows, seconds) in found.items()}


def score_on_spark(folder, out):
    """In Spark's own interpreter: [alert id, log-odds] of each alert of each archive and the seconds of all, as JSON."""
    from pyspark.sql import SparkSession

    from dgl_broker.hosts.spark import score_files

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
    found = {}
    for name in ("few", "singles", "packed"):
        began = time.monotonic()
        scores = score_files(spark, [Path(folder) / name], "ztf", partitions=FILES, ungated=True)
        rows = scores.select("alert_id", "log_odds").collect()
        found[name] = ([(row.alert_id, row.log_odds) for row in rows], time.monotonic() - began)
    Path(out).write_text(json.dumps(found))
    spark.stop()


if __name__ == "__main__":
    score_on_spark(*sys.argv[1:])
