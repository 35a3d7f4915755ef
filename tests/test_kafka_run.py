"""`dgl-broker run` on Apache Kafka: whole processes, real packets, every input accounted for."""

import io
import json
import os
import signal
import struct
import time
from collections import Counter

import fastavro
import pytest
from kafka import flow
from kafka.broker import free_ports

pytestmark = pytest.mark.kafka
N_ALERTS, N_PARTITIONS = 5000, 8
BROKEN_EVERY = 97  # co-prime to the number of templates and of partitions


@pytest.fixture(scope="module")
def ztf(tmp_path_factory):
    """Templates, a bundle, a filter that passes about half of what is scored, and what the Scorer says of each template."""
    from dgl_broker.scorer import Scorer

    folder = tmp_path_factory.mktemp("ztf")
    bundle = flow.tiny_bundle(folder / "bundle", "ztf", 1.01)
    templates = flow.ZtfTemplates()
    require = {"is_positive": {"equals": True}}
    packets = [templates.packet(n) for n in range(len(flow.TEMPLATES))]
    free = Scorer("ztf", folder / "bundle").score(packets)
    scores = [o.scores.log_odds for o in free if o.alert.facts["is_positive"]]
    middle = sum(scores) / len(scores)
    path = flow.filter_file(folder / "half.yaml", "ztf", require, middle, bundle.sha256)
    direct = Scorer("ztf", folder / "bundle", filters=[path]).score(packets)
    assert Counter(o.status for o in direct) == {"scored": 2, "refused": 3}
    return folder, templates, path, direct


@pytest.fixture
def start(tmp_path):
    """Starts `dgl-broker run` processes: `start(name, config, *arguments)`; those still running are killed at the end."""
    started = []

    def start_one(name, config, *arguments, **options):
        started.append(flow.Filter(tmp_path / name, config, *arguments, **options))
        return started[-1]

    yield start_one
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(20)


def configuration(folder, kafka, name, **changes):
    """A broker.yaml with topics and group of its own; JSON is YAML."""
    settings = {
        "survey": "ztf",
        "bundle": "./bundle",
        "filters": ["half.yaml"],
        "kafka": {"bootstrap.servers": kafka.bootstrap_servers, "session.timeout.ms": 6000, "group.id": name},
        "input": {"topics": [f"{name}.in"]},
        "output": {
            "scores": f"{name}.scores",
            "candidates": f"{name}.candidates",
            "dead_letters": f"{name}.deadletters",
            "spill": f"spill-{name}",
        },
        "batch": {"max_alerts": 64, "max_wait_s": 0.2},
    }
    for section, values in changes.items():
        settings[section] = {**settings[section], **values} if isinstance(values, dict) and section in settings else values
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(settings))
    return path


def inputs(templates, n):
    """`n` values: alerts, and every so often one that is cut short."""
    for i in range(n):
        value = templates.packet(i)
        yield value[: len(value) // 2] if i % BROKEN_EVERY == 0 else value


def expected_outcomes(direct, n):
    """What is to come of each of `inputs`: alert id -> outcome of its template; and how many dead letters."""
    alerts = {flow.FIRST_ID + i: direct[i % len(direct)] for i in range(n) if i % BROKEN_EVERY}
    return alerts, n - len(alerts)


def check_outputs(kafka, name, direct, n, refused_published=False):
    """Every input has its outcome where it belongs, equal to what the Scorer says; returns how many came twice."""
    alerts, n_dead = expected_outcomes(direct, n)
    scored = {i for i, o in alerts.items() if o.status == "scored"}
    passed = {i for i in scored if alerts[i].verdicts[0].passed}
    assert passed and passed < scored

    scores = flow.read_topic(kafka.bootstrap_servers, f"{name}.scores")
    records = flow.containers(scores)
    wanted = set(alerts) if refused_published else scored
    found = Counter(r["alert_id"] for r in records)
    assert set(found) == wanted
    for message, record in zip(scores, records):
        outcome = alerts[record["alert_id"]]
        assert record["status"] == outcome.status and record["reason"] == outcome.reason
        assert message.key() == record["object_id"].encode()
        headers = dict(message.headers())
        assert headers["message_id"].decode() == record["message_id"]
        if outcome.scores is not None:
            assert record["log_odds"] == pytest.approx(outcome.scores.log_odds, abs=1e-4)
            assert record["bundle_sha256"] == outcome.scores.bundle_sha256
        assert record["published_ms"] >= record["arrived_ms"] > 0

    candidates = flow.containers(flow.read_topic(kafka.bootstrap_servers, f"{name}.candidates"))
    assert {r["alert_id"] for r in candidates} == passed
    assert all([v["filter"] for v in r["verdicts"]] == ["half"] and r["verdicts"][0]["passed"] for r in candidates)

    dead = flow.containers(flow.read_topic(kafka.bootstrap_servers, f"{name}.deadletters"))
    places = Counter((r["partition"], r["offset"]) for r in dead)
    assert len(places) == n_dead
    assert all(r["reason"] == "truncated" and r["topic"] == f"{name}.in" and len(r["value"]) == r["size"] for r in dead)
    return sum(found.values()) - len(found) + sum(places.values()) - len(places)


def test_two_members_that_join_and_leave_account_for_every_alert(kafka, ztf, start):
    folder, templates, _, direct = ztf
    name = "joinleave"
    kafka.create_topic(f"{name}.in", N_PARTITIONS)
    config = configuration(folder, kafka, name)
    half = N_ALERTS // 2
    values = list(inputs(templates, N_ALERTS))
    flow.produce(kafka.bootstrap_servers, f"{name}.in", values[:half], N_PARTITIONS)

    first = start("first", config)
    first.wait_for("given 8 partitions")
    second = start("second", config)
    second.wait_for("given 4 partitions")
    flow.produce(kafka.bootstrap_servers, f"{name}.in", values[half:], N_PARTITIONS)
    first.signal(signal.SIGTERM)
    assert first.wait() == 128 + signal.SIGTERM
    third = start("third", config, "--until-eof")
    assert third.wait() == 0
    deadline = time.monotonic() + 60
    while sum(flow.committed(kafka.bootstrap_servers, name, f"{name}.in").values()) != N_ALERTS:
        assert time.monotonic() < deadline, "what is left was not read within a minute"
        time.sleep(0.2)
    second.signal(signal.SIGTERM)
    assert second.wait() == 128 + signal.SIGTERM

    twice = check_outputs(kafka, name, direct, N_ALERTS)
    summaries = [member.summary for member in (first, second, third)]
    for s in summaries:
        assert s["consumed"] == s["scored"] + s["refused"] + s["dead_lettered"]
        assert s["expired"] == 0
    assert summaries[0]["consumed"] > 0 and summaries[1]["consumed"] > 0
    # Members that leave in order repeat nothing.
    assert twice == 0 and sum(s["consumed"] for s in summaries) == N_ALERTS
    alerts, n_dead = expected_outcomes(direct, N_ALERTS)
    assert sum(s["dead_lettered"] for s in summaries) == n_dead
    refused = Counter(o.reason for o in alerts.values() if o.status == "refused")
    assert sum((Counter(s["refused_by_reason"]) for s in summaries), Counter()) == refused
    assert sum(s["candidates"] for s in summaries) == sum(bool(o.verdicts) and o.verdicts[0].passed for o in alerts.values())


def test_lsst_through_a_registry_that_speaks_the_confluent_api(kafka, start, tmp_path):
    packet = pytest.importorskip("lsst.alert.packet", reason="lsst-alert-packet has the official schemas")
    assert packet
    from kafka.registry import Registry, official_lsst_schemas

    n, name = 90, "lsstregistry"
    flow.tiny_bundle(tmp_path / "bundle", "lsst", 0.2)
    templates = flow.LsstTemplates()
    registry = Registry(official_lsst_schemas(), "reader", "n0t-in-any-log")
    kafka.create_topic(f"{name}.in", 4)
    unknown = b"\x00" + struct.pack(">I", 4711) + b"\x00" * 20
    flow.produce(kafka.bootstrap_servers, f"{name}.in", [*(templates.packet(i) for i in range(n)), unknown], 4)
    config = configuration(
        tmp_path,
        kafka,
        name,
        survey="lsst",
        filters=[],
        input={"schemas": registry.url, "schemas_user": "reader"},
        output={"registry": registry.url, "registry_user": "reader", "refused": "all"},
    )
    shared = os.environ.get("DGL_SHARED")
    if shared:
        # DESC's message as well: its schema is not ours to ship.
        settings = json.loads(config.read_text())
        settings["output"]["desc"] = {"topic": f"{name}.desc", "schemas": f"{shared}/data/schemas"}
        config.write_text(json.dumps(settings))
    secrets = {
        "DGL_BROKER__INPUT__SCHEMAS_PASSWORD": "n0t-in-any-log",
        "DGL_BROKER__OUTPUT__REGISTRY_PASSWORD": "n0t-in-any-log",
    }
    member = start("member", config, "--until-eof", environ=secrets)
    assert member.wait() == 0, member.log
    summary = member.summary
    assert summary["consumed"] == n + 1 and summary["dead_lettered_by_reason"] == {"unknown_schema": 1}
    assert summary["candidates"] == 0
    assert "n0t-in-any-log" not in member.log + member.summary_file.read_text()

    # Each schema is asked for once, however many messages it wrote.
    ids = [path for path in registry.asked if path.startswith("/schemas/ids/")]
    assert sorted(ids) == ["/schemas/ids/1000", "/schemas/ids/4711", "/schemas/ids/703", "/schemas/ids/900"]
    records = framed(kafka, f"{name}.scores", registry)
    assert {r["alert_id"] for r in records} == {templates.alert_id(i) for i in range(n)}
    assert [r["status"] for r in records] == ["scored"] * n and summary["scored"] == n
    (dead,) = framed(kafka, f"{name}.deadletters", registry)
    assert dead["value"] == unknown and "4711" in dead["error"]
    if shared:
        messages = flow.containers(flow.read_topic(kafka.bootstrap_servers, f"{name}.desc"))
        wanted = {templates.alert_id(i) for i in range(n) if i % 3 == 2}  # those of schema 10.0
        assert {m["diaSource"]["diaSourceId"] for m in messages} == wanted
        assert all(sum(c["probability"] for c in m["classifications"]) == pytest.approx(1.0) for m in messages)
    registry.close()


def framed(kafka, topic, registry):
    """Records of a topic with the schema that its subject has in the registry."""
    ((number, schema),) = registry.subjects[f"{topic}-value"]
    parsed = fastavro.parse_schema(schema)
    out = []
    for message in flow.read_topic(kafka.bootstrap_servers, topic):
        assert message.value()[:5] == struct.pack(">bI", 0, number)
        out.append(fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), parsed))
    return out


def test_second_signal_leaves_at_once_and_loses_nothing(kafka, ztf, start):
    folder, templates, _, direct = ztf
    name, n = "twosignals", 300
    kafka.create_topic(f"{name}.in", N_PARTITIONS)
    # A batch that never closes by itself: it is in hand when the signals come.
    config = configuration(folder, kafka, name, output={"refused": "all"}, batch={"max_alerts": 5000, "max_wait_s": 0.5})
    flow.produce(kafka.bootstrap_servers, f"{name}.in", inputs(templates, n), N_PARTITIONS)
    one = start("one", config)
    one.wait_for("holding 8")
    began = time.monotonic()
    one.signal(signal.SIGTERM)
    one.wait_for("finishing the batch in hand")
    one.signal(signal.SIGTERM)
    assert one.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5.0
    last = start("last", config, "--until-eof")
    assert last.wait() == 0, last.log
    check_outputs(kafka, name, direct, n, refused_published=True)


def test_missing_schema_folder_and_unreachable_registry_say_so_by_exit_code(kafka, start, tmp_path):
    flow.tiny_bundle(tmp_path / "bundle", "lsst", 0.2)
    config = configuration(tmp_path, kafka, "noschemas", survey="lsst", filters=[], input={"schemas": "nowhere"})
    one = start("one", config, "--until-eof")
    assert one.wait() == 3 and "nowhere is no folder" in one.log
    (closed,) = free_ports(1)
    settings = {"input": {"schemas": f"http://127.0.0.1:{closed}"}, "service": {"timeout_s": 1.0}}
    config = configuration(tmp_path, kafka, "noregistry", survey="lsst", filters=[], **settings)
    one = start("two", config, "--until-eof")
    assert one.wait() == 5 and "ConnectionError" in one.log
