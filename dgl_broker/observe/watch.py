"""What the run loop tells, and where it goes: accounts, metrics, health, the progress line."""

import time

from dgl_broker.observe.drift import Drift
from dgl_broker.observe.health import Health
from dgl_broker.observe.metrics import Metrics
from dgl_broker.observe.summary import Accounts, tally

SECONDS_BETWEEN_LAGS = 5.0
CONDITIONS = {"scored": ("bundle", "partitions", "schemas"), "written": ("partitions", "schemas")}  # of readiness


class Watch:
    """One process's observation.

    Parameters
    ----------
    progress : callable, optional
        (accounts, lag or None) -> None, after each batch: the progress line.
    done : "scored" or "written"
        As `Accounts` takes it.
    """

    def __init__(self, progress=None, done="scored"):
        self.accounts = Accounts(done)
        self.metrics = Metrics()
        self.health = Health(CONDITIONS[done])
        self.lag = None
        self.info = {}  # what the closing summary says of this process beside its counts
        self._progress = progress or (lambda accounts, lag: None)
        self._counted = {}
        self._next_lag = 0.0
        self._drift = None
        self._mismatched_reference = {}
        self.metrics["dgl_workers"].set(1)

    def tally(self, consumed, outcomes, outputs):
        """Counts of one batch; raises AccountsDoNotBalance before anything of it leaves."""
        return tally(consumed, outcomes, outputs)

    def begin(self, one, offsets):
        """A batch is about to leave; where it does not, `let_go` follows.

        Parameters
        ----------
        one : Tally
        offsets : dict
            (topic, partition) -> offset that is committed with it.
        """

    def let_go(self):
        """The batch that was about to leave did not: others read it again."""

    def settle(self, one, outcomes):
        """A batch is out: into the accounts and the metrics."""
        self.add(one)
        m, now = self.metrics, time.time()
        m["dgl_batch_alerts"].observe(one.consumed)
        m["dgl_last_batch_timestamp_seconds"].set(now)
        for outcome in outcomes:
            if outcome.message.timestamp_ms is not None:
                m["dgl_latency_seconds"].observe(max(0.0, now - outcome.message.timestamp_ms / 1000.0))
            if outcome.scores is not None:
                m["dgl_log_odds"].observe(outcome.scores.log_odds)
        if self._drift is not None:
            self._drift.add(o.scores.log_odds for o in outcomes if o.scores is not None)
            distance = self._drift.distance
            m.set_rows("dgl_score_drift", {} if distance is None else {(self._drift.reference.night,): distance})
        self._progress(self.accounts, self.lag)

    def add(self, one):
        """Counts of a batch that is out: into the accounts, and the counters that are held to them (`ACCOUNT_METRICS`)."""
        self.accounts.settle(one)
        m = self.metrics
        m["dgl_consumed_total"].inc(one.consumed)
        m["dgl_scored_total"].inc(one.scored)
        m["dgl_written_total"].inc(one.written)
        for name, counts in (
            ("dgl_refused_total", one.refused_by_reason),
            ("dgl_dead_lettered_total", one.dead_lettered_by_reason),
            ("dgl_candidates_total", one.candidates_by_filter),
            ("dgl_published_total", one.published),
        ):
            for label, count in counts.items():
                m[name].labels(label).inc(count)

    def spent(self, **seconds):
        """Seconds of one batch by stage."""
        for stage, value in seconds.items():
            self.metrics["dgl_stage_seconds"].labels(stage).observe(value)

    def failed(self, service):
        """A service failed and is tried again."""
        self.metrics["dgl_service_failures_total"].labels(service).inc()

    def beat(self, source):
        """The loop came round: health, lag, and what the source counts."""
        m = self.metrics
        self.health.beat()
        self.health.set("partitions", source.holds_partitions)
        m["dgl_ready"].set(self.health.ready)
        m["dgl_partitions"].set(len(source.assigned))
        self.accounts.expired = source.expired
        self.count("dgl_expired_total", source.expired)
        if time.monotonic() >= self._next_lag:
            self._next_lag = time.monotonic() + SECONDS_BETWEEN_LAGS
            lag = source.lag()
            m.set_rows("dgl_lag", lag)
            self.lag = sum(lag.values()) if lag else None
            self._progress(self.accounts, self.lag)

    def count(self, name, total, *labels):
        """Bring a counter up to a total that is kept elsewhere."""
        before = self._counted.get((name, labels), 0)
        if total > before:
            metric = self.metrics[name]
            (metric.labels(*labels) if labels else metric).inc(total - before)
            self._counted[name, labels] = total

    def hold_against(self, reference, bundle_sha256):
        """Tell from now on how far scores lie from those of a reference night, if they are of the same bundle.

        Returns
        -------
        bool
            Whether they are; if not, a mismatch is told instead.
        """
        if reference.bundle_sha256 != bundle_sha256:
            self._mismatched_reference = {("reference", reference.night): 1}
            return False
        self._drift = Drift(reference)
        return True

    def take_scorer(self, scorer, publisher=None):
        """What the scorer and the publisher count themselves, the filters in force, and what does not go together."""
        for step, seconds in (getattr(scorer, "stages", None) or {}).items():
            self.count("dgl_score_seconds_total", seconds, step)
        for event, total in (getattr(scorer, "companion_counters", None) or {}).items():
            self.count("dgl_companions_total", total, event)
        shadow = getattr(scorer, "shadow", None)
        for outcome, total in shadow.counters.items() if shadow is not None else ():
            self.count("dgl_shadow_total", total, outcome)
        self.metrics.set_rows("dgl_filter_info", {(f.name, f.version): 1 for f in scorer.filters})
        apart = {("filter", name): 1 for name in getattr(scorer.filters, "problems", ())}
        apart |= {("untuned", name): 1 for name in getattr(scorer.filters, "untuned", ())}
        self.metrics.set_rows("dgl_mismatch", apart | self._mismatched_reference)
        if publisher is not None:
            self.accounts.withheld = publisher.withheld
            self.count("dgl_withheld_total", publisher.withheld)
            if publisher.desc is not None:
                self.count("dgl_desc_skipped_total", publisher.desc.skipped)
