"""What the stage that reports tells: its accounts, metrics and health.

candidates = reported + withheld + skipped, asked before anything of a batch leaves.
"""

import time
from collections import Counter

from dgl_broker.observe.health import Health
from dgl_broker.observe.metrics import Metrics
from dgl_broker.observe.report_metrics import REPORT_METRICS
from dgl_broker.observe.summary import AccountsDoNotBalance

REPORTED, WITHHELD = "reported", "withheld"
NIGHTS_SHOWN, NIGHTS_TOLD = 2, 30  # as metrics, in the summary
SECONDS_BETWEEN_LAGS = 5.0


class ReportWatch:
    """One process's observation."""

    def __init__(self):
        self.metrics = Metrics(REPORT_METRICS)
        self.health = Health(("group", "state"))
        self.candidates = 0
        self.reported, self.withheld, self.skipped = Counter(), Counter(), Counter()
        self.sent = self.undelivered = 0
        self.nights = {}
        self.began = time.time()
        self._cap = None
        self._expired = 0
        self._next_lag = 0.0

    def check(self, n_messages, decisions):
        """Nothing, if every message has one decision of a known kind.

        Raises
        ------
        AccountsDoNotBalance
        """
        odd = [d.outcome for d in decisions if d.outcome in (REPORTED, WITHHELD) and d.state is None]
        if len(decisions) != n_messages or odd:
            raise AccountsDoNotBalance(f"{n_messages} candidates gave {len(decisions)} decisions, without a state: {odd}")

    def settle(self, decisions, ledger):
        """A batch is out: into the accounts and the metrics."""
        m = self.metrics
        self.candidates += len(decisions)
        m["dgl_report_candidates_total"].inc(len(decisions))
        for decision in decisions:
            if decision.outcome == REPORTED:
                self.reported[decision.state] += 1
                m["dgl_reports_total"].labels(decision.state).inc()
            elif decision.outcome == WITHHELD:
                self.withheld[decision.state] += 1
                m["dgl_reports_withheld_total"].labels(decision.state).inc()
            else:
                self.skipped[decision.outcome] += 1
                m["dgl_reports_skipped_total"].labels(decision.outcome).inc()
        self._show(ledger)

    def published(self, topic, n):
        """Messages that are out on a topic."""
        self.metrics["dgl_published_total"].labels(topic).inc(n)

    def rebuilt(self, ledger, rules):
        """The state is known."""
        self._cap = rules.max_per_night
        self._show(ledger)

    def _show(self, ledger):
        self.nights = dict(list(ledger.nights().items())[-NIGHTS_TOLD:])
        rows = {}
        for night, row in list(self.nights.items())[-NIGHTS_SHOWN:]:
            rows |= {(night, REPORTED): row.reported, (night, "would_have_passed"): row.would_have_passed}
            rows[night, "cap"] = self._cap
        self.metrics.set_rows("dgl_report_night", rows)
        self.metrics["dgl_report_objects"].set(ledger.n_objects)

    def stand(self, joined, holds, ready):
        """The loop came round: whether the group knows us, whether we hold the reports, and then whether we are at work."""
        self.health.beat()
        self.health.set("group", joined)
        self.health.set("state", ready or not holds)
        self.metrics["dgl_ready"].set(self.health.ready)
        self.metrics["dgl_report_holder"].set(holds)
        if not holds:
            self.metrics.set_rows("dgl_lag", {})
            self.metrics["dgl_partitions"].set(0)

    def beat(self, source):
        """A batch was asked for: lag, and what the source counts."""
        self.metrics["dgl_partitions"].set(len(source.assigned))
        if source.expired > self._expired:
            self.metrics["dgl_expired_total"].inc(source.expired - self._expired)
        self._expired = source.expired
        if time.monotonic() >= self._next_lag:
            self._next_lag = time.monotonic() + SECONDS_BETWEEN_LAGS
            self.metrics.set_rows("dgl_lag", source.lag())

    def failed(self, service):
        """A service failed and is tried again."""
        self.metrics["dgl_service_failures_total"].labels(service).inc()

    def webhook_sent(self):
        """The webhook has taken a report."""
        self.sent += 1
        self.metrics["dgl_webhook_sent_total"].inc()

    def webhook_failed(self, why):
        """An attempt at the webhook failed."""
        self.metrics["dgl_webhook_failures_total"].labels(why).inc()

    def webhook_undelivered(self):
        """A report was set aside."""
        self.undelivered += 1
        self.metrics["dgl_webhook_undelivered_total"].inc()

    def as_dict(self, **more):
        """What `summary.json` holds; `more` goes in at the end."""
        cap = self._cap
        return {
            "candidates": self.candidates,
            "reported": dict(self.reported),
            "withheld": dict(self.withheld),
            "skipped": dict(self.skipped.most_common()),
            "nights": {
                night: {"reported": n.reported, "would_have_passed": n.would_have_passed, "max_per_night": cap}
                for night, n in self.nights.items()
            },
            "webhook": {"sent": self.sent, "undelivered": self.undelivered},
            "seconds": round(time.time() - self.began, 3),
            **more,
        }


def report_summary_text(summary):
    """The closing summary for people, of the dict that `ReportWatch.as_dict` gives."""
    reported, withheld, skipped = (sum(summary[name].values()) for name in ("reported", "withheld", "skipped"))
    lines = [f"candidates {summary['candidates']} = reported {reported} + withheld {withheld} + skipped {skipped}"]
    for name in ("reported", "withheld", "skipped"):
        if summary[name]:
            lines.append(f"{name}: " + ", ".join(f"{what} {count}" for what, count in summary[name].items()))
    lines += nights_text(summary["nights"])
    if any(summary["webhook"].values()):
        lines.append(f"webhook: sent {summary['webhook']['sent']}, set aside {summary['webhook']['undelivered']}")
    if summary.get("ended"):
        lines.append(f"ended: {summary['ended']}")
    return "\n".join(lines)


def nights_text(nights, shown=10):
    """A line for each of the latest nights, of the dict under `nights`."""
    told = list(nights.items())[-shown:]
    return [
        f"night {night}: {n['reported']} reported, {n['would_have_passed']} would have passed, at most {n['max_per_night']}"
        for night, n in told
    ]
