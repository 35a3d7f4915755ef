"""A replay: messages of an archive through the scorer, outcomes to a table and a folder of dead letters."""

import json
from itertools import islice
from pathlib import Path

from dgl_broker import __version__
from dgl_broker.archive.fact_columns import FactColumns
from dgl_broker.archive.keep import Keeper, clear_kept
from dgl_broker.archive.sinks import DeadLetterFolder, ScoreTable
from dgl_broker.archive.sources import read_messages
from dgl_broker.observe.summary import Accounts, tally
from dgl_broker.outputs.records import score_record, table_row


class Replay:
    """One replay.

    Parameters
    ----------
    scorer : dgl_broker.scorer.Scorer
    out : Path
        The score table; dead letters go to `<stem>.deadletters/` beside it.
    ungated : bool
        Write one column for each pre-cut, and for each fact that the pre-cuts speak of.
    in_order_of_time : bool
        Sort all messages by the alerts' times first, in memory: what companions need, since a store keeps the newest stamps.
    keep : dgl_broker.archive.keep.KeepRule, optional
        Which packets are kept in `<stem>.kept/` beside the table.
    """

    def __init__(self, scorer, out, ungated=False, in_order_of_time=False, keep=None):
        self.scorer = scorer
        self.in_order_of_time = in_order_of_time
        self.out = Path(out)
        self.accounts = Accounts()
        cuts = [f"{f.name}.{c.name}" for f in scorer.filters for c in f.require] if ungated else ()
        metadata = {
            "dgl_broker_version": __version__,
            "bundle_id": scorer.bundle_id,
            "bundle_sha256": scorer.bundle_sha256,
            "filters": json.dumps([{"name": f.name, "version": f.version} for f in scorer.filters]),
        }
        self.table = ScoreTable(self.out, self._row, cuts, metadata, FactColumns(scorer.filters, ungated))
        self.dead_letters = DeadLetterFolder(self.out.with_suffix(".deadletters"))
        kept = self.out.with_suffix(".kept")
        clear_kept(kept)  # of an earlier replay
        self.keeper = None if keep is None else Keeper(kept, keep, scorer.survey, scorer.schemas)

    def _row(self, outcome):
        return table_row(score_record(outcome, self.scorer.bundle_id, self.scorer.bundle_sha256))

    def run(self, sources, batch_size, progress=None):
        """Replay all of `sources`, in batches.

        Parameters
        ----------
        sources : list of path
        batch_size : int
        progress : callable, optional
            Called with the accounts after each batch.

        Returns
        -------
        dict
            The summary, as `Accounts.as_dict` gives it.
        """
        messages = read_messages(sources, self.scorer.survey)
        try:
            if self.in_order_of_time:
                messages = iter(sorted(messages, key=self.scorer.when))
            while batch := list(islice(messages, batch_size)):
                self._settle(batch)
                if progress:
                    progress(self.accounts)
            self.dead_letters.write([])  # so that those of an earlier replay do not stand beside a table without any
            self.table.close()
        except BaseException:
            self.table.abandon()
            raise
        finally:
            if self.keeper is not None:
                self.keeper.close()
        return self.accounts.as_dict(
            bundle_id=self.scorer.bundle_id, bundle_sha256=self.scorer.bundle_sha256, device=self.scorer.device_name
        )

    def _settle(self, batch):
        outcomes = self.scorer.score(batch)
        self.table.write(outcomes)
        self.dead_letters.write(outcomes)
        if self.keeper is not None:
            self.keeper.take(outcomes)
        self.accounts.settle(tally(len(batch), outcomes))
