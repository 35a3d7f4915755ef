"""Which candidates are reported: each object once a state, and of a night no more than its cap, first come.

The states are `new`, `confirmed` (it passes in a band other than that of its first report) and `brighter` (by a limit than when
it was first seen in that band, after its first report). What the cap holds back is counted once an object, state and night, and
stays unreported: the object's next candidate may report it, in a later night. So the same candidate twice changes nothing.

The ledger is a mapping of keys to small rows, which is what the compacted topic of the state holds. Changes of a batch stay
apart until its transaction is out.
"""

from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from dgl_broker.nights import UNKNOWN, night_of
from dgl_broker.reports.rows import Night, Seen, key_of

NEW, CONFIRMED, BRIGHTER = "new", "confirmed", "brighter"
STATES = (NEW, CONFIRMED, BRIGHTER)
REPORTED, WITHHELD = "reported", "withheld"
# Why a candidate is no report; `again` has been held back in this night before.
SKIPPED = ("known", "again", "injected", "below_threshold", "other_filter", "no_time", "unreadable")
KEPT_NIGHTS = 7  # so long an object that was only ever held back is remembered: it then counts once more, if it comes so late


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator chooses.

    Attributes
    ----------
    survey : "ztf" or "lsst"
        Whose nights.
    max_per_night : int
        Reports of a night, of all states together.
    brighter_mag : float
        So much brighter is `brighter` [mag].
    min_log_odds : float, optional
        Candidates below are not reported.
    filters : frozenset of str, optional
        Filters whose candidates count; None for all.
    """

    survey: str
    max_per_night: int
    brighter_mag: float
    min_log_odds: float | None = None
    filters: frozenset | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one candidate.

    `outcome` is "reported", "withheld" or one of `SKIPPED`. For the first two `state` and `night` are set; for a report also
    its `number` in the night, what the night has `withheld` before it, how many magnitudes `brighter` the object is than when
    first seen in this band (None where unknown), and `seen`, the object as it will be remembered. `changes`: key -> row of what
    `Ledger.take` takes in.
    """

    outcome: str
    state: str | None = None
    night: str | None = None
    number: int | None = None
    withheld: int | None = None
    brighter: float | None = None
    seen: Seen | None = None
    changes: dict = field(default_factory=dict)


class Ledger:
    """What was reported.

    Parameters
    ----------
    rules : Rules
    """

    def __init__(self, rules):
        self.rules = rules
        self._rows = {"object": {}, "night": {}}  # kind -> name -> row
        self._fresh = {}  # changes of the batch in hand; None takes a row away
        self._only_withheld = {}  # night -> keys of objects that were held back in it and never reported
        self._forgotten = ""  # nights before this one have been let go

    def put(self, key, row):
        """Take in a row of the state as it was kept; None takes it away. Later ones stand over earlier ones."""
        kind, name = key
        old = self._rows[kind].pop(name, None)
        if isinstance(old, Seen):
            for night, _ in old.withheld:
                self._only_withheld.get(night, set()).discard(key)
        if row is None:
            return
        self._rows[kind][name] = row
        if isinstance(row, Seen) and not row.reported:
            for night, _ in row.withheld:
                self._only_withheld.setdefault(night, set()).add(key)

    def take(self, decision):
        """Note a decision as part of the batch in hand."""
        self._fresh |= decision.changes
        if decision.outcome == WITHHELD:
            self._forgotten = max(self._forgotten, _nights_before(decision.night))

    def changes(self):
        """Key -> row of what the batch in hand has changed; None for a row that is taken away."""
        return dict(self._fresh)

    def settle(self):
        """The batch in hand is out."""
        for key, row in self._fresh.items():
            self.put(key, row)
        self._fresh = {}

    def undo(self):
        """The batch in hand is not out: as before it."""
        self._fresh, self._forgotten = {}, ""

    @property
    def n_objects(self):
        """Objects remembered, the batch in hand left out."""
        return len(self._rows["object"])

    def nights(self):
        """Night -> `Night`, in order, the batch in hand left out."""
        return dict(sorted(self._rows["night"].items()))

    def decide(self, record):
        """What becomes of a candidate; nothing is remembered until `take`.

        Parameters
        ----------
        record : dict
            With the fields of `schemas/score.avsc`.

        Returns
        -------
        Decision
        """
        rules = self.rules
        if record.get("injected"):
            return Decision("injected")
        passed = {v["filter"] for v in record["verdicts"] if v["passed"]}
        if not passed or (rules.filters is not None and not passed & rules.filters):
            return Decision("other_filter")
        if rules.min_log_odds is not None and not _at_least(record["log_odds"], rules.min_log_odds):
            return Decision("below_threshold")
        night = night_of(rules.survey, record["mjd_tai"])
        if night == UNKNOWN:
            return Decision("no_time")
        key = key_of("object", object_name(record))
        seen = self._get(key) or Seen()
        state, brighter = self._due(seen, record)
        if state is None:
            known = _noted(seen, record)
            return Decision("known", changes={} if known == seen else {key: known})
        count = self._get(key_of("night", night)) or Night()
        if count.reported < rules.max_per_night:
            return self._report(key, seen, record, state, night, count, brighter)
        return self._withhold(key, seen, record, state, night, count)

    def _get(self, key):
        return self._fresh[key] if key in self._fresh else self._rows[key[0]].get(key[1])

    def _due(self, seen, record):
        """(state or None, magnitudes brighter than when first seen in this band or None)."""
        first, magnitude, brighter = seen.first.get(record["band"]), record.get("magnitude"), None
        if first is not None and None not in (first[1], magnitude) and record["mjd_tai"] > first[0]:
            brighter = first[1] - magnitude
        if NEW not in seen.reported:
            return NEW, None
        if CONFIRMED not in seen.reported and record["band"] is not None and record["band"] != seen.new_band:
            return CONFIRMED, brighter
        if BRIGHTER not in seen.reported and brighter is not None and brighter >= self.rules.brighter_mag:
            return BRIGHTER, brighter
        return None, brighter

    def _report(self, key, seen, record, state, night, count, brighter):
        # Held back earlier in this night, and the cap was raised since: it counts as reported alone.
        was_withheld = (night, state) in seen.withheld
        count = replace(count, reported=count.reported + 1, withheld=count.withheld - was_withheld)
        withheld = tuple(w for w in seen.withheld if w != (night, state))
        seen = _noted(replace(seen, reported={**seen.reported, state: night}, withheld=withheld), record)
        if state == NEW:
            seen = replace(seen, new_band=record["band"], new_alert_id=record["alert_id"], new_mjd_tai=record["mjd_tai"])
        changes = {key: seen, key_of("night", night): count}
        return Decision(REPORTED, state, night, count.reported, count.withheld, brighter, seen, changes)

    def _withhold(self, key, seen, record, state, night, count):
        if (night, state) in seen.withheld:
            return Decision("again", state, night)
        oldest = _nights_before(night)
        kept = tuple(w for w in seen.withheld if w[0] >= oldest)
        changes = self._forgotten_before(oldest)
        changes[key] = _noted(replace(seen, withheld=(*kept, (night, state))), record)
        changes[key_of("night", night)] = replace(count, withheld=count.withheld + 1)
        return Decision(WITHHELD, state, night, changes=changes)

    def _forgotten_before(self, oldest):
        """Rows of objects that were only ever held back, in nights before this one, to be let go: the cap bounds the rest."""
        gone = {}
        if oldest > self._forgotten:
            for night in [n for n in self._only_withheld if n < oldest]:
                for key in self._only_withheld[night]:
                    row = self._get(key)
                    if row is not None and not row.reported and all(n < oldest for n, _ in row.withheld):
                        gone[key] = None
        return gone


def _at_least(score, limit):
    return score is not None and score >= limit


def _noted(seen, record):
    return seen.with_band(record["band"], record["mjd_tai"], record.get("magnitude"))


def _nights_before(night):
    return str(date.fromisoformat(night) - timedelta(days=KEPT_NIGHTS))


def object_name(record):
    """What a candidate's object is known as: its id, or the alert's where it has none."""
    return record["object_id"] or str(record["alert_id"])
