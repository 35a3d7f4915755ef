"""Batches in, outcomes out, offsets committed: the streaming filter without its settings and its command line."""

import logging
import time
from dataclasses import dataclass

from dgl_broker.observe.summary import AccountsDoNotBalance

log = logging.getLogger(__name__)
STATUSES = ("scored", "written", "refused", "dead_lettered")


@dataclass(frozen=True, slots=True)
class Rules:
    """When batches close and when the run ends. One that takes longer than `longest_batch_s` makes the next ones smaller."""

    max_alerts: int = 256
    max_wait_s: float = 1.0
    max_age_s: float | None = None
    stop_after: int | None = None
    longest_batch_s: float | None = None


class RunLoop:
    """The loop.

    Parameters
    ----------
    source : Source
    scorer : Scorer
        Anything with `score(messages) -> outcomes` and `refuse(messages, reason, text) -> outcomes`.
    publisher : Publisher
    delivery : AtLeastOnce, ExactlyOnce or DryRun
    watch : dgl_broker.observe.Watch
        Keeps the accounts, metrics and health.
    rules : Rules
    stop : dgl_broker.stream.stopping.Stop
    between : callable, optional
        () -> None, between batches: the filters' reload.
    after : callable, optional
        (outcomes) -> None, of each delivered batch.
    """

    def __init__(self, source, scorer, publisher, delivery, watch, rules, stop, between=None, after=None):
        self.source = source
        self.scorer = scorer
        self.publisher = publisher
        self.delivery = delivery
        self.watch = watch
        self.rules = rules
        self.stop = stop
        self.between = between or (lambda: None)
        self.after = after or (lambda outcomes: None)
        self._fits = rules.max_alerts

    def run(self):
        """Until told to stop, or until what was asked for is read; the offsets of every delivered batch are committed."""
        while not self.stop():
            self.source.refresh()
            self.between()
            wanted = self._wanted()
            if wanted == 0:
                return
            began = time.monotonic()
            batch = self.source.next_batch(wanted, self.rules.max_wait_s, self.stop)
            self.watch.beat(self.source)
            if len(batch):
                self._one(batch, began)
                del batch  # its packets: not to be held while the next ones are gathered
            elif self.source.at_end():
                return

    def _wanted(self):
        if self.rules.stop_after is None:
            return self._fits
        return max(0, min(self._fits, self.rules.stop_after - self.watch.accounts.consumed))

    def _one(self, batch, began):
        gathered = time.monotonic()
        outcomes = self.outcomes(batch.messages)
        scored = time.monotonic()
        outputs = [output for outcome in outcomes for output in self.publisher.outputs(outcome)]
        encoded = time.monotonic()
        # Before anything leaves: a batch that does not balance must not be committed.
        tally = self.watch.tally(len(batch), outcomes, outputs if self.delivery.publishes else ())
        self.watch.begin(tally, batch.next)
        if not self.delivery.deliver(outputs, batch):
            self.watch.let_go()
            return
        delivered = time.monotonic()
        self.watch.settle(tally, outcomes)
        self.after(outcomes)
        self.watch.spent(gather=gathered - began, score=scored - gathered, encode=encoded - scored)
        self.watch.spent(deliver=delivered - encoded)
        self._fit(len(batch), delivered - gathered)

    def _fit(self, n, seconds):
        """A batch that takes too long costs the membership, and with it the batch, again and again: take fewer at a time."""
        longest = self.rules.longest_batch_s
        if longest is not None and seconds > longest and n > 1:
            self._fits = max(1, int(0.5 * n * longest / seconds))
            log.warning(
                "a batch of %d took %.0f s, more than %.0f s; from now on %d at a time", n, seconds, longest, self._fits
            )

    def outcomes(self, messages):
        """One outcome per message, in order: those too old refused, the others scored."""
        if self.rules.max_age_s is None:
            return self._checked(messages, self.scorer.score(messages))
        oldest_ms = time.time() * 1000.0 - self.rules.max_age_s * 1000.0
        is_old = [m.timestamp_ms is not None and m.timestamp_ms < oldest_ms for m in messages]
        old, fresh = ([m for m, its in zip(messages, is_old, strict=True) if its is which] for which in (True, False))
        text = f"older than {self.rules.max_age_s:g} s"
        # The head is read all the same: a refusal without an alert could not be published, and no audit would find it.
        refused = iter(self._checked(old, self.scorer.refuse(old, "too_old", text) if old else []))
        scored = iter(self._checked(fresh, self.scorer.score(fresh) if fresh else []))
        return [next(refused) if its else next(scored) for its in is_old]

    @staticmethod
    def _checked(messages, outcomes):
        if len(outcomes) != len(messages):
            raise AccountsDoNotBalance(f"{len(messages)} messages gave {len(outcomes)} outcomes")
        for message, outcome in zip(messages, outcomes, strict=True):
            if outcome.message is not message or outcome.status not in STATUSES:
                raise AccountsDoNotBalance(f"{message.where()}: outcome {outcome.status!r} of another message")
        return outcomes
