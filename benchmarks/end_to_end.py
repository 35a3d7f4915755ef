"""From Kafka to Kafka: the filter as a process, and as two, against a naive pipeline of as many processes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import draining
from benchmarks import kafka_topic as bench
from benchmarks.alerts import mixes, official_schemas
from benchmarks.ensemble import paper_width
from benchmarks.report import Measure, at_least, at_most, spread
from dgl_broker.model import load_bundle, save_bundle
from dgl_broker.native import COMPILED
from dgl_broker.scorer import Scorer

TITLE = "5. End to end: alerts a second from Kafka to Kafka"
MIX = {"ztf": "20 earlier rows", "lsst": "20 earlier rows"}
NAIVE, PAPER, DEFAULT, GATED = "naive", "paper width", "default bundle", "default bundle, shipped pre-cuts on"
N = {NAIVE: 200, PAPER: 1600, DEFAULT: 4000, GATED: 8000}
PURE = "pure Python"
GATED_GOAL = {"lsst": 3000.0, "ztf": 2000.0}
MEMORY_GOAL_MIB = {PAPER: 1536.0, DEFAULT: 700.0}


def run(options):
    """Yields two `Measure`s for each survey: rates, and memory of a worker."""
    rounds = 1 if options.quick else 5 if options.long else 2
    with bench.kafka() as server, tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        for mix in mixes(options):
            if mix.name == MIX[mix.survey]:
                yield from _measured(server, Path(folder) / mix.survey, mix, rounds, 20 if options.quick else 1)


def _ways():
    """(name, processes, decoder) of each way; "" is the compiled decoder, where it was built."""
    decoder = "" if COMPILED is not None else PURE
    yield from ((NAIVE, n, "") for n in (1, 2))
    yield from ((name, n, decoder) for name in (PAPER, DEFAULT) for n in (1, 2))
    yield GATED, 2, decoder
    if decoder != PURE:
        yield PAPER, 1, PURE


def _measured(server, folder, mix, rounds, smaller):
    folder.mkdir(parents=True, exist_ok=True)
    bundles = {DEFAULT: "default", GATED: "default", PAPER: save_paper_width(mix.survey, folder / "paper")}
    bundles[NAIVE] = bundles[PAPER]
    all_of_it, scorable = mix.values, scored_values(mix)
    rates, drained, share = {}, {}, {}
    for turn in range(rounds):
        for name, n_processes, decoder in _ways():
            values = all_of_it if name == GATED else scorable
            n = _eighths(N[name] * (1 if name in (NAIVE, GATED) else n_processes) / smaller)
            job = folder / f"{turn}-{name.replace(' ', '_').replace(',', '')}-{n_processes}-{decoder[:4]}"
            found = _once(server, job, mix, name, n_processes, decoder, bundles[name], values, n)
            way = _title(name, n_processes, decoder)
            rates.setdefault(way, []).append(found.rate)
            drained.setdefault(way, []).append(found)
            share[way] = found.scored / found.n
            print(f"    {way}: {found.rate:.0f}/s, {found.lost} lost, {found.twice} twice", flush=True)
    yield _compared(mix, rates, drained, share, len(scorable))
    yield _memory(mix, drained)


def _memory(mix, drained):
    """Peaks of resident memory of one worker in a stream."""
    goals = {name: goal for name, goal in MEMORY_GOAL_MIB.items() if _title(name, 1) in drained}
    peaks = {f"{name}, most": spread([one.peak_mib[0] for one in drained[_title(name, 1)]]) for name in goals}
    wanted = {f"{name}, most": at_most(goal) for name, goal in goals.items()}
    return Measure(f"{mix.title}: memory of a worker in a stream", "MiB", peaks, {}, wanted)


def _title(name, n_processes, decoder=""):
    return f"{name}{', ' + decoder if decoder else ''}: {n_processes} process{'es' if n_processes > 1 else ''}"


def _once(server, folder, mix, name, n_processes, decoder, bundle, values, n):
    topic = server.fresh("in")
    arrival = bench.Arrival(server.servers, topic, values, n, bench.survey_codec(mix.survey))
    schemas = official_schemas().path if mix.schemas else None
    filters = None if name == GATED else []
    refused = "scorable" if name == GATED else "all"
    run = bench.config(folder, server, topic, mix.survey, bundle, filters, schemas, refused=refused)
    if name == NAIVE:
        processes = [NaiveProcess(folder, server, run, mix.survey, bundle, k) for k in range(n_processes)]
        draining.wait_for_members(server, run.group, n_processes, processes)
    else:
        one, _ = draining.start_filter(server, run, folder, n_processes, {"DGL_DECODER": "python"} if decoder else None)
        processes = [one]
    try:
        if name == GATED:
            return draining.drain_by_offsets(server, run, arrival, processes)
        return draining.drain(server, run, arrival, processes)
    finally:
        draining.stop(processes)
        for used in (topic, *run.outputs):
            server.topics.delete_topic(used)


class NaiveProcess:
    """`benchmarks.naive` as a process."""

    def __init__(self, folder, server, run, survey, bundle, k):
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / f"naive{k}.log"
        options = {"servers": server.servers, "topic": run.topic, "group": run.group, "out": run.outputs[0]}
        options |= {"survey": survey, "bundle": str(bundle)}
        command = [sys.executable, "-m", "benchmarks.naive", *(part for k, v in options.items() for part in (f"--{k}", v))]
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=bench.ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        self.signal, self.wait = self.process.send_signal, self.process.wait

    @property
    def log(self):
        """What it has written so far."""
        return self.log_file.read_text()


def save_paper_width(survey, folder):
    """Folder of a bundle of the authors' widths, with random weights, fused as the default one is."""
    made = paper_width(survey)
    default = load_bundle("default", survey=survey)
    card = {**made.card, **{key: default.card[key] for key in ("fusion", "prior") if key in default.card}}
    save_bundle(folder, card, made.networks, default.fusion)
    return folder


def scored_values(mix):
    """The messages of a mix that come to a score: a refusal would be cheap, and flatter us."""
    scorer = Scorer(survey=mix.survey, schemas=mix.schemas)
    return tuple(v for v, outcome in zip(mix.values, scorer.score(mix.values)) if outcome.status == "scored")


def _eighths(n):
    """Whole shares for every partition."""
    return max(bench.PARTITIONS, int(n) // bench.PARTITIONS * bench.PARTITIONS)


def _compared(mix, rates, drained, share, n_scorable):
    ratios, goals = {}, {}

    def ratio(name, over, under, goal=None):
        if over in rates and under in rates:
            ratios[name] = spread([a / b for a, b in zip(rates[over], rates[under], strict=True)])
            if goal is not None:
                goals[name] = at_least(goal)

    for decoder, of_paper, of_default in (("", 12.0, 30.0), (PURE, 8.0, None)):
        said = f", {decoder}" if decoder else ""
        for name, goal in ((PAPER, of_paper), (DEFAULT, of_default)):
            for n in (1, 2):
                ratio(f"{name}{said}, over naive, {n} and {n}", _title(name, n, decoder), _title(NAIVE, n), goal)
            ratio(f"{name}{said}, 2 processes over 1", _title(name, 2, decoder), _title(name, 1, decoder), 1.8)
    gated = next(name for name in rates if name.startswith(GATED))
    goals[gated] = at_least(GATED_GOAL[mix.survey])
    everything = [one for found in drained.values() for one in found]
    notes = mix.notes | {
        "scored": f"{n_scorable} of {len(mix.values)} alerts come to a score; only they are sent, but for the pre-cuts' way",
        "past the pre-cuts": f"{100 * share[gated]:.0f} % of all alerts"
        + ("" if share[gated] else ", so that its rate is that of refusing, not of a working point"),
        "lost": f"{sum(one.lost for one in everything)} of all but the pre-cuts' way, whose refusals are not published: "
        "through when their offsets are committed",
        "twice": sum(one.twice for one in everything),
        "broker's CPU": _broker(drained),
    }
    ways = {name: spread(values) for name, values in rates.items()}
    return Measure(mix.title, "alerts a second", ways, ratios, goals, notes)


def _broker(drained):
    """CPU of the broker for one alert, of the fastest way."""
    found = [one for name, ones in drained.items() if not name.startswith(NAIVE) for one in ones]
    if any(one.broker_cpu_s is None for one in found):
        return "not ours, not known"
    return f"{1e6 * sum(one.broker_cpu_s for one in found) / sum(one.n for one in found):.0f} us an alert"
