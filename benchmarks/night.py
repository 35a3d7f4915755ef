"""A night in small: a stream that lasts, alerts of objects that come again, memory and latency from its beginning to its end.

Once without companions and once with them in Redis, which then has every object's stamps to keep. The stream comes at the pace
of a Rubin night, so that an hour of it is an hour of a night. Its topic keeps minutes, as a survey's keeps days.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import fastavro
import numpy as np

from benchmarks import draining
from benchmarks import kafka_topic as bench
from benchmarks.alerts import mixes, official_schemas
from benchmarks.end_to_end import scored_values
from benchmarks.processes import Memory
from benchmarks.report import Measure, NotRun, at_most, spread

from kafka.broker import free_ports  # isort: skip - on the path once kafka_topic is imported

TITLE = "7. A night in small: latency and memory of a stream that lasts"
RATE = 256.0  # alerts a second: Rubin's 10,000 every 39 s, spread evenly
SHORT_S, LONG_S = 160.0, 3600.0
TURNS = 8  # that each object comes in a stream
BATCH = {"max_alerts": 256, "max_wait_s": 1.0}
KEPT = {"retention_bytes": 512 * 2**20, "segment_bytes": 64 * 2**20}  # of each partition: two minutes or more of the stream
QUARTERS = 4
FLAT = 1.10  # what the last quarter may be of the second


def run(options):
    """Yields a `Measure` without companions and one with them, where a redis-server is at hand."""
    seconds = 24.0 if options.quick else LONG_S if options.long else SHORT_S
    if options.minutes is not None:
        seconds = 60.0 * options.minutes
    rate = RATE / 4 if options.quick else RATE
    mix = next(m for m in mixes(options) if m.survey == "lsst" and m.name == "20 earlier rows")
    with bench.kafka() as server, tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        yield _night(server, Path(folder) / "alone", mix, seconds, rate, None)
        if not shutil.which("redis-server"):
            raise NotRun("with companions: there is no redis-server")
        from redis_server import Server

        store = Server(folder)
        try:
            yield _night(server, Path(folder) / "companions", mix, seconds, rate, store)
        finally:
            store.stop()


def _night(server, folder, mix, seconds, rate, store):
    topic, (port,) = server.fresh("night", **KEPT), free_ports(1)
    more = {"batch": BATCH, "metrics": {"port": port}}
    if store is not None:
        more["companions"] = {"store": "redis", "url": store.url}
    run_of_it = bench.config(folder, server, topic, "lsst", filters=[], schemas=official_schemas().path, more=more)
    one, _ = draining.start_filter(server, run_of_it, folder, 2)
    memory, of_store = Memory([one.process.pid]), Memory([] if store is None else [store.process.pid])
    stream = folder / "values.avro"
    write_values(stream, scored_values(mix))
    n = int(seconds * rate) // bench.PARTITIONS * bench.PARTITIONS
    n_objects = n // TURNS
    command = [sys.executable, "-m", "benchmarks.survey", server.servers, topic, str(stream), str(rate), str(n), str(n_objects)]
    memory.start()
    of_store.start()
    player = subprocess.Popen(command, cwd=bench.ROOT)
    outputs = draining.Outputs(server, run_of_it)
    try:
        deadline = time.monotonic() + seconds + draining.PATIENCE_S
        while outputs.count() < n:
            if one.process.poll() is not None or player.poll() not in (None, 0) or time.monotonic() > deadline:
                raise RuntimeError(f"the stream stopped at {outputs.count()} of {n}:\n{one.log[-3000:]}")
            time.sleep(0.5)
        player.wait()
        counters = companion_counters(port)
    finally:
        if player.poll() is None:
            player.kill()
        outputs.close()
        peaks = memory.stop()
        of_store.stop()
        draining.stop([one])
    found = draining.read_outputs(server, run_of_it)
    for used in (topic, *run_of_it.outputs):
        server.topics.delete_topic(used)
    draining.require_all(run_of_it, n, [one.place for one in found])
    notes = mix.notes | {
        "stream": f"{n} alerts of {n_objects} objects, {TURNS} of each, at {rate:g} a second for {seconds:g} s, ungated; "
        f"two processes, batches of at most {BATCH['max_alerts']} alerts or {BATCH['max_wait_s']:g} s",
        "lost": n - len({one.place for one in found}),
        "twice": len(found) - len({one.place for one in found}),
        "memory of each process that scores": " and ".join(f"{mib:.0f}" for mib in peaks[:2]) + " MiB at most",
    }
    if store is None:
        return _measured(f"{mix.title}: without companions", found, memory.sums, notes)
    if not counters.get("found"):
        raise RuntimeError(f"no companion was ever found: {counters}")
    return _measured(f"{mix.title}: companions in Redis", found, memory.sums, notes, of_store.sums, counters)


def companion_counters(port):
    """What the filter counts of its companion store, by event; empty without one."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        page = answer.read().decode()
    return {
        event: int(float(value)) for event, value in re.findall(r'^dgl_companions_total\{event="(\w+)"\} (\S+)', page, re.M)
    }


def write_values(path, values):
    """Messages as one Avro file, for the process that plays the survey."""
    with open(path, "wb") as file:
        fastavro.writer(file, {"type": "record", "name": "message", "fields": [{"name": "value", "type": "bytes"}]},
                        [{"value": value} for value in values])  # fmt: skip


def _measured(what, found, memory, notes, of_store=None, counters=None):
    """Latency from Kafka's timestamp of the input to that of the output, and memory, quarter by quarter."""
    arrived, acknowledged = (np.array([getattr(one, name) for one in found]) for name in ("arrived", "acknowledged"))
    latency = acknowledged - arrived
    edges = np.linspace(arrived.min(), arrived.max() + 1e-3, QUARTERS + 1)
    parts = [latency[(arrived >= a) & (arrived < b)] for a, b in zip(edges, edges[1:])]
    held, middles = _most(memory, edges), [float(np.median(part)) for part in parts]
    lates = [float(np.percentile(part, 99)) for part in parts]
    ways = {f"latency, p{p}": spread([float(np.percentile(part, p)) for part in parts]) for p in (50, 95, 99)}
    ratios = {
        "median latency, last quarter over second": [middles[-1] / middles[1]] * 3,
        "memory, last quarter over second": [held[-1] / held[1]] * 3,
    }
    notes = notes | {
        "came in": f"{arrived.max() - arrived.min():.1f} s",
        "median latency by quarter": ", ".join(f"{one:.2f}" for one in middles) + " s",
        "p99 of the latency by quarter": ", ".join(f"{one:.2f}" for one in lates) + " s",
        "memory of all processes by quarter": ", ".join(f"{one:.0f}" for one in held) + " MiB",
    }
    if of_store is not None:
        notes["memory of Redis by quarter"] = ", ".join(f"{one:.0f}" for one in _most(of_store, edges)) + " MiB"
        notes["companions"] = ", ".join(f"{event} {count}" for event, count in counters.items() if count) + (
            "; the default bundle has no planes for them, so that scores are the same"
        )
    return Measure(what, "s", ways, ratios, {name: at_most(FLAT) for name in ratios}, notes)


def _most(memory, edges):
    """The most that was held in each part of the time [MiB]."""
    times, mib = np.array(memory).T
    return [float(mib[(times >= a) & (times < b)].max()) for a, b in zip(edges, edges[1:])]
