"""The service's metrics: counted as requests are answered, and brought up to date when they are asked for."""

import threading
from collections import Counter

from dgl_broker.observe.metrics import Metrics
from dgl_broker.observe.service_metrics import SERVE_METRICS


class ServeMetrics:
    """Metrics of one service.

    Parameters
    ----------
    desk : Desk or None
    store, follower : ScoreStore, Follower or None
    """

    def __init__(self):
        self._metrics = Metrics(SERVE_METRICS)
        self._counted = Counter()
        self._lock = threading.Lock()
        self.desk = self.store = self.follower = None

    def request(self, route, status, seconds):
        """One request was answered."""
        self._metrics["dgl_serve_requests_total"].labels(route, status).inc()
        self._metrics["dgl_serve_request_seconds"].labels(route).observe(seconds)

    def busy(self):
        """A request was turned away."""
        self._metrics["dgl_serve_busy_total"].inc()

    def batch(self, survey, outcomes, seconds):
        """A batch was scored."""
        m = self._metrics
        m["dgl_serve_batch_alerts"].observe(len(outcomes))
        m["dgl_serve_batch_seconds"].observe(seconds)
        for outcome in outcomes:
            m["dgl_serve_outcomes_total"].labels(survey, outcome.status, outcome.reason or "").inc()
            if outcome.scores is not None:
                m["dgl_serve_log_odds"].labels(survey).observe(outcome.scores.log_odds)

    def text(self):
        """All of it in Prometheus' text format, as bytes."""
        with self._lock:
            self._refresh()
            return self._metrics.text()

    def _refresh(self):
        m = self._metrics
        if self.desk is not None:
            scorers = self.desk.scorers.items()
            m["dgl_serve_queued_packets"].set(self.desk.queued_packets)
            m.set_rows("dgl_serve_scoring_info", {(s, x.bundle_id, x.bundle_sha256, x.device_name): 1 for s, x in scorers})
            m.set_rows("dgl_serve_filter_info", {(s, f.name, f.version): 1 for s, x in scorers for f in x.filters})
        if self.store is not None:
            state = self.follower.state()
            m["dgl_serve_store_records"].set(len(self.store))
            m["dgl_serve_store_bytes"].set(self.store.used_bytes)
            m["dgl_serve_store_following"].set(state["following"])
            for name, value in (("messages", state["behind_messages"]), ("seconds", state["behind_s"])):
                m[f"dgl_serve_store_behind_{name}"].set(float("nan") if value is None else value)
            self._count("dgl_serve_store_followed_total", self.follower.followed)
            self._count("dgl_serve_store_unreadable_total", self.follower.unreadable)
            self._count("dgl_serve_store_expired_total", self.follower.expired)
            for why, dropped in self.store.dropped.items():
                self._count("dgl_serve_store_dropped_total", dropped, why)

    def _count(self, name, total, *labels):
        """Bring a counter up to a total that is kept elsewhere."""
        metric = self._metrics[name]
        (metric.labels(*labels) if labels else metric).inc(total - self._counted[name, labels])
        self._counted[name, labels] = total
