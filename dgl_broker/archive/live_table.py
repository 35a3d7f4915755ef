"""Score records of the live stream as a table like that of a replay, to be compared with one."""

from pathlib import Path

import pyarrow as pa

from dgl_broker.archive.sinks import table_schema
from dgl_broker.archive.tables import TableFile
from dgl_broker.errors import InputUnavailable
from dgl_broker.outputs.records import table_row

ROWS = 5000


def write_live_table(path, records):
    """Write records of `schemas/score.avsc` to a table, each message id once; the path.

    Raises
    ------
    InputUnavailable
        If there is not one.
    StateError
        If it cannot be written.
    """
    schema = table_schema()
    table, seen, waiting = TableFile(Path(path), schema), set(), []
    try:
        for record in records:
            if record["message_id"] in seen:
                continue
            seen.add(record["message_id"])
            waiting.append({**table_row(record), "injected": record.get("injected"), "judged_by": "live"})
            if len(waiting) >= ROWS:
                table.add(pa.RecordBatch.from_pylist(waiting, schema))
                waiting = []
        if not seen:
            raise InputUnavailable("no score record in that range of the topic")
        table.add(pa.RecordBatch.from_pylist(waiting, schema))
        table.close()
    except BaseException:
        table.abandon()
        raise
    return Path(path)
