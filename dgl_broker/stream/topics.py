"""Which topics are to be read now: fixed names, and templates of the night such as `ztf_{night:%Y%m%d}_programid1`.

No regular expression over all topics: ZTF's brokers keep announcing old, empty ones, and such a subscription only grows.
"""

from datetime import UTC, datetime, timedelta
from string import Formatter

from dgl_broker.topic_names import is_template


def expand(topics, nights, now):
    """Names wanted at the time `now` (aware datetime), in order, without repetition.

    A template stands for the last `nights` nights by UTC date, the present one included, and for the next one from an hour
    before midnight on: its first alerts are then read as they come.
    """
    today = now.astimezone(UTC)
    first = 1 if (today + timedelta(hours=1)).date() != today.date() else 0
    dates = [today + timedelta(days=first - n) for n in range(nights + first)]
    names = []
    for topic in topics:
        names += [topic.format(night=date) for date in dates] if is_template(topic) else [topic]
    return list(dict.fromkeys(names))


def is_of_template(topic, template):
    """Whether a template with some night in it gives this topic's name."""
    parts = Formatter().parse(template) if is_template(template) else ()
    form = "".join(literal.replace("%", "%%") + (spec or "") for literal, _, spec, _ in parts)
    try:
        return bool(form) and template.format(night=datetime.strptime(topic, form)) == topic
    except ValueError:
        return False


class Subscription:
    """The topics held, as they come and as they are read to their end.

    Parameters
    ----------
    topics : list of str
        Names and templates, as in `input.topics`.
    nights : int
    clock : callable
        () -> aware datetime.
    at_start : collection of str, optional
        Topics that existed at the start, where that was not now: of a worker that was started anew.
    begun : callable, optional
        () -> topics that the group has begun to read. Those of a template are held too until they are read: a filter that was
        down for longer than `nights` would leave out what it had not read of the last night before.
    """

    def __init__(self, topics, nights, clock=None, at_start=None, begun=None):
        self.topics = list(topics)
        self.nights = nights
        self.clock = clock or (lambda: datetime.now(UTC))
        self.held = set()
        self._begun = begun or (lambda: ())
        self.at_start = None if at_start is None else frozenset(at_start)

    @property
    def rolls(self):
        """Whether any of the topics is a template."""
        return any(is_template(topic) for topic in self.topics)

    def wanted(self):
        """Names wanted now."""
        return expand(self.topics, self.nights, self.clock())

    def candidates(self):
        """Names to ask the cluster about: those wanted and those held."""
        if self.rolls and self._begun is not None:
            self.held |= {topic for topic in self._begun() if any(is_of_template(topic, t) for t in self.topics)}
            self._begun = None
        return sorted({*self.wanted(), *self.held})

    def update(self, existing, is_read):
        """Take in topics that are wanted and exist, let go of those neither wanted nor unread, or gone.

        Parameters
        ----------
        existing : set of str
            Of `candidates()`, those the cluster has.
        is_read : callable
            (topic) -> bool, whether the group has committed every partition of it to its end.

        Returns
        -------
        added, removed : lists of str
        """
        wanted = set(self.wanted())
        added = sorted((wanted & existing) - self.held)
        gone = {t for t in self.held if t not in existing}
        removed = sorted(gone | {t for t in self.held - wanted - gone if is_read(t)})
        self.held = (self.held | set(added)) - set(removed)
        if self.at_start is None:
            self.at_start = frozenset(self.held)
        return added, removed
