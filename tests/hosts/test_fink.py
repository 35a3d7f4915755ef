"""Fink's science module and filter on local Spark: its own tables, its wrapper of filters, micro-batches that must not fail."""

import time
from dataclasses import replace

import pytest
from measured import keep
from on_spark import differences, local_spark, replayed, scored_odds

pytest.importorskip("fink_utils", reason="fink-utils is not installed here: tox -e host-fink")

from fink_filters.rubin.utils import apply_block  # noqa: E402
from fink_utils.spark.utils import expand_function_from_string  # noqa: E402
from pyspark.sql import functions as F  # noqa: E402

from dgl_broker.errors import ConfigError  # noqa: E402
from dgl_broker.hosts import fink  # noqa: E402
from dgl_broker.selection import dump_filter, load_filter  # noqa: E402

IDS = {"rubin": "diaSource.diaSourceId", "ztf": "candidate.candid"}
TABLES = {"rubin": "alerts/lsst/parquet", "ztf": "alerts/ztf/parquet"}


@pytest.fixture(scope="module")
def spark():
    """One session for all."""
    session = local_spark()
    yield session
    session.stop()


def tables(shared, survey):
    """Fink's tables of a survey."""
    found = sorted((shared / "data" / TABLES[survey]).glob("*.parquet"))
    assert len(found) >= 3
    return found


def _by_id(found):
    rows = [{k.removeprefix("deepgravilens_"): v for k, v in row.asDict().items()} for row in found.collect()]
    return {row["alert_id"]: row for row in rows}


def with_module(spark, path, survey, module=None):
    """As `scores`, of a table's file."""
    found = fink.add_deepgravilens(spark.read.parquet(str(path)), survey, module)
    return _by_id(found.select(F.col(IDS[survey]).alias("alert_id"), *_added(found)))


def _added(frame):
    return [name for name in frame.columns if name.startswith("deepgravilens_")]


@pytest.mark.parametrize("survey", ["rubin", "ztf"])
def test_tables_of_fink_score_as_in_a_replay(spark, shared, tmp_path, survey):
    name = fink.SURVEYS[survey]
    paths, module = tables(shared, survey), fink.science_module(survey, ungated=True)
    records, wanted, odds, n, took_s = [], {}, {}, 0, 0.0
    for path in paths:
        expected = replayed(tmp_path, [path], name, "--filters", f"lensed_sn_{name}", "--ungated")
        began = time.perf_counter()
        found = with_module(spark, path, survey, module)
        took_s, n = took_s + time.perf_counter() - began, n + len(found)
        assert differences(expected, found) == []
        records += expected.values()
        wanted |= scored_odds(expected)
        odds |= scored_odds(found)
    assert len(wanted) > 30
    keep("fink", name, records, wanted, odds, packets=n, batch_s=round(took_s, 1))
    # As it ships, what the pre-cuts refuse is not scored, and the others are as before.
    gated = replayed(tmp_path, paths[:1], name, "--filters", f"lensed_sn_{name}")
    assert differences(gated, with_module(spark, paths[0], survey)) == []


def test_the_filter_takes_what_passes_by_finks_own_wrapper(spark, shared, tmp_path):
    loose = tmp_path / "loose.yaml"
    loose.write_text(dump_filter(replace(load_filter("lensed_sn_lsst"), name="loose", threshold=-4.5)))
    module = fink.science_module("rubin", filters=[str(loose)])
    alerts = spark.read.parquet(str(tables(shared, "rubin")[1]))
    # Times that this copy of the table has in nanoseconds, which Spark does not read.
    alerts = alerts.drop("brokerStartProcessTimestamp", "brokerEndProcessTimestamp")
    found = fink.add_deepgravilens(alerts, "rubin", module).cache()
    kept = apply_block(found, "dgl_broker.hosts.fink.lensed_supernova")
    ids = F.col(IDS["rubin"])
    passed = {row[0] for row in found.where("deepgravilens_passed").select(ids).collect()}
    assert {row[0] for row in kept.select(ids).collect()} == passed
    assert 0 < len(passed) < found.where("deepgravilens_status = 'scored'").count() < found.count()
    _, columns = expand_function_from_string(found, "dgl_broker.hosts.fink.lensed_supernova")
    assert [str(c) for c in columns] == ["Column<'deepgravilens_passed'>"]


def test_a_bundle_that_is_not_there_fails_no_micro_batch(spark, shared, tmp_path):
    path = tables(shared, "ztf")[-1]
    module = fink.science_module("ztf", bundle=str(tmp_path / "nowhere"))
    found = with_module(spark, path, "ztf", module)
    assert len(found) > 1
    for row in found.values():
        assert (row["status"], row["reason"]) == ("failed", "ConfigError") and "nowhere" in row["error"]
        assert row["log_odds"] is None and row["passed"] is None


def test_an_odd_alert_is_null_beside_others_that_are_scored(spark, shared):
    frame = spark.read.parquet(str(tables(shared, "ztf")[0]))
    module = fink.science_module("ztf", ungated=True)
    whole = {k: v for k, v in scores_of(frame, module).items() if v["status"] == "scored"}
    odd = min(whole)
    is_odd = F.col("candidate.candid") == odd
    torn = frame.withColumn("cutoutDifference", F.when(is_odd, F.lit(None)).otherwise(F.col("cutoutDifference")))
    found = scores_of(torn, module)
    assert (found[odd]["status"], found[odd]["reason"], found[odd]["log_odds"]) == ("refused", "no_difference", None)
    no_flux = frame.withColumn("candidate", F.col("candidate").withField("magpsf", F.when(~is_odd, F.col("candidate.magpsf"))))
    lost = scores_of(no_flux, module)
    assert (lost[odd]["status"], lost[odd]["reason"], lost[odd]["log_odds"]) == ("dead_lettered", "bad_value", None)
    for alert_id in set(whole) - {odd}:
        assert found[alert_id]["log_odds"] == pytest.approx(whole[alert_id]["log_odds"], abs=1e-4)


def scores_of(frame, module):
    """alert id -> scores of ZTF alerts."""
    found = fink.add_deepgravilens(frame, "ztf", module)
    return _by_id(found.select(F.col(IDS["ztf"]).alias("alert_id"), *_added(found)))


def test_a_micro_batch_of_a_stream_is_scored(spark, shared, tmp_path):
    path = tables(shared, "ztf")[-1]
    schema = spark.read.parquet(str(path)).schema
    stream = spark.readStream.schema(schema).parquet(f"file://{path.parent}/{path.name[:-1]}*")
    told = fink.add_deepgravilens(stream, "ztf", fink.science_module("ztf", ungated=True))
    query = (
        told.select(F.col(IDS["ztf"]).alias("alert_id"), *_added(told))
        .writeStream.format("memory").queryName("told").option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True).start()
    )  # fmt: skip
    assert query.awaitTermination(240)
    found = _by_id(spark.table("told"))
    expected = replayed(tmp_path, [path], "ztf", "--filters", "lensed_sn_ztf", "--ungated")
    assert differences(expected, found) == []


def test_a_column_that_every_alert_has_is_missed_before_the_stream_starts(spark):
    with pytest.raises(ConfigError, match="rubin: no column diaSource, prvDiaSources, prvDiaForcedSources, diaObject"):
        fink.arguments(spark.range(1), "rubin")
