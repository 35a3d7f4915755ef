"""What came out of a night: every outcome counted against the simulator's truth, the best of them kept whole."""

from collections import Counter

from dgl_broker.scores import CLASSES

KEPT = 40  # objects whose best alert is kept with its stamps


def rank(outcome):
    """Order of a scored outcome: what passed a filter first, then by log-odds, the greatest first."""
    return (not any(v.passed for v in outcome.verdicts), -outcome.scores.log_odds)


class Recorder:
    """A `Scorer` that remembers what it said.

    Parameters
    ----------
    scorer : dgl_broker.scorer.Scorer
        Does all the work; whatever is asked of the recorder and not known here is asked of it.

    Attributes
    ----------
    log_odds : list of (int, float)
        (alert id, log-odds) of every scored alert.
    statuses : dict of int to (str, bool)
        Alert id to its status and whether a filter passed it.
    """

    def __init__(self, scorer):
        self._scorer = scorer
        self._best = {}
        self.log_odds = []
        self.statuses = {}

    def __getattr__(self, name):
        return getattr(self._scorer, name)

    def score(self, messages):
        """As `Scorer.score`."""
        outcomes = self._scorer.score(messages)
        for outcome in outcomes:
            self._note(outcome)
        if len(self._best) > 3 * KEPT:
            self._best = {o.object_id or o.alert_id: o for o in self.best()}
        return outcomes

    def _note(self, outcome):
        if outcome.alert_id is not None:
            self.statuses[outcome.alert_id] = (outcome.status, any(v.passed for v in outcome.verdicts))
        if outcome.scores is None:
            return
        self.log_odds.append((outcome.alert_id, outcome.scores.log_odds))
        key = outcome.object_id or outcome.alert_id
        if key not in self._best or rank(outcome) < rank(self._best[key]):
            self._best[key] = outcome

    def best(self, n=KEPT):
        """The best alert of each of the `n` best objects, in order."""
        return sorted(self._best.values(), key=rank)[:n]


def against_truth(recorder, labels):
    """How each class of the simulator's truth fared.

    Parameters
    ----------
    recorder : Recorder
    labels : dict of int to dict
        Alert id to labels.

    Returns
    -------
    dict of str to Counter
        Class to counts of alerts: "sent", "scored", "refused", "dead_lettered", "passed".
    """
    out = {name: Counter() for name in CLASSES}
    for alert_id, label in labels.items():
        counts = out[label["class"]]
        counts["sent"] += 1
        status, passed = recorder.statuses.get(alert_id, (None, False))
        if status is not None:
            counts[status] += 1
            counts["passed"] += passed
    return out
