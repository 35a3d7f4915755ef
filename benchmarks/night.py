"""A night in small: a stream that lasts, alerts of objects that come again, memory and latency from its beginning to its end.

Once without companions and once with them in Redis, which then has every object's stamps to keep.
"""

import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fastavro
import numpy as np

from benchmarks import draining
from benchmarks import kafka_topic as bench
from benchmarks.alerts import mixes, official_schemas
from benchmarks.end_to_end import scored_values
from benchmarks.processes import Memory
from benchmarks.report import Measure, at_most, spread

TITLE = "7. A night in small: latency and memory of a stream that lasts"
RATE = 120.0  # alerts a second: half of Rubin's mean over a night, since the survey's part is played on the same two cores
SHORT_S, LONG_S = 90.0, 3600.0
OBJECTS = 20_000  # that the stream's alerts are of, in turn
QUARTERS = 4
FLAT = 1.10  # what the last quarter may be of the second


def run(options):
    """Yields a `Measure` without companions and one with them, where a redis-server is at hand."""
    seconds = 24.0 if options.quick else LONG_S if options.long else SHORT_S
    mix = next(m for m in mixes(options) if m.survey == "lsst" and m.name == "20 earlier rows")
    with bench.kafka() as server, tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        yield _night(server, Path(folder) / "alone", mix, seconds, None)
        if shutil.which("redis-server"):
            from redis_server import Server

            store = Server(folder)
            try:
                yield _night(server, Path(folder) / "companions", mix, seconds, store)
            finally:
                store.stop()


def _night(server, folder, mix, seconds, store):
    topic = server.fresh("night")
    more = {} if store is None else {"companions": {"store": "redis", "url": store.url}}
    more["batch"] = {"max_alerts": 256, "max_wait_s": 1.0}
    run_of_it = bench.config(folder, server, topic, "lsst", filters=[], schemas=official_schemas().path, more=more)
    one, _ = draining.start_filter(server, run_of_it, folder, 2)
    memory = Memory([one.process.pid])
    memory.start()
    stream = folder / "values.avro"
    write_values(stream, scored_values(mix))
    n = int(seconds * RATE) // bench.PARTITIONS * bench.PARTITIONS
    command = [sys.executable, "-m", "benchmarks.survey", server.servers, topic, str(stream), str(RATE), str(n), str(OBJECTS)]
    player = subprocess.Popen(command, cwd=bench.ROOT)
    outputs = draining.Outputs(server, run_of_it)
    try:
        deadline = time.monotonic() + seconds + draining.PATIENCE_S
        while outputs.count() < n:
            if one.process.poll() is not None or player.poll() not in (None, 0) or time.monotonic() > deadline:
                raise RuntimeError(f"the stream stopped at {outputs.count()} of {n}:\n{one.log[-3000:]}")
            time.sleep(0.5)
        player.wait()
        kept = None if store is None else store.client().info("memory")["used_memory"] / 2**20
    finally:
        if player.poll() is None:
            player.kill()
        outputs.close()
        memory.stop()
        draining.stop([one])
    found = _measured(mix, server, run_of_it, memory.sums, n, seconds, kept)
    for used in (topic, *run_of_it.outputs):
        server.topics.delete_topic(used)
    return found


def write_values(path, values):
    """Messages as one Avro file, for the process that plays the survey."""
    with open(path, "wb") as file:
        fastavro.writer(file, {"type": "record", "name": "message", "fields": [{"name": "value", "type": "bytes"}]},
                        [{"value": value} for value in values])  # fmt: skip


def _measured(mix, server, run_of_it, memory, n, seconds, kept):
    """Latency from Kafka's timestamp of the input to that of the output, and memory, quarter by quarter."""
    arrived, acknowledged, places, used = [], [], set(), 0
    for topic in run_of_it.outputs:
        for message in draining.read_topic(server.servers, topic):
            record = next(fastavro.reader(io.BytesIO(message.value())))
            places.add((record.get("source"), record.get("source_row")))
            arrived.append(record.get("arrived_ms") or message.timestamp()[1])
            acknowledged.append(message.timestamp()[1])
            used += bool(record.get("companion_alert_ids"))
    draining.require_all(run_of_it, n, places)
    arrived, latency = np.array(arrived) / 1000.0, (np.array(acknowledged) - np.array(arrived)) / 1000.0
    edges = np.linspace(arrived.min(), arrived.max() + 1e-3, QUARTERS + 1)
    parts = [latency[(arrived >= a) & (arrived < b)] for a, b in zip(edges, edges[1:])]
    times, mib = np.array(memory).T
    held = [float(mib[(times >= a) & (times < b)].max()) for a, b in zip(edges, edges[1:])]
    middles = [float(np.median(part)) for part in parts]
    ways = {f"latency, p{p}": spread([float(np.percentile(part, p)) for part in parts]) for p in (50, 95, 99)}
    ratios = {
        "median latency, last quarter over second": [middles[-1] / middles[1]] * 3,
        "memory, last quarter over second": [held[-1] / held[1]] * 3,
    }
    notes = mix.notes | {
        "stream": f"{n} alerts of {OBJECTS} objects at {RATE:g} a second for {seconds:g} s, two processes, ungated",
        "lost": n - len(places),
        "twice": len(arrived) - len(places),
        "memory of all processes by quarter": ", ".join(f"{one:.0f}" for one in held) + " MiB",
    }
    what = f"{mix.title}: without companions"
    if kept is not None:
        what = f"{mix.title}: companions in Redis"
        notes["redis"] = f"{kept:.0f} MiB at the end; {used} alerts with companions in their example"
    return Measure(what, "s", ways, ratios, {name: at_most(FLAT) for name in ratios}, notes)
