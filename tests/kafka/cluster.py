"""A Kafka cluster of several nodes on this machine, any one of which may be lost."""

import contextlib
import time

from confluent_kafka import KafkaException

from kafka.broker import PROPERTIES, START_S, Node, Topics, free_ports

# Every topic on every node, and writes that outlive the loss of one; a node that is silent for 5 s counts as lost.
REPLICATED = """
default.replication.factor={n}
offsets.topic.replication.factor={n}
transaction.state.log.replication.factor={n}
transaction.state.log.min.isr={others}
share.coordinator.state.topic.replication.factor={n}
min.insync.replicas={others}
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=5000
leader.imbalance.check.interval.seconds=1
leader.imbalance.per.broker.percentage=0
"""


def java_hash(text):
    """Java's `String.hashCode`, without sign as Kafka takes it, by which it chooses coordinators."""
    value = 0
    for letter in text:
        value = (31 * value + ord(letter)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF


class KafkaCluster(Topics):
    """`n` nodes, each of them broker and controller.

    Parameters
    ----------
    folder : path
    jars : path
    n : int
    """

    def __init__(self, folder, jars, n=3):
        ports = free_ports(2 * n)
        super().__init__(",".join(f"127.0.0.1:{port}" for port in ports[:n]), n_replicas=n)
        voters = "voters=" + ",".join(f"{i + 1}@127.0.0.1:{port}" for i, port in enumerate(ports[n:]))
        self.nodes = {}
        for i in range(n):
            home = folder / f"node{i + 1}"
            text = PROPERTIES.format(node=i + 1, voters=voters, port=ports[i], controller=ports[n + i], data=home / "data")
            self.nodes[i + 1] = Node(home, jars, text + REPLICATED.format(n=n, others=n - 1), ["-Xmx400m"])
        formats = [node.format() for node in self.nodes.values()]
        if any(one.wait(START_S) for one in formats):
            raise RuntimeError(f"Kafka's storage in {folder} could not be formatted")
        for node in self.nodes.values():
            node.launch()
        self.wait_until_whole()
        # The coordinators' topics, made with the first who ask for one.
        for name in ("__consumer_offsets", "__transaction_state"):
            self.create_topic(name, 4, cleanup_policy="compact")

    def wait_until_whole(self):
        """Until every node answers, and every partition has all its replicas in step and its first one as its leader."""
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(KafkaException):
                found = self.admin.list_topics(timeout=2)
                partitions = [p for t in found.topics.values() for p in t.partitions.values()]
                whole = all(len(p.isrs) == len(p.replicas) and p.leader == p.replicas[0] for p in partitions)
                if len(found.brokers) == len(self.nodes) and whole:
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster of {len(self.nodes)} nodes is not whole after {START_S:g} s")
            time.sleep(0.1)

    def leader(self, topic, partition):
        """The node that leads a partition."""
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(KafkaException, KeyError):
                leader = self.admin.list_topics(topic, timeout=5).topics[topic].partitions[partition].leader
                if leader in self.nodes:
                    return self.nodes[leader]
            if time.monotonic() > deadline:
                raise RuntimeError(f"{topic}[{partition}] has no leader")
            time.sleep(0.1)

    def coordinator(self, name, topic="__consumer_offsets"):
        """The node that coordinates a group, or with `__transaction_state` a transactional id."""
        return self.leader(topic, java_hash(name) % 4)

    def stop(self):
        """End all nodes."""
        for node in self.nodes.values():
            if node.is_up():
                node.kill()
