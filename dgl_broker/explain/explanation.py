"""A recorded score explained: found, made again, compared, taken apart."""

from dataclasses import dataclass
from pathlib import Path

from dgl_broker.archive.one_row import find_row
from dgl_broker.errors import NotScorable
from dgl_broker.explain.again import Found, find_bundle, find_inputs, make_scorer
from dgl_broker.explain.compare import Comparison, compare
from dgl_broker.explain.occlusion import Occlusion, occlude


@dataclass
class Explanation:
    """All that is known of one recorded score; `example` is None or a NotScorable where nothing reached the network."""

    scores: Path
    found: Found
    bundle: object
    outcome: object
    comparison: Comparison
    spec: object
    example: object = None
    occlusion: Occlusion | None = None


def explain(scores, alert_id, survey=None, packets=(), bundle=None, filters=(), schemas=None, device="cpu"):
    """Explain one row of a table of scores.

    Parameters
    ----------
    scores : path
    alert_id : int
    survey : str, optional
    packets, filters, schemas
        As `explain.again.find_inputs` takes them.
    bundle : str or path, optional
        By default the one of the recorded hash among those that ship.
    device : str

    Returns
    -------
    Explanation

    Raises
    ------
    DglError
        If the row, its packet, its bundle or the device is not to be had.
    """
    row, ungated = find_row(scores, alert_id, survey)
    found = find_inputs(row, scores, packets, filters, schemas)
    used = find_bundle(row, bundle)
    scorer = make_scorer(found, used, device, ungated)
    (outcome,) = scorer.score([found.message])
    result = Explanation(Path(scores), found, used, outcome, compare(row, outcome, scorer, found.missing), scorer.spec)
    if hasattr(outcome.alert, "light_curve"):
        (result.example,) = scorer.build_examples([outcome.alert], [found.companions])
        if outcome.scores is not None and not isinstance(result.example, NotScorable):
            result.occlusion = occlude(scorer, outcome.alert, found.companions)
    return result
