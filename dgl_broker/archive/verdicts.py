"""By which filters a replay judges: today's, those that judged then, or one that is given; the result says which.

Then: the versions that the live record of an alert names, from the audit log beside each filter's file. Where there is no
live record, or it names none (a refusal), the versions that the log has in force at the alert's time, and that is approximate:
a worker takes a new version some seconds after it was written.
"""

import hashlib
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.photometry import MJD_OF_JD, jd_utc_from_mjd_tai
from dgl_broker.selection import content_sha256, load_filter
from dgl_broker.selection.audit import in_force_at, log_path, read_log, version_content

NOW, THEN, APPROXIMATELY, GIVEN = "now", "then", "then_approximate", "file"
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


class Fixed:
    """One set of filters for all alerts.

    Parameters
    ----------
    scorer : dgl_broker.scorer.Scorer
        With the filters.
    judged_by : str
        NOW or GIVEN.
    """

    def __init__(self, scorer, judged_by=NOW):
        self.scorer, self.judged_by = scorer, judged_by
        self.filters = tuple(scorer.filters)

    def plan(self):
        """What the result depends on."""
        return {"verdicts": self.judged_by, "filters": [content_sha256(f) for f in self.filters]}

    def score(self, messages, alert_ids, mjd_tai):
        """(outcomes, by which verdicts each) of a batch."""
        return self.scorer.score(messages), [self.judged_by] * len(messages)

    def recall(self, messages, alert_ids, mjd_tai):
        """Remember the companions of a batch that was scored before."""
        self.scorer.recall(messages)


class Then:
    """The filters that were in force when an alert came.

    Parameters
    ----------
    scorer : dgl_broker.scorer.Scorer
        With today's filters, each read from a file with its audit log beside it.
    live : dict, optional
        Alert id to ((filter, version), ...), from `live_verdicts`.

    Raises
    ------
    ConfigError
        If a filter has no file, or an earlier version of it is not in the log.
    GuardRefused
        If a filter of then was tuned for another bundle than the scorer's.
    """

    def __init__(self, scorer, live=None):
        self.scorer, self.live = scorer, live or {}
        self.today = {f.name: f for f in scorer.filters}
        if not self.today:
            raise ConfigError("--verdicts then: no filter is configured, so none was in force")
        self.logs = {}
        for f in self.today.values():
            if f.source is None:
                raise ConfigError(f"--verdicts then: filter {f.name} has no file, and so no audit log")
            self.logs[f.name] = read_log(log_path(f.source))[0]
        self._versions, self._scorers = {}, {}
        named = {key for pairs in set(self.live.values()) for key in pairs}
        if unknown := {name for name, _ in named} - set(self.today):
            names = ", ".join(sorted(unknown))
            raise ConfigError(
                f"--verdicts then: the live records name {names}; expected among --filters as well, for their logs"
            )
        entries = [entry for log in self.logs.values() for entry in log]
        logged = {(e["filter"], e[side]["version"]) for e in entries for side in ("from", "to") if e.get(side)}
        mine = {key for key in named | logged if key[0] in self.today}
        self.filters = tuple(self._filter(*key) for key in sorted(mine | {(f.name, f.version) for f in self.today.values()}))

    def plan(self):
        """What the result depends on."""
        live = sorted((alert_id, list(map(list, pairs))) for alert_id, pairs in self.live.items())
        live = hashlib.sha256(json.dumps(live).encode()).hexdigest() if live else None
        return {"verdicts": THEN, "filters": [content_sha256(f) for f in self.filters], "live_records": live}

    def score(self, messages, alert_ids, mjd_tai):
        """(outcomes, by which verdicts each) of a batch; neighbours that were judged alike are scored together, in order."""
        outcomes, judged_by = [], []
        for scorer, part, by in self._runs(messages, alert_ids, mjd_tai):
            outcomes += scorer.score(part)
            judged_by += by
        return outcomes, judged_by

    def recall(self, messages, alert_ids, mjd_tai):
        """Remember the companions of a batch that was scored before."""
        for scorer, part, _ in self._runs(messages, alert_ids, mjd_tai):
            scorer.recall(part)

    def _runs(self, messages, alert_ids, mjd_tai):
        asked = [self._in_force(m, int(i), float(t)) for m, i, t in zip(messages, alert_ids, mjd_tai, strict=True)]
        start = 0
        for end in range(1, len(asked) + 1):
            if end == len(asked) or asked[end][0] != asked[start][0]:
                yield self._scorer(asked[start][0]), messages[start:end], [by for _, by in asked[start:end]]
                start = end

    def _in_force(self, message, alert_id, mjd_tai):
        """(((filter, version), ...), by which verdicts) of one alert."""
        named = self.live.get(alert_id)
        if named:
            return named, THEN
        when = _arrival(message, mjd_tai)
        pairs = []
        for name, today in self.today.items():
            then = in_force_at(self.logs[name], name, when) if when is not None else None
            pairs.append((name, (then or today).version))
        return tuple(sorted(pairs)), APPROXIMATELY

    def _filter(self, name, version):
        if (name, version) not in self._versions:
            today = self.today[name]
            found = today if today.version == version else version_content(self.logs[name], name, version)
            self._versions[name, version] = found
        return self._versions[name, version]

    def _scorer(self, pairs):
        if pairs not in self._scorers:
            self._scorers[pairs] = self.scorer.with_filters([self._filter(*pair) for pair in pairs])
        return self._scorers[pairs]


def _arrival(message, mjd_tai):
    """When an alert came: by Kafka's timestamp where it has one, else by its exposure; None where it has neither."""
    if message.timestamp_ms is not None:
        return datetime.fromtimestamp(message.timestamp_ms / 1000.0, UTC)
    if not math.isfinite(mjd_tai):
        return None
    try:
        return _MJD_EPOCH + timedelta(days=float(jd_utc_from_mjd_tai(mjd_tai)) - MJD_OF_JD)
    except OverflowError:
        return None


def given_filter(path):
    """The filter of `--verdicts FILE`."""
    return load_filter(path)


def live_verdicts(records):
    """Alert id to the filters' versions that judged it, from live score records; where there are several, the last published.

    Parameters
    ----------
    records : iterable of dict
        With `alert_id`, `verdicts` and, where known, `published_ms`.
    """
    found, when, alike = {}, {}, {}
    for record in records:
        verdicts = record["verdicts"]
        verdicts = json.loads(verdicts) if isinstance(verdicts, str) else verdicts or ()
        pairs = tuple(sorted((v["filter"], int(v["version"])) for v in verdicts))
        at, alert_id = record.get("published_ms") or 0, int(record["alert_id"])
        if pairs and at >= when.get(alert_id, 0):
            found[alert_id], when[alert_id] = alike.setdefault(pairs, pairs), at
    return found


def read_live_table(path):
    """Live score records from Parquet: a file, or a folder of them.

    Raises
    ------
    InputUnavailable
    """
    path = Path(path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputUnavailable(f"{path}: no .parquet file in it")
    for file in files:
        try:
            with pq.ParquetFile(file) as table:
                names = [n for n in ("alert_id", "verdicts", "published_ms") if n in table.schema_arrow.names]
                if names[:2] != ["alert_id", "verdicts"]:
                    raise InputUnavailable(f"{file}: no columns alert_id and verdicts, expected live score records")
                for batch in table.iter_batches(columns=names):
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise InputUnavailable(f"{file}: cannot be read: {error}") from error
