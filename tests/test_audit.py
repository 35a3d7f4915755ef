"""The audit: every input of a window has its outcome, or is on the list with the reason why not."""

import io
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import fastavro
import pytest
from fake_scorer import FakeScorer

from dgl_broker.cli import main
from dgl_broker.cli.audit import report_text
from dgl_broker.errors import InputUnavailable
from dgl_broker.stream.audit import AGAIN, DEAD, PASSED, SCORED, Window, input_topics, place_of_score

ROOT = Path(__file__).parents[1]
HOUR_MS = 3_600_000


def test_window_counts_outcomes_of_its_own_offsets_alone():
    window = Window({("in", 0): (10, 20)})
    assert window.note(("in", 0), 10, SCORED | PASSED, counts=True)
    assert not window.note(("in", 0), 20, SCORED) and not window.note(("in", 0), 9, SCORED)
    assert not window.note(("in", 1), 10, SCORED) and not window.note(None, None, SCORED)
    assert not window.note(("in", 0), None, SCORED)
    for _ in range(300):
        window.note(("in", 0), 19, DEAD, counts=True)
    window.note(("in", 0), 19, SCORED | AGAIN)
    assert window.of(("in", 0), 10) == (SCORED | PASSED, 1)
    assert window.of(("in", 0), 11) == (0, 0)
    assert window.of(("in", 0), 19) == (DEAD | SCORED | AGAIN, 255)  # as many as the byte holds, and no bit of it spoilt


def test_window_keeps_two_bytes_an_offset():
    window = Window({("in", 0): (0, 1_000_000)})
    assert window.marks["in", 0].nbytes == 2_000_000


@pytest.mark.parametrize(
    ("source", "place"),
    [("in[3]", ("in", 3)), ("ztf_20261122_programid1[15]", ("ztf_20261122_programid1", 15)), ("a.avro", None), (None, None)],
)
def test_place_of_a_score_is_that_of_its_input(source, place):
    assert place_of_score({"source": source, "source_row": 7}) == ((place, 7) if place else (None, None))


def test_rolling_topics_of_a_window_are_those_of_all_its_nights():
    begin, end = (int(datetime(2026, 11, day, 6, tzinfo=UTC).timestamp() * 1000) for day in (20, 22))
    names = input_topics(["ztf_{night:%Y%m%d}_programid1", "more"], 2, begin, end)
    assert set(names) == {"more", *(f"ztf_202611{day}_programid1" for day in (19, 20, 21, 22))}


def test_a_window_must_end_after_it_begins(tmp_path):
    given = ["audit", "--config", str(tmp_path / "none.yaml")]
    assert main([*given, "--from", "2026-11-22", "--to", "2026-11-21"]) == 2
    assert main([*given, "--from", "2026-11-22", "--to", "soon"]) == 2
    assert main([*given, "--from", "2026-11-21", "--to", "2026-11-22"]) == 3


# On Apache Kafka


@pytest.fixture
def place(kafka, tmp_path, request):
    from kafka.looking_back import Place

    return lambda **how: Place(kafka, request.node.name, tmp_path, **how)


def audit(one, begin=None, end=None, scorer=None, settings=None):
    """The report on all of a test's input, or on a window of it."""
    from dgl_broker.stream.audit import Audit
    from dgl_broker.stream.stopping import Stop

    now = time.time_ns() // 1_000_000
    made = Audit(settings or one.settings, Stop(), scorer=scorer or FakeScorer())
    return made.audit(begin or now - HOUR_MS, end or now + HOUR_MS)


def commit(one, offsets):
    """Commit for the group from outside it: partition -> offset."""
    from kafka import looking_back

    looking_back.commit(one.servers, one.name, f"{one.name}.in", offsets)


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_calm_run_is_complete(place, delivery):
    one = place(delivery=delivery)
    one.feed(0, 100)
    one.run()
    report = audit(one)
    told = ("inputs", "scored", "refused_published", "refused_unpublished", "dead_lettered", "duplicates", "complete")
    assert [report[name] for name in told] == [100, 40, 20, 20, 20, 0, True]
    assert report["refused_unpublished_by_reason"] == {"precut.faint": 20}
    assert report["topics"] == [f"{one.name}.in"] and not report["listed"]
    assert report_text(report).endswith("\ncomplete")


@pytest.mark.kafka
def test_what_is_not_read_yet_and_what_was_skipped_are_on_the_list(place):
    one = place()
    one.feed(0, 40)
    one.run()
    one.feed(40, 20)
    report = audit(one)
    assert (report["waiting"], report["lost"], report["complete"]) == (20, 0, False)
    commit(one, {0: 30, 1: 30})  # as if someone had moved the group past them: 4 are refused by a pre-cut, 16 are lost
    report = audit(one)
    assert (report["waiting"], report["lost"], report["refused_unpublished"]) == (0, 16, 12)
    listed = report["listed"]["lost"]
    assert {row["input"] for row in listed} <= {f"{one.name}.in[{p}]@{o}" for p in (0, 1) for o in range(20, 30)}
    assert sorted(int(row["alert_id"]) for row in listed if row["alert_id"]) == [n for n in range(40, 60) if n % 5 in (0, 1, 3)]
    assert sum("dead_lettered (truncated)" in row["found"] for row in listed) == 4
    assert "16 without an outcome" in report_text(report) and report_text(report).endswith("NOT complete")


@pytest.mark.kafka
def test_duplicates_are_counted_and_no_failure_but_under_exactly_once(place):
    one = place()
    one.feed(0, 20)
    one.run()
    commit(one, {0: 5, 1: 10})  # the last five of one partition are read again: one of them is a pre-cut's refusal
    assert one.run()["consumed"] == 5
    report = audit(one)
    assert (report["inputs"], report["duplicates"], report["inputs_with_duplicates"], report["complete"]) == (20, 4, 4, True)
    strict = audit(one, settings=one.settings.model_copy(update={"delivery": "exactly_once"}))
    assert (strict["twice"], strict["complete"]) == (4, False)


@pytest.mark.kafka
def test_adjacent_windows_share_no_input(place):
    from confluent_kafka import Producer

    one = place()
    began = time.time_ns() // 1_000_000 - HOUR_MS // 2
    producer = Producer({"bootstrap.servers": one.servers})
    for n in range(60):
        producer.produce(f"{one.name}.in", f"{n} scored".encode(), partition=n % 2, timestamp=began + 1000 * n)
    producer.flush(30)
    one.run()
    middle = began + 21_000
    parts = [audit(one, began, middle), audit(one, middle, began + HOUR_MS)]
    assert [p["inputs"] for p in parts] == [21, 39] and all(p["complete"] for p in parts)
    assert audit(one, began - HOUR_MS, began)["inputs"] == 0


@pytest.mark.kafka
def test_replayed_dead_letters_and_missing_candidates_are_told(place):
    from kafka.looking_back import Fixed

    from dgl_broker.stream.redelivery import Redelivery
    from dgl_broker.stream.stopping import Stop

    one = place()
    one.feed(0, 20)
    one.run()
    assert Redelivery(one.settings, Stop(), scorer=Fixed()).replay()["scored"] == 4
    report = audit(one)
    assert (report["dead_lettered"], report["dead_lettered_and_replayed"], report["duplicates"]) == (4, 4, 0)
    assert report["of_two_kinds"] == 0 and report["complete"]
    output = one.settings.output.model_copy(update={"candidates": f"{one.name}.lost"})
    report = audit(one, settings=one.settings.model_copy(update={"output": output}))
    assert (report["candidates_missing"], report["complete"]) == (8, False)


class Injecting(FakeScorer):
    """Its candidates are synthetic sources of the survey."""

    def _one(self, message):
        outcome = super()._one(message)
        if b"candidate" in message.value:
            outcome.alert.facts["is_injected"] = True
        return outcome


@pytest.mark.kafka
def test_injected_alert_that_passes_is_no_missing_candidate(place):
    one = place()
    one.feed(0, 20)
    one.run(Injecting())
    assert not one.messages("candidates")
    report = audit(one, scorer=Injecting())
    assert (report["scored"], report["candidates_missing"], report["complete"]) == (8, 0, True)


@pytest.mark.kafka
def test_filter_and_rekey_may_share_input_and_dead_letters(place, tmp_path):
    """Nothing here is a packet, so that `rekey` dead-letters all, the filter a fifth."""
    from dgl_broker.settings_rekey import Rekey, RekeySettings
    from dgl_broker.stream.rekey import RekeyWorker
    from dgl_broker.stream.rekey_audit import RekeyAudit
    from dgl_broker.stream.stopping import Stop

    one = place(delivery="exactly_once")
    one.feed(0, 50)
    one.run()
    other = RekeySettings(
        survey="ztf",
        filters=[],
        kafka={**one.raw["kafka"], "group.id": f"{one.name}.rekey"},
        input=one.settings.input,
        rekey=Rekey(topic=f"{one.name}.slim", dead_letters=f"{one.name}.dead_letters", spill=str(tmp_path / "spill")),
        status=str(tmp_path / "status"),
    )
    worker = RekeyWorker(other, Stop())
    worker.run(until_eof=True)
    assert worker.summary()["dead_lettered"] == 50
    groups = [dict(m.headers())["group"].decode() for m in one.messages("dead_letters")]
    assert sorted(groups) == [one.name] * 10 + [f"{one.name}.rekey"] * 50
    report = audit(one)
    assert [report[key] for key in ("scored", "dead_lettered", "twice", "complete")] == [20, 10, 0, True]
    now = time.time_ns() // 1_000_000
    report = RekeyAudit(other, Stop()).audit(now - HOUR_MS, now + HOUR_MS)
    assert [report[key] for key in ("inputs", "dead_lettered", "twice", "complete")] == [50, 50, 0, True]
    # What one has lost is not made good by the other's letter.
    one.feed(50, 10)
    worker = RekeyWorker(other, Stop())
    worker.run(until_eof=True)
    commit(one, {0: 30, 1: 30})
    report = audit(one)
    assert (report["dead_lettered"], report["lost"], report["complete"]) == (10, 8, False)


@pytest.mark.kafka
def test_dead_letters_of_before_groups_were_named_count(place):
    from confluent_kafka import Producer

    one = place(delivery="exactly_once")
    one.feed(0, 20)
    one.run()
    letter = one.messages("dead_letters")[0]
    producer = Producer({"bootstrap.servers": one.servers})
    headers = [(name, value) for name, value in letter.headers() if name != "group"]
    producer.produce(f"{one.name}.dead_letters", letter.value(), letter.key(), headers=headers)
    producer.flush(30)
    assert audit(one)["twice"] == 1


def feed_old(one, n, age_s):
    """`n` messages of every word in turn, with the Kafka timestamp of `age_s` ago."""
    from confluent_kafka import Producer
    from kafka.looking_back import WORDS

    producer, then = Producer({"bootstrap.servers": one.servers}), int((time.time() - age_s) * 1000)
    for i in range(n):
        producer.produce(f"{one.name}.in", f"{i} {WORDS[i % len(WORDS)]}".encode(), partition=i % 2, timestamp=then)
    producer.flush(30)


@pytest.mark.kafka
def test_alerts_refused_as_too_old_are_found_where_refusals_are_published(place):
    one = place(overload={"max_age_s": 600.0})
    feed_old(one, 10, 1800)
    assert one.run()["refused_by_reason"] == {"too_old": 8}
    report = audit(one)
    assert (report["refused_published"], report["dead_lettered"], report["perhaps_too_old"]) == (8, 2, 0)
    assert report["complete"]
    # Its record would be there: what has none was not refused, however old it is.
    feed_old(one, 5, 1800)
    commit(one, {0: 8, 1: 7})
    report = audit(one)
    assert (report["lost"], report["perhaps_too_old"], report["refused_unpublished"]) == (4, 0, 1)


@pytest.mark.kafka
def test_old_alert_without_a_trace_is_told_apart_where_refusals_are_not_published(place):
    one = place(overload={"max_age_s": 600.0}, output={"refused": "none"})
    feed_old(one, 10, 1800)
    assert one.run()["refused_by_reason"] == {"too_old": 8}
    report = audit(one)
    # Of eight two are a pre-cut's and two poor: refused either way, and not to be published.
    assert (report["lost"], report["perhaps_too_old"], report["refused_unpublished"]) == (0, 4, 4)
    assert "publishes no trace of that" in report_text(report) and not report["complete"]
    one.feed(10, 10)  # fresh ones: whenever they were read, they were not too old
    commit(one, {0: 10, 1: 10})
    report = audit(one)
    assert (report["lost"], report["perhaps_too_old"]) == (6, 4)


@pytest.mark.kafka
def test_what_retention_took_is_told(place):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    one = place()
    one.feed(0, 40)
    one.run()
    one.feed(40, 40)
    admin = AdminClient({"bootstrap.servers": one.servers})
    admin.delete_records([TopicPartition(f"{one.name}.in", 0, 30)])  # as retention does, and at once
    deadline = time.monotonic() + 20
    while (report := audit(one))["cut_by_retention"] == [] and time.monotonic() < deadline:
        pass
    assert report["cut_by_retention"] == [f"{one.name}.in[0]@30"]
    assert (report["expired"], report["inputs"], report["waiting"]) == (10, 50, 30)


@pytest.mark.kafka
def test_command_ends_with_8_and_says_what_is_wrong(place, tmp_path, capsys):
    one = place()
    one.feed(0, 3)
    config = tmp_path / "broker.yaml"
    config.write_text(json.dumps(one.raw))  # JSON is YAML
    line = ["audit", "--config", str(config), "--summary", str(tmp_path / "s.json")]
    assert main([*line, "--from", "2026-01-01", "--to", "2100-01-01"]) == 8
    report = json.loads((tmp_path / "s.json").read_text())
    assert (report["waiting"], report["complete"], len(report["listed"]["waiting"])) == (3, False, 3)
    assert "3 not read yet" in capsys.readouterr().out


@pytest.mark.kafka
def test_missing_input_topic_is_no_empty_window(place):
    one = place()
    read = one.settings.input.model_copy(update={"topics": [f"{one.name}.nowhere"]})
    with pytest.raises(InputUnavailable, match="nowhere"):
        audit(one, settings=one.settings.model_copy(update={"input": read}))


@pytest.mark.kafka
def test_real_packets_from_a_missing_schema_to_replay_and_audit(place, tmp_path):
    """The real Scorer throughout, also where inputs without an outcome are judged; our records framed by a registry."""
    pytest.importorskip("lsst.alert.packet", reason="lsst-alert-packet has the official schemas")
    from kafka import flow
    from kafka.registry import Registry, official_lsst_schemas

    from dgl_broker.settings_model import Settings
    from dgl_broker.stream.redelivery import Redelivery
    from dgl_broker.stream.stopping import Stop
    from dgl_broker.stream.worker import Worker

    bundle, templates, registry = flow.tiny_bundle(tmp_path / "bundle", "lsst", 0.2), flow.LsstTemplates(), Registry()
    none = flow.filter_file(tmp_path / "none.yaml", "lsst", {"n_detections": {"min": 1_000_000}}, 0.0, bundle.sha256)
    how = {"survey": "lsst", "bundle": str(tmp_path / "bundle"), "output": {"registry": registry.url}}
    blind = place(**how, filters=[])
    flow.produce(blind.servers, f"{blind.name}.in", [templates.packet(n) for n in range(6)], 2)
    worker = Worker(blind.settings, Stop())
    worker.run(until_eof=True)
    assert worker.summary()["dead_lettered_by_reason"] == {"unknown_schema": 6}

    registry.schemas |= official_lsst_schemas()
    raw = {**blind.raw, "input": {**blind.raw["input"], "schemas": registry.url}}
    seeing = Settings.model_validate(raw)
    assert Redelivery(seeing, Stop()).replay()["scored"] == 6
    records = [registry_record(m, registry) for m in blind.messages("scores")]
    assert {r["alert_id"] for r in records} == {templates.alert_id(n) for n in range(6)}
    report = audit(blind, settings=seeing)
    assert (report["dead_lettered_and_replayed"], report["unreadable_outputs"], report["complete"]) == (6, 0, True)

    flow.produce(blind.servers, f"{blind.name}.in", [templates.packet(n) for n in range(6, 12)], 2)
    commit(blind, {0: 6, 1: 6})
    report = real_audit(seeing)
    assert report["lost"] == 6
    assert {row["alert_id"] for row in report["listed"]["lost"]} == {str(templates.alert_id(n)) for n in range(6, 12)}
    report = real_audit(Settings.model_validate({**raw, "filters": [str(none)]}))
    assert report["refused_unpublished_by_reason"] == {"precut.n_detections": 6} and report["complete"]
    registry.close()


def real_audit(settings):
    """The report with the Scorer that the settings ask for."""
    from dgl_broker.stream.audit import Audit
    from dgl_broker.stream.stopping import Stop

    now = time.time_ns() // 1_000_000
    return Audit(settings, Stop()).audit(now - HOUR_MS, now + HOUR_MS)


def registry_record(message, registry):
    """A framed record by fastavro and the registry's schema."""
    number = int.from_bytes(message.value()[1:5], "big")
    schema = fastavro.parse_schema(registry.schemas[number])
    return fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), schema)
