"""Apache Kafka for tests: its jars from Maven, one node or a cluster on free loopback ports, ready in some seconds."""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

HERE = Path(__file__).parent
# Kept between runs, and out of git.
JARS = Path(os.environ.get("DGL_KAFKA_JARS") or HERE.parents[1] / ".tox/kafka/libs")
START_S = 240.0  # of a busy machine; an idle one takes 5
CLUSTER_ID = "dGVzdC1jbHVzdGVyLWlkMQ"
# A node ends with the thread that started it: a test run that crashes leaves none behind.
GUARD = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
PROPERTIES = """
process.roles=broker,controller
node.id={node}
controller.quorum.{voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
num.partitions=8
auto.create.topics.enable=true
message.max.bytes=5000000
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
log.retention.check.interval.ms=1000
log.segment.delete.delay.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
"""


def fetch_jars():
    """Folder with the broker's jars, fetched once; None where Java or Maven is missing or nothing can be fetched."""
    if shutil.which("java") is None:
        return None
    JARS.mkdir(parents=True, exist_ok=True)
    with open(JARS.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest-xdist: one worker fetches
        if not (JARS / ".complete").exists():
            if shutil.which("mvn") is None:
                return None
            command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
            command += ["-DincludeScope=runtime", f"-DoutputDirectory={JARS}"]
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600).returncode:
                return None
            (JARS / ".complete").touch()
    return JARS


def free_ports(n):
    """`n` ports that nothing listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Topics:
    """Topics of the broker at `bootstrap_servers`, each partition on `n_replicas` nodes."""

    def __init__(self, bootstrap_servers, n_replicas=1):
        self.bootstrap_servers = bootstrap_servers
        self.n_replicas = n_replicas
        quiet = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}  # it may not be up yet
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers, **quiet})

    def create_topic(self, name, n_partitions=1, **config):
        """A topic, there when this returns; dots of the configuration's keys as underscores."""
        settings = {k.replace("_", "."): str(v) for k, v in config.items()}
        self.admin.create_topics([NewTopic(name, n_partitions, self.n_replicas, config=settings)])[name].result(30)

    def add_partitions(self, name, n_partitions):
        """Bring a topic up to this many partitions, there when this returns."""
        self.admin.create_partitions([NewPartitions(name, n_partitions)])[name].result(30)
        while len(self.admin.list_topics(name, timeout=10).topics[name].partitions) < n_partitions:
            time.sleep(0.05)

    def delete_topic(self, name):
        """Delete a topic."""
        self.admin.delete_topics([name])[name].result(30)


class Node:
    """One Kafka process, its configuration, data and log in `folder`.

    Parameters
    ----------
    folder : path
    jars : path
    properties : str
        Its server.properties.
    java : sequence of str
        Further options of the virtual machine.
    """

    def __init__(self, folder, jars, properties, java=()):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._java = ["java", "-Xmx768m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *java, "-cp", f"{jars}/*"]
        self.properties = self.folder / "server.properties"
        self.properties.write_text(properties)
        self.process = None

    def format(self, *arguments):
        """Begin to make its storage ready: the process that does."""
        command = [*self._java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self.properties), *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def launch(self):
        """Start it, without waiting."""
        with open(self.folder / "broker.log", "ab") as log:
            command = [*GUARD, *self._java, "kafka.Kafka", str(self.properties)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def is_up(self):
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self):
        """End it in order."""
        if self.is_up():
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait(20)

    def halt(self, halted=True):
        """SIGSTOP, or SIGCONT with False."""
        self.process.send_signal(signal.SIGSTOP if halted else signal.SIGCONT)


class KafkaBroker(Node, Topics):
    """One broker, its data in `folder`. It can be stopped, started again, killed and halted.

    Parameters
    ----------
    folder : path
    jars : path
    more : str
        Further lines of server.properties; a key given again replaces ours.
    format : sequence of str
        Further arguments of the storage tool.
    java : sequence of str
    ports : (int, int), optional
        Of the clients' listener and of the controller.
    """

    def __init__(self, folder, jars, more="", format=(), java=(), ports=None):
        port, controller = ports or free_ports(2)
        Topics.__init__(self, f"127.0.0.1:{port}")
        text = PROPERTIES.format(
            node=1,
            voters=f"bootstrap.servers=127.0.0.1:{controller}",
            port=port,
            controller=controller,
            data=Path(folder) / "data",
        )
        Node.__init__(self, folder, jars, text + more, java)
        if self.format("--standalone", *format).wait(START_S):
            raise RuntimeError(f"Kafka's storage in {folder} could not be formatted")
        self.start()

    def start(self):
        """Start and wait until it answers."""
        self.launch()
        began = time.monotonic()
        while True:
            if self.process.poll() is not None or time.monotonic() - began > START_S:
                raise RuntimeError(f"Kafka did not start; see {self.folder / 'broker.log'}")
            with contextlib.suppress(KafkaException):
                self.admin.list_topics(timeout=1)
                return
