"""A visit: Rubin's 10,000 alerts at once on two processes, and with `--long` ten visits in a row at its rhythm."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks import draining
from benchmarks import kafka_topic as bench
from benchmarks.alerts import mixes, official_schemas
from benchmarks.end_to_end import DEFAULT, MEMORY_GOAL_MIB, scored_values
from benchmarks.report import Measure, at_most, spread

TITLE = "6. A visit: 10,000 alerts at once, on two processes"
ALERTS, RHYTHM_S, VISITS = 10_000, 39.0, 10
ROUNDS = 3  # of a visit alone
GOAL_S = 30.0
MEMORY_GOAL = at_most(MEMORY_GOAL_MIB[DEFAULT])
SMALL = {"segment_bytes": 64 * 2**20}  # so that what is through can be deleted


def run(options):
    """Yields a `Measure` for each mix, and with `--long` one of visits in a row."""
    n, rounds = (80, 1) if options.quick else (ALERTS, min(options.rounds, ROUNDS))
    with bench.kafka() as server, tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        peaks = {}
        for mix in (mix for mix in mixes(options) if mix.survey == "lsst"):
            folder_of_it, values = Path(folder) / mix.name.replace(" ", "_"), scored_values(mix)
            found = [visits(server, folder_of_it / f"round{k}", values, n, 1)[0] for k in range(rounds)]
            yield _measured(mix, found, len(values))
            peaks[mix.name] = [mib for one in found for mib in one.peak_mib[:2]]
            if options.long or options.quick:
                n_visits, rhythm_s = (2, 8.0) if options.quick else (VISITS, RHYTHM_S)
                found, memory = visits(server, folder_of_it / "in_a_row", values, n, n_visits, rhythm_s)
                yield _in_a_row(mix, found, memory, n_visits, rhythm_s)
                peaks[f"{mix.name}, in a row"] = found.peak_mib[:2]
        yield _memory(peaks)


def visits(server, folder, values, n, n_visits, rhythm_s=0.0):
    """`Drained`, and memory over time, of visits of `n` alerts each."""
    topic = server.fresh("visit", **SMALL)
    run_of_it = bench.config(folder, server, topic, "lsst", filters=[], schemas=official_schemas().path)

    def write():
        return bench.Arrival(server.servers, topic, values, n, bench.survey_codec("lsst"))

    first = write()
    one, ready_s = draining.start_filter(server, run_of_it, folder, 2)
    try:
        arrivals = [lambda: first, *[write] * (n_visits - 1)]
        return draining.drain_in_turn(server, run_of_it, arrivals, [one], ready_s, rhythm_s)
    finally:
        draining.stop([one])
        for used in (topic, *run_of_it.outputs):
            server.topics.delete_topic(used)


def _latencies(found):
    """Percentiles of latency [s], over rounds."""
    return {f"latency, p{p}": spread([np.percentile(one.latency_s, p) for one in found]) for p in (50, 95, 99)}


def _notes(found):
    notes = {
        "lost": sum(one.lost for one in found),
        "twice": sum(one.twice for one in found),
        "latency": "from the commit that lets the visit be read (Kafka's times of its messages are earlier) to Kafka's time of "
        "the output",
        "start to ready": f"{max(one.ready_s for one in found):.1f} s until both processes share the partitions, warm",
    }
    if found[0].broker_cpu_s is not None:
        notes["broker's CPU"] = f"{1e6 * sum(one.broker_cpu_s for one in found) / sum(one.n for one in found):.0f} us an alert"
    return notes


def _measured(mix, found, n_values):
    n, rate = found[0].n, float(np.median([one.rate for one in found]))
    ways = {"to drain": spread([one.seconds for one in found]), **_latencies(found)}
    notes = mix.notes | {
        "sent": f"{n} messages of {n_values} alerts that come to a score, ungated; {len(found)} visits, each to fresh processes"
    }
    notes |= _notes(found) | {"rate": f"{rate:.0f} alerts a second"}
    return Measure(f"{mix.title}: {n} at once", "s", ways, {}, {"to drain": at_most(GOAL_S)}, notes)


def _memory(peaks):
    """The peak of resident memory of each process that scored."""
    ways = {f"{name}, most": spread(found) for name, found in peaks.items()}
    return Measure("LSST, default bundle: memory of a worker", "MiB", ways, {}, dict.fromkeys(ways, MEMORY_GOAL), {})


def _in_a_row(mix, found, memory, n_visits, rhythm_s):
    """Latency visit by visit, what was waiting when the next came, and memory: the last three against the second to fourth."""
    per_visit = [float(np.percentile(found.latency_s[found.came_with == k], 99)) for k in range(n_visits)]
    times, mib = np.array(memory).T
    began = times[0]
    each = [mib[(times >= began + k * rhythm_s) & (times < began + (k + 1) * rhythm_s)] for k in range(n_visits)]
    held = [float(part.max()) for part in each if len(part)]
    ways = {"p99 of a visit": spread(per_visit), **_latencies([found])}
    of_late = "last three visits over second to fourth"  # the first one finds its processes just started
    ratios = {
        f"{what}, {of_late}": spread([np.median(values[-3:]) / np.median(values[1:4])])
        for what, values in (("p99", per_visit), ("memory", held))
    }
    goals = {f"p99, {of_late}": at_most(1.10), f"memory, {of_late}": at_most(1.05)}
    notes = _notes([found])
    if "broker's CPU" in notes:
        notes["broker's CPU"] += ", with the writing of all visits but the first"
    notes |= {
        "rhythm": f"{n_visits} visits of {found.n // n_visits} alerts, every {rhythm_s:g} s, at most {found.late_s:.1f} s late",
        "p99 of each visit": ", ".join(f"{one:.1f}" for one in per_visit) + " s",
        "waiting when a visit came": ", ".join(map(str, found.waiting)),
        "memory of all processes in each visit": ", ".join(f"{m:.0f}" for m in held) + " MiB",
    }
    return Measure(f"{mix.title}: visits in a row", "s", ways, ratios, goals, notes)
