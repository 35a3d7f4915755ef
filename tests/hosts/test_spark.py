"""The Spark adapter on local Spark: real alerts from files, archives and tables, with the scores that `replay` gives."""

import contextlib
import io
import json
import os
import tarfile
import time

import fastavro
import pyarrow.parquet as pq
import pytest
from measured import keep
from on_spark import ALERTS, differences, local_spark, replayed, scored_odds

pytest.importorskip("pyspark", reason="pyspark is not installed here: tox -e host-spark")

from pyspark.sql import functions as F  # noqa: E402
from pyspark.sql.pandas.functions import pandas_udf  # noqa: E402
from pyspark.sql.types import StringType  # noqa: E402

from dgl_broker.errors import PacketError  # noqa: E402
from dgl_broker.hosts import spark as dgl  # noqa: E402
from dgl_broker.wire import decode  # noqa: E402


@pytest.fixture(scope="module")
def spark():
    """One session for all."""
    session = local_spark()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def packets(alert_files):
    """Real ZTF packets: {alert id: bytes}."""
    found = {}
    for path in alert_files:
        value = path.read_bytes()
        with contextlib.suppress(PacketError):  # some are broken, some hold many
            packet = decode(value, "ztf")
            found[packet.record["candidate"]["candid"]] = value
    assert len(found) >= 5
    return found


@pytest.fixture(scope="module")
def archive(packets, tmp_path_factory):
    """Alerts in a tar, others each in a file of its own, and one that is cut off."""
    folder = tmp_path_factory.mktemp("archive")
    values = list(packets.values())
    with tarfile.open(folder / "a.tar", "w") as tar:
        for n, value in enumerate(values[::2]):
            entry = tarfile.TarInfo(f"{n}.avro")
            entry.size = len(value)
            tar.addfile(entry, io.BytesIO(value))
    for n, value in enumerate(values[1::2]):
        (folder / f"b{n:03}.avro").write_bytes(value)
    (folder / "broken.avro").write_bytes(values[0][:-300])
    return folder


@pytest.fixture(scope="module")
def expected(archive, tmp_path_factory):
    """What `replay` says of the archive."""
    return replayed(tmp_path_factory.mktemp("replay"), [archive], "ztf", "--filters", "lensed_sn_ztf", "--ungated")


def by_id(frame):
    """alert id -> row, of those that were read."""
    rows = [row.asDict() for row in frame.collect()]
    return {row["alert_id"]: row for row in rows if row["status"] != "dead_lettered"}


def judged(row):
    """Verdicts without the values that failed: batches differ, and with them the last digits of log-odds."""
    verdicts = json.loads(row["verdicts"])
    return [{**v, "failed": [one["criterion"] for one in v["failed"]]} for v in verdicts]


OPTIONS = {"filters": ["lensed_sn_ztf"], "ungated": True}


def test_packed_archives_score_as_in_a_replay(spark, archive, expected):
    scores, began = dgl.score_files(spark, [archive], "ztf", **OPTIONS).cache(), time.perf_counter()
    found = by_id(scores)
    took_s = round(time.perf_counter() - began, 1)
    assert differences(expected, found) == []
    assert scored_odds(expected)
    keep("spark", "ztf", expected.values(), scored_odds(expected), scored_odds(found), packets=len(found), batch_s=took_s)
    for alert_id, row in expected.items():
        same = ("object_id", "bundle_sha256", "message_id", "n_epochs", "source", "source_row")
        assert {k: found[alert_id][k] for k in same} == {k: row[k] for k in same}
        assert judged(found[alert_id]) == judged(row)
    (letter,) = scores.where("status = 'dead_lettered'").collect()
    assert letter.reason == "truncated" and bytes(letter.packet) == (archive / "broken.avro").read_bytes()


def test_packets_as_bytes_score_as_in_a_replay(spark, archive, expected):
    files = spark.read.format("binaryFile").option("pathGlobFilter", "b*.avro").load(str(archive))
    scores = by_id(dgl.score_packets(files, "ztf", **OPTIONS))
    assert len(scores) > 1
    assert differences({alert_id: expected[alert_id] for alert_id in scores}, scores) == []
    assert all(row["source"].endswith(".avro") for row in scores.values())


def test_a_file_of_many_alerts_gives_a_row_for_each(spark, packets, tmp_path):
    value = next(iter(packets.values()))
    reader = fastavro.reader(io.BytesIO(value))
    record = next(reader)
    with open(tmp_path / "many.avro", "wb") as file:
        fastavro.writer(file, reader.writer_schema, [record] * 70)
    scores = dgl.score_packets(spark.read.format("binaryFile").load(str(tmp_path)), "ztf").collect()
    assert sorted(row.source_row for row in scores) == list(range(70))
    assert len({(row.alert_id, row.status, row.reason) for row in scores}) == 1


def test_messages_of_a_stream_keep_their_places_and_times(spark, packets):
    (alert_id, value), *_ = packets.items()
    rows = [(value, "ztf", 3, 7, None), (None, "ztf", 3, 8, None), (b"garbage", "ztf", 3, 9, None)]
    stream = spark.createDataFrame(rows, "value binary, topic string, partition int, offset long, key binary")
    stream = stream.withColumn("timestamp", F.timestamp_millis(F.lit(1_700_000_000_123)))
    read, empty, garbage = dgl.score_packets(stream, "ztf").orderBy("source_row").collect()
    assert (read.alert_id, read.source, read.source_row) == (alert_id, "ztf[3]", 7)
    assert (empty.status, empty.reason, bytes(empty.packet)) == ("dead_lettered", "empty", b"")
    assert (garbage.status, garbage.alert_id, bytes(garbage.packet)) == ("dead_lettered", None, b"garbage")
    (message,) = dgl._messages_of_rows([stream.limit(1).withColumn("timestamp", F.unix_millis("timestamp")).toPandas()], "ztf")
    assert message.timestamp_ms == 1_700_000_000_123  # the session's zone is not UTC


def test_columns_of_a_table_score_as_in_a_replay(spark, tmp_path, alert_files):
    """Real LSST alerts of a broker's file, as a table; ids of objects stand beside a null one."""
    records = list(fastavro.reader(io.BytesIO((ALERTS / "fink_transfer_20260305.avro").read_bytes())))
    without = {**records[0], "diaSource": {**records[0]["diaSource"], "diaObjectId": None, "diaSourceId": 2**60 + 1}}
    rows = [{k: v for k, v in r.items() if k in ("lsst_schema_version", "diaSource", "diaObject") or k[:3] in ("prv", "cut")}
            for r in [*records, without]]  # fmt: skip
    path = tmp_path / "table.parquet"
    _write_table(path, rows)
    expected = replayed(tmp_path, [path], "lsst")
    scores = dgl.with_scores(spark.read.parquet(str(path)).coalesce(1), "lsst").select(
        F.col("diaSource.diaSourceId").alias("alert_id"), "deepgravilens.*"
    )
    found = by_id(scores)
    assert len(found) == len(records) + 1 and 2**60 + 1 in found
    assert differences(expected, found) == []


def _write_table(path, rows):
    import pyarrow as pa

    table = pa.Table.from_pylist(rows)
    fields = [f for f in table.schema if not pa.types.is_null(f.type)]
    pq.write_table(table.select([f.name for f in fields]), path)


def test_the_networks_are_loaded_once_in_a_worker(spark, packets):
    values = [(value,) for value in packets.values()] * 5
    frame = spark.createDataFrame(values, "content binary").repartition(4)
    before = loads(spark)
    for _ in range(2):  # eight tasks on two threads
        dgl.score_packets(frame, "ztf", prevalence=3e-6).write.format("noop").mode("overwrite").save()
    more = [n - before.get(pid, 0) for pid, n in loads(spark).items()]
    assert 1 <= len(more) <= 2 and sum(more) <= len(more), more


def loads(spark):
    """process id of a worker -> how often it made a scorer."""
    found = spark.range(8).repartition(8).select(_loaded("id").alias("told")).distinct().collect()
    return {row.told.split(":")[0]: int(row.told.split(":")[1]) for row in found}


@pandas_udf(StringType())
def _loaded(ids):
    """`process id:how often it loaded networks`."""
    import pandas as pd

    from dgl_broker.hosts.spark import worker_scorer

    return pd.Series([f"{os.getpid()}:{worker_scorer.cache_info().misses}"] * len(ids))


def test_a_frame_without_packets_is_refused_at_once(spark):
    with pytest.raises(Exception, match="no column content or value; there are id"):
        dgl.score_packets(spark.range(3), "ztf")
