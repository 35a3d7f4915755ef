"""What tests share: the folder of collected alerts, Apache Kafka, and a Kafka in the process."""

import logging
import os
from pathlib import Path

import pytest


def pytest_report_header():
    """Which decoder the tests run with."""
    from dgl_broker.native import decoder_name

    return f"decoder: {decoder_name()}"


@pytest.fixture(autouse=True)
def logs_for_pytest():
    """What a command left: it sends the log to a handler of its own and past pytest's, where no later test would see it."""
    for name in ("dgl_broker", "librdkafka"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


@pytest.fixture(params=["python", "native"])
def decoder(request):
    """Either decoder of packets; the compiled one is skipped where it was not built."""
    from decoders import BUILT, decoder_used

    if request.param == "native" and BUILT is None:
        pytest.skip("the compiled decoder was not built")
    with decoder_used(request.param):
        yield request.param


@pytest.fixture
def python_decoder():
    """Python's decoder, for tests of what only that one can do."""
    from decoders import decoder_used

    with decoder_used("python"):
        yield


@pytest.fixture(scope="session")
def shared():
    """The folder of collected alerts, parity values and official schemas; the test is skipped where it is not there."""
    folder = os.environ.get("DGL_SHARED")
    if not folder:
        pytest.skip("DGL_SHARED names no folder of collected alerts")
    return Path(folder)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    """Apache Kafka: DGL_TEST_KAFKA's where it is set, else one of our own for this session, on Java with jars from Maven."""
    from kafka.broker import KafkaBroker, Topics, fetch_jars

    named = os.environ.get("DGL_TEST_KAFKA")
    if named:
        yield Topics(named)
        return
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"), _jars(fetch_jars))
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def kafka_jars():
    """Folder with Apache Kafka's jars."""
    from kafka.broker import fetch_jars

    return _jars(fetch_jars)


@pytest.fixture
def own_kafka(tmp_path):
    """Makes brokers that a test may stop and kill: `own_kafka()`, or `own_kafka("key=value\\n")` with further properties."""
    from kafka.broker import KafkaBroker, fetch_jars

    jars, made = _jars(fetch_jars), []

    def make(more=""):
        made.append(KafkaBroker(tmp_path / f"kafka{len(made)}", jars, more))
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


def _jars(fetch_jars):
    jars = fetch_jars()
    if jars is None:
        reason = "no Apache Kafka: neither DGL_TEST_KAFKA, nor Java with Maven (or the jars in DGL_KAFKA_JARS)"
        if os.environ.get("DGL_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return jars


@pytest.fixture
def mock_kafka():
    """librdkafka's mock cluster in this process."""
    from dgl_broker.stream.embedded import EmbeddedKafka

    with EmbeddedKafka() as cluster:
        yield cluster
