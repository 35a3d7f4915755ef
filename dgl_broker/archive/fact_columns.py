"""Facts of an alert as columns `fact.<name>` of a score table: what pre-cuts are judged on, so that a limit can be tried anew.

Every table has those by which results are split; an ungated one has those that its filters' criteria speak of as well.
"""

from dgl_broker.selection.criteria import look_up
from dgl_broker.selection.facts import kind_of

PREFIX = "fact."
SPLIT_BY = ("n_detections", "days_since_first", "magnitude", "snr")


class FactColumns:
    """The facts that a table keeps.

    Parameters
    ----------
    filters : iterable of Filter
    ungated : bool
        Keep what the filters' criteria speak of.
    """

    def __init__(self, filters, ungated):
        asked = [fact for f in filters for c in f.criteria for fact in c.facts if ungated and fact != "survey"]
        self.names = tuple(dict.fromkeys([*SPLIT_BY, *asked]))
        self._look_up = {name: (look_up(name), kind_of(name)) for name in self.names}

    @property
    def kinds(self):
        """Column's name to `number`, `bool` or `text`."""
        return {PREFIX + name: kind for name, (_, kind) in self._look_up.items()}

    def of(self, alert):
        """The columns of one alert; what is unknown, or not of the fact's kind, is None."""
        cache, facts = {}, alert.facts
        return {PREFIX + name: _as(kind, value(facts, cache)) for name, (value, kind) in self._look_up.items()}


def _as(kind, value):
    if value is None or value != value:
        return None
    try:
        return bool(value) if kind == "bool" else str(value) if kind == "text" else float(value)
    except (TypeError, ValueError):
        return None  # a text where a number belongs says nothing
