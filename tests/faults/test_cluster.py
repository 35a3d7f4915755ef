"""Kafka's nodes lost and stopped, on a cluster of three: every input is accounted for."""

import contextlib
import time

import pytest
from kafka.cluster import KafkaCluster

from faults.ledger import BOTH, FORM, Result, record
from faults.scene import Scene

pytestmark = pytest.mark.kafka
N_PARTITIONS = 3
SHORT = {"timeout_s": 3.0}  # of an answer: a call that never comes back is then given up after 8 s
TRIES = 5 if FORM == "long" else 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, kafka_jars):
    one = KafkaCluster(tmp_path_factory.mktemp("cluster"), kafka_jars)
    yield one
    one.stop()


def named(cluster, text, node):
    """A group's name and a transactional id that `node` coordinates."""
    names = (f"{text}-{n}" for n in range(1000))
    group = next(name for name in names if cluster.coordinator(name) is node)
    return group, next(name for name in names if cluster.coordinator(name, "__transaction_state") is node)


@contextlib.contextmanager
def scenes(cluster, folder, kinds):
    """(fault, delivery) -> a scene on which one member is at work. `kinds`: fault -> (node that coordinates, leads or None)."""
    with contextlib.ExitStack() as open_scenes:
        made = {}
        for fault, node in kinds.items():
            for delivery in BOTH:
                group, transactional = named(cluster, f"{fault}-{delivery}-{folder.name}", node)
                exactly = {"transactional.id": transactional, "transaction.timeout.ms": 10_000, "delivery.timeout.ms": 10_000}
                more = exactly if delivery == "exactly_once" else {}
                scene = Scene(cluster, group, folder / f"{fault}-{delivery}", delivery, N_PARTITIONS, kafka=more, service=SHORT)
                made[fault, delivery] = open_scenes.enter_context(scene)
        for scene in made.values():
            scene.feed(150)
            scene.start_thread()
        for scene in made.values():
            scene.supervise()
        yield made


def finished(made, at):
    """(fault, delivery) -> Result, once all is read."""
    out = {}
    for (fault, delivery), scene in made.items():
        scene.feed(150)
        scene.supervise()
        scene.members[0].stop()
        notes = {"ended and started again": scene.started_again}
        out[fault, delivery] = Result(fault, delivery, 1, scene.count(), [scene.timeline.recovery_s(at)], notes)
    return out


def lose_a_node(cluster, folder):
    """One node killed: for some it leads partitions, for others it coordinates the group and the transactions."""
    lost = cluster.nodes[2]
    with scenes(cluster, folder, {"leader_lost": cluster.nodes[1], "coordinator_lost": lost}) as made:
        assert {cluster.leader(s.inputs[0], p) for s in made.values() for p in range(N_PARTITIONS)} >= {lost}
        killed = time.monotonic()
        lost.kill()
        for scene in made.values():
            scene.feed(300)
        results = finished(made, killed)
    lost.launch()
    cluster.wait_until_whole()
    return results


def stop_all(cluster, folder):
    """All nodes stopped, with alerts unread, and started again."""
    with scenes(cluster, folder, {"broker_stopped": cluster.nodes[3]}) as made:
        for scene in made.values():
            scene.feed(300)
        for node in cluster.nodes.values():
            node.kill() if FORM == "fast" else node.stop()
        for node in cluster.nodes.values():
            node.launch()
        started = time.monotonic()
        cluster.wait_until_whole()
        return finished(made, started)


@pytest.fixture(scope="module")
def results(cluster, tmp_path_factory):
    """(fault, delivery) -> Result, of one event after the other: each is the whole cluster's."""
    total = {}
    for n in range(TRIES):
        for event in (lose_a_node, stop_all):
            for case, one in event(cluster, tmp_path_factory.mktemp(f"try{n}")).items():
                total[case] = total[case] + one if case in total else one
    for one in total.values():
        record(one)
    return total


CASES = [(fault, delivery) for fault in ("leader_lost", "coordinator_lost", "broker_stopped") for delivery in BOTH]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_alert_is_accounted_for(case, results):
    results[case].check()
