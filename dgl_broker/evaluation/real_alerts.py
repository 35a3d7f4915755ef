"""Truly observed alerts, none of them a lensed supernova, against a filter's threshold: how many pass, and which."""

from dgl_broker.errors import ConfigError, InputUnavailable

COLUMNS = ("source", "alert_id", "object_id", "status", "log_odds", "bundle_id", "bundle_sha256")


def real_alerts(table, chosen, leave_out=()):
    """Count the alerts of a replayed table, each once, that score at or above a filter's threshold.

    Parameters
    ----------
    table : path
        As `replay` writes it; more than one row of an alert counts once, the first.
    chosen : dgl_broker.selection.Filter
    leave_out : sequence of str
        Rows whose `source` holds one of these are no truly observed alerts.

    Returns
    -------
    dict
        `n`, `scored`, `threshold`, `bundle`, `filter`, `quantiles` of the log-odds, and `above`: those at or over it,
        best first, with an empty `what` for whoever looked at them.

    Raises
    ------
    InputUnavailable
        If the table cannot be read or holds no scored alert.
    ConfigError
        If the scores are of another bundle than the filter's.
    """
    import numpy as np
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(table, columns=list(COLUMNS)).to_pylist()
    except (OSError, ValueError) as error:
        raise InputUnavailable(f"{table}: no table of scores: {error}") from error
    first = {}
    for row in rows:
        if row["alert_id"] is not None and not any(text in (row["source"] or "") for text in leave_out):
            first.setdefault(row["alert_id"], row)
    scored = [row for row in first.values() if row["status"] == "scored"]
    if not scored:
        raise InputUnavailable(f"{table}: holds no scored alert of those that count")
    hashes = {row["bundle_sha256"] for row in scored}
    if chosen.bundle_sha256 is not None and hashes != {chosen.bundle_sha256}:
        found = ", ".join(sorted(str(h)[:12] for h in hashes))
        raise ConfigError(f"{table}: scored by bundle {found}; filter {chosen.name} is for {chosen.bundle_sha256[:12]}")
    values = np.array([row["log_odds"] for row in scored])
    above = sorted((row for row in scored if row["log_odds"] >= chosen.threshold), key=lambda row: -row["log_odds"])
    return {
        "n": len(first),
        "scored": len(scored),
        "threshold": chosen.threshold,
        "filter": chosen.name,
        "bundle": f"{scored[0]['bundle_id']} {scored[0]['bundle_sha256'][:12]}",
        "quantiles": {str(q): round(float(np.quantile(values, q)), 2) for q in (0.05, 0.5, 0.95, 0.99, 1.0)},
        "above": [
            {"alert_id": str(row["alert_id"]), "object_id": row["object_id"], "log_odds": round(row["log_odds"], 2), "what": ""}
            for row in above
        ],
    }
