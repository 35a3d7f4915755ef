"""A scorer that costs nothing, for faults that do not concern the model; an alert's score is a number of its own."""

from fake_scorer import FakeScorer, scores

WORDS = ("scored", "candidate", "precut", "poor", "cut")


def log_odds_of(alert_id):
    """A number from -10 to 10 that no other alert of a test has, so that a mix-up shows as a score that differs."""
    return (alert_id * 2654435761 % 2**32) / 2**32 * 20.0 - 10.0


class CheapScorer(FakeScorer):
    """`FakeScorer` with a score of each alert's own."""

    def _one(self, message):
        outcome = super()._one(message)
        if outcome.scores is not None:
            outcome.scores = scores(log_odds_of(outcome.alert_id))
        return outcome


def values(first, n):
    """`n` messages for it, of every word in turn: scored, candidates, refused both ways, and such that cannot be read."""
    return [f"{i} {WORDS[i % len(WORDS)]}".encode() for i in range(first, first + n)]
