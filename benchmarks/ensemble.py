"""The networks: a batch against one alert at a time, and against what the processor's matrix products allow."""

import numpy as np
import torch

from benchmarks.report import at_least, compared
from benchmarks.timing import interleaved
from dgl_broker import model
from dgl_broker.example import Batch
from dgl_broker.model.ensemble import Ensemble, Members
from dgl_broker.model.folding import flops, fold_batch_norm
from dgl_broker.model.shape import Widths

TITLE = "3. Networks: alerts scored in a batch"
BATCH, SINGLE = 256, 8  # examples measured together, and one by one
SIDES = (512, 1024, 2048)  # of the square matrices whose product shows the processor's peak
FROM_BATCHING, OF_ROOFLINE, CHEAPER = 12.0, 0.75, 3.0


def run(options):
    """Yields a `Measure` for each survey and width, and one of what the widths cost."""
    torch.set_num_threads(1)
    n = 32 if options.quick else BATCH
    for survey in ("lsst", "ztf"):
        default = model.load_bundle("default", survey=survey)
        bundles = {"paper width": paper_width(survey), "default bundle": default}
        work = {name: flops(Members(fold_batch_norm(bundle.networks))) for name, bundle in bundles.items()}
        for name, bundle in bundles.items():
            yield _measured(f"{survey.upper()}, {name}", bundle, work[name], options.rounds, n, name == "paper width")
        ratio = {"paper width over default bundle": (work["paper width"], work["default bundle"])}
        goals = {name: at_least(CHEAPER) for name in ratio} if survey == "lsst" else {}
        spent = {name: [value / 1e6] for name, value in work.items()}
        yield compared(f"{survey.upper()}, work of one alert", spent, ratio, goals, unit="MFLOP")


def paper_width(survey):
    """A bundle of the authors' widths on the inputs of the survey's default bundle; its weights are random, its time is not."""
    card = model.load_bundle("default", survey=survey).card | {"id": f"{survey}_paper_width"}
    return model.untrained_bundle(survey, card=card | {"network": {"widths": Widths().to_dict()}})


def random_batch(shape, n, seed=0):
    """Examples of a bundle's shape: their values decide nothing of how long they take."""
    rng = np.random.default_rng(seed)
    sizes = (shape.planes, shape.side, shape.side), (shape.steps, shape.features), (shape.context,)
    return Batch(*(rng.random((n, *size), np.float32) for size in sizes))


def _measured(title, bundle, work, rounds, n, has_goals):
    ensemble = Ensemble(bundle)
    batch, singles = random_batch(bundle.shape, n), [random_batch(bundle.shape, 1, seed) for seed in range(SINGLE)]
    eager = Members(bundle.networks).eval()
    tensors = [[torch.from_numpy(a) for a in (one.light_curves, one.images, one.contexts)] for one in singles]

    def as_published():
        with torch.inference_mode():
            for one in tensors:
                eager(*one)

    def one_by_one():
        for one in singles:
            ensemble.score(one)

    def networks_alone():
        ensemble._evaluate([batch.light_curves, batch.images, batch.contexts])

    published, single = "as published, one alert at a time", "ours, one alert at a time"
    whole, alone = f"ours, {n} at a time, to scores", f"ours, {n} at a time, networks, SVM and fusion alone"
    ways = {published: as_published, single: one_by_one, whole: lambda: ensemble.score(batch), alone: networks_alone}
    items = {published: SINGLE, single: SINGLE, whole: n, alone: n}
    for side in SIDES:
        ways[f"product {side}"] = _product(side)
        items[f"product {side}"] = 1
    spent = interleaved(ways, items, rounds)
    # The best that any product reaches in each round: its pace [FLOP/us] says how long the networks' work must take.
    paces = np.max([2.0 * side**3 / spent.pop(f"product {side}") for side in SIDES], axis=0)
    floor = f"their {work / 1e6:.1f} MFLOP at the pace of matrix products"
    spent[floor] = work / paces
    batching, share = "batch over one at a time as published", "share of the roofline"
    ratios = {
        batching: (spent[published], spent[whole]),
        "batch over ours one at a time": (spent[single], spent[whole]),
        share: (spent[floor], spent[alone]),
    }
    goals = {batching: at_least(FROM_BATCHING), share: at_least(OF_ROOFLINE)} if has_goals else {}
    notes = {"products": f"{np.median(paces) / 1e3:.0f} GFLOP/s", "parameters": _parameters(bundle)}
    return compared(title, spent, ratios, goals, notes=notes)


def _parameters(bundle):
    count = sum(p.numel() for p in Members(bundle.networks).parameters())
    return f"{count / 1e6:.2f} million, {count * 4 / 1e6:.0f} MB"


def _product(side):
    a, b = torch.rand(side, side), torch.rand(side, side)
    out = torch.empty(side, side)
    return lambda: torch.mm(a, b, out=out)
