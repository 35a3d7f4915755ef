"""Networks on a GPU: alerts a second by batch, how much of it the GPU works, transfers, and half precision."""

import time

import numpy as np
import torch

from benchmarks.ensemble import paper_width, random_batch
from benchmarks.report import Measure, NotRun, spread
from dgl_broker import model
from dgl_broker.model.ensemble import Ensemble

TITLE = "8. Networks on a GPU"
BATCHES = (64, 256, 1024, 4096, 16384)
PRECISIONS = ("float32", "float16")


def run(options):
    """Yields a `Measure` for each bundle; NotRun where there is no GPU."""
    if not torch.cuda.is_available():
        raise NotRun("no CUDA device")
    torch.set_num_threads(1)
    for survey in ("lsst", "ztf"):
        bundles = {"default bundle": model.load_bundle("default", survey=survey), "paper width": paper_width(survey)}
        for name, bundle in bundles.items():
            yield _measured(f"{survey.upper()}, {name}, {torch.cuda.get_device_name()}", bundle, options)


def _measured(title, bundle, options, device="cuda"):
    ensembles = {precision: Ensemble(bundle, device, precision=precision) for precision in PRECISIONS}
    sizes = BATCHES[:2] if options.quick else BATCHES
    ways, ratios, notes = {}, {}, {}
    for n in sizes:
        batch = random_batch(bundle.shape, n)
        rates = {precision: np.empty(options.rounds) for precision in PRECISIONS}
        for ensemble in ensembles.values():
            ensemble.score(batch)
        for turn in range(options.rounds):
            for precision in PRECISIONS[:: 1 if turn % 2 else -1]:
                rates[precision][turn] = n / _seconds(ensembles[precision], batch)
        for precision in PRECISIONS:
            ways[f"{precision}, {n} at a time"] = spread(rates[precision])
        ratios[f"half precision over single, {n} at a time"] = spread(rates["float16"] / rates["float32"])
    for precision, ensemble in ensembles.items():
        _shares(ensemble, batch)  # the first time the profiler itself starts
        busy, copying = _shares(ensemble, batch)
        ratios[f"{precision}: share of the time that the GPU works, {n} at a time"] = spread([busy])
        ratios[f"{precision}: share of the time in transfers, {n} at a time"] = spread([copying])
    single, half = (ensembles[precision].score(batch).log_odds for precision in PRECISIONS)
    off = np.abs(half - single)
    notes["half precision"] = f"log-odds off by at most {off.max():.2g}, half of them by less than {np.median(off):.2g}"
    notes["memory of the GPU"] = f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB at most, all four networks together"
    return Measure(title, "alerts/s", ways, ratios, notes=notes)


def _seconds(ensemble, batch):
    """On the wall, until the GPU is done: `score` waits for its results."""
    start = time.perf_counter()
    ensemble.score(batch)
    return time.perf_counter() - start


def _shares(ensemble, batch):
    """(share of the time that kernels ran, share that copies ran) while a batch was scored, by torch's profiler."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        seconds = _seconds(ensemble, batch)
    return tuple(covered / seconds for covered in covered_s(profile.events()))


def covered_s(events):
    """Seconds of a profile's events in which kernels ran, and in which copies did."""
    spans = {"kernels": [], "copies": []}
    for event in events:
        if event.device_type == torch.autograd.DeviceType.CUDA:
            kind = "copies" if "memcpy" in event.name.lower() or "memset" in event.name.lower() else "kernels"
            spans[kind].append((event.time_range.start, event.time_range.end))
    return tuple(_covered(spans[kind]) / 1e6 for kind in ("kernels", "copies"))


def _covered(spans):
    """Length of the union of spans [us]: kernels of two streams may run at once."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
