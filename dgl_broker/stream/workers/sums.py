"""What all workers together have done: one account, one page of metrics, one health."""

from dgl_broker.observe.health import Health
from dgl_broker.observe.merged import MergedMetrics
from dgl_broker.observe.summary import Tally
from dgl_broker.observe.watch import CONDITIONS, Watch


class Sums:
    """Sums over workers, those that died included.

    Parameters
    ----------
    progress : callable, optional
        As `Watch` takes it.
    done : "scored" or "written"

    Attributes
    ----------
    in_doubt : int
        Messages of batches of which nobody could say whether they were out when their worker died; not in the accounts.
    """

    def __init__(self, progress=None, done="scored"):
        self.watch = Watch(done=done)
        self.accounts = self.watch.accounts
        self.metrics = MergedMetrics(self.watch.metrics)
        self.health = Health(("workers", *CONDITIONS[done]))
        self.info = {}
        self.restarts = {}
        self.in_doubt = 0
        self._progress = progress or (lambda accounts, lag: None)
        self._leaving = {}  # worker -> (Tally, offsets) of the batch that it delivers now
        self._states = {}

    def take(self, worker, message):
        """What a worker tells; True where that is a delivered batch."""
        kind = message["kind"]
        if kind == "begin":
            self._leaving[worker] = Tally.from_dict(message["tally"]), message["offsets"]
        elif kind == "let_go":
            self._leaving.pop(worker, None)
        elif kind == "settled":
            self.watch.add(self._leaving.pop(worker)[0])
            self._progress(self.accounts, self._lag())
        elif kind == "state":
            self._state(worker, message)
        return kind == "settled"

    def _state(self, worker, message):
        if not self.info and message["info"]:
            self.accounts.start()  # the first bundle is loaded
        self.info = message["info"] or self.info
        self._states[worker] = message["health"]
        self.metrics.take(worker, message["metrics"])
        self._count()
        self._progress(self.accounts, self._lag())

    def _count(self):
        self.accounts.expired = int(self.metrics.total("dgl_expired_total"))
        self.accounts.withheld = int(self.metrics.total("dgl_withheld_total"))

    def _lag(self):
        rows = self.metrics.rows("dgl_lag")
        return int(sum(rows.values())) if rows else None

    def retire(self, worker):
        """A worker is no more; (Tally, offsets) of the batch that it was delivering, or None."""
        self._states.pop(worker, None)
        self.metrics.retire(worker)
        return self._leaving.pop(worker, None)

    def resolve(self, tally, was_out):
        """The batch that a dead worker was delivering is out, is not, or nobody knows (None)."""
        if was_out:
            self.watch.add(tally)
        elif was_out is None:
            self.in_doubt += tally.consumed

    def restarted(self, cause):
        """A worker is started anew."""
        self.restarts[cause] = self.restarts.get(cause, 0) + 1
        self.watch.metrics["dgl_worker_restarts_total"].labels(cause).inc()

    def beat(self, wanted, heard_at):
        """The supervisor's loop came round.

        Parameters
        ----------
        wanted : int
            How many workers there are to be.
        heard_at : list of float
            When each running one was last heard of [s of `time.monotonic`]: one that hangs makes the whole not alive.
        """
        states = list(self._states.values())
        self.health.beat(min(heard_at, default=None))
        self.health.set("workers", len(heard_at) == wanted)
        for condition in CONDITIONS[self.accounts.done]:
            # Of every worker; but partitions are the group's to give, and one may have to do without.
            enough = any if condition == "partitions" else all
            self.health.set(condition, len(states) == wanted > 0 and enough(s[condition] for s in states))
        self.watch.metrics["dgl_ready"].set(self.health.ready)
