"""Single rows of a table of scores, whole."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dgl_broker.errors import ConfigError, InputUnavailable


def find_row(scores, alert_id, survey=None):
    """(row, whether its table was ungated): the row of an alert as a dict, of one table or a folder of them.

    Raises
    ------
    InputUnavailable
        If the table cannot be read, or has no such alert.
    ConfigError
        If two surveys have it.
    """
    found = [pair for pair in _rows(scores, [alert_id]) if survey in (None, pair[0]["survey"])]
    if not found:
        raise InputUnavailable(f"{scores}: no alert {alert_id}{f' of {survey}' if survey else ''}")
    if len({row["survey"] for row, _ in found}) > 1:
        raise ConfigError(f"{scores}: alert {alert_id} of several surveys; --survey says which")
    return found[0]


def find_rows(scores, alert_ids):
    """(survey, alert id) to whole row, of those of these alerts that are there.

    Raises
    ------
    InputUnavailable
        If the table cannot be read.
    """
    found = {}
    for row, _ in _rows(scores, list(alert_ids)):
        found.setdefault((row["survey"], row["alert_id"]), row)
    return found


def _rows(scores, alert_ids):
    """(row, whether its table was ungated) of these alerts, in the tables' order."""
    scores = Path(scores)
    if not scores.exists():
        raise InputUnavailable(f"{scores}: no such file or folder")
    files = sorted(scores.rglob("*.parquet")) if scores.is_dir() else [scores]
    if not files:
        raise InputUnavailable(f"{scores}: no .parquet file in it, expected a table of `dgl-broker replay`")
    found = []
    for file in files:
        try:
            table = pq.read_table(file, filters=[("alert_id", "in", alert_ids)], partitioning=None)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise InputUnavailable(f"{file}: not a table of scores: {error}") from error
        ungated = any(name.startswith("cut.") for name in table.column_names)
        found += [(row, ungated) for row in table.to_pylist()]
    return found


def verdicts_of(row):
    """The verdicts of a row as a list of dicts, whose criteria's values are as JSON has them."""
    found = row.get("verdicts")
    return json.loads(found) if isinstance(found, str) else found or []
