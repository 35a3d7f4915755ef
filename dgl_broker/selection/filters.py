"""A filter: pre-cuts that need no network, a score and its threshold, and where the threshold came from."""

from dataclasses import dataclass, field, fields

from dgl_broker.scores import Verdict
from dgl_broker.selection.criteria import Criterion, Test


@dataclass(frozen=True)
class OperatingPoint:
    """Where a threshold came from: what was measured there, with its interval, on which data and when.

    `value` None: nothing was measured.
    """

    metric: str
    value: float | None = None
    lo: float | None = None
    hi: float | None = None
    n_neg: int | None = None
    data: str = ""
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Precut:
    """What the pre-cuts of one filter say of one alert.

    `met` holds (criterion, True | False | None for unknown) of the judged ones, in order; `passed` is False as soon as one
    fails, None while some are not judged yet and none failed; `first_failed` names the failing criterion that comes first.
    """

    filter: str
    met: tuple[tuple[str, bool | None], ...]
    passed: bool | None
    first_failed: str | None
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filter:
    """One selection. Two filters are equal if their files say the same; `source` is where it was read from.

    Keys as in the file; `require` is a tuple of criteria, in order. `criteria` are those judged: `require`, and before it the
    survey, if the filter is for one.
    """

    name: str
    version: int
    threshold: float
    description: str = ""
    survey: str | None = None
    bundle_sha256: str | None = None
    require: tuple[Criterion, ...] = ()
    score: str = "log_odds"
    operating_point: OperatingPoint | None = None
    completeness_floor: float | None = None
    max_candidates_per_night: float | None = None
    source: str | None = field(default=None, compare=False)

    def __post_init__(self):
        own = () if self.survey is None else (Criterion("survey", ((Test("survey", choices=(self.survey,)),),)),)
        criteria = own + self.require
        judged = tuple((c.name, c.compiled(), c.unknown == "pass", c.needs) for c in criteria)
        object.__setattr__(self, "criteria", criteria)
        object.__setattr__(self, "_judged", judged)
        object.__setattr__(self, "_by_known", {None: (judged, ())})

    def __getstate__(self):
        # Compiled criteria are functions, which no pickle takes; Spark sends filters to its workers.
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def needs(self):
        """Names of the packet's facts that the pre-cuts need."""
        return frozenset().union(*(criterion.needs for criterion in self.criteria))

    @property
    def is_tuned(self):
        """Whether the threshold belongs to a bundle; if not, it is a guess, and start and status say so."""
        return self.bundle_sha256 is not None

    def precut(self, facts, known=None, cache=None):
        """What the pre-cuts say.

        Parameters
        ----------
        facts : Mapping
            Standard name to value; absent, None and NaN are unknown.
        known : frozenset of str, optional
            The facts that this stage of decoding can tell at all; criteria that need others stay undecided. None: all.
        cache : dict, optional
            Derived facts of this alert, shared by several filters.

        Returns
        -------
        Precut
        """
        cache = {} if cache is None else cache
        try:
            judged, undecided = self._by_known[known]
        except KeyError:
            judged, undecided = self._by_known[known] = self._split(known)
        met, first_failed = [], None
        for name, function, unknown_passes, _ in judged:
            result = function(facts, cache)
            met.append((name, result))
            if first_failed is None and not (unknown_passes if result is None else result):
                first_failed = name
        passed = False if first_failed is not None else None if undecided else True
        return Precut(self.name, tuple(met), passed, first_failed, undecided)

    def _split(self, known):
        """Compiled criteria that these facts decide, and the names of the others."""
        if len(self._by_known) > 64:  # packets of odd shapes must not fill the memory
            whole = self._by_known[None]
            self._by_known.clear()
            self._by_known[None] = whole
        judged = tuple(entry for entry in self._judged if entry[3] <= known)
        return judged, tuple(entry[0] for entry in self._judged if not entry[3] <= known)

    def judge(self, facts, scores):
        """The verdict on a scored alert: passed if every criterion holds and the score is at least the threshold.

        Parameters
        ----------
        facts : Mapping
        scores : Scores
            Or anything with the attribute that `score` names. NaN never passes.

        Returns
        -------
        Verdict
            `failed` holds every criterion not met with the value found, in the filter's order, the score last.
        """
        cache, failed = {}, []
        for criterion, (name, function, unknown_passes, _) in zip(self.criteria, self._judged):
            result = function(facts, cache)
            if not (unknown_passes if result is None else result):
                failed.append((name, criterion.value(facts, cache)))
        value = getattr(scores, self.score)
        if value is None or not value >= self.threshold:
            failed.append((self.score, value))
        return Verdict(self.name, self.version, not failed, tuple(failed))
