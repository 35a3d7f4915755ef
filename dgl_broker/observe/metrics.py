"""Prometheus metrics `dgl_*`. `docs/metrics.md` lists them, and a test holds the page to this table."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS_S = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 10800)
STAGE_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
LOG_ODDS_BUCKETS = (-10, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 10, 12, 14)


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric: its kind, what it says, its labels.

    `of_workers` is how a gauge of several workers becomes one, "max" or "sum"; counters and histograms are added up.
    """

    kind: type
    doc: str
    labels: tuple[str, ...] = ()
    buckets: tuple | None = None
    of_workers: str = "max"


METRICS = {
    "dgl_consumed_total": Definition(Counter, "Messages whose outcomes are out."),
    "dgl_scored_total": Definition(Counter, "Alerts scored."),
    "dgl_written_total": Definition(Counter, "Alerts written to the topic keyed by object (`rekey`)."),
    "dgl_refused_total": Definition(Counter, "Alerts refused, by reason.", ("reason",)),
    "dgl_dead_lettered_total": Definition(Counter, "Messages that could not be read, by reason.", ("reason",)),
    "dgl_expired_total": Definition(Counter, "Offsets that retention took before they were read: an upper bound on alerts."),
    "dgl_candidates_total": Definition(Counter, "Alerts that passed, by filter, but for injected ones.", ("filter",)),
    "dgl_published_total": Definition(Counter, "Messages acknowledged by the broker, by topic.", ("topic",)),
    "dgl_withheld_total": Definition(Counter, "Records not published, of a programme that is not configured."),
    "dgl_desc_skipped_total": Definition(Counter, "Alerts that DESC's BrokerMessage cannot hold: of other versions than 10.0."),
    "dgl_service_failures_total": Definition(Counter, "Failures of a service, each followed by another try.", ("service",)),
    "dgl_companions_total": Definition(Counter, "The companion store's counters.", ("event",)),
    "dgl_lag": Definition(Gauge, "Messages of a held partition that are still to be read.", ("topic", "partition")),
    "dgl_partitions": Definition(Gauge, "Partitions held.", of_workers="sum"),
    "dgl_workers": Definition(Gauge, "Processes that read and score.", of_workers="sum"),
    "dgl_worker_restarts_total": Definition(
        Counter, "Workers that died and were started anew, by what ended them.", ("cause",)
    ),
    "dgl_ready": Definition(Gauge, "1 when the bundle is warm, partitions are held and schemas reachable."),
    "dgl_last_batch_timestamp_seconds": Definition(Gauge, "When the last batch was delivered [s since 1970 UTC]."),
    "dgl_batch_alerts": Definition(Histogram, "Messages in a batch.", (), BATCH_BUCKETS),
    "dgl_stage_seconds": Definition(Histogram, "Time of one batch in a stage of the loop.", ("stage",), STAGE_BUCKETS_S),
    "dgl_score_seconds_total": Definition(Counter, "Time within scoring, by step of the pipeline.", ("step",)),
    "dgl_shadow_total": Definition(Counter, "Alerts that a shadow bundle has looked at, by what became of it.", ("outcome",)),
    "dgl_latency_seconds": Definition(
        Histogram, "From Kafka's timestamp of the packet to its outcome's acknowledgement.", (), LATENCY_BUCKETS_S
    ),
    "dgl_log_odds": Definition(Histogram, "Scores, to see them drift.", (), LOG_ODDS_BUCKETS),
    "dgl_score_drift": Definition(
        Gauge, "Largest difference between the cumulative shares of the latest scores and a reference night's.", ("night",)
    ),
    "dgl_mismatch": Definition(Gauge, "1 while a part does not go with the bundle and filters in force.", ("part", "name")),
    "dgl_bundle_info": Definition(Gauge, "1; the bundle in force.", ("bundle_id", "bundle_sha256")),
    "dgl_filter_info": Definition(Gauge, "1; each filter in force.", ("filter", "version")),
    "dgl_device_info": Definition(Gauge, "1; the device that scores.", ("device",)),
    "dgl_run_info": Definition(Gauge, "1; this process.", ("survey", "version", "group_id", "delivery")),
}

# Held to the accounts, batch by batch.
ACCOUNT_METRICS = tuple(
    f"dgl_{name}_total" for name in ("consumed", "scored", "written", "refused", "dead_lettered", "candidates", "published")
)


class Metrics:
    """The metrics of one process, in a registry of its own.

    Parameters
    ----------
    definitions : dict
        Name -> `Definition`; those of the streaming filter where not given.
    """

    def __init__(self, definitions=METRICS):
        self.registry = CollectorRegistry()
        self._all = {}
        self._rows = {}
        for name, definition in definitions.items():
            options = {"buckets": definition.buckets} if definition.buckets else {}
            self._all[name] = definition.kind(name, definition.doc, definition.labels, registry=self.registry, **options)

    def __getitem__(self, name):
        """The metric of this name in `METRICS`."""
        return self._all[name]

    def set_rows(self, name, rows):
        """Make `rows`, label values -> value, all that a gauge has: others it had are taken away."""
        rows = {tuple(map(str, labels)): value for labels, value in rows.items()}
        for labels in self._rows.get(name, set()) - set(rows):
            self._all[name].remove(*labels)
        for labels, value in rows.items():
            self._all[name].labels(*labels).set(value)
        self._rows[name] = set(rows)

    def set_info(self, name, *label_values):
        """Make this the one row of an info metric."""
        self.set_rows(name, {label_values: 1})

    def samples(self, name):
        """[(name of the series, its labels, value)] of one metric."""
        return [(s.name, dict(s.labels), s.value) for family in self._all[name].collect() for s in family.samples]

    def text(self):
        """All of it in Prometheus' text format, as bytes."""
        return generate_latest(self.registry)
