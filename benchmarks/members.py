"""A consumer group of 1, 2 and 4 members, one that changes while it works, and what companions and a topic by object cost."""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import draining
from benchmarks import kafka_topic as bench
from benchmarks.alerts import mixes, official_schemas
from benchmarks.end_to_end import scored_values
from benchmarks.night import companion_counters
from benchmarks.processes import cpu_s
from benchmarks.report import Measure, spread
from benchmarks.survey import BANDS, Stream

from kafka.broker import free_ports  # isort: skip - on the path once kafka_topic is imported

TITLE = "10. Members of a group: throughput, rebalances under load, companions, a topic by object"
N = 8000  # alerts of a run
TURNS = 8  # that each object comes in it
BATCHES = 6  # at least, since within one no companion comes from the store
LASTING = 6  # times as many alerts, that a group has for as long as it changes
IN_ORDER = 143  # how a member that was asked to end (SIGTERM) does so
SESSION_S = 10  # until a member that was killed is given up; 30 by default, which is a longer wait and no other


def run(options):
    """Yields three `Measure`s: members, a group that changes, and companions against re-keying."""
    n, rounds = (160, 1) if options.quick else (N, min(options.rounds, 2))
    mix = next(m for m in mixes(options) if m.survey == "lsst" and m.name == "20 earlier rows")
    values = scored_values(mix)
    with bench.kafka() as server, tempfile.TemporaryDirectory(prefix="dgl-bench-") as folder:
        folder = Path(folder)
        yield _members(server, folder, mix, values, n, rounds)
        yield _changing(server, folder, mix, values, n * LASTING)
        n = max(n, BATCHES * 256)
        yield _companions(server, folder, mix, Stream(values, n, n // TURNS), rounds)


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
    return _measure(f"{mix.title}: members, each a process of its own", rates, ratios, notes)


def _drained(server, folder, values, n, count):
    topic = server.fresh("in")
    arrival = bench.Arrival(server.servers, topic, values, n, bench.survey_codec("lsst"))
    run_of_it = _config(server, folder, topic)
    members = _join(server, run_of_it, folder, count)
    try:
        return draining.drain(server, run_of_it, arrival, members)
    finally:
        draining.stop(members)
        _delete(server, topic, run_of_it)


def _config(server, folder, topic, more=None):
    return bench.config(folder, server, topic, "lsst", filters=[], schemas=official_schemas().path, more=more)


def _join(server, run_of_it, folder, count):
    """Members as on machines of their own, each without a supervisor."""
    members = [draining.Filter(folder / f"member{k}", run_of_it.path) for k in range(count)]
    draining.wait_for_members(server, run_of_it.group, count, members)
    return members


def _delete(server, topic, run_of_it):
    for used in (topic, *run_of_it.outputs):
        server.topics.delete_topic(used)


def _changing(server, folder, mix, values, n):
    """A group of two works off a backlog: one joins, one is killed, one leaves in order, each after the other is settled."""
    topic, folder = server.fresh("in"), folder / "changing"
    arrival = bench.Arrival(server.servers, topic, values, n, bench.survey_codec("lsst"))
    run_of_it = _config(server, folder, topic, {"kafka": {"session.timeout.ms": SESSION_S * 1000}})
    members = _join(server, run_of_it, folder, 2)
    outputs, told, settled = draining.Outputs(server, run_of_it), [], {}

    def joins():
        members.append(draining.Filter(folder / "member2", run_of_it.path))

    def is_killed():
        killed = members.pop(0).process
        killed.kill()
        killed.wait()

    def leaves():
        leaving = members.pop(0)
        draining.stop([leaving])
        if leaving.process.returncode != IN_ORDER:
            raise RuntimeError(f"a member that was to leave ended with {leaving.process.returncode}:\n{leaving.log[-3000:]}")

    began = arrival.arrive()
    try:
        draining.wait_for_outputs(outputs, n // 10, members)
        for what, until, act in (
            ("one joins", "from the start of one that joins until it has its share of partitions", joins),
            ("one is killed", "from the end of one that is killed until the others hold its partitions", is_killed),
            ("one leaves", "from the end of one that leaves in order until the others hold its partitions", leaves),
        ):
            at = time.time()
            act()
            draining.wait_for_members(server, run_of_it.group, len(members), members)
            settled[until] = [time.time() - at]
            told.append(f"{what} after {at - began:.1f} s, {n - min(n, outputs.count())} waiting when that was settled")
        # What was in hand of the killed one comes again.
        draining.wait_until_committed(server, run_of_it, members)
        found = draining.read_outputs(server, run_of_it)
    finally:
        outputs.close()
        draining.stop(members)
        _delete(server, topic, run_of_it)
    ids = {}
    for one in found:
        ids.setdefault(one.place, set()).add(one.message_id)
    draining.require_all(run_of_it, n, ids)
    if changed := sum(len(its) > 1 for its in ids.values()):
        raise RuntimeError(f"{changed} messages came twice with another message id")
    moments = np.sort([one.acknowledged for one in found])
    ways = {"to drain": [moments[-1] - began], "longest time without any output": [np.diff(moments, prepend=began).max()]}
    notes = {
        "sent": f"{n} messages, {bench.PARTITIONS} partitions, ungated; session timeout {SESSION_S} s",
        "what happened": "; ".join(told),
        "rate all the while": f"{n / (moments[-1] - began):.0f} alerts a second",
        "lost": n - len(ids),
        "twice": f"{len(found) - len(ids)}, with the message id that they had before (at least once)",
    }
    return _measure(f"{mix.title}: a group that changes while it works", ways | settled, {}, notes, "s")


def _companions(server, folder, mix, stream, rounds):
    """Two processes alone and with companions in one Redis; and the topic re-keyed, then read."""
    rates, notes = {}, {"sent": f"{len(stream)} messages, {TURNS} of each object, in {len(BANDS)} bands; two processes each"}
    for turn in range(rounds):
        rates.setdefault("no companions", []).append(_with_store(server, folder / f"alone{turn}", stream)[0])
        if shutil.which("redis-server"):
            rate, notes_of_store = _in_redis(server, folder / f"redis{turn}", stream)
            rates.setdefault("companions in one Redis", []).append(rate)
            notes |= notes_of_store
        else:
            notes["companions in one Redis"] = "not run: there is no redis-server"
        written, read, sizes = _rekeyed(server, folder / f"rekey{turn}", stream)
        rates.setdefault("rekey: slimmed and written by object", []).append(written)
        rates.setdefault("run on the re-keyed topic", []).append(read)
    base = rates["no companions"]
    others = {name: found for name, found in rates.items() if found is not base}
    ratios = {f"{name}, over no companions": [a / b for a, b in zip(found, base)] for name, found in others.items()}
    notes["size of a message"] = f"{sizes[0] / 1000:.1f} kB as sent, {sizes[1] / 1000:.1f} kB re-keyed"
    notes["measured"] = "from the first tenth of the outputs to the last"
    return _measure(f"{mix.title}: companions in one Redis, and a topic by object", rates, ratios, notes)


def _in_redis(server, folder, stream):
    """(alerts a second, notes) with companions in a Redis of its own."""
    from redis_server import Server

    folder.mkdir(parents=True)
    store = Server(folder)
    try:
        empty, before = store.client().info("memory")["used_memory"], cpu_s(store.process.pid)
        rate, counters = _with_store(server, folder, stream, store)
        spent = cpu_s(store.process.pid) - before
        kept = (store.client().info("memory")["used_memory"] - empty) / (len(stream) // TURNS)
    finally:
        store.stop()
    if not counters.get("found"):
        raise RuntimeError(f"no companion was ever found: {counters}")
    return rate, {
        "kept in Redis": f"{kept / 1000:.1f} kB an object",
        "Redis' CPU": f"{1e6 * spent / len(stream):.0f} us an alert",
        "companions": ", ".join(f"{event} {count}" for event, count in counters.items() if count),
    }


def _with_store(server, folder, stream, store=None):
    """(alerts a second of two processes, what they count of the store)."""
    topic, (port,) = server.fresh("in"), free_ports(1)
    arrival = bench.Arrival(server.servers, topic, stream, len(stream), bench.survey_codec("lsst"))
    more = {"metrics": {"port": port}} | ({"companions": {"store": "redis", "url": store.url}} if store else {})
    run_of_it = _config(server, folder, topic, more)
    one, _ = draining.start_filter(server, run_of_it, folder, 2)
    try:
        return draining.drain(server, run_of_it, arrival, [one]).steady, companion_counters(port)
    finally:
        draining.stop([one])
        _delete(server, topic, run_of_it)


def _rekeyed(server, folder, stream):
    """(alerts a second written, alerts a second then scored, mean sizes of a message before and after)."""
    topic, slim = server.fresh("in"), server.fresh("slim", message_timestamp_type="LogAppendTime")
    n = len(stream)
    arrival = bench.Arrival(server.servers, topic, stream, n, bench.survey_codec("lsst"))
    letters = server.fresh("letters", 1, message_timestamp_type="LogAppendTime")
    run_of_it = bench.rekey_config(folder, server, topic, "lsst", slim, letters, official_schemas().path)
    one, _ = draining.start_filter(server, run_of_it, folder, 2, verb="rekey")
    try:
        arrival.arrive()
        draining.wait_until_written(server, run_of_it, n, [one])
    finally:
        draining.stop([one])
    found = [(m.timestamp()[1] / 1000.0, m.value(), m.partition()) for m in draining.each_message(server.servers, slim)]
    if len(found) != n:
        raise RuntimeError(f"{len(found)} of {n} alerts were written by object")
    _delete(server, topic, run_of_it)  # `slim` is among its outputs
    written, values, partitions = zip(*found, strict=True)
    sizes = np.mean([len(stream[k]) for k in range(min(n, 200))]), np.mean([len(value) for value in values])
    return draining.steady_rate(written), _by_object(server, folder / "run", values, partitions), sizes


def _by_object(server, folder, values, partitions):
    """Alerts a second of two processes that read these slimmed messages, each in its partition."""
    topic = server.fresh("by-object")
    arrival = bench.Arrival(server.servers, topic, values, len(values), "lz4", partitions=partitions)
    run_of_it = _config(server, folder, topic)
    one, _ = draining.start_filter(server, run_of_it, folder, 2)
    try:
        return draining.drain(server, run_of_it, arrival, [one]).steady
    finally:
        draining.stop([one])
        _delete(server, topic, run_of_it)


def _measure(what, ways, ratios, notes, unit="alerts a second"):
    return Measure(what, unit, {k: spread(v) for k, v in ways.items()}, {k: spread(v) for k, v in ratios.items()}, notes=notes)
