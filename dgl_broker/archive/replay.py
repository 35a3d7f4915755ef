"""A replay: an archive's alerts in order of time through the scorer, batch by batch, written down in a ledger as they are done.

One code path with the stream: the scorer, the filters and the records are the same. What was stopped or killed goes on with the
batch after the last one in the ledger, and the result is the same as if it had run through.
"""

import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from dgl_broker import __version__
from dgl_broker.archive.in_order import read_in_order
from dgl_broker.archive.keep import Keeper, clear_kept, put_in_place
from dgl_broker.archive.ledger import Ledger
from dgl_broker.archive.pace import Pace
from dgl_broker.archive.sinks import DeadLetterFolder, letter_of
from dgl_broker.archive.tables import write_tables
from dgl_broker.errors import StateError
from dgl_broker.observe.summary import Accounts, tally, write_summary

LIBRARIES = ("torch", "numpy", "fastavro", "pyarrow", "pyerfa")


class Replay:
    """One replay, or one shard of it.

    Parameters
    ----------
    judge : archive.verdicts.Fixed or archive.verdicts.Then
    rows : archive.tables.Rows or None
        None where no table is written.
    catalogue : Catalogue
    order : array of int
        Rows of the catalogue to be replayed, from `Part.choose`.
    plan : dict
        All that the result depends on.
    places : Places
    batch_size : int
    pace : Pace
    keep : KeepRule, optional
    sink : object, optional
        Publishes outcomes: `outputs(outcomes)` -> list, `deliver(outputs)`, `withheld`.
    companions : bool
        Whether alerts use earlier stamps of their object.
    restart : bool
        Begin anew where an unfinished ledger is found.
    at_end : callable, optional
        Writes what else belongs to the result, before the ledger goes.
    """

    def __init__(
        self,
        judge,
        rows,
        catalogue,
        order,
        plan,
        places,
        batch_size=256,
        pace=None,
        keep=None,
        sink=None,
        companions=False,
        restart=False,
        at_end=None,
    ):
        self.judge, self.rows, self.catalogue, self.order = judge, rows, catalogue, order
        self.plan, self.places, self.keep, self.sink, self.companions = plan, places, keep, sink, companions
        self.at_end = at_end or (lambda: None)
        self.accounts = Accounts()
        self.scorer = judge.scorer
        self.pace = pace or Pace()
        self._mjd = catalogue.rows["mjd_tai"][order]
        self._ids = catalogue.rows["alert_id"][order]
        self.edges = self.pace.edges(self._mjd, batch_size)
        self.ledger = Ledger(places.ledger, plan, restart)
        self.first_batch = self.ledger.n_batches
        self._keeping = places.beside("kept.part")
        if not self.first_batch:
            clear_kept(self._keeping)

    @property
    def total(self):
        """Messages of this replay."""
        return len(self.order)

    @property
    def resumed_at(self):
        """Messages that were done before."""
        return int(self.edges[self.first_batch])

    def run(self, progress=None, stop=None):
        """Replay what is left; the summary, whose `ended` says whether it is finished.

        Parameters
        ----------
        progress : callable, optional
            Called with the accounts after each batch.
        stop : stream.stopping.Stop, optional
            Once it says so, the batch in hand is the last.

        Raises
        ------
        DglError
            As the part that failed says; everything before is in the ledger.
        """
        started = datetime.now(UTC).isoformat(timespec="seconds")
        for one in self.ledger.tallies():
            self.accounts.settle(one)
        keeper = None
        if self.keep and self.first_batch < len(self.edges) - 1:
            keeper = Keeper(self._keeping, self.keep, self.scorer.survey, self.scorer.schemas)
        self.accounts.start()
        try:
            finished = self._batches(keeper, progress, stop)
        except BaseException:
            self.ledger.close()
            raise
        finally:
            if keeper is not None:
                keeper.close()
        if not finished:
            self.ledger.close()
            return self._summary("stopped; the same command goes on from here")
        files = self._write_tables()
        self._settle_files()
        self.at_end()
        summary = self._summary("all that was asked for is replayed", files=files)
        write_summary(self._manifest(started, files, summary), self.places.beside("manifest.json"))
        self.ledger.remove()
        return summary

    def _batches(self, keeper, progress, stop):
        """Whether all batches are done."""
        stop = stop or _Never()
        messages = self._messages()
        clock = self.pace.clock(self._mjd, self.resumed_at) if self.resumed_at < self.total else None
        for n in range(self.first_batch, len(self.edges) - 1):
            while not stop() and (left := clock.due_in(int(self.edges[n + 1]))) > 0:
                stop.wait(min(left, 1.0))
                if progress is not None:
                    progress(self.accounts)
            if stop():
                return False
            self._one(n, messages, keeper)
            if progress is not None:
                progress(self.accounts)
        return True

    def _messages(self):
        """The messages still to be scored; those before them are read for their companions, which live in this process."""
        start = 0 if self.companions else self.resumed_at
        messages = read_in_order(self.catalogue, self.order, self.scorer.survey, start)
        if self.companions:
            for n in range(self.first_batch):
                part = slice(int(self.edges[n]), int(self.edges[n + 1]))
                self.judge.recall(_take(messages, part), self._ids[part], self._mjd[part])
        return messages

    def _one(self, n, messages, keeper):
        part = slice(int(self.edges[n]), int(self.edges[n + 1]))
        batch = _take(messages, part)
        outcomes, judged_by = self.judge.score(batch, self._ids[part], self._mjd[part])
        outputs = self.sink.outputs(outcomes) if self.sink is not None else ()
        one = tally(len(batch), outcomes, outputs)
        # In this order: a crash between two steps repeats a batch, whose outputs have the same ids, and loses none.
        if self.sink is not None:
            self.sink.deliver(outputs)
        if keeper is not None:
            keeper.take(outcomes)
        letters = [letter_of(o) for o in outcomes if o.status == "dead_lettered"]
        self.ledger.commit(n, one, self.rows.pack(outcomes, judged_by) if self.rows is not None else b"", letters)
        self.accounts.settle(one)

    def _settle_files(self):
        """Dead letters and kept packets in their places, instead of those of an earlier replay."""
        if self.keep is None or not self.total:
            clear_kept(self.places.beside("kept"))
        else:
            put_in_place(self._keeping, self.places.beside("kept"))
        DeadLetterFolder(self.places.beside("deadletters")).add(self.ledger.letters())

    def _write_tables(self):
        if self.rows is None:
            return []
        files = write_tables(self.ledger.rows(), self.rows.schema, self.places.table)
        written = {file["name"] for file in files}
        try:
            for old in self.places.old_tables():
                if str(old) not in written:
                    old.unlink()
        except OSError as error:
            raise StateError(f"{self.places.out}: cannot be written: {error}") from error
        return files

    def _summary(self, ended, files=()):
        seconds = time.time() - self.accounts.began
        if self.sink is not None:
            self.accounts.withheld = self.sink.withheld
        found = self.accounts.as_dict(
            survey=self.scorer.survey,
            bundle_id=self.scorer.bundle_id,
            bundle_sha256=self.scorer.bundle_sha256,
            device=self.scorer.device_name,
            selected=self.total,
            found=len(self.catalogue),
            resumed_at=self.resumed_at,
            files=list(files),
            ended=ended,
        )
        done = self.accounts.consumed - self.resumed_at
        return {**found, "alerts_per_s": round(done / seconds, 3) if seconds > 0 else None}

    def _manifest(self, started, files, summary):
        """What lies beside the result: inputs with their hashes, settings, software, accounts, files with their hashes."""
        times = self._mjd[np.isfinite(self._mjd)]
        return {
            "format": 1,
            "written_by": f"dgl-broker {__version__}",
            "started": started,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "inputs": self.catalogue.inputs,
            "settings": {name: value for name, value in self.plan.items() if name != "inputs"},
            "filters": [{"name": f.name, "version": f.version, "source": f.source} for f in self.judge.filters],
            "first_mjd_tai": float(times[0]) if len(times) else None,
            "last_mjd_tai": float(times[-1]) if len(times) else None,
            "software": software(),
            "accounts": {name: value for name, value in summary.items() if name != "files"},
            "outputs": files,
        }


class _Never:
    """A stop that nobody asks for."""

    wait = staticmethod(time.sleep)

    def __call__(self):
        return False


def _take(messages, part):
    return [next(messages) for _ in range(part.stop - part.start)]


def software():
    """Versions of what a score depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
