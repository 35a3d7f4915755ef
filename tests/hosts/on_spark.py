"""Local Spark for tests of adapters, and what `replay` says of the same alerts."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "tests/data/alerts"
SAME = 1e-4  # of log-odds: batches differ, and with them the last digits of a sum


def local_spark(**more):
    """A session on two threads of this machine."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable  # else workers take that of PATH
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master("local[2]").appName("dgl_broker").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", "64").config("spark.sql.shuffle.partitions", "2")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.sql.session.timeZone", "America/Santiago")
    for key, value in more.items():
        builder = builder.config(key.replace("_", "."), value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def replayed(folder, paths, survey, *arguments):
    """alert id -> row of `dgl-broker replay`'s table."""
    out = folder / f"replayed_{survey}.parquet"
    command = [
        sys.executable,
        "-m",
        "dgl_broker",
        "replay",
        *map(str, paths),
        "--survey",
        survey,
        "--out",
        str(out),
        *arguments,
    ]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return {row["alert_id"]: row for row in pq.read_table(out).to_pylist()}


def differences(expected, found):
    """(alert id, what replay says, what was found) where status, reason or log-odds differ; `found` as `expected`."""
    assert set(expected) == set(found), set(expected) ^ set(found)
    return [
        (
            alert_id,
            [row[k] for k in ("status", "reason", "log_odds")],
            [found[alert_id][k] for k in ("status", "reason", "log_odds")],
        )
        for alert_id, row in expected.items()
        if not _alike(row, found[alert_id])
    ]


def scored_odds(rows):
    """alert id -> log-odds, of the rows that were scored."""
    return {alert_id: row["log_odds"] for alert_id, row in rows.items() if row["status"] == "scored"}


def _alike(one, other):
    if (one["status"], one["reason"]) != (other["status"], other["reason"]):
        return False
    a, b = one["log_odds"], other["log_odds"]
    return a is None and (b is None or b != b) or a is not None and b is not None and abs(a - b) <= SAME
