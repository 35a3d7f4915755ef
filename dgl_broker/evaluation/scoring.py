"""Scores of a whole table of examples, by the ensemble that serves the stream, or by a single network of a baseline."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from dgl_broker.scores import CLASSES, MEMBERS


@dataclass(frozen=True, eq=False)
class Scored:
    """Columns over the N rows of a table.

    `probabilities` (N, 4); `log_odds` (N,) the score; `members` name -> log-probabilities (N, 4), of each network alone;
    `class_index` (N,) the class called; `pairwise` (N, 6) or None; `p_value`, `p_value_floor`, `stratum` (N,) or None.
    """

    probabilities: np.ndarray
    log_odds: np.ndarray
    members: dict
    class_index: np.ndarray
    pairwise: np.ndarray | None = None
    p_value: np.ndarray | None = None
    p_value_floor: np.ndarray | None = None
    stratum: np.ndarray | None = None

    def __len__(self):
        return len(self.log_odds)

    def select(self, rows):
        """The columns of some rows."""

        def pick(value):
            return None if value is None else value[rows]

        members = {name: value[rows] for name, value in self.members.items()}
        names = ("probabilities", "log_odds", "class_index", "pairwise", "p_value", "p_value_floor", "stratum")
        return Scored(**{name: pick(getattr(self, name)) for name in names}, members=members)


def log_odds_of(log_p):
    """Log-odds of a lensed supernova from class log-probabilities (N, 4), without prior; float64, does not saturate."""
    from dgl_broker.model.score_table import lsn_logit

    return lsn_logit(np.asarray(log_p, np.float64))


def score_table(bundle, table, device="cpu", precision=None, change=None, advance=None, size=4096):
    """Scores of all rows of a table by a bundle's ensemble.

    Parameters
    ----------
    bundle : dgl_broker.model.Bundle
    table : object
        With `batches(size)`, `strata(indices)` and `len`, as `training.shards.Table` has them.
    device, precision : str
        As `dgl_broker.model.Ensemble` takes them.
    change : callable, optional
        (images, light_curves, contexts) -> the same, to leave inputs out.
    advance : callable, optional
        Told the number of rows after each batch.

    Returns
    -------
    Scored
    """
    from dgl_broker.model import Ensemble

    ensemble = Ensemble(bundle, device=device, precision=precision)
    parts = []
    for indices, *arrays in table.batches(size):
        images, light_curves, contexts = change(*arrays) if change else arrays
        batch = SimpleNamespace(images=images, light_curves=light_curves, contexts=contexts)
        found = ensemble.score(batch, table.strata(indices))
        if not found.finite.all():
            raise FloatingPointError(f"bundle {bundle.id}: {int((~found.finite).sum())} scores are not finite")
        parts.append(found)
        if advance:
            advance(len(indices))

    def joined(name):
        first = getattr(parts[0], name)
        return None if first is None else np.concatenate([getattr(p, name) for p in parts])

    member = joined("member_log_prob")
    return Scored(
        probabilities=joined("probabilities"),
        log_odds=joined("log_odds"),
        members={name: member[:, i] for i, name in enumerate(MEMBERS)},
        class_index=joined("class_index"),
        pairwise=joined("pairwise"),
        p_value=joined("p_value"),
        p_value_floor=joined("p_value_floor"),
        stratum=joined("stratum"),
    )


def score_network(net, name, table, device, change=None, advance=None, size=1024):
    """Scores of all rows by one network alone: its class probabilities as they are, and their log-odds."""
    import torch

    net = net.to(device).eval()
    out = np.empty((len(table), len(CLASSES)))
    with torch.inference_mode():
        for indices, *arrays in table.batches(size):
            arrays = change(*arrays) if change else arrays
            images, curves, contexts = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays)
            out[indices] = net(curves, images, contexts).double().cpu().numpy()
            if advance:
                advance(len(indices))
    return Scored(np.exp(out), log_odds_of(out), {name: out}, out.argmax(1))
