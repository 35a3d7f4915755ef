"""A consumer group of 1, 2 and 4 members, one that changes while it works, and what companions and a topic by object cost."""

import shutil
import tempfile
import time
from pathlib import Path

from benchmarks import draining
from benchmarks import kafka_topic as bench
from benchmarks.alerts import mixes, official_schemas
from benchmarks.end_to_end import scored_values
from benchmarks.report import Measure, spread
from benchmarks.survey import Numbered

TITLE = "10. Members of a group: throughput, rebalances under load, companions, a topic by object"
N, OBJECTS = 8000, 4000  # alerts of a run, and objects that they are of


def run(options):
    """Yields three `Measure`s: members, a group that changes, and companions against re-keying."""
    n = 160 if options.quick else N
    rounds = 1 if options.quick else 2
    mix = next(m for m in mixes(options) if m.survey == "lsst" and m.name == "20 earlier rows")
    numbered = Numbered(scored_values(mix))
    values = [numbered.message(k, OBJECTS) for k in range(min(n, 2000))]
    with bench.kafka() as server, tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        folder = Path(folder)
        yield _members(server, folder, mix, values, n, rounds)
        yield _changing(server, folder, mix, values, n)
        yield _companions(server, folder, mix, values, n, rounds)


def _members(server, folder, mix, values, n, rounds):
    rates, lost, twice = {}, 0, 0
    for turn in range(rounds):
        for count in (1, 2, 4):
            found = _drained(server, folder / f"members{turn}{count}", values, n, count)
            rates.setdefault(f"{count} member{'s' if count > 1 else ''}", []).append(found.rate)
            lost, twice = lost + found.lost, twice + found.twice
    ratios = {
        f"{count} members over 1": [a / b for a, b in zip(rates[f"{count} members"], rates["1 member"])] for count in (2, 4)
    }
    notes = mix.notes | {"sent": f"{n} messages, {bench.PARTITIONS} partitions, ungated", "lost": lost, "twice": twice}
    return _measure("members, each a process of its own", rates, ratios, notes)


def _drained(server, folder, values, n, count, more=None):
    topic = server.fresh("in")
    arrival = bench.Arrival(server.servers, topic, values, n, bench.survey_codec("lsst"))
    run_of_it = _config(server, folder, topic, more)
    members = _join(server, run_of_it, folder, count)
    try:
        return draining.drain(server, run_of_it, [arrival], members)[0]
    finally:
        draining.stop(members)
        _delete(server, topic, run_of_it)


def _config(server, folder, topic, more=None):
    return bench.config(folder, server, topic, "lsst", filters=[], schemas=official_schemas().path, more=more)


def _join(server, run_of_it, folder, count, first=0):
    """Members as on machines of their own, each without a supervisor."""
    members = [draining.Filter(folder / f"member{k}", run_of_it.path) for k in range(first, first + count)]
    draining.wait_for_members(server, run_of_it.group, first + count, members)
    return members


def _delete(server, topic, run_of_it):
    for used in (topic, *run_of_it.outputs):
        server.topics.delete_topic(used)


def _changing(server, folder, mix, values, n):
    """One joins at a quarter, one is killed at a half, one leaves in order at three quarters."""
    topic = server.fresh("in")
    arrival = bench.Arrival(server.servers, topic, values, n, bench.survey_codec("lsst"))
    run_of_it = _config(server, folder / "changing", topic)
    members = _join(server, run_of_it, folder / "changing", 2)
    outputs, told = draining.Outputs(server, run_of_it), []
    acts = [(0.25, "one joins"), (0.5, "one is killed"), (0.75, "one leaves")]
    began = arrival.arrive()
    deadline = time.monotonic() + draining.PATIENCE_S
    try:
        while (done := outputs.count()) < n:
            if acts and done >= acts[0][0] * n:
                what = acts.pop(0)[1]
                told.append(f"{what} at {done} after {time.time() - began:.1f} s")
                if what == "one joins":
                    members.append(draining.Filter(folder / "changing/member2", run_of_it.path))
                elif what == "one is killed":
                    members.pop(0).process.kill()
                else:
                    draining.stop([members.pop(0)])
            if time.monotonic() > deadline:
                raise RuntimeError(f"{done} of {n} outcomes after {draining.PATIENCE_S:g} s")
            time.sleep(0.1)
        # What was in hand of the killed one comes again, when its session has timed out.
        draining.wait_for_members(server, run_of_it.group, len(members), members)
        draining.wait_until_committed(server, run_of_it)
        outputs.close()
        found = draining.read_outputs(server, run_of_it)
    finally:
        draining.stop(members)
        _delete(server, topic, run_of_it)
    places = [place for place, _, _ in found]
    draining.require_all(run_of_it, n, places)
    notes = {
        "what happened": "; ".join(told),
        "lost": n - len(set(places)),
        "twice": f"{len(places) - len(set(places))}, with the message id that they had before (at least once)",
    }
    last = max(moment for _, moment, _ in found)
    return _measure("a group that changes while it works", {"to drain": [last - began]}, {}, notes, "s")


def _companions(server, folder, mix, values, n, rounds):
    """Two members alone and with companions in one Redis; and the topic re-keyed, then read."""
    rates, kept = {}, None
    for turn in range(rounds):
        rates.setdefault("no companions", []).append(_drained(server, folder / f"alone{turn}", values, n, 2).rate)
        if shutil.which("redis-server"):
            from redis_server import Server

            store = Server(folder)
            try:
                more = {"companions": {"store": "redis", "url": store.url}}
                found = _drained(server, folder / f"redis{turn}", values, n, 2, more)
                rates.setdefault("companions in one Redis", []).append(found.rate)
                kept = store.client().info("memory")["used_memory"] / min(n, OBJECTS, len(values))
            finally:
                store.stop()
        written, read, sizes = _rekeyed(server, folder / f"rekey{turn}", values, n)
        rates.setdefault("rekey: slimmed and written by object", []).append(written)
        rates.setdefault("run on the re-keyed topic", []).append(read)
    base = rates["no companions"]
    others = {name: found for name, found in rates.items() if found is not base}
    ratios = {f"{name}, over no companions": [a / b for a, b in zip(found, base)] for name, found in others.items()}
    notes = {
        "sent": f"{n} messages of {min(n, OBJECTS)} objects, two processes each",
        "size of a message": f"{sizes[0] / 1000:.1f} kB as sent, {sizes[1] / 1000:.1f} kB re-keyed",
    }
    if kept is not None:
        notes["kept in Redis"] = f"{kept / 1000:.1f} kB an object"
    return _measure("companions in one Redis, and a topic by object", rates, ratios, notes)


def _rekeyed(server, folder, values, n):
    """(alerts a second written, alerts a second then scored, mean sizes of a message before and after)."""
    topic, slim = server.fresh("in"), server.fresh("slim", message_timestamp_type="LogAppendTime")
    arrival = bench.Arrival(server.servers, topic, values, n, bench.survey_codec("lsst"))
    letters = server.fresh("letters", 1, message_timestamp_type="LogAppendTime")
    run_of_it = bench.rekey_config(folder, server, topic, "lsst", slim, letters, official_schemas().path)
    one, _ = draining.start_filter(server, run_of_it, folder, 2, verb="rekey")
    try:
        began = arrival.arrive()
        last = draining.wait_until_written(server, run_of_it, n, [one])
    finally:
        draining.stop([one])
    size = sum(len(m.value()) for m in draining.read_topic(server.servers, slim)) / n
    run_on_it = _config(server, folder / "run", slim)
    reader = draining.Filter(folder / "run", run_on_it.path, "--workers", "2", "--until-eof")
    if reader.wait(draining.PATIENCE_S):
        raise RuntimeError(reader.log[-3000:])
    read = draining.steady_rate(server, run_on_it)
    _delete(server, topic, run_of_it)  # `slim` is among its outputs
    for used in run_on_it.outputs:
        server.topics.delete_topic(used)
    return n / (last - began), read, (sum(map(len, values)) / len(values), size)


def _measure(what, ways, ratios, notes, unit="alerts a second"):
    return Measure(what, unit, {k: spread(v) for k, v in ways.items()}, {k: spread(v) for k, v in ratios.items()}, notes=notes)
