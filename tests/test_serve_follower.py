"""The store follows the scores topics: everything is in it, once, from where it left off, and it knows how far behind it is."""

import time

import pytest
import requests
from confluent_kafka import Producer
from kafka import flow
from serving import TOPIC, published, record, running, settings, until

from dgl_broker.client import Client
from dgl_broker.errors import InputUnavailable, ServiceFailed
from dgl_broker.serve.follower import Follower
from dgl_broker.serve.store import ScoreStore
from dgl_broker.stream import following

LSST = "dgl.lsst.scores"


@pytest.fixture
def store(tmp_path):
    one = ScoreStore(tmp_path / "store", max_bytes=2**25)
    yield one
    one.close()


class Followed:
    """A follower that is running."""

    def __init__(self, store, servers, topics=(TOPIC,), **options):
        self.failures = []
        kafka = {"bootstrap.servers": servers, "reconnect.backoff.max.ms": 200}
        self.follower = Follower(store, kafka, list(topics), on_failure=self.failures.append, **options)

    def __enter__(self):
        self.follower.start()
        return self.follower

    def __exit__(self, *_):
        self.follower.close()
        assert not self.failures


def is_caught_up(follower):
    state = follower.state()
    return state["behind_messages"] == 0 and state["behind_s"] is not None


def feed(servers, records, topic=TOPIC, n_partitions=2, **conf):
    flow.produce(servers, topic, published(*records), n_partitions, **conf)


@pytest.fixture
def kafka_of_two(mock_kafka):
    for topic in (TOPIC, LSST):
        mock_kafka.create_topic(topic, 2)
    return mock_kafka.bootstrap_servers


def test_what_is_published_is_found_by_alert_and_by_object(kafka_of_two, store):
    feed(kafka_of_two, [record(i, object_id="a") for i in range(20)])
    feed(kafka_of_two, [record(7, "lsst")], LSST)
    with Followed(store, kafka_of_two, [TOPIC, LSST]) as follower:
        until(lambda: follower.followed == 21)
        until(lambda: is_caught_up(follower))
        assert follower.state()["following"]
    assert len(store) == 21 and store.object_scores("ztf", "a", 100)[0] == 20
    assert store.score("lsst", 7)["survey"] == "lsst"


def test_it_goes_on_where_it_was_and_reads_nothing_twice(kafka_of_two, store):
    feed(kafka_of_two, [record(i) for i in range(10)])
    with Followed(store, kafka_of_two) as first:
        until(lambda: len(store) == 10)
    feed(kafka_of_two, [record(i) for i in range(10, 16)])
    with Followed(store, kafka_of_two) as second:
        until(lambda: len(store) == 16)
        until(lambda: is_caught_up(second))
    assert (first.followed, second.followed) == (10, 6)


def test_what_is_no_score_record_is_counted_and_passed_over(kafka_of_two, store):
    odd = [b"", b"nonsense", b"\x00\x00\x00\x00\x01framed", *published(record(1))]
    flow.produce(kafka_of_two, TOPIC, [*odd, odd[-1][:-5], *published(record(2))], 1)
    with Followed(store, kafka_of_two) as follower:
        until(lambda: is_caught_up(follower))
    assert (follower.followed, follower.unreadable, len(store)) == (2, 4, 2)


def test_topic_that_comes_later_is_followed_from_its_beginning(mock_kafka, store, monkeypatch):
    monkeypatch.setattr(following, "REFRESH_S", 0.1)
    monkeypatch.setattr(following, "LOOK_S", 0.1)
    with Followed(store, mock_kafka.bootstrap_servers) as follower:
        until(lambda: follower.state()["following"])
        mock_kafka.create_topic(TOPIC, 2)
        feed(mock_kafka.bootstrap_servers, [record(1), record(2)])
        until(lambda: len(store) == 2)


def test_it_says_how_far_behind_it_is(kafka_of_two, store, monkeypatch):
    monkeypatch.setattr(following, "LOOK_S", 0.05)
    feed(kafka_of_two, [record(i) for i in range(30)])
    reader = following.Following({"bootstrap.servers": kafka_of_two}, [TOPIC], {})
    assert (reader.behind, reader.complete_until) == (None, None)
    reader.look()
    assert (reader.behind, reader.complete_until) == (30, None)
    began, n = time.time(), 0
    while n < 30:
        n += len(reader.read())
        reader.look()
    until(lambda: (reader.look(), reader.behind == 0)[1])
    until(lambda: (reader.look(), (reader.complete_until or 0) > began)[1])
    reader.close()


def test_while_kafka_is_away_it_answers_and_grows_older(mock_kafka, tmp_path, monkeypatch):
    monkeypatch.setattr(following, "ANSWER_S", 0.3)
    mock_kafka.create_topic(TOPIC, 1)
    feed(mock_kafka.bootstrap_servers, [record(5)], n_partitions=1)
    kafka = {"bootstrap.servers": mock_kafka.bootstrap_servers, "reconnect.backoff.max.ms": 100}
    chosen = settings(store={"path": str(tmp_path / "s"), "topics": [TOPIC]}, kafka=kafka)
    with running(chosen) as service:
        url = f"{service.url}/v1/scores/ztf/5"
        until(lambda: requests.get(url, timeout=10).status_code == 200)
        mock_kafka.set_broker_down(1)
        until(lambda: not requests.get(url, timeout=10).json()["store"]["following"])
        early = requests.get(url, timeout=10).json()
        late = until(
            lambda: (a := requests.get(url, timeout=10).json())["store"]["behind_s"] > early["store"]["behind_s"] and a
        )
        assert late["record"] == early["record"] and late["record"]["alert_id"] == "5"
        mock_kafka.set_broker_down(1, False)
        until(lambda: (s := requests.get(url, timeout=10).json()["store"])["following"] and s["behind_s"] < 3)


def test_registry_that_is_away_is_waited_for(kafka_of_two, store, monkeypatch):
    from dgl_broker.outputs.avro import ConfluentForm, load_schema
    from dgl_broker.wire.writer_schema import WriterSchema

    monkeypatch.setattr("dgl_broker.serve.follower.REGISTRY_WAIT_S", 0.02)
    schema, asked = load_schema("score"), []

    class Registry:
        def writer_schema(self, number):
            asked.append(number)
            if len(asked) < 4:
                raise ServiceFailed("registry down") if len(asked) % 2 else InputUnavailable("status 401")
            return WriterSchema(schema)

    flow.produce(kafka_of_two, TOPIC, [ConfluentForm(schema, 9).encode(record(3))], 1)
    with Followed(store, kafka_of_two, schemas=Registry()) as follower:
        until(lambda: len(store) == 1)
    assert asked == [9] * 4 and follower.unreadable == 0


def test_disk_that_fails_ends_the_service(kafka_of_two, tmp_path):
    from dgl_broker.errors import StateError

    kafka = {"bootstrap.servers": kafka_of_two}
    chosen = settings(store={"path": str(tmp_path / "s"), "topics": [TOPIC], "max_bytes": 2**20}, kafka=kafka)
    chosen = chosen.model_copy(update={"store": chosen.store.model_copy(update={"max_bytes": 2**16})})
    with running(chosen) as service:
        feed(kafka_of_two, [record(i) for i in range(300)])
        service.thread.join(20)
    assert len(service.problems) == 1 and isinstance(service.problems[0], StateError)


def test_client_gets_what_the_filter_published(kafka_of_two, tmp_path):
    big = 2**62 + 12345
    feed(kafka_of_two, [record(big, passed=True, object_id="o"), record(2, reason="no_cutouts", object_id="o")])
    chosen = settings(store={"path": str(tmp_path / "s"), "topics": [TOPIC]}, kafka={"bootstrap.servers": kafka_of_two})
    with running(chosen) as service, Client(service.url) as client:
        until(lambda: client.status()["store"]["behind_messages"] == 0)
        found = until(lambda: (a := client.score_of("ztf", big)).status == "scored" and a)
        assert (found.alert_id, found.passed, found.log_odds, found.version) == (big, ("bright",), 1.5, "fake@abababab")
        assert not found.is_behind(60)
        missing = client.score_of("ztf", big + 1)
        assert (missing.status, missing.record, missing.passed, missing.alert_id) == ("unknown", {}, (), None)
        assert missing.behind_s < 60
        of_object = client.scores_of_object("ztf", "o")
        assert [(a.status, a.reason) for a in of_object] == [("scored", None), ("refused", "no_cutouts")]
        assert client.scores_of_object("ztf", "nobody") == [] and client.scores_of_object("lsst", "o") == []


@pytest.mark.kafka
def test_markers_of_transactions_and_aborted_scores_are_no_messages(kafka, store):
    """On Apache Kafka: offsets of markers must not read as being behind, and what was aborted must not be found."""
    topic = "follow.transactions"
    kafka.create_topic(topic, 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": "follow"})
    producer.init_transactions()
    for n, end in enumerate([producer.commit_transaction, producer.abort_transaction] * 3):
        producer.begin_transaction()
        producer.produce(topic, published(record(n))[0])
        producer.flush()
        end()
    with Followed(store, kafka.bootstrap_servers, [topic]) as follower:
        until(lambda: is_caught_up(follower) and len(store) == 3)
        assert {n for n in range(6) if store.score("ztf", n)} == {0, 2, 4}
        producer.begin_transaction()
        producer.produce(topic, published(record(9))[0])
        producer.flush()  # open: not published yet, so not behind either
        until(lambda: follower.state()["behind_s"] < 1.0)
        assert is_caught_up(follower) and store.score("ztf", 9) is None
        producer.commit_transaction()
        until(lambda: store.score("ztf", 9))


@pytest.mark.kafka
def test_scores_that_retention_took_are_counted(kafka, store):
    from confluent_kafka import TopicPartition

    topic = "follow.retention"
    kafka.create_topic(topic, 1)
    feed(kafka.bootstrap_servers, [record(i) for i in range(4)], topic, 1)
    with Followed(store, kafka.bootstrap_servers, [topic]):
        until(lambda: len(store) == 4)
    feed(kafka.bootstrap_servers, [record(i) for i in range(4, 20)], topic, 1)
    place = TopicPartition(topic, 0, 15)
    kafka.admin.delete_records([place])[place].result(30)
    with Followed(store, kafka.bootstrap_servers, [topic]) as follower:
        until(lambda: len(store) == 9)
        until(lambda: is_caught_up(follower))
        assert follower.expired == 11 and {n for n in range(20) if store.score("ztf", n)} == {0, 1, 2, 3, *range(15, 20)}
