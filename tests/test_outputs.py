"""Records, their Avro, dead letters and DESC's message: read back with fastavro's own readers."""

import io
import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import fastavro
import numpy as np
import pytest
from fake_scorer import BUNDLE, alert, scores

from dgl_broker.alert import Message
from dgl_broker.errors import ConfigError, InputUnavailable, ServiceFailed, StateError
from dgl_broker.message_id import message_id
from dgl_broker.outputs import as_json, candidate_record, dead_letter_record, score_record, table_row
from dgl_broker.outputs.avro import ContainerForm, load_schema, make_form
from dgl_broker.outputs.deadletters import spill
from dgl_broker.outputs.publish import Provenance, Publisher
from dgl_broker.scores import Beside, Outcome, Verdict

GOLDEN = Path(__file__).parent / "golden"
# Issue's list of the columns of scores.parquet, in its order.
COLUMNS = (  # noqa: SIM905
    "survey alert_id object_id mjd_tai ra dec band status reason p_no_lens p_lens p_lensed_sn_ia p_lensed_sn_cc p_lsn log_odds "
    "posterior prevalence p_value p_value_floor stratum member_p_lsn spread bands_used n_epochs companion_alert_ids verdicts "
    "bundle_id bundle_sha256 calibration_id device precision message_id source source_row"
).split()
STREAM_FIELDS = ("arrived_ms", "published_ms", "magnitude", "injected")
SHADOW_FIELDS = (  # noqa: SIM905
    "shadow_bundle_id shadow_bundle_sha256 shadow_reason shadow_p_no_lens shadow_p_lens shadow_p_lensed_sn_ia "
    "shadow_p_lensed_sn_cc shadow_p_lsn shadow_log_odds shadow_posterior"
).split()
LARGEST = 2**63 - 1
MESSAGE = Message(b"packet", "alerts", 3, 17, b"key", 1_795_312_800_000, (("producer_timestamp", b"1"), ("odd", None)))


def scored(alert_id=LARGEST, passed=True, **changes):
    completeness = SimpleNamespace(bands_used="gr", n_epochs=5, companion_alert_ids=(LARGEST - 1, 7))
    verdicts = (
        Verdict("bright", 3, passed, () if passed else (("n_detections", 1),)),
        Verdict("blue", 1, False, (("log_odds", np.float32(0.5)), ("is_positive", False), ("name", "x"), ("unknown", None))),
    )
    values = {"alert": alert(alert_id), "completeness": completeness, "scores": scores(), "verdicts": verdicts}
    return Outcome("scored", MESSAGE, **{**values, **changes})


def refused(reason, alert_id=5, **facts):
    return Outcome("refused", MESSAGE, reason, "made up", alert=alert(alert_id, **facts))


def dead(value=b"broken"):
    return Outcome("dead_lettered", Message(value, "alerts", 3, 18), "truncated", "alerts[3]@18: 6 bytes", "Traceback ...")


def read(value):
    (record,) = fastavro.reader(io.BytesIO(value))
    return record


def publisher(tmp_path, **changes):
    topics = {"scores": "s", "candidates": "c", "dead_letters": "d"}
    forms = {k: make_form("dead_letter" if k == "dead_letters" else "score", t) for k, t in topics.items()}
    given = {"spill_folder": tmp_path / "spill", "programids": frozenset({1}), **changes}
    return Publisher(topics, forms, Provenance("ztf", "fake", BUNDLE), **given)


def test_record_has_the_columns_of_the_table_and_what_readers_of_the_stream_need():
    record = score_record(scored(), published_ms=5)
    assert set(record) == {*COLUMNS, *STREAM_FIELDS, *SHADOW_FIELDS}
    assert set(table_row(record)) == {*COLUMNS, *SHADOW_FIELDS}
    assert [f["name"] for f in load_schema("score")["fields"]] == [*COLUMNS, *STREAM_FIELDS, *SHADOW_FIELDS]


def test_record_says_what_a_shadow_bundle_says_and_why_it_says_nothing():
    beside = Beside("fresh", "cd" * 32, scores(log_odds=2.5))
    record = score_record(scored(shadow=beside))
    assert read(ContainerForm(load_schema("score")).encode(record)) == record
    assert (record["shadow_bundle_id"], record["shadow_log_odds"], record["log_odds"]) == ("fresh", 2.5, 1.5)
    assert record["message_id"] == score_record(scored())["message_id"]
    refused_by_it = score_record(scored(shadow=Beside("fresh", "cd" * 32, None, "no_cutouts")))
    assert refused_by_it["shadow_reason"] == "no_cutouts" and refused_by_it["shadow_bundle_sha256"] == "cd" * 32
    assert refused_by_it["shadow_log_odds"] is None
    assert {score_record(scored())[name] for name in SHADOW_FIELDS} == {None}


def test_record_says_how_bright_the_trigger_is_and_whether_it_is_real():
    record = score_record(scored(alert=alert(7, magnitude=np.float64(19.5), is_injected=True)))
    assert read(ContainerForm(load_schema("score")).encode(record)) == record
    assert (record["magnitude"], record["injected"]) == (19.5, True)
    assert score_record(scored())["injected"] is None


def test_ids_at_the_end_of_int64_come_back_exact():
    record = read(ContainerForm(load_schema("score")).encode(score_record(scored())))
    assert record["alert_id"] == LARGEST and record["companion_alert_ids"] == [LARGEST - 1, 7]
    lowest = read(ContainerForm(load_schema("score")).encode(score_record(scored(-(2**63)))))
    assert lowest["alert_id"] == -(2**63)


def test_record_comes_back_as_it_went():
    record = score_record(scored(), published_ms=1_795_312_801_000)
    back = read(ContainerForm(load_schema("score")).encode(record))
    assert back == record
    assert back["source"] == "alerts[3]" and back["source_row"] == 17 and back["arrived_ms"] == 1_795_312_800_000
    failed = back["verdicts"][1]["failed"]
    assert [f["value"] for f in failed] == [0.5, False, "x", None]
    assert [type(f["value"]) for f in failed] == [float, bool, str, type(None)]


def test_refused_record_says_which_bundle_was_in_force():
    record = score_record(refused("no_cutouts"), "fake", BUNDLE)
    assert record["log_odds"] is None and record["bundle_sha256"] == BUNDLE and record["reason"] == "no_cutouts"
    assert record["message_id"] == message_id("ztf", 5, BUNDLE)
    assert read(ContainerForm(load_schema("score")).encode(record)) == record


def test_outcome_without_an_alert_has_no_record():
    with pytest.raises(ValueError, match="too_old"):
        score_record(Outcome("refused", MESSAGE, "too_old"))


def test_message_id_is_that_of_the_inputs_and_of_nothing_else():
    ids = {score_record(scored(), published_ms=t)["message_id"] for t in (1, 2)} | {
        score_record(scored(passed=False))["message_id"]
    }
    assert len(ids) == 1
    other = [
        score_record(scored(6))["message_id"],
        score_record(scored(completeness=SimpleNamespace(companion_alert_ids=(7,))))["message_id"],
        candidate_record(score_record(scored()))["message_id"],
    ]
    assert len(ids | set(other)) == 4


def test_candidate_names_the_filters_that_passed():
    record = score_record(scored())
    candidate = candidate_record(record)
    assert [v["filter"] for v in candidate["verdicts"]] == ["bright"]
    assert candidate_record(score_record(scored(passed=False))) is None
    newer = scored(verdicts=(Verdict("bright", 4, True),))
    assert candidate_record(score_record(newer))["message_id"] != candidate["message_id"]


def test_json_keeps_large_integers_and_has_no_nan():
    text = as_json({"id": LARGEST, "n": 5, "x": float("nan"), "deep": [float("inf"), -(2**60)], "yes": True})
    assert json.loads(text) == {"id": str(LARGEST), "n": 5, "x": None, "deep": [None, str(-(2**60))], "yes": True}


def test_table_row_holds_verdicts_as_json():
    row = table_row(score_record(scored()))
    assert json.loads(row["verdicts"])[0] == {"filter": "bright", "version": 3, "passed": True, "failed": []}


def test_headers_and_key(tmp_path):
    (score, candidate) = publisher(tmp_path).outputs(scored())
    assert (score.topic, candidate.topic) == ("s", "c")
    assert score.key == f"object{LARGEST}".encode()
    headers = dict(score.headers)
    assert headers["message_id"].decode() == read(score.value)["message_id"]
    assert headers["schema"] == b"dgl_broker.Score/1" and headers["bundle"] == f"fake@{BUNDLE}".encode()


@pytest.mark.parametrize(
    ("which", "published"),
    [("all", {"no_cutouts", "precut.faint"}), ("scorable", {"no_cutouts"}), ("none", set()), (0.0, set())],
)
def test_which_refusals_are_published(tmp_path, which, published):
    one = publisher(tmp_path, refused=which)
    outputs = [o for reason in ("no_cutouts", "precut.faint") for o in one.outputs(refused(reason))]
    assert {read(o.value)["reason"] for o in outputs} == published


def test_sample_of_refusals_is_the_same_everywhere_and_of_its_rate(tmp_path):
    ids = range(4000)
    samples = [
        {i for i in ids if publisher(tmp_path, refused=rate).outputs(refused("precut.faint", i))} for rate in (0.1, 0.1, 0.3)
    ]
    assert samples[0] == samples[1] < samples[2]
    # Binomial: 400 +- 19.
    assert abs(len(samples[0]) - 400) < 5 * 19


def test_partnership_data_and_unknown_programmes_are_withheld(tmp_path):
    one = publisher(tmp_path, refused="all")
    assert one.outputs(scored(alert=alert(1, programid=2))) == []
    assert one.outputs(refused("precut.faint", programid=None)) == []
    assert one.withheld == 2
    assert len(publisher(tmp_path, programids=frozenset({1, 2})).outputs(scored(alert=alert(1, programid=2)))) == 2
    assert len(publisher(tmp_path, programids=None).outputs(scored(alert=alert(1, survey="lsst", programid=None)))) == 2


def test_what_a_replay_injected_is_never_published(tmp_path):
    made = publisher(tmp_path)
    outcome = scored()
    outcome.message = Message(b"packet", source="injected:3", source_row=0, injected=True)
    assert made.outputs(outcome) == [] and made.withheld == 1
    assert score_record(outcome)["injected"] is True


def test_a_synthetic_source_of_the_survey_is_marked_and_no_candidate(tmp_path):
    real, synthetic = (
        publisher(tmp_path).outputs(scored()),
        publisher(tmp_path).outputs(scored(alert=alert(7, is_injected=True))),
    )
    assert [o.topic for o in real] == ["s", "c"] and [o.topic for o in synthetic] == ["s"]
    assert read(synthetic[0].value)["injected"] is True and read(synthetic[0].value)["verdicts"][0]["passed"]


def test_dead_letter_keeps_the_message_as_it_came():
    outcome = Outcome("dead_lettered", MESSAGE, "sync_marker", "no marker", alert=alert(LARGEST))
    record = read(ContainerForm(load_schema("dead_letter")).encode(dead_letter_record(outcome, "ztf", BUNDLE, 5)))
    assert (record["topic"], record["partition"], record["offset"]) == ("alerts", 3, 17)
    assert record["value"] == b"packet" and record["key"] == b"key" and record["size"] == 6
    assert record["headers"] == [{"name": "producer_timestamp", "value": b"1"}, {"name": "odd", "value": None}]
    assert record["alert_id"] == LARGEST and record["reason"] == "sync_marker"


def test_dead_letter_id_tells_places_and_bytes_apart():
    places = [
        Message(b"x", "t", 0, 1),
        Message(b"x", "t", 0, 2),
        Message(b"y", "t", 0, 1),
        Message(b"x", source="f", source_row=1),
    ]
    ids = [dead_letter_record(Outcome("dead_lettered", m, "r", "e"), "ztf")["message_id"] for m in [*places, places[0]]]
    assert len(set(ids)) == 4 and ids[0] == ids[4]


def test_large_dead_letter_is_spilled_once_with_mode_0600(tmp_path):
    one = publisher(tmp_path, limit_bytes=10_000)
    value = os.urandom(20_000)
    for _ in range(2):
        (output,) = one.outputs(dead(value))
        record = read(output.value)
        assert record["value"] is None and record["size"] == 20_000
    (path,) = (tmp_path / "spill").iterdir()
    assert record["spilled_to"].endswith(str(path)) and path.read_bytes() == value
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (small,) = one.outputs(dead(b"y"))
    assert read(small.value)["spilled_to"] is None


def test_dead_letter_with_huge_key_and_headers_fits_too(tmp_path):
    message = Message(
        os.urandom(20_000), "alerts", 0, 1, os.urandom(30_000), None, tuple((f"h{i}", os.urandom(3000)) for i in range(9))
    )
    (output,) = publisher(tmp_path, limit_bytes=10_000).outputs(Outcome("dead_lettered", message, "truncated", "e"))
    assert len(output.value) + sum(len(n) + len(v) for n, v in output.headers) + len(output.key or b"") < 10_000
    record = read(output.value)
    assert record["spilled_to"] is not None
    path = Path(record["spilled_to"].split(":", 1)[1])
    # By the letter's id: two letters of the same bytes may have other keys and headers.
    kept = json.loads(path.with_name(f"{record['message_id']}.json").read_text())
    assert bytes.fromhex(kept["key"]) == message.key
    assert [(n, bytes.fromhex(v)) for n, v in kept["headers"]] == list(message.headers)


def test_spill_that_cannot_be_written_stops_the_process(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateError, match="cannot be spilled"):
        spill(dead_letter_record(dead(), "ztf"), tmp_path / "file" / "spill")


def test_same_record_gives_the_same_bytes():
    form = ContainerForm(load_schema("score"))
    record = score_record(scored(), published_ms=1)
    assert form.encode(record) == form.encode(record)


@pytest.mark.parametrize("name", ["score", "dead_letter"])
def test_schemas_are_documented_and_can_grow(name):
    def fields(schema):
        for field in schema["fields"]:
            yield field
            kind = field["type"]
            while isinstance(kind, dict) and kind["type"] == "array":
                kind = kind["items"]
            if isinstance(kind, dict) and kind["type"] == "record":
                yield from fields(kind)

    schema = load_schema(name)
    assert all(field.get("doc") for field in fields(schema)) and schema["doc"]
    # A reader with one field more reads what was written without it.
    grown = {**schema, "fields": [*schema["fields"], {"name": "later", "type": ["null", "string"], "default": None}]}
    record = score_record(scored()) if name == "score" else dead_letter_record(dead(), "ztf")
    value = ContainerForm(schema).encode(record)
    assert next(fastavro.reader(io.BytesIO(value), reader_schema=fastavro.parse_schema(grown)))["later"] is None


@pytest.mark.parametrize("name", ["score", "dead_letter"])
def test_golden_record_of_version_1_stays_readable(name):
    value = (GOLDEN / f"{name}_v1.avro").read_bytes()
    wanted = json.loads((GOLDEN / f"{name}_v1.json").read_text())
    record = next(fastavro.reader(io.BytesIO(value), reader_schema=fastavro.parse_schema(load_schema(name))))
    assert {k: v.hex() if isinstance(v, bytes) else v for k, v in record.items() if k in wanted} == wanted


def test_registered_form_is_framed_with_the_registrys_id():
    from kafka.registry import Registry

    from dgl_broker.outputs.registry import OutputRegistry

    registry = Registry({41: "string"}, "u", "p")
    client = OutputRegistry(registry.url, "u", "p", timeout_s=5)
    forms = [make_form("score", topic, client) for topic in ("a", "b", "a")]
    assert [f.schema_id for f in forms] == [42, 42, 42] and set(registry.subjects) == {"a-value", "b-value"}
    record = score_record(scored())
    value = forms[0].encode(record)
    assert value[:5] == b"\x00\x00\x00\x00\x2a"
    assert fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(load_schema("score"))) == record
    with pytest.raises(InputUnavailable, match="not allowed"):
        OutputRegistry(registry.url, "u", "wrong", timeout_s=5).register("a", load_schema("score"))
    registry.down = True
    with pytest.raises(ServiceFailed, match="status 503"):
        OutputRegistry(registry.url, "u", "p", timeout_s=5, retries=0).register("a", load_schema("score"))
    registry.close()


class TestBrokerMessage:
    """DESC's message, made of the real alert that Fink and Rubin's own files hold in schema 10.0."""

    @pytest.fixture
    def desc(self, shared):
        from dgl_broker.outputs.desc import BrokerMessages
        from dgl_broker.wire import schema_source

        schemas = shared / "data/schemas"
        source = schema_source(schemas)
        made = BrokerMessages("desc", schemas, source, "our-broker", "DeepGraviLens", BUNDLE)
        return made, source, shared / "data/alerts/lsst/confluent_v10_0_reencoded/169813006129561698.avro"

    def outcome(self, source, path, **changes):
        from dgl_broker.surveys import read_alert
        from dgl_broker.wire import decode

        value = path.read_bytes()
        one = read_alert(decode(value, "lsst", source))
        return Outcome("scored", Message(value, "alerts", 0, 0), alert=one, **{"scores": scores(), **changes})

    def test_holds_the_alert_and_probabilities_that_make_one(self, desc):
        made, source, path = desc
        record = read(made.encode(self.outcome(source, path)))
        assert record["diaSourceId"] == record["diaSource"]["diaSourceId"] == 169813006129561698
        assert record["cutoutDifference"][:6] == b"SIMPLE"
        assert {c["classId"]: pytest.approx(c["probability"]) for c in record["classifications"]} == {2221: 0.05, 200: 0.95}
        assert record["brokerName"] == "our-broker" and BUNDLE[:12] in record["classifierVersion"]

    def test_every_field_of_the_packet_comes_back_as_it_was(self, desc, shared):
        """Read by fastavro with the schema that the message carries, and the packet by fastavro with the official schema."""
        made, source, _ = desc
        packets = sorted((shared / "data/alerts/lsst/confluent_v10_0_reencoded").glob("*.avro"))
        schema = fastavro.schema.load_schema(shared / "data/schemas/lsst/v10_0/lsst.v10_0.alert.avsc")
        for path in packets[::6]:
            packet = fastavro.schemaless_reader(io.BytesIO(path.read_bytes()[5:]), schema)
            record = read(made.encode(self.outcome(source, path)))
            assert {name: record[name] for name in packet} == packet
            assert set(record) - set(packet) == {"brokerName", "classifierName", "classifierVersion", "classifications"}
        assert len(packets) > 20 and made.skipped == 0

    def test_alert_without_scores_is_not_classified(self, desc):
        made, source, path = desc
        outcome = self.outcome(source, path, scores=None)
        assert read(made.encode(outcome))["classifications"] == [{"classId": 300, "probability": 1.0}]

    def test_other_versions_are_left_out_and_counted(self, desc, shared):
        made, source, _ = desc
        outcome = self.outcome(source, shared / "data/alerts/lsst/confluent/7912941781254298.avro")
        assert made.encode(outcome) is None and made.skipped == 1

    def test_folder_without_the_official_schemas_is_said(self, tmp_path):
        from dgl_broker.outputs.desc import BrokerMessages

        with pytest.raises(InputUnavailable, match="no fastdb.v10_0_0.BrokerMessage.avsc"):
            BrokerMessages("desc", tmp_path, None, "b", "c", BUNDLE)


def test_schema_that_the_registry_refuses_is_a_configuration_error(monkeypatch):
    from dgl_broker.outputs.registry import OutputRegistry

    client = OutputRegistry("http://127.0.0.1:1")
    answer = SimpleNamespace(status_code=409, json=lambda: {"error_code": 409})
    monkeypatch.setattr(client._session, "post", lambda *_, **__: answer)
    with pytest.raises(ConfigError, match="not compatible"):
        client.register("a-value", load_schema("score"))
