"""Fink: a science module for `rubin` and `ztf`, and a livestream filter over the columns that it adds.

A science module is a pandas UDF, one row an alert, every argument a `pd.Series`; a filter is a plain function whose arguments
are names of columns. What cannot be scored is null, with the reason beside it, and no error leaves either: in Fink an
exception would end the micro-batch, and with it alerts of all users.
"""

import json
import logging

import pandas as pd
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from dgl_broker.errors import ConfigError
from dgl_broker.hosts.spark import BRIEF, BRIEF_SCORES, brief_frame, empty_brief, plain, pruned, score_rows
from dgl_broker.wire.reduce import reader_schema

log = logging.getLogger(__name__)
SURVEYS = {"rubin": "lsst", "ztf": "ztf"}  # Fink's names and ours
DESCRIPTION = "Lensed supernova candidates: DeepGraviLens on stamps and light curve, by dgl-broker's filter."
HBASE_SUPPORT = True
FAILED = "failed"


def science_module(survey, **options):
    """The pandas UDF of a survey, with other options than the shipped bundle and filter.

    Parameters
    ----------
    survey : "rubin" or "ztf"
    **options
        As `dgl_broker.scorer.Scorer` takes them, what JSON can say. By default `filters` is the survey's shipped one, whose
        pre-cuts keep most alerts from the networks, as in the stream.

    Returns
    -------
    function of `arguments(df, survey)` -> struct with the fields of `spark.BRIEF`
    """
    name = SURVEYS[survey]
    text = json.dumps({"filters": [f"lensed_sn_{name}"], **options}, sort_keys=True)
    fields = tuple(reader_schema(name)["fields"])

    def scored(*columns: pd.Series) -> pd.DataFrame:
        n = len(columns[0])
        try:
            cells = [list(column) for column in columns]
            rows = [{field: _whole(cell) for field, cell in zip(fields, row, strict=True)} for row in zip(*cells, strict=True)]
            return brief_frame(score_rows(rows, name, text))
        except Exception as error:  # noqa: BLE001 - Fink's rule: what fails here must not fail the micro-batch
            log.exception("deepgravilens: %d alerts not scored", n)
            return empty_brief(n, FAILED, type(error).__name__, str(error))

    return pandas_udf(scored, BRIEF_SCORES)


def arguments(df, survey):
    """What the science module is called with: columns of a DataFrame of alerts as Fink has them.

    A struct goes as an array of one, so that it arrives as a Series like all others and its ids stay exact: as a frame,
    whole numbers become floats where one of them is null.

    Raises
    ------
    ConfigError
        If a column is missing that every alert has.
    """
    name = SURVEYS[survey]
    fields = reader_schema(name)["fields"]
    missing = [field for field, told in fields.items() if told["required"] and field not in df.columns]
    if missing:
        raise ConfigError(f"{survey}: no column {', '.join(missing)}; there are {', '.join(df.columns)}")
    there = {field: pruned(df, field, told["type"]) for field, told in fields.items() if field in df.columns}
    return [F.array(F.struct(there[field].alias("value"))) if field in there else F.lit(None) for field in fields]


def add_deepgravilens(df, survey, module=None):
    """A DataFrame of alerts with the module's columns: `deepgravilens_log_odds`, `deepgravilens_passed`, ... (`spark.BRIEF`).

    Parameters
    ----------
    df : pyspark.sql.DataFrame
    survey : "rubin" or "ztf"
    module : optional
        From `science_module`; by default that of the survey.
    """
    module = module or {"rubin": deepgravilens_rubin, "ztf": deepgravilens_ztf}[survey]
    kept = [column for column in df.columns if column != "deepgravilens"]
    found = df.withColumn("deepgravilens", module(*arguments(df, survey)))
    return found.select(*kept, *(F.col(f"deepgravilens.{name}").alias(f"deepgravilens_{name}") for name in BRIEF))


def lensed_supernova(deepgravilens_passed: pd.Series) -> pd.Series:
    """Alerts that pass dgl-broker's filter; not those that were not scored. As Fink's filters, of columns by their names."""
    return deepgravilens_passed.astype("boolean").fillna(False).astype(bool)


def _whole(cell):
    """One column's value of one alert; None where the column is not there."""
    cell = plain(cell)
    return cell[0]["value"] if cell else None


deepgravilens_rubin = science_module("rubin")
deepgravilens_ztf = science_module("ztf")
