"""The metrics of `dgl-broker report`. `docs/metrics.md` lists them, and a test holds the page to this table."""

from prometheus_client import Counter, Gauge

from dgl_broker.observe.metrics import METRICS, Definition

OWN = {
    "dgl_report_candidates_total": Definition(Counter, "Candidates whose outcome is out: reported, withheld or skipped."),
    "dgl_reports_total": Definition(Counter, "Reports of objects, by state.", ("state",)),
    "dgl_reports_withheld_total": Definition(Counter, "Reports that the night's cap held back, by state.", ("state",)),
    "dgl_reports_skipped_total": Definition(Counter, "Candidates that were no report, by reason.", ("reason",)),
    "dgl_report_night": Definition(
        Gauge, "Of the two latest nights: reported, would_have_passed (without the cap) and cap.", ("night", "count")
    ),
    "dgl_report_objects": Definition(Gauge, "Objects that the state remembers."),
    "dgl_report_holder": Definition(Gauge, "1 while this process holds the reports, 0 while it stands by."),
    "dgl_webhook_sent_total": Definition(Counter, "Reports that the webhook has taken."),
    "dgl_webhook_failures_total": Definition(Counter, "Attempts at the webhook that failed, by why.", ("why",)),
    "dgl_webhook_undelivered_total": Definition(Counter, "Reports set aside because the webhook refuses them."),
    "dgl_webhook_waiting": Definition(Gauge, "Reports that are still to be sent, an upper bound."),
}
SHARED = ("dgl_published_total", "dgl_expired_total", "dgl_service_failures_total", "dgl_lag", "dgl_partitions", "dgl_ready")
REPORT_METRICS = OWN | {name: METRICS[name] for name in SHARED} | {"dgl_run_info": METRICS["dgl_run_info"]}
