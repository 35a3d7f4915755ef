"""The filters in force: pre-cuts before and after the second stage of decoding, verdicts, and their reload while running.

Several filters mean OR. An alert that no filter's pre-cuts accept is refused with the reason `precut.<criterion>`: the first
failing criterion of the first filter, where criteria that the first stage of decoding can judge come before the others, each in
the file's order. So the reason is the same whether an alert was refused early or late.
"""

from dataclasses import dataclass

from dgl_broker.errors import ConfigError, GuardRefused
from dgl_broker.selection.guard import bundle_refusal
from dgl_broker.selection.reload import Reloader


@dataclass(frozen=True, slots=True)
class SetPrecut:
    """What the pre-cuts of all filters say of one alert: `parts` one `Precut` a filter, in order.

    `refused`: no filter accepts it, whatever is still undecided; then `reason` is for counters and `text` for people.
    """

    parts: tuple
    refused: bool
    reason: str | None = None
    text: str = ""

    @property
    def decided(self):
        """Whether every criterion of every filter has been judged."""
        return not any(part.undecided for part in self.parts)

    @property
    def cuts(self):
        """`<filter>.<criterion>` to True (met), False (not met) or None (unknown)."""
        return {f"{part.filter}.{name}": met for part in self.parts for name, met in part.met}


class FilterSet:
    """The filters in force, in order. Empty: everything is accepted and nothing is a candidate.

    Parameters
    ----------
    filters : sequence of Filter
    first_stage : collection of str, optional
        Facts that the first stage of decoding can tell. None: those present in the facts that `precut` is given.

    Raises
    ------
    ConfigError
        If two have one name.
    """

    def __init__(self, filters=(), first_stage=None):
        self.filters = tuple(filters)
        self.first_stage = None if first_stage is None else frozenset(first_stage)
        names = [f.name for f in self.filters]
        for name in {n for n in names if names.count(n) > 1}:
            files = ", ".join(str(f.source) for f in self.filters if f.name == name)
            raise ConfigError(f"filters: name {name!r} in {files}, expected each name once")
        self._bundle_sha256 = None
        self._survey = None
        self._reloader = Reloader(self.filters)

    def __len__(self):
        return len(self.filters)

    def __iter__(self):
        return iter(self.filters)

    @property
    def needs(self):
        """Names of the packet's facts that the pre-cuts of all filters need."""
        return frozenset().union(*(f.needs for f in self.filters))

    @property
    def untuned(self):
        """Names of the filters whose threshold belongs to no bundle yet."""
        return tuple(f.name for f in self.filters if not f.is_tuned)

    def check_bundle(self, bundle_sha256):
        """Nothing, if every filter may judge scores of this bundle; filters that are read anew are held to it as well.

        Raises
        ------
        GuardRefused
            Naming both hashes.
        """
        refusals = [why for f in self.filters if (why := bundle_refusal(f, bundle_sha256)) is not None]
        if refusals:
            raise GuardRefused("; ".join(refusals), refusals)
        self._bundle_sha256 = bundle_sha256

    def check_survey(self, survey):
        """Nothing, if every filter is for this survey or for any; filters that are read anew are held to it as well.

        Raises
        ------
        ConfigError
            Naming the filter.
        """
        for f in self.filters:
            if survey is not None and f.survey not in (None, survey):
                raise ConfigError(f"{f.source or f.name}: survey {f.survey!r}, the alerts are of {survey!r}")
        self._survey = survey

    def precut(self, facts, final=False, known=None):
        """What the pre-cuts of all filters say.

        Parameters
        ----------
        facts : Mapping
            Standard name to value; absent, None and NaN are unknown.
        final : bool
            Judge every criterion. Else those whose facts are not `known` stay undecided.
        known : frozenset of str, optional
            What the first stage can tell; by default `first_stage`, or else, in the first stage, the names in `facts`. Given
            with `final` it only orders the reasons, as they were ordered before.

        Returns
        -------
        SetPrecut
        """
        known = self.first_stage if known is None else known
        if not final and known is None:
            known = frozenset(facts)
        cache = {}
        parts = tuple(f.precut(facts, None if final else known, cache) for f in self.filters)
        if not parts or any(part.passed is not False for part in parts):
            return SetPrecut(parts, refused=False)
        first, failed = self.filters[0], parts[0].first_failed
        if final and known is not None:
            failed = first.precut(facts, known, cache).first_failed or failed
        criterion = next(c for c in first.criteria if c.name == failed)
        text = f"{failed} is {criterion.value(facts, cache)}, cut by {first.name} version {first.version}"
        return SetPrecut(parts, True, f"precut.{failed}", text)

    def judge(self, facts, scores):
        """The verdict of each filter on a scored alert, in order; it is a candidate if any has passed."""
        return tuple(f.judge(facts, scores) for f in self.filters)

    def refresh(self):
        """Takes in filters that were changed on disk; to be called between two batches.

        A file that is broken, missing, of another bundle or survey, or changed without a higher version is refused: the old
        filter stays, and `problems` says so until the file is sound.

        Returns
        -------
        tuple of dgl_broker.selection.reload.Change
            What was taken and what was refused since the last call; empty most of the time.
        """
        self.filters, changes = self._reloader.refresh(self.filters, self._refusal)
        return changes

    def _refusal(self, new):
        if self._survey is not None and new.survey not in (None, self._survey):
            return f"survey {new.survey!r}, the alerts are of {self._survey!r}"
        return bundle_refusal(new, self._bundle_sha256)

    @property
    def problems(self):
        """Filter's name to why its file on disk is not in force; empty if all is well."""
        return self._reloader.problems

    def report_status(self, folder=None, **options):
        """From now on, `refresh` writes which versions are in force, and since when, to a status folder.

        Parameters
        ----------
        folder : path, optional
            By default `status` beside each filter's file; beside shipped ones, which nobody changes, none.
        options
            Of `dgl_broker.selection.status.WorkerStatus`.
        """
        self._reloader.report_status(self.filters, folder, bundle_sha256=self._bundle_sha256, **options)

    def close(self):
        """Takes this worker's status files away."""
        self._reloader.close()
