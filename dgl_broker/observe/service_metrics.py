"""The metrics of `dgl-broker serve`. `docs/metrics.md` lists them, and a test holds the page to this table."""

from prometheus_client import Counter, Gauge, Histogram

from dgl_broker.observe.metrics import BATCH_BUCKETS, LOG_ODDS_BUCKETS, STAGE_BUCKETS_S, Definition

REQUEST_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
SERVE_METRICS = {
    "dgl_serve_requests_total": Definition(Counter, "Requests answered, by route and HTTP status.", ("route", "status")),
    "dgl_serve_request_seconds": Definition(Histogram, "From a request to its answer.", ("route",), REQUEST_BUCKETS_S),
    "dgl_serve_outcomes_total": Definition(Counter, "Packets scored on request, by outcome.", ("survey", "status", "reason")),
    "dgl_serve_busy_total": Definition(Counter, "Requests turned away because too many waited."),
    "dgl_serve_queued_packets": Definition(Gauge, "Packets that wait to be scored."),
    "dgl_serve_batch_alerts": Definition(Histogram, "Packets in a batch of the service.", (), BATCH_BUCKETS),
    "dgl_serve_batch_seconds": Definition(Histogram, "Time of one batch of the service.", (), STAGE_BUCKETS_S),
    "dgl_serve_log_odds": Definition(Histogram, "Scores given on request, to see them drift.", ("survey",), LOG_ODDS_BUCKETS),
    "dgl_serve_scoring_info": Definition(
        Gauge, "1; what scores the packets of a survey.", ("survey", "bundle_id", "bundle_sha256", "device")
    ),
    "dgl_serve_filter_info": Definition(Gauge, "1; each filter in force in the service.", ("survey", "filter", "version")),
    "dgl_serve_store_records": Definition(Gauge, "Alerts in the store."),
    "dgl_serve_store_bytes": Definition(Gauge, "Bytes that the store holds."),
    "dgl_serve_store_behind_messages": Definition(Gauge, "Messages that are not in the store yet, an upper bound."),
    "dgl_serve_store_behind_seconds": Definition(Gauge, "All that was published longer ago than this is in the store."),
    "dgl_serve_store_following": Definition(Gauge, "1 while Kafka answers the store."),
    "dgl_serve_store_followed_total": Definition(Counter, "Records put into the store."),
    "dgl_serve_store_unreadable_total": Definition(Counter, "Messages on the followed topics that are no score records."),
    "dgl_serve_store_expired_total": Definition(Counter, "Offsets that retention took before the store read them."),
    "dgl_serve_store_dropped_total": Definition(Counter, "Records dropped, by age or for size.", ("why",)),
}
