"""A visit: Rubin's 10,000 alerts at once on two processes, and with `--long` ten visits in a row at its rhythm."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks import draining
from benchmarks import kafka_topic as bench
from benchmarks.alerts import mixes, official_schemas
from benchmarks.end_to_end import scored_values
from benchmarks.report import Measure, at_most, spread

TITLE = "6. A visit: 10,000 alerts at once, on two processes"
ALERTS, RHYTHM_S, VISITS = 10_000, 39.0, 10
GOAL_S = 30.0
IN_A_ROW = "20 earlier rows"


def run(options):
    """Yields a `Measure` for each mix, and one of visits in a row."""
    n = 80 if options.quick else ALERTS
    with bench.kafka() as server, tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        for mix in (mix for mix in mixes(options) if mix.survey == "lsst"):
            values = scored_values(mix)
            found, _ = visits(server, Path(folder) / mix.name.replace(" ", "_"), values, n, 1)
            yield _measured(mix, found, len(values))
            if mix.name == IN_A_ROW and (options.long or options.quick):
                n_visits, rhythm_s = (2, 8.0) if options.quick else (VISITS, RHYTHM_S)
                found, memory = visits(server, Path(folder) / "in_a_row", values, n, n_visits, rhythm_s)
                yield _in_a_row(mix, found, memory, n_visits, rhythm_s)


def visits(server, folder, values, n, n_visits, rhythm_s=0.0):
    """`Drained`, and memory over time, of visits of `n` alerts each that are written before the filter starts."""
    topic = server.fresh("visit")
    arrivals = [bench.Arrival(server.servers, topic, values, n, bench.survey_codec("lsst")) for _ in range(n_visits)]
    run_of_it = bench.config(folder, server, topic, "lsst", filters=[], schemas=official_schemas().path)
    one, ready_s = draining.start_filter(server, run_of_it, folder, 2)
    try:
        return draining.drain(server, run_of_it, arrivals, [one], ready_s, rhythm_s)
    finally:
        draining.stop([one])
        for used in (topic, *run_of_it.outputs):
            server.topics.delete_topic(used)


def _latencies(found):
    return {f"latency, p{p}": [float(np.percentile(found.latency_s, p))] * 3 for p in (50, 95, 99)}


def _notes(found):
    notes = {
        "lost": found.lost,
        "twice": found.twice,
        "memory": " and ".join(f"{mib:.0f}" for mib in found.peak_mib[:2]) + " MiB, the peak of each process that scores",
        "start to ready": f"{found.ready_s:.1f} s until both processes share the partitions, warm",
    }
    if found.broker_cpu_s is not None:
        notes["broker's CPU"] = f"{found.broker_cpu_s:.1f} s"
    return notes


def _measured(mix, found, n_values):
    ways = {"to drain": [found.seconds] * 3, **_latencies(found)}
    notes = mix.notes | {"sent": f"{found.n} messages of {n_values} alerts that come to a score, ungated"} | _notes(found)
    notes["rate"] = f"{found.rate:.0f} alerts a second"
    return Measure(f"{mix.title}: {found.n} at once", "s", ways, {}, {"to drain": at_most(GOAL_S)}, notes)


def _in_a_row(mix, found, memory, n_visits, rhythm_s):
    """Latency visit by visit, what was waiting when the next came, and memory: the last against the second."""
    per_visit = [float(np.percentile(found.latency_s[found.came_with == k], 99)) for k in range(n_visits)]
    times, mib = np.array(memory).T
    began = times[0]
    each = [mib[(times >= began + k * rhythm_s) & (times < began + (k + 1) * rhythm_s)] for k in range(n_visits)]
    held = [float(part.max()) for part in each if len(part)]
    ways = {"p99 of a visit": spread(per_visit), **_latencies(found)}
    ratios = {
        "p99, last visit over second": [per_visit[-1] / per_visit[1]] * 3,
        "memory, last visit over second": [held[-1] / held[1]] * 3,
    }
    goals = {"p99, last visit over second": at_most(1.10), "memory, last visit over second": at_most(1.05)}
    notes = _notes(found) | {
        "rhythm": f"{n_visits} visits of {found.n // n_visits} alerts, every {rhythm_s:g} s",
        "waiting when a visit came": ", ".join(map(str, found.waiting)),
        "memory of all processes in each visit": ", ".join(f"{m:.0f}" for m in held) + " MiB",
    }
    return Measure(f"{mix.title}: visits in a row", "s", ways, ratios, goals, notes)
