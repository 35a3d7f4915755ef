"""The alerts of one or several score tables, each once, with their scores by every bundle that gave one."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dgl_broker.archive.score_columns import ScoreColumns, Words, read_score_columns
from dgl_broker.errors import ConfigError
from dgl_broker.nights import UNKNOWN, nights_of
from dgl_broker.selection.filter_files import SCORE_RANGES, SURVEYS
from dgl_broker.tune.beside import injected_labels, share_replayed
from dgl_broker.tune.labelling import LENSED, LENSED_CC, LENSED_IA, NEGATIVE, UNKNOWN_CLASS, lay_labels

__all__ = [
    "LENSED",
    "LENSED_CC",
    "LENSED_IA",
    "NEGATIVE",
    "UNKNOWN_CLASS",
    "Alerts",
    "BundleScores",
    "is_wanted",
    "read_alerts",
]
SHADOW = "shadow_"
_OTHERS = ("survey", "alert_id", "object_id", "mjd_tai", "ra", "dec", "band", "status", "reason", "bundle_id", "bundle_sha256",
           "source", "source_row", "injected", "verdicts")  # fmt: skip
SECONDS_A_DAY = 86400.0


@dataclass(frozen=True, eq=False)
class BundleScores:
    """What one bundle says of all alerts.

    `scores` by name, float64 (n,), NaN where it gave none; `judged` (n,): it was asked, whether it scored or refused; `shadow`:
    only beside another.
    """

    id: str
    sha256: str
    scores: dict
    judged: np.ndarray
    shadow: bool


@dataclass(frozen=True, eq=False)
class Alerts:
    """Alerts as columns of shape (n,).

    Attributes
    ----------
    alert_id : array of int64
    survey, kind : Words
        `kind` is that of the label, null where there is none.
    object : array of int32
        Into `object_name`; an alert without an object is one of its own.
    night : array of int32
        Into `nights` (text, in order); -1 where the time is not known.
    stream : array of bool
        Real alerts: neither simulated nor injected. Labelled ones are among them.
    class_ : array of int8
        `UNKNOWN_CLASS`, `NEGATIVE`, `LENSED`, `LENSED_IA` or `LENSED_CC` of `labelling`.
    injected : array of bool
        Simulated or injected.
    facts : dict
        Name to column, as `dgl_broker.selection.columns` takes it.
    table : array of int32
        Into `tables`: which file an alert is from, for its pre-cuts and its packet.
    row : array of int64
        Its row there.
    sampled : float
        Share of the stream that was replayed.
    """

    alert_id: np.ndarray
    survey: Words
    object: np.ndarray
    object_name: tuple
    night: np.ndarray
    nights: tuple
    stream: np.ndarray
    injected: np.ndarray
    class_: np.ndarray
    kind: Words
    facts: dict
    table: np.ndarray
    row: np.ndarray
    tables: tuple
    bundles: dict
    sampled: float = 1.0

    def __len__(self):
        return len(self.alert_id)

    @cached_property
    def positive(self):
        """Lensed supernovae, known or injected."""
        return self.class_ >= LENSED

    @cached_property
    def real_nights(self):
        """Nights, by their place in `nights`, that have a real alert."""
        return np.flatnonzero(np.bincount(self.night[self.stream & (self.night >= 0)], minlength=len(self.nights)))

    @cached_property
    def n_stream(self):
        """Real alerts, scored or not."""
        return int(np.count_nonzero(self.stream))

    @cached_property
    def n_lensed(self):
        """Alerts of lensed supernovae, scored or not."""
        return int(np.count_nonzero(self.positive))

    def find(self, survey, alert_id):
        """Row of an alert, None where there is none."""
        rows = np.flatnonzero(self.alert_id == alert_id)
        return next((int(row) for row in rows if self.survey.one(row) == survey), None)

    def only(self, chosen):
        """Some of them, `chosen` (n,) bool; nights and objects keep their codes."""
        rows = np.flatnonzero(chosen)
        arrays = ("alert_id", "object", "night", "stream", "injected", "class_", "table", "row")
        bundles = {
            sha256: replace(b, scores={k: v[rows] for k, v in b.scores.items()}, judged=b.judged[rows])
            for sha256, b in self.bundles.items()
        }
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in arrays},
            survey=Words(self.survey.code[rows], self.survey.words),
            kind=Words(self.kind.code[rows], self.kind.words),
            facts={name: column[rows] for name, column in self.facts.items()},
            bundles=bundles,
        )

    @property
    def surveys(self):
        """Names of the surveys they are of."""
        return tuple(sorted(self.survey.words))


def is_wanted(name):
    """Whether a column of a table of scores is of use here."""
    return (
        name in _OTHERS
        or name in SCORE_RANGES
        or name.startswith(("cut.", "fact."))
        or name.removeprefix(SHADOW) in ("bundle_id", "bundle_sha256", *SCORE_RANGES)
    )


def read_alerts(paths, labels=None, sampled=None):
    """The alerts of score tables.

    Parameters
    ----------
    paths : sequence of path or ScoreColumns
        Tables of `dgl-broker replay`. An alert that stands in several is one alert with several scores.
    labels : path, optional
        CSV of `dgl_broker.evaluation.labels`; what a replay says of its injections is read from beside its table.
    sampled : float, optional
        Share of the stream that the real alerts are; by default what the replays' manifests say.

    Raises
    ------
    InputUnavailable
        If a file cannot be read.
    ConfigError
        If there is no alert in them, or `sampled` is no share.
    """
    files = [p for p in paths if not isinstance(p, ScoreColumns)]
    sampled = share_replayed(files) if sampled is None else sampled
    if not 0.0 < sampled <= 1.0:
        raise ConfigError(f"sampled {sampled:g}, expected a share above 0, at most 1")
    tables = tuple(p if isinstance(p, ScoreColumns) else read_score_columns(p, is_wanted) for p in paths)
    if not sum(t.n for t in tables):
        raise ConfigError(f"{', '.join(str(t.path) for t in tables)}: no alerts in it")
    survey = _joined_words(tables, "survey")
    alert_id = np.concatenate([t.numbers["alert_id"] for t in tables])
    first, at = _each_once(survey.code, alert_id)
    table = np.repeat(np.arange(len(tables), dtype=np.int32), [t.n for t in tables])[first]
    row = np.concatenate([np.arange(t.n) for t in tables])[first]
    survey, alert_id = Words(survey.code[first], survey.words), alert_id[first]
    facts = _facts(tables, first, at, len(first), survey)
    object_, names = _objects(_joined_words(tables, "object_id"), first, survey, alert_id)
    night, nights = _nights(facts["mjd_tai"], survey)
    marked = _joined(tables, "injected", first, at, len(first)) == 1.0
    marked |= facts.get("is_injected", np.zeros(len(first))) == 1.0
    told = [*([] if labels is None else [labels]), *injected_labels(files)]
    labelled = lay_labels(told, survey, alert_id, object_, names)
    injected = labelled.simulated | marked
    return Alerts(
        alert_id=alert_id,
        survey=survey,
        object=object_,
        object_name=names,
        night=night,
        nights=nights,
        stream=~injected,
        injected=injected,
        class_=labelled.class_,
        kind=labelled.kind,
        facts=facts,
        table=table,
        row=row,
        tables=tables,
        bundles=_bundles(tables, at, len(first)),
        sampled=float(sampled),
    )


def _each_once(survey, alert_id):
    """(first row of each alert, in the tables' order; for each row the place of its alert among these)."""
    order = np.lexsort((alert_id, survey))
    new = np.ones(len(order), bool)
    new[1:] = (alert_id[order][1:] != alert_id[order][:-1]) | (survey[order][1:] != survey[order][:-1])
    if new.all():
        rows = np.arange(len(order))
        return rows, rows
    first_of_group = order[new]  # lexsort is stable: the earliest row of each alert
    rank = np.argsort(np.argsort(first_of_group))
    at = np.empty(len(order), np.int64)
    at[order] = rank[np.cumsum(new) - 1]
    return np.sort(first_of_group), at


def _joined_words(tables, name):
    """A column of text over all tables, before duplicates are taken out."""
    known, codes = {}, []
    for t in tables:
        column = t.words.get(name)
        if column is None:
            codes.append(np.full(t.n, -1, np.int32))
            continue
        into = np.array([known.setdefault(w, len(known)) for w in column.words] + [-1], np.int32)
        codes.append(into[column.code])
    return Words(np.concatenate(codes), tuple(known))


def _joined(tables, name, first, at, n):
    """A number over all alerts: of the first table that knows it, NaN where none does."""
    out, start = np.full(n, np.nan), 0
    for t in tables:
        values = t.numbers.get(name)
        if values is not None:
            rows = at[start : start + t.n]
            fill = np.isnan(out[rows])
            out[rows[fill]] = values[fill]
        start += t.n
    return out


def _facts(tables, first, at, n, survey):
    """Facts of all alerts: the `fact.` columns, and what every table says of its alerts."""
    names = {c.removeprefix("fact.") for t in tables for c in (*t.numbers, *t.words) if c.startswith("fact.")}
    facts = {name: _joined(tables, name, first, at, n) for name in ("mjd_tai", "ra", "dec")}
    facts["survey"], facts["band"] = survey.text(), _joined_words(tables, "band").text(first)
    for name in sorted(names - set(facts)):
        if any(f"fact.{name}" in t.words for t in tables):
            facts[name] = _joined_words(tables, f"fact.{name}").text(first)
        else:
            facts[name] = _joined(tables, f"fact.{name}", first, at, n)
    return facts


def _objects(object_id, first, survey, alert_id):
    """(code of each alert's object, names by code): per survey, since two surveys may use one name."""
    code = object_id.code[first]
    alone = code < 0
    pair = np.where(alone, 0, code.astype(np.int64) * (len(survey.words) + 1) + survey.code)
    used, at = np.unique(pair[~alone], return_inverse=True)
    out = np.empty(len(code), np.int32)
    out[~alone] = at
    out[alone] = len(used) + np.arange(int(alone.sum()))
    words = np.array([*object_id.words, ""], dtype=object)
    names = words[used // (len(survey.words) + 1)].tolist() + [f"alert {i}" for i in alert_id[alone]]
    return out, tuple(names)


def _nights(mjd_tai, survey):
    night, names = np.full(len(mjd_tai), -1, np.int32), {}
    for code, word in enumerate(survey.words):
        rows = np.flatnonzero((survey.code == code) & np.isfinite(mjd_tai)) if word in SURVEYS else []
        if not len(rows):
            continue
        # UTC's whole seconds are TAI's: a night ends with one, so that its middle speaks for all of it.
        second, at = np.unique(np.floor(mjd_tai[rows] * SECONDS_A_DAY), return_inverse=True)
        text, into = np.unique(nights_of(word, (second + 0.5) / SECONDS_A_DAY), return_inverse=True)
        codes = np.array([names.setdefault(t, len(names)) if t != UNKNOWN else -1 for t in text.tolist()], np.int32)
        night[rows] = codes[into][at]
    order = sorted(names)
    place = np.array([order.index(n) for n in names] + [-1], np.int32)
    return place[night], tuple(order)


def _bundles(tables, at, n):
    """Scores by the bundle's hash, those of shadows as well."""
    out, start = {}, 0
    for t in tables:
        rows = at[start : start + t.n]
        start += t.n
        for prefix in ("", SHADOW):
            hashes = t.words.get(f"{prefix}bundle_sha256")
            for code, sha256 in enumerate(hashes.words if hashes is not None else ()):
                mine = np.flatnonzero(hashes.code == code)
                known = [c for c in SCORE_RANGES if prefix + c in t.numbers]
                if not any(np.isfinite(t.numbers[prefix + c][mine]).any() for c in known):
                    continue
                name = t.words[f"{prefix}bundle_id"].one(mine[0]) if f"{prefix}bundle_id" in t.words else None
                held = out.get(sha256) or BundleScores(name or sha256[:8], sha256, {}, np.zeros(n, bool), bool(prefix))
                held.judged[rows[mine]] = True
                out[sha256] = held if prefix else replace(held, shadow=False)
                for c in known:
                    column = held.scores.setdefault(c, np.full(n, np.nan))
                    column[rows[mine]] = t.numbers[prefix + c][mine]
    return out
