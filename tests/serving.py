"""A service in this process for tests: on a free port, with the fake scorer and the mock cluster where asked for."""

import contextlib
import threading
import time

from fake_scorer import FakeScorer, alert, scores
from kafka.broker import free_ports

from dgl_broker.outputs.avro import load_schema
from dgl_broker.outputs.records import score_record
from dgl_broker.scores import Outcome, Verdict
from dgl_broker.serve.serve_settings import ServeSettings
from dgl_broker.serve.server import Service
from dgl_broker.stream.stopping import Stop
from dgl_broker.wire import encode_container

TOPIC = "dgl.ztf.scores"


def settings(**changes):
    """Settings of a service on a free port."""
    raw = {"port": free_ports(1)[0], "surveys": {"ztf": {}}, "batch": {"max_wait_s": 0.005}}
    return ServeSettings.model_validate(raw | changes)


@contextlib.contextmanager
def running(chosen=None, scorers=None, **changes):
    """A running service; `service.url` is its address."""
    chosen = chosen or settings(**changes)
    service, problems = Service(chosen, Stop(), {"ztf": FakeScorer()} if scorers is None else scorers), []

    def work():
        try:
            service.run()
        except Exception as error:  # noqa: BLE001 - told to the test
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    service.problems, service.thread = problems, thread
    try:
        assert service.wait_listening(), problems
        service.url = f"{'https' if chosen.tls else 'http'}://127.0.0.1:{service.port}"
        yield service
    finally:
        service.stop.ask()
        thread.join(30)
        assert not thread.is_alive()


def until(condition, seconds=20.0):
    """Wait for a condition; what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
    return found


def record(alert_id, survey="ztf", log_odds=1.5, passed=False, published_ms=None, object_id=None, mjd_tai=61000.5, reason=None):
    """A score record as the filter publishes it."""
    one = alert(alert_id, survey)
    one.object_id, one.mjd_tai = object_id or one.object_id, mjd_tai
    outcome = Outcome("refused", None, reason, alert=one)
    if reason is None:
        verdict = Verdict("bright", 3, passed, () if passed else (("log_odds", log_odds),))
        outcome = Outcome("scored", None, alert=one, scores=scores(log_odds), verdicts=(verdict,))
    now_ms = time.time_ns() // 1_000_000
    return score_record(outcome, "fake", "ab" * 32, now_ms if published_ms is None else published_ms)


def published(*records):
    """Score records as messages of the scores topic."""
    schema = load_schema("score")
    return [encode_container(schema, one) for one in records]
