"""The metrics of several workers as one page.

A worker tells its series from time to time; what a dead one had counted stays counted. What follows the accounts batch by
batch is the supervisor's own to count: a worker that is killed does not get to tell its last.
"""

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import Metric

from dgl_broker.observe.metrics import ACCOUNT_METRICS, METRICS

OWN = (*ACCOUNT_METRICS, "dgl_ready", "dgl_worker_restarts_total")
TOLD = tuple(name for name in METRICS if name not in OWN)


def told(metrics):
    """What a worker tells of its `Metrics`, as JSON takes it: {metric: [[series, labels, value], ...]}."""
    return {name: [list(sample) for sample in metrics.samples(name)] for name in TOLD}


class MergedMetrics:
    """The supervisor's own metrics and those of its workers.

    Parameters
    ----------
    own : Metrics
        Of which only `OWN` are shown.
    """

    def __init__(self, own):
        self._own = own
        self._current, self._past = {}, {}
        self._lock = threading.Lock()  # the page is served by another thread
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def take(self, worker, series):
        """What a worker tells now, in place of what it told before."""
        with self._lock:
            self._current[worker] = _by_key(series)

    def retire(self, worker):
        """A worker is no more: its counts stay, its gauges go."""
        with self._lock:
            for name, series in self._current.pop(worker, {}).items():
                if METRICS[name].kind is not Gauge:
                    _add(self._past.setdefault(name, {}), series)

    def rows(self, name):
        """{(series, labels as pairs): value} of one metric over all workers."""
        with self._lock:
            return self._merged(name)

    def total(self, name):
        """Sum over all workers and labels of a counter, or of a gauge's rows."""
        return sum(value for (series, _), value in self.rows(name).items() if not series.endswith("_created"))

    def collect(self):
        """All of it, as Prometheus' client asks for it."""
        for name, definition in METRICS.items():
            if name in OWN:
                rows = {(series, tuple(labels.items())): value for series, labels, value in self._own.samples(name)}
            else:
                rows = self.rows(name)
            counts = definition.kind is Counter
            family = Metric(name.removesuffix("_total") if counts else name, definition.doc, definition.kind.__name__.lower())
            for (series, labels), value in rows.items():
                family.add_sample(series, dict(labels), value)
            yield family

    def describe(self):
        """Nothing: the client need not collect to know the names."""
        return []

    def text(self):
        """The page, as bytes."""
        return generate_latest(self._registry)

    def _merged(self, name):
        out = dict(self._past.get(name, {}))
        most = METRICS[name].kind is Gauge and METRICS[name].of_workers == "max"
        for series in self._current.values():
            _add(out, series.get(name, {}), most)
        return out


def _by_key(series):
    return {name: {(sample, tuple(labels.items())): value for sample, labels, value in rows} for name, rows in series.items()}


def _add(into, series, most=False):
    """Lay series over others: added up, or the most of each; times of creation are the first."""
    for key, value in series.items():
        if key not in into:
            into[key] = value
        elif key[0].endswith("_created"):
            into[key] = min(into[key], value)
        else:
            into[key] = max(into[key], value) if most else into[key] + value
