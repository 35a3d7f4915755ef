"""Services beside Kafka that fail, and the device: companions may be lost, and are counted; alerts are not."""

import itertools
import signal
import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from kafka import flow
from kafka.broker import free_ports
from kafka.registry import Registry, official_lsst_schemas
from redis_server import SERVER, Server

from dgl_broker.errors import ServiceFailed
from faults.ledger import BOTH, FORM, Result
from faults.scene import Scene
from faults.storm import RealPackets

pytestmark = pytest.mark.kafka
N_SIMULATED = 60 if FORM == "long" else 36
# A server's clock is the wall's, and months of simulated alerts come in seconds: none of them is to expire in either store.
EXPIRE_DAYS = 3650.0


@cache
def simulated():
    """Simulated LSST alerts: the first ones of all objects, then the second ones and so on, each in another band."""
    from simulated import packets

    seen, order = Counter(), []
    for value, labels in packets("lsst", N_SIMULATED):
        order.append((seen[labels["object_id"]], value))
        seen[labels["object_id"]] += 1
    return [value for _, value in sorted(order, key=lambda one: one[0])]


@cache
def companion_bundle():
    """A bundle with random weights and a plane for the template of each other band."""
    from dgl_broker.model import untrained_bundle

    card = untrained_bundle("lsst", seed=3).card
    image = card["input"]["image"]
    planes = [*image["planes"], *(f"template:{band}" for band in "ugrizy")]
    return untrained_bundle("lsst", seed=3, card={**card, "input": {**card["input"], "image": {**image, "planes": planes}}})


@pytest.fixture(scope="module", autouse=True)
def made_once(request):
    """What is made only once, before many threads ask for it."""
    if any(item.path == request.path and "redis" in item.name for item in request.session.items):
        simulated()
        companion_bundle()


class Companions:
    """A filter with companions in a Redis server, and the scores that its alerts get in calm with given companions."""

    def __init__(self, broker, name, folder, delivery, *options):
        from dgl_broker.data_files import folder as data_folder
        from dgl_broker.model import save_bundle

        made = companion_bundle()
        save_bundle(folder / "bundle", made.card, made.networks, made.fusion)
        self.schemas = data_folder("schemas") / "write"
        self.server = Server(folder, *options)
        raw = {
            "survey": "lsst",
            "bundle": str(folder / "bundle"),
            "input": {"schemas": str(self.schemas)},
            "companions": {"store": "redis", "url": self.server.url, "expire_days": EXPIRE_DAYS},
            "batch": {"max_alerts": 6},
        }
        # One partition: what company an alert has in a calm run is then one thing alone.
        self.scene = Scene(broker, name, folder, delivery, 1, scorer=self.scorer, **raw)

    def scorer(self):
        """A scorer whose companions are in this process."""
        from dgl_broker.companions import open_store
        from dgl_broker.scorer import Scorer

        store = open_store("memory", expire_days=EXPIRE_DAYS)
        return Scorer("lsst", companion_bundle(), schemas=self.schemas, companions=store)

    def run(self, fault, strike, heal, counters):
        """A third of the alerts in calm, a third under the fault, a third after it: the Result.

        `counters` are those of the store by which the fault shows.
        """
        alerts = simulated()
        a, b = len(alerts) // 3, 2 * len(alerts) // 3
        with self.scene as scene:
            scene.feed(0, values=alerts[:a])
            member = scene.start_configured()
            scene.wait_until_read()
            strike(self.server)
            struck = time.monotonic()
            scene.feed(0, values=alerts[a:b])
            scene.wait_until_read()
            heal(self.server)
            scene.feed(0, values=alerts[b:])
            scene.wait_until_read()
            member.stop()
            told = member.worker.watch.metrics.text().decode()
            assert any(f'dgl_companions_total{{event="{name}"}}' in told for name in counters)
            expected = scene.expected()
            used, possible = self._companions(scene), sum(len(_ids(o)) for o in expected.values())
            count = scene.count(expected, self._calm(scene, expected))
            assert used < possible
            notes = {"companions lost": possible - used, "of companions": possible}
            return Result(fault, scene.delivery, 1, count, [scene.timeline.recovery_s(struck)], notes)

    def close(self):
        """Stop the server."""
        self.server.stop()

    def _companions(self, scene):
        records = flow.containers(flow.read_topic(scene.servers, scene.topics["scores"]))
        return sum(len(r["companion_alert_ids"]) for r in {r["alert_id"]: r for r in records}.values())

    def _calm(self, scene, expected):
        """(place, record) -> outcome with the companions that the record names."""
        by_id = {o.alert_id: o.message for o in expected.values()}

        @cache
        def alone(place, ids):
            if ids == _ids(expected[place]):
                return expected[place]
            scorer = self.scorer()
            scorer.score([by_id[i] for i in ids])
            return scorer.score([expected[place].message])[0]

        return lambda place, record: alone(place, tuple(record["companion_alert_ids"]))


def _ids(outcome):
    return tuple(outcome.completeness.companion_alert_ids) if outcome.completeness else ()


def with_redis(fault, strike, heal, counters):
    """The function of a fault of the Redis server."""

    def one(broker, name, folder, delivery):
        filter_with_companions = Companions(broker, name, folder, delivery)
        try:
            return filter_with_companions.run(fault, strike, heal, counters)
        finally:
            filter_with_companions.close()

    return one


def fill(server):
    """No room for anything more, and nothing is given up for it."""
    server.client().config_set("maxmemory-policy", "noeviction")
    server.client().config_set("maxmemory", "1")


def put_foreign(server):
    """Under every key something else: text, and another type."""
    client = server.client()
    for name, foreign in zip(client.keys(), itertools.cycle((b"not ours", None))):
        client.delete(name)
        client.lpush(name, "not", "ours") if foreign is None else client.set(name, foreign)


class LateRegistry:
    """The registry of real LSST packets' schemas, on a port where at first nothing listens."""

    def __init__(self):
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = None

    def open(self):
        """Let it answer."""
        self.server = Registry(official_lsst_schemas(), port=self.port)

    def close(self):
        """Stop it."""
        if self.server is not None:
            self.server.close()


def with_registry(broker, name, folder, delivery, act):
    """What `act(scene, registry, templates)` gives, on a filter whose schemas come from a registry."""
    from dgl_broker.scorer import Scorer

    registry, templates = LateRegistry(), flow.LsstTemplates()
    flow.tiny_bundle(folder / "bundle", "lsst", 0.2)

    def scorer():
        return Scorer("lsst", folder / "bundle", schemas=registry.url)

    raw = {
        "survey": "lsst",
        "bundle": str(folder / "bundle"),
        "input": {"schemas": registry.url},
        "service": {"timeout_s": 1.0},
    }
    try:
        with Scene(broker, name, folder, delivery, 2, scorer=scorer, **raw) as scene:
            return act(scene, registry, templates)
    finally:
        registry.close()


def registry_down_at_start(broker, name, folder, delivery):
    def act(scene, registry, templates):
        scene.feed(0, values=[templates.packet(n) for n in range(30)])
        first = scene.start_configured()
        first.may_have_ended = True
        assert isinstance(first.wait(), ServiceFailed) and first.error.exit_code == 5
        assert scene.timeline.committed == 0
        registry.open()
        again = time.monotonic()
        second = scene.start_configured()
        scene.wait_until_read()
        second.stop()
        return Result("registry_down_at_start", delivery, 1, scene.count(), [scene.timeline.recovery_s(again)])

    return with_registry(broker, name, folder, delivery, act)


def registry_down_later(broker, name, folder, delivery):
    def act(scene, registry, templates):
        registry.open()
        scene.feed(0, values=[templates.packet(n) for n in range(0, 60, 3)])  # of one schema
        first = scene.start_configured()
        scene.wait_until_read()
        registry.server.down = True
        first.may_have_ended = True
        scene.feed(0, values=[templates.packet(n) for n in range(60) if n % 3])  # of two others
        assert isinstance(first.wait(), ServiceFailed) and first.error.exit_code == 5
        assert scene.timeline.committed == 20
        registry.server.down = False
        again = time.monotonic()
        second = scene.start_configured()
        scene.wait_until_read()
        second.stop()
        return Result("registry_down_later", delivery, 1, scene.count(), [scene.timeline.recovery_s(again)])

    return with_registry(broker, name, folder, delivery, act)


def gpu_error(broker, name, folder, delivery):
    packets = RealPackets(Path(folder) / "made")
    with Scene(broker, name, folder, delivery, 2, scorer=packets.scorer, **packets.settings()) as scene:
        scene.feed(0, values=packets.values(120))
        broken, calls = packets.scorer(), []
        real = broken.ensemble.score

        def score(*args):
            calls.append(True)
            if len(calls) == 2:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return real(*args)

        broken.ensemble.score = score
        first = scene.start_thread(broken)
        first.may_have_ended = True
        assert isinstance(first.wait(), RuntimeError) and "CUDA" in first.why()
        summary = first.worker.summary()
        # The batch before is out and committed; of the one in hand nothing is.
        done = summary["consumed"]
        assert 0 < done == summary["scored"] + summary["refused"] + summary["dead_lettered"] < 120
        scene.timeline.wait_for(done)
        assert scene.timeline.committed == done and scene.count().lost == 120 - done
        again = time.monotonic()
        second = scene.start_thread()
        scene.wait_until_read()
        assert second.stop()["consumed"] == 120 - done
        result = Result("gpu_error", delivery, 1, scene.count(), [scene.timeline.recovery_s(again)])
        assert result.count.twice == 0  # under either delivery: nothing of the batch had left
        return result


FAULTS = {
    "redis_down": with_redis("redis_down", Server.stop, Server.start, ("failed_reads", "failed_writes")),
    "redis_slow": with_redis(
        "redis_slow",
        lambda server: server.process.send_signal(signal.SIGSTOP),
        lambda server: server.process.send_signal(signal.SIGCONT),
        ("slow_reads", "failed_reads"),
    ),
    "redis_full": with_redis("redis_full", fill, lambda server: server.client().config_set("maxmemory", "0"), ("full",)),
    "redis_foreign": with_redis("redis_foreign", put_foreign, lambda server: None, ("corrupt",)),
    "registry_down_at_start": registry_down_at_start,
    "registry_down_later": registry_down_later,
    "gpu_error": gpu_error,
}


def cases():
    """(fault, delivery), those that need what is not here skipped."""
    for fault in FAULTS:
        marks = []
        if fault.startswith("redis"):
            marks = [
                pytest.mark.redis,
                pytest.mark.skipif(SERVER is None, reason="no redis-server on PATH or in DGL_REDIS_SERVER"),
            ]
        for delivery in BOTH:
            yield pytest.param((fault, delivery), id=f"{fault}-{delivery}", marks=marks)


@pytest.mark.parametrize("case", list(cases()))
def test_every_alert_is_accounted_for(case, under_way):
    if case[0].startswith("registry"):
        pytest.importorskip("lsst.alert.packet", reason="lsst-alert-packet has the official schemas")
    under_way[case].result().check()
