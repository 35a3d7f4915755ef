"""A Kafka in this process: librdkafka's mock cluster, for the demo and for tests without a broker.

It keeps some 5 MB a partition and drops older messages in silence, has no transactions that hold, and its API is called
experimental by its header. A producer into it must stay close to what is committed: `Feeder` does.
"""

import ctypes
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from dgl_broker.errors import ServiceFailed
from dgl_broker.librdkafka import library

AHEAD_BYTES = 4_000_000  # of one partition, under the mock's 5 MB
_PRODUCER = 0


class EmbeddedKafka:
    """A mock cluster of `n_brokers` brokers on loopback ports, as long as it is not closed.

    Parameters
    ----------
    n_brokers : int
    """

    def __init__(self, n_brokers=1):
        lib = self._lib = _mock_library()
        reason = ctypes.create_string_buffer(512)
        conf = lib.rd_kafka_conf_new()
        lib.rd_kafka_conf_set(conf, b"log_level", b"0", reason, len(reason))  # this client itself connects to nothing
        self._handle = lib.rd_kafka_new(_PRODUCER, conf, reason, len(reason))
        if not self._handle:
            raise ServiceFailed(f"embedded Kafka: {reason.value.decode(errors='replace')}")
        self._mock = lib.rd_kafka_mock_cluster_new(self._handle, n_brokers)
        if not self._mock:
            raise ServiceFailed("embedded Kafka: no mock cluster")
        # The first member of a group would wait 3 s for others.
        lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._mock, 0)
        self.bootstrap_servers = lib.rd_kafka_mock_cluster_bootstraps(self._mock).decode()

    def create_topic(self, name, n_partitions):
        """A topic with one replica a partition."""
        error = self._lib.rd_kafka_mock_topic_create(self._mock, name.encode(), n_partitions, 1)
        if error:
            raise ServiceFailed(f"embedded Kafka: topic {name}: error {error}")

    def push_errors(self, api_key, *codes):
        """The next requests of a kind (0 Produce, 1 Fetch, 3 Metadata, 8 OffsetCommit) fail with these codes, one each."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._lib.rd_kafka_mock_push_request_errors_array(self._mock, api_key, len(codes), array)

    def set_broker_down(self, broker_id, down=True):
        """Close a broker's connections and refuse new ones, or take them again."""
        call = self._lib.rd_kafka_mock_broker_set_down if down else self._lib.rd_kafka_mock_broker_set_up
        call(self._mock, broker_id)

    def set_round_trip(self, broker_id, milliseconds):
        """Let a broker answer no sooner than this."""
        self._lib.rd_kafka_mock_broker_set_rtt(self._mock, broker_id, milliseconds)

    def close(self):
        """Stop the brokers; twice is once."""
        if self._mock:
            self._lib.rd_kafka_mock_cluster_destroy(self._mock)
            self._lib.rd_kafka_destroy(self._handle)
            self._mock = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _mock_library():
    lib = library()
    lib.rd_kafka_new.restype = ctypes.c_void_p
    lib.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    lib.rd_kafka_destroy.argtypes = [ctypes.c_void_p]
    lib.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    lib.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.rd_kafka_mock_cluster_destroy.argtypes = [ctypes.c_void_p]
    lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    lib.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
    lib.rd_kafka_mock_topic_create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    lib.rd_kafka_mock_group_initial_rebalance_delay_ms.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    lib.rd_kafka_mock_push_request_errors_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int16,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_int),
    ]
    for name in ("rd_kafka_mock_broker_set_down", "rd_kafka_mock_broker_set_up"):
        getattr(lib, name).argtypes = [ctypes.c_void_p, ctypes.c_int32]
    lib.rd_kafka_mock_broker_set_rtt.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int]
    return lib


class Feeder:
    """Produces into a topic of the embedded Kafka no faster than a group commits, so that the mock drops nothing unread.

    Parameters
    ----------
    kafka : EmbeddedKafka
    topic : str
    n_partitions : int
    group_id : str
        The group that reads the topic.
    timeout_s : float
        Without any commit for this long while waiting, ServiceFailed is raised.
    """

    def __init__(self, kafka, topic, n_partitions, group_id, timeout_s=120.0):
        # Quiet: what fails is told by the delivery reports, and a cluster that closes before its clients is no news.
        servers = {"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0}
        self.topic = topic
        self.n_partitions = n_partitions
        self.timeout_s = timeout_s
        self._producer = Producer({**servers, "linger.ms": 1})
        self._asker = Consumer({**servers, "group.id": group_id})
        self._sizes = [[] for _ in range(n_partitions)]  # bytes of each message, by offset
        self._committed = [0] * n_partitions
        self._ahead = [0] * n_partitions
        self._failed = None

    def send(self, value, key=None, partition=0, headers=()):
        """Produce one message, first waiting until there is room for it; partition by number."""
        size = len(value) + len(key or b"") + 200
        waited = time.monotonic()
        while self._ahead[partition] and self._ahead[partition] + size > AHEAD_BYTES:
            if self._look():
                waited = time.monotonic()
            elif time.monotonic() - waited > self.timeout_s:
                raise ServiceFailed(f"embedded Kafka: {self.topic}[{partition}]: nothing committed for {self.timeout_s:g} s")
            else:
                time.sleep(0.02)
        self._producer.produce(self.topic, value, key, partition=partition, headers=list(headers), on_delivery=self._report)
        self._producer.poll(0)
        self._sizes[partition].append(size)
        self._ahead[partition] += size

    def close(self):
        """Wait until all is out."""
        self._producer.flush(30)
        self._asker.close()
        if self._failed is not None:
            raise ServiceFailed(f"embedded Kafka: {self._failed.str()}")

    def _report(self, error, _message):
        self._failed = error or self._failed

    def _look(self):
        """Ask how far the group is; whether it moved."""
        self._producer.flush(5)
        places = [TopicPartition(self.topic, p) for p in range(self.n_partitions)]
        try:
            answer = self._asker.committed(places, timeout=5)
        except KafkaException:
            return False
        moved = False
        for a in answer:
            done = max(a.offset, self._committed[a.partition])
            moved |= done > self._committed[a.partition]
            self._ahead[a.partition] -= sum(self._sizes[a.partition][self._committed[a.partition] : done])
            self._committed[a.partition] = done
        return moved
