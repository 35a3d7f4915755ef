"""The service over HTTP: one outcome a packet, common batches, bounds on number, size and time, who may ask, how it ends."""

import base64
import concurrent.futures
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from fake_scorer import FakeScorer
from kafka.broker import free_ports
from prometheus_client.parser import text_string_to_metric_families
from serving import record, running, settings, until
from simulated import packets, scorer

from dgl_broker.errors import ConfigError, InputUnavailable, ServiceFailed, StateError
from dgl_broker.observe.service_metrics import SERVE_METRICS
from dgl_broker.outputs.records import score_record
from dgl_broker.serve.answers import ScoreAnswer, api_record
from dgl_broker.serve.serve_settings import ServeSettings, check_serve_settings, load_serve_settings
from dgl_broker.serve.server import Service
from dgl_broker.stream.stopping import Stop

ROOT = Path(__file__).parents[1]
WORDS = ("scored", "candidate", "precut", "poor", "cut")
TOKEN = "a-token-of-this-test"


def ask(service, values, survey="ztf", **options):
    """The answer to a request with these packets."""
    body = {"packets": [base64.b64encode(v).decode() for v in values]}
    return requests.post(f"{service.url}/v1/score", params={"survey": survey}, json=body, timeout=30, **options)


def numbered(first, n):
    return [f"{i} {WORDS[i % len(WORDS)]}".encode() for i in range(first, first + n)]


def figures(service, **options):
    """(sample name, its labels' values in alphabetical order) -> value, by Prometheus' own parser."""
    text = requests.get(f"{service.url}/metrics", timeout=10, **options).text
    return {
        (s.name, *(v for _, v in sorted(s.labels.items()))): s.value
        for f in text_string_to_metric_families(text)
        for s in f.samples
    }


def takes_connections(port):
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def service():
    with running() as one:
        yield one


def test_one_outcome_a_packet_in_order(service):
    answer = ask(service, numbered(0, 25))
    assert answer.status_code == 200
    ScoreAnswer.model_validate(answer.json())
    found = answer.json()["outcomes"]
    assert [o["status"] for o in found] == ["scored", "scored", "refused", "refused", "dead_lettered"] * 5
    assert [o["record"] and o["record"]["alert_id"] for o in found] == [str(i) if i % 5 < 4 else None for i in range(25)]
    assert [o["reason"] for o in found[:5]] == [None, None, "precut.faint", "no_cutouts", "truncated"]
    assert found[1]["record"]["verdicts"] == [{"filter": "bright", "version": 3, "passed": True, "failed": []}]


def test_scores_are_those_of_the_scorer():
    """Framed LSST packets of the project's own writer, through a real pipeline: the record is that which `run` publishes."""
    values, real = [value for value, _ in packets("lsst", 6)], scorer("lsst")
    with running(settings(surveys={"lsst": {}}), {"lsst": real}) as service:
        found = ask(service, [*values, b"\x00\x00"], "lsst").json()["outcomes"]
    direct = real.score(values)
    assert found[-1] == {**found[-1], "status": "dead_lettered", "reason": "truncated", "record": None}
    assert "scored" in {o.status for o in direct}
    for outcome, answer in zip(direct, found):
        wanted = api_record(score_record(outcome, real.bundle_id, real.bundle_sha256))
        got = {**answer["record"], "published_ms": None}
        numbers = {k for k, v in wanted.items() if isinstance(v, float)}
        assert {k: v for k, v in got.items() if k not in numbers} == {k: v for k, v in wanted.items() if k not in numbers}
        assert {k: got[k] for k in numbers} == pytest.approx({k: wanted[k] for k in numbers}, abs=1e-6)


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/avro", "avro/binary; charset=x"])
def test_body_may_be_one_packet(service, kind):
    url, headers = f"{service.url}/v1/score?survey=ztf", {"Content-Type": kind}
    found = requests.post(url, data=b"5 candidate", headers=headers, timeout=10).json()["outcomes"]
    assert [o["record"]["alert_id"] for o in found] == ["5"]


def test_body_may_be_a_container_of_many_alerts():
    from packets import ZTF_SCHEMA, ztf_record

    from dgl_broker.wire import encode_container

    made = [ztf_record(candid=2**61 + n, top={"candid": 2**61 + n}) for n in range(4)]
    body, headers = encode_container(ZTF_SCHEMA, *made), {"Content-Type": "application/avro"}
    with running(settings(limits={"packets": 4}), {"ztf": scorer("ztf")}) as service:
        url = f"{service.url}/v1/score?survey=ztf"
        found = requests.post(url, data=body, headers=headers, timeout=30).json()["outcomes"]
        assert [int(o["record"]["alert_id"]) for o in found] == [2**61 + n for n in range(4)]
        assert {o["status"] for o in found} == {"refused"}, "their stamps are none"
        cut = requests.post(url, data=body[:-30], headers=headers, timeout=30).json()["outcomes"]
        assert [(o["status"], o["reason"]) for o in cut] == [("dead_lettered", "truncated")]
        more = encode_container(ZTF_SCHEMA, *made, made[0])
        answer = requests.post(url, data=more, headers=headers, timeout=30)
        assert answer.status_code == 413 and "container of 5 alerts, at most 4" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("status", "code", "how"),
    [
        (422, "bad_request", {"params": {}}),
        (422, "bad_request", {"params": {"survey": "des"}}),
        (404, "not_scored_here", {"params": {"survey": "lsst"}}),
        (415, "unknown_type", {"data": b"x", "headers": {"Content-Type": "text/plain"}}),
        (422, "bad_request", {"data": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}),
        (422, "bad_request", {"json": {"packets": "AAAA"}}),
        (422, "bad_request", {"json": {"packets": ["AAAA", "no base64"]}}),
        (413, "too_large", {"json": {"packets": ["AAAA"] * 300}}),
        (413, "too_large", {"data": bytes(3000), "headers": {"Content-Type": "avro/binary"}}),
        (413, "too_large", {"data": iter([bytes(1500)] * 2), "headers": {"Content-Type": "avro/binary"}}),
    ],
)
def test_request_that_is_wrong_is_told_so(status, code, how):
    with running(limits={"packets": 256, "request_bytes": 2500 if "data" in how else 10_000}) as service:
        if isinstance(how.get("data"), bytes) and how["data"][:1] == b"[":
            how = {**how, "data": how["data"][:2400]}
        answer = requests.post(f"{service.url}/v1/score", timeout=10, **({"params": {"survey": "ztf"}} | how))
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert answer.json()["detail"]


def test_requests_share_a_batch():
    gate, sizes = threading.Event(), []

    def before(messages):
        sizes.append(len(messages))
        assert gate.wait(20)

    chosen = settings(batch={"max_wait_s": 0.05, "max_alerts": 64})
    with running(chosen, {"ztf": FakeScorer(before)}) as service, concurrent.futures.ThreadPoolExecutor(13) as pool:
        first = pool.submit(ask, service, numbered(0, 1))
        until(lambda: sizes == [1])  # while this one is being scored, the others gather
        others = [pool.submit(ask, service, numbered(10 * n, 10)) for n in range(1, 13)]
        until(lambda: requests.get(f"{service.url}/v1/status", timeout=10).json()["queued_packets"] == 120)
        gate.set()
        answers = [f.result() for f in [first, *others]]
    assert {a.status_code for a in answers} == {200}
    assert sizes == [1, 60, 60]
    for n, answer in enumerate(answers[1:], 1):
        found = [o["record"] and int(o["record"]["alert_id"]) for o in answer.json()["outcomes"]]
        assert found == [i if i % 5 < 4 else None for i in range(10 * n, 10 * n + 10)]


def test_full_queue_answers_429_and_says_when_to_come_back():
    gate, began = threading.Event(), threading.Event()

    def before(messages):
        began.set()
        assert gate.wait(20)

    limits = {"queue_packets": 20, "packets": 20}
    with running(settings(limits=limits, batch={"max_alerts": 10}), {"ztf": FakeScorer(before)}) as service:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(ask, service, numbered(0, 1))]
            assert began.wait(20)
            waiting += [pool.submit(ask, service, numbered(0, 10)) for _ in range(2)]
            until(lambda: figures(service)["dgl_serve_queued_packets",] == 20)
            refused = ask(service, numbered(0, 1))
            assert (refused.status_code, refused.json()["code"]) == (429, "busy")
            assert int(refused.headers["Retry-After"]) >= 1
            gate.set()
            assert {f.result().status_code for f in waiting} == {200}
        assert ask(service, numbered(0, 20)).status_code == 200
        assert figures(service)["dgl_serve_busy_total",] == 1


def test_bytes_of_all_requests_are_bounded():
    gate, began = threading.Event(), threading.Event()

    def before(messages):
        began.set()
        assert gate.wait(20)

    limits = {"request_bytes": 6000, "queue_bytes": 8000}
    headers = {"Content-Type": "avro/binary"}
    with running(settings(limits=limits), {"ztf": FakeScorer(before)}) as service:
        url = f"{service.url}/v1/score?survey=ztf"
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            first = pool.submit(requests.post, url, data=b"1 scored " + bytes(5000), headers=headers, timeout=30)
            assert began.wait(20)
            assert requests.post(url, data=bytes(5000), headers=headers, timeout=30).status_code == 429
            gate.set()
            assert first.result().status_code == 200
        assert requests.post(url, data=bytes(5000), headers=headers, timeout=30).status_code == 200


def test_request_that_waits_too_long_is_given_up_and_not_scored():
    gate, seen = threading.Event(), []

    def before(messages):
        seen.extend(m.value for m in messages)
        assert gate.wait(20)

    limits = {"answer_s": 0.3}
    with running(settings(limits=limits), {"ztf": FakeScorer(before)}) as service:
        late = [ask(service, [b"1 scored"]), ask(service, [b"2 scored"])]
        assert [(a.status_code, a.json()["code"]) for a in late] == [(504, "timed_out")] * 2
        gate.set()
        assert until(lambda: ask(service, [b"3 scored"])).status_code == 200
    assert seen == [b"1 scored", b"3 scored"]


def test_body_that_trickles_is_cut_off():
    with running(limits={"receive_s": 0.3}) as service, socket.create_connection(("127.0.0.1", service.port), 10) as line:
        head = "POST /v1/score?survey=ztf HTTP/1.1\r\nHost: x\r\nContent-Type: avro/binary\r\nContent-Length: 1000\r\n\r\n"
        line.sendall(head.encode() + b"a few bytes")
        assert line.recv(4096).startswith(b"HTTP/1.1 408")


def test_token_is_asked_for_by_all_but_the_probes():
    with running(settings(token=TOKEN)) as service:
        good, bad = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer something-else-entirely"}
        for path in ("/v1/status", "/v1/scores/ztf/1", "/v1/objects/ztf/x", "/metrics"):
            assert requests.get(service.url + path, timeout=10, headers=good).status_code != 401
            for headers in ({}, bad, {"Authorization": TOKEN}):
                answer = requests.get(service.url + path, timeout=10, headers=headers)
                assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
                assert TOKEN not in answer.text
        assert ask(service, [b"1 scored"]).status_code == 401
        assert ask(service, [b"1 scored"], headers=good).status_code == 200
        assert requests.get(f"{service.url}/healthz", timeout=10).status_code == 200
        assert requests.get(f"{service.url}/readyz", timeout=10).status_code == 200


def test_failure_of_the_device_ends_the_service_and_is_told_to_who_waits():
    def before(messages):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with running(settings(), {"ztf": FakeScorer(before)}) as service:
        answer = ask(service, [b"1 scored"])
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "CUDA" not in answer.text
        service.thread.join(20)
    assert len(service.problems) == 1 and isinstance(service.problems[0].__cause__, RuntimeError)


def test_schemas_that_are_not_to_be_had_fail_only_who_needs_them():
    gate, sizes = threading.Event(), []

    def before(messages):
        sizes.append(len(messages))
        assert gate.wait(20)
        if any(b"framed" in m.value for m in messages):
            raise InputUnavailable("registry: status 500")

    with running(settings(), {"ztf": FakeScorer(before)}) as service, concurrent.futures.ThreadPoolExecutor(3) as pool:
        pool.submit(ask, service, [b"0 scored"])
        until(lambda: sizes == [1])
        asked = [pool.submit(ask, service, [v]) for v in (b"1 scored", b"2 framed")]
        until(lambda: figures(service)["dgl_serve_queued_packets",] == 2)
        gate.set()
        assert [f.result().status_code for f in asked] == [200, 503]
        assert ask(service, [b"3 scored"]).status_code == 200
    assert sizes == [1, 2, 1, 1, 1] and not service.problems


def test_schemas_that_failed_are_left_alone_for_a_while():
    from packets import Schemas

    from dgl_broker.serve.packets import SteadySchemas

    class Down(Schemas):
        def writer_schema(self, number):
            if number == 1100:
                self.asked.append(number)
                raise ServiceFailed("registry down")
            return super().writer_schema(number)

    source = Down()
    steady = SteadySchemas(source)
    assert steady.writer_schema(1000) is steady.writer_schema(1000)
    for _ in range(3):
        with pytest.raises(ServiceFailed):
            steady.writer_schema(1100)
    assert steady.writer_schema(1000) and source.asked == [1000, 1100]


def test_what_is_in_hand_is_answered_when_it_stops():
    gate, began = threading.Event(), threading.Event()

    def before(messages):
        began.set()
        assert gate.wait(20)

    with running(settings(), {"ztf": FakeScorer(before)}) as service, concurrent.futures.ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, service, [b"1 scored"])
        assert began.wait(20)
        second = pool.submit(ask, service, [b"2 scored"])
        until(lambda: figures(service)["dgl_serve_queued_packets",] == 1)
        service.stop.ask()
        until(lambda: not takes_connections(service.port))
        gate.set()
        assert (first.result().status_code, second.result().status_code) == (200, 200)
    assert not service.problems


def test_port_in_use_is_told():
    with running() as service, pytest.raises(StateError, match=f"127.0.0.1:{service.port}: Address already in use"):
        Service(settings(port=service.port), Stop(), {"ztf": FakeScorer()}).run()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_https_with_a_certificate(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "1"]
    subprocess.run([*command, "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    with running(settings(tls={"certificate": str(certificate), "key": str(key)})) as service:
        assert service.url.startswith("https")
        assert ask(service, [b"1 scored"], verify=str(certificate)).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            ask(service, [b"1 scored"])
    with pytest.raises(StateError, match="tls: "):
        Service(settings(tls={"certificate": str(key) + "x", "key": str(key)}), Stop(), {}).run()


def test_metrics_count_what_was_answered():
    with running() as service:
        ask(service, numbered(0, 10))
        requests.get(f"{service.url}/nothing/here", timeout=10)
        found = figures(service)
    by_status = {k[1:]: v for k, v in found.items() if k[0] == "dgl_serve_outcomes_total"}
    assert by_status[("", "scored", "ztf")] == 4 and by_status["truncated", "dead_lettered", "ztf"] == 2
    assert by_status["no_cutouts", "refused", "ztf"] == by_status["precut.faint", "refused", "ztf"] == 2
    assert found["dgl_serve_requests_total", "/v1/score", "200"] == 1 and found["dgl_serve_requests_total", "none", "404"] == 1
    assert found["dgl_serve_batch_alerts_sum",] == 10 and found["dgl_serve_log_odds_count", "ztf"] == 4
    assert found["dgl_serve_filter_info", "bright", "ztf", "3"] == 1


def test_page_of_metrics_lists_those_of_the_service():
    page = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(dgl_serve_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.M)
    assert [row[0] for row in rows] == list(SERVE_METRICS)
    for name, kind, labels, doc in rows:
        wanted = SERVE_METRICS[name]
        assert (kind, tuple(re.findall(r"`(\w+)`", labels)), doc) == (wanted.kind.__name__.lower(), wanted.labels, wanted.doc)


def test_filters_that_change_are_in_force_at_the_next_batch():
    fake, asked = FakeScorer(), []

    class Filters(list):
        def refresh(self):
            asked.append(len(asked))
            self[0].version += 1
            return []

    fake.filters = Filters(fake.filters)
    with running(settings(), {"ztf": fake}) as service:
        ask(service, [b"1 scored"])
        ask(service, [b"1 scored"])
        status = requests.get(f"{service.url}/v1/status", timeout=10).json()
    assert asked == [0, 1] and status["scoring"][0]["filters"] == ["bright:5"]
    assert status["store"] is None and status["scoring"][0]["survey"] == "ztf"


@pytest.fixture
def write(tmp_path):
    def write_one(text):
        path = tmp_path / "serve.yaml"
        path.write_text(text)
        return path

    return write_one


STORE = "store: {path: here}\nkafka: {bootstrap.servers: 'broker:9092'}\n"


def test_settings_have_defaults_and_paths_of_the_file(write, tmp_path):
    path = write("surveys: {lsst: {schemas: rubin, filters: [./mine.yaml, lensed_sn_lsst]}}\n" + STORE)
    found = load_serve_settings(path, {"DGL_BROKER__TOKEN": TOKEN, "DGL_BROKER__KAFKA__SASL_PASSWORD": "hunter2"})
    assert (found.host, found.port, found.scored_surveys) == ("127.0.0.1", 8060, ("lsst",))
    assert found.surveys.lsst.schemas == str(tmp_path / "rubin") and found.store.path == str(tmp_path / "here")
    assert found.filters_of("lsst") == [str(tmp_path / "mine.yaml"), "lensed_sn_lsst"]
    assert set(found.secrets()) == {TOKEN, "hunter2"} and TOKEN not in repr(found)


@pytest.mark.parametrize(
    ("text", "environ", "key", "said"),
    [
        ("{}", {}, "surveys", "nothing, and no store"),
        ("surveys: {ztf: {}}\nhost: 0.0.0.0", {}, "token", "none, with host 0.0.0.0"),
        ("surveys: {ztf: {}}\ntoken: abcdefghijklmnopqrst", {}, "token", "a secret in the file"),
        ("surveys: {ztf: {}}", {"DGL_BROKER__TOKEN": "short"}, "token", "one that no header can carry"),
        (
            "surveys: {ztf: {schemas_password: x}}",
            {},
            "surveys.ztf.schemas_password",
            "DGL_BROKER__SURVEYS__ZTF__SCHEMAS_PASSWORD",
        ),
        ("store: {path: here}", {}, "kafka.bootstrap.servers", "nothing"),
        (STORE + "surveys: {des: {}}", {}, "surveys.des", "an unknown key"),
        ("surveys: {ztf: {}}\nlimits: {packets: 3000}", {}, "limits.packets", "at most limits.queue_packets"),
        (
            "surveys: {ztf: {}}",
            {"DGL_BROKER__LIMITS__PAKETS": "3"},
            "DGL_BROKER__LIMITS__PAKETS",
            "nearest known one is packets",
        ),
    ],
)
def test_settings_name_each_problem(write, text, environ, key, said):
    path = write(text)
    found, problems = check_serve_settings(path, environ)
    assert found is None and any(p.key == key and said in str(p) for p in problems), list(map(str, problems))
    with pytest.raises(ConfigError, match="serve.yaml"):
        load_serve_settings(path, environ)


def test_page_of_the_service_lists_every_key_with_its_default():
    from dgl_broker.settings_reading import _section_of

    def rows(model, prefix=""):
        for name, field in model.model_fields.items():
            section = _section_of(model, name)
            if section is None or field.get_default() is None:
                default = field.get_default(call_default_factory=True)
                shown = "required" if field.is_required() else "-" if default is None else f"`{default}`"
                yield f"| `{prefix}{name}` | {shown} | {field.description} |"
            if section is not None and (prefix, name) != ("surveys.", "lsst"):  # the keys of ztf again
                yield from rows(section, f"{prefix}{name}.")

    page = (ROOT / "docs/serve.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("| `")] == list(rows(ServeSettings))


def test_command_serves_until_it_is_told_to_stop(write, mock_kafka):
    """As its user starts it; without a survey to score it needs no torch, and SIGTERM ends it in order."""
    mock_kafka.create_topic("dgl.ztf.scores", 1)
    port = free_ports(1)[0]
    path = write(f"port: {port}\nstore: {{path: here, topics: [dgl.ztf.scores]}}\n")
    environ = os.environ | {"DGL_BROKER__TOKEN": TOKEN, "DGL_BROKER__KAFKA__BOOTSTRAP_SERVERS": mock_kafka.bootstrap_servers}
    log = path.with_name("log.txt")
    with open(log, "wb") as out:
        command = [sys.executable, "-m", "dgl_broker", "serve", "--config", str(path)]
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT, env=environ)
    try:
        url = f"http://127.0.0.1:{port}"

        def is_ready():
            assert process.poll() is None, log.read_text()
            try:
                return requests.get(f"{url}/readyz", timeout=5).status_code == 200
            except requests.ConnectionError:
                return False

        until(is_ready, 60)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.get(f"{url}/v1/scores/ztf/7", headers=headers, timeout=10).json()["store"]["behind_messages"] == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert TOKEN not in log.read_text() and f"serving on {url}" in log.read_text()


def test_command_checks_and_describes_itself(write, capsys):
    from dgl_broker.cli import main

    assert main(["serve", "--config", str(write("port: 99999\n")), "--check"]) == 2
    assert "port: found 99999" in capsys.readouterr().out
    assert main(["serve", "--config", str(write("surveys: {ztf: {}}\n")), "--openapi"]) == 0
    assert '"/v1/score"' in capsys.readouterr().out
    assert main(["serve", "--config", str(write("port: 99999\n"))]) == 2


def test_answer_takes_little_longer_than_the_wait_for_company(service):
    ask(service, [b"1 scored"])
    began = time.perf_counter()
    for _ in range(10):
        ask(service, [b"1 scored"])
    assert (time.perf_counter() - began) / 10 < 1.0


def test_record_of_an_alert_needs_a_store(service):
    answer = requests.get(f"{service.url}/v1/scores/ztf/1", timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (404, "no_store")
    assert record(1)["alert_id"] == 1
