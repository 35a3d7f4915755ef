"""`rekey`: slimmed packets score as the originals do, bit for bit; each goes to its object's partition, exactly once."""

import io
import json
import math
import struct
import time
from collections import Counter
from pathlib import Path

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packets import DATA
from simulated import OWN_SCHEMAS, packets, untrained

from dgl_broker import Message, Scorer, wire
from dgl_broker.cli import main
from dgl_broker.errors import PacketError
from dgl_broker.selection import FilterSet, load_filter
from dgl_broker.settings_rekey import Rekey, RekeySettings, check_rekey_settings
from dgl_broker.stamps import primary_alone, read_fits_image
from dgl_broker.stream.rekey import Rekeyer
from dgl_broker.surveys import fits_write
from dgl_broker.surveys.slim import slim_record
from dgl_broker.wire.slim import Slimmer, slim_schema

ROOT = Path(__file__).parents[1]


def rekeyed(survey, values, schemas=None, **how):
    """Slimmed packets of those values that are written; and the outcomes of all."""
    rekeyer = Rekeyer(survey, FilterSet(how.pop("filters", ())), schemas, **how)
    outcomes = rekeyer.score([Message(value, "in", 0, n) for n, value in enumerate(values)])
    return [o.slim for o in outcomes if o.status == "written"], outcomes


def bits(value):
    """A value as something equal only to the same bits."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {k: bits(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [bits(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: bits(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def assert_scores_are_equal(survey, values, slim, schemas, bundle="default", **how):
    """Outcomes of slimmed packets are those of the originals: reasons, examples' records, every score to the bit."""
    scorer = [Scorer(survey, bundle, schemas=s, **how) for s in (schemas, None)]
    direct, again = scorer[0].score(values), scorer[1].score(slim)
    for one, other in zip(direct, again, strict=True):
        assert (one.status, one.reason, one.alert_id, one.object_id) == (
            other.status,
            other.reason,
            other.alert_id,
            other.object_id,
        )
        assert bits(one.scores) == bits(other.scores) and bits(one.completeness) == bits(other.completeness)
        assert bits(one.verdicts) == bits(other.verdicts) and one.cuts == other.cuts and one.message_id == other.message_id
        if one.alert is not None and one.status == "scored":
            ours, theirs = (bits(o.alert) for o in (one, other))
            assert {k: v for k, v in ours.items() if k != "cutouts"} == {k: v for k, v in theirs.items() if k != "cutouts"}
    return direct


def real_values(folder, survey, schemas):
    """Real alerts of one survey, a packet a file."""
    for path in sorted(folder.rglob("*.avro")):
        value = path.read_bytes()
        try:
            wire.open_message(value, survey, schemas)
        except PacketError:
            continue
        yield value


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Rubin's own schemas by id."""
    pytest.importorskip("lsst.alert.packet", reason="lsst-alert-packet has the official schemas")
    from kafka.registry import official_lsst_schemas

    folder = tmp_path_factory.mktemp("official")
    for number, schema in official_lsst_schemas().items():
        (folder / f"{number}.avsc").write_text(json.dumps(schema))
    return wire.FolderSchemas(folder)


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_real_packets_score_as_they_did_before(survey, official):
    values, schemas = list(real_values(DATA, survey, official)), official
    slim, outcomes = rekeyed(survey, values, schemas)
    values = [v for v, o in zip(values, outcomes) if o.status == "written"]
    assert len(values) >= 4 and sum(map(len, slim)) < sum(map(len, values)) / 2
    direct = assert_scores_are_equal(survey, values, slim, schemas, filters=[f"lensed_sn_{survey}"], ungated=True)
    assert any(o.scores is not None for o in direct)


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_every_collected_alert_scores_as_it_did_before(shared, survey):
    schemas = wire.FolderSchemas(shared / "data/schemas/lsst")
    values = list(real_values(shared / "data/alerts" / survey, survey, schemas))
    slim, outcomes = rekeyed(survey, values, schemas)
    values = [v for v, o in zip(values, outcomes) if o.status == "written"]
    assert len(values) > 80
    direct = assert_scores_are_equal(survey, values, slim, schemas, bundle=untrained(survey))
    assert sum(o.scores is not None for o in direct) > 20


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_simulated_packets_score_as_they_did_before_with_companions_too(survey):
    values = [value for value, _ in packets(survey, 12)]
    slim, outcomes = rekeyed(survey, values, wire.FolderSchemas(OWN_SCHEMAS))
    kept = [v for v, o in zip(values, outcomes) if o.status == "written"]
    direct = assert_scores_are_equal(survey, kept, slim, OWN_SCHEMAS, bundle=untrained(survey), companions="memory")
    assert sum(o.scores is not None for o in direct) > 5


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_what_a_filter_refuses_is_refused_here_for_the_same_reason(survey):
    values = [value for value, _ in packets(survey, 12)] + [b"garbage"]
    chosen = load_filter(f"lensed_sn_{survey}")
    schemas = wire.FolderSchemas(OWN_SCHEMAS)
    _, outcomes = rekeyed(survey, values, schemas, filters=[chosen])
    direct = Scorer(survey, untrained(survey), schemas=schemas, filters=[]).score(values)
    judged = Scorer(survey, filters=[chosen], schemas=schemas).score(values)
    for ours, free, theirs in zip(outcomes, direct, judged):
        if ours.status == "written":
            assert free.status != "dead_lettered" and not (theirs.reason or "").startswith("precut.")
        else:
            assert (ours.status, ours.reason, ours.alert_id) == (theirs.status, theirs.reason, theirs.alert_id)
    assert Counter(o.status for o in outcomes)["dead_lettered"] == 1


def test_alerts_of_an_unknown_programme_are_not_written():
    value = packets("ztf", 12)[0][0]
    assert [o.status for o in rekeyed("ztf", [value], programids=[1])[1]] == ["written"]
    assert [o.reason for o in rekeyed("ztf", [value], programids=[2])[1]] == ["programid"]
    opened = wire.open_message(value)
    record = {**opened.whole(), "candidate": {k: v for k, v in opened.whole()["candidate"].items() if k != "programid"}}
    schema = fastavro.reader(io.BytesIO(value)).writer_schema
    trigger = next(f for f in schema["fields"] if f["name"] == "candidate")["type"]
    trigger["fields"] = [f for f in trigger["fields"] if f["name"] != "programid"]
    unknown = wire.encode_container(json.loads(json.dumps(schema)), record)
    assert [o.reason for o in rekeyed("ztf", [unknown], programids=[1])[1]] == ["programid"]
    assert [o.status for o in rekeyed("ztf", [unknown])[1]] == ["written"]


# Stamps


def test_stamp_of_the_science_image_goes_unless_asked_for_or_alone():
    record = wire.decode(packets("ztf", 12)[0][0]).record
    assert slim_record(record)["cutoutScience"] is None and slim_record(record)["cutoutTemplate"] == record["cutoutTemplate"]
    assert slim_record(record, science=True) == record
    alone = {**record, "cutoutTemplate": None, "cutoutDifference": {"stampData": b""}}
    assert slim_record(alone) == alone
    assert record["cutoutScience"] is not None  # what is given is not changed


def fits_file(side=30, psf=True, **changes):
    """A FITS file as LSST's: the image, its variance, the PSF."""
    axes = [("NAXIS", 2, ""), ("NAXIS1", side, ""), ("NAXIS2", side, "")]
    cards = {name: (name, value, comment) for name, value, comment in [("SIMPLE", True, ""), ("BITPIX", -32, ""), *axes]}
    cards |= {name: (name, value, "") for name, value in changes.items()}
    pixels = np.arange(side * side, dtype=np.float32).reshape(side, side)
    more = [("XTENSION", "IMAGE", ""), ("BITPIX", -32, ""), *axes]
    extension = fits_write.header(more) + fits_write.data(pixels, ">f4")
    return fits_write.header(list(cards.values())) + fits_write.data(pixels, ">f4") + (2 * extension if psf else b"")


def test_of_a_stamp_the_primary_image_stays():
    whole, alone = fits_file(), fits_file(psf=False)
    assert primary_alone(whole) == alone and primary_alone(alone) == alone
    gzipped = fits_write.gzipped(whole)
    assert primary_alone(gzipped) == gzipped and primary_alone(b"") == b"" and primary_alone(b"SIMPLE") == b"SIMPLE"
    assert primary_alone(whole, max_bytes=len(whole) - 1) == whole  # refused for its size, and so it stays


@given(st.binary(max_size=40), st.integers(0, 2879), st.integers(0, 25000), st.sampled_from([0, 1, 2880, 30000]))
def test_stamp_reads_the_same_whatever_is_wrong_with_it(junk, place, cut, side):
    value = bytearray(fits_file())
    value[place : place + len(junk)] = junk
    value = bytes(value)[: max(cut, side)]
    assert read_or_reason(primary_alone(value)) == read_or_reason(value)


def read_or_reason(value):
    try:
        return bits(read_fits_image(value)[0])
    except PacketError as error:
        return error.reason


# Schemas


def test_numbers_of_a_union_are_written_as_what_they_are():
    kinds = {"candid": ["double", "null", "long"], "jd": ["null", "float", "double"], "fid": ["null", "int", "long"]}
    kinds |= {"ra": "double", "dec": "double", "magpsf": "float", "sigmapsf": "float"}
    kinds["isdiffpos"] = ["null", "string", "boolean", "int"]
    fields = [{"name": name, "type": kind} for name, kind in kinds.items()]
    whole = [
        ("candidate", {"type": "record", "name": "c", "fields": fields}),
        ("objectId", "string"),
        ("prv_candidates", ["null"]),
    ]
    schema = {"type": "record", "name": "r", "fields": [{"name": name, "type": kind} for name, kind in whole]}
    trigger = {"candid": 2**62 + 1, "jd": 2459000.123456789, "fid": 2, "ra": 1.5, "dec": -0.1}
    trigger |= {"magpsf": 0.5, "sigmapsf": 0.25, "isdiffpos": True}
    record = {"candidate": trigger, "objectId": "ZTF1", "prv_candidates": None}
    # The branch is named, since a writer may take any; what is written again must not depend on it.
    named = {**record, "candidate": {**trigger, "candid": ("long", 2**62 + 1), "jd": ("double", 2459000.123456789)}}
    opened = wire.open_message(wire.encode_container(schema, named), "ztf")
    packet = opened.packet()
    assert packet.record == record
    again = wire.decode(Slimmer().encode(opened.writer, packet.record), "ztf")
    assert bits(again.record) == bits(record) and type(again.record["candidate"]["isdiffpos"]) is bool


def test_schema_says_the_writers_version_and_holds_no_field_that_is_not_read(official):
    framed = next(value for value in real_values(DATA, "lsst", official) if value[:1] == b"\0")
    opened = wire.open_message(framed, "lsst", official)
    opened.packet()
    schema = slim_schema(opened.writer)
    assert schema["version"] == opened.writer.version and schema["namespace"] == "dgl.slim.lsst"
    names = {f["name"] for f in schema["fields"]}
    assert "diaSource" in names and names <= {f["name"] for f in json.loads((ROOT / "schemas/lsst.avsc").read_text())["fields"]}
    value = Slimmer(["cutoutScience"]).encode(opened.writer, opened.record())
    assert wire.decode(value).schema == opened.packet().schema
    assert fastavro.reader(io.BytesIO(value)).writer_schema["name"] == "dgl.slim.lsst.alert"  # any Avro reader can


# Settings

LEAST = "survey: ztf\nkafka: {bootstrap.servers: 'b:1'}\ninput: {topics: [in]}\nrekey: {topic: out}\n"


def problems(tmp_path, text, **environ):
    (tmp_path / "rekey.yaml").write_text(text)
    settings, found = check_rekey_settings(tmp_path / "rekey.yaml", environ)
    assert (settings is None) == bool(found)
    return settings if settings is not None else {p.key: str(p) for p in found}


def test_four_keys_are_enough(tmp_path):
    settings = problems(tmp_path, LEAST)
    assert (settings.group_id, settings.dead_letters_topic) == ("dgl-broker-rekey-ztf", "dgl.ztf.deadletters")
    assert settings.delivery == "exactly_once" and settings.filters_in_force == ["lensed_sn_ztf"]
    assert settings.published_programids == {1} and settings.rekey.spill == str(tmp_path / "spill")


def test_problems_are_told_at_once(tmp_path):
    found = problems(tmp_path, LEAST.replace("out}", "in, dead_letters: in, scinece: true}") + "bundle: x\nfilters: [a, a]\n")
    assert set(found) == {"rekey.scinece", "bundle", "filters"} and "nearest known one is science" in found["rekey.scinece"]
    found = problems(tmp_path, LEAST.replace("out}", "in, dead_letters: in}"))
    assert "feed itself" in found["rekey.topic"] and "another topic" in found["rekey.dead_letters"]
    assert set(problems(tmp_path, "")) == {"survey", "kafka.bootstrap.servers", "input.topics", "rekey.topic"}
    found = problems(tmp_path, LEAST.replace("'b:1'", "b, sasl.password: hunter2"))
    assert "secret in the file" in found["kafka.sasl.password"] and "hunter2" not in str(found)


def test_environment_overrides_and_secrets_are_known(tmp_path):
    environ = {"REKEY__SCIENCE": "true", "KAFKA__SASL_PASSWORD": "hunter2", "BATCH__MAX_ALERTS": "7"}
    settings = problems(tmp_path, LEAST, **{f"DGL_BROKER__{name}": value for name, value in environ.items()})
    assert settings.rekey.science is True and settings.batch.max_alerts == 7 and settings.secrets() == ["hunter2"]


def test_check_config_knows_the_file_by_its_section(tmp_path, capsys):
    path = tmp_path / "rekey.yaml"
    path.write_text(LEAST)
    assert main(["check-config", str(path)]) == 0
    path.write_text(LEAST + "filters: [nowhere]\ncompanions: {store: redis}\n")
    assert main(["check-config", str(path)]) == 2
    assert "companions: found an unknown key" in capsys.readouterr().out
    path.write_text(LEAST + "filters: [nowhere]\n")
    assert main(["check-config", str(path)]) == 2
    assert "filters.0: found" in capsys.readouterr().out
    assert main(["rekey", "--config", str(path.with_name("none.yaml"))]) == 3


def test_page_of_the_configuration_tells_what_is_rekeys_own_and_names_the_rest():
    page = (ROOT / "docs/configuration.md").read_text().split("# rekey.yaml")[1]
    told = [line for line in page.splitlines() if line.startswith("| `")]
    rows = []
    for key, field in Rekey.model_fields.items():
        shown = "required" if field.is_required() else "-" if field.default is None else f"`{field.default}`"
        rows.append(f"| `rekey.{key}` | {shown} | {field.description} |")
    assert told == [f"| `filters` | - | {RekeySettings.model_fields['filters'].description} |", *rows]
    assert all(f"`{name}`" in page for name in RekeySettings.model_fields)


# On Apache Kafka


@pytest.fixture
def place(kafka, tmp_path, request):
    """Topics and settings of a test's own."""
    from kafka import flow

    name = request.node.name.removeprefix("test_")[:60]
    kafka.create_topic(f"{name}.in", 4)
    kafka.create_topic(f"{name}.out", 4)
    kafka.create_topic(f"{name}.dead", 1)
    path = flow.filter_file(tmp_path / "half.yaml", "ztf", {"is_positive": {"equals": True}}, 0.0)
    raw = {
        "survey": "ztf",
        "filters": [str(path)],
        "kafka": {"bootstrap.servers": kafka.bootstrap_servers, "session.timeout.ms": 6000, "group.id": name},
        "input": {"topics": [f"{name}.in"]},
        "rekey": {"topic": f"{name}.out", "dead_letters": f"{name}.dead", "spill": str(tmp_path / "spill")},
        "batch": {"max_alerts": 20, "max_wait_s": 0.1},
    }
    return name, RekeySettings.model_validate(raw)


def rekey(settings, until_eof=True):
    from dgl_broker.stream.rekey import RekeyWorker
    from dgl_broker.stream.stopping import Stop

    worker = RekeyWorker(settings, Stop())
    worker.run(until_eof=until_eof)
    return worker.summary()


def number_of(message):
    """Which of the inputs, spread over four partitions one after the other, a message was made from."""
    source, _, offset = dict(message.headers())["source"].decode().partition("@")
    return 4 * int(offset) + int(source.rpartition("[")[2][:-1])


@pytest.mark.kafka
def test_alerts_of_an_object_meet_in_one_partition_and_score_as_before(kafka, place):
    from confluent_kafka import Producer
    from kafka import flow

    name, settings = place
    templates, n = flow.ZtfTemplates(), 100
    values = [templates.packet(i).replace(b"ZTF%09d" % i, b"ZTF%09d" % (i // 10)) for i in range(n)] + [b"cut"]
    producer, then = Producer({"bootstrap.servers": kafka.bootstrap_servers}), int(time.time() * 1000) - 5_000_000
    for i, value in enumerate(values):
        producer.produce(f"{name}.in", value, partition=i % 4, timestamp=then + i)
    producer.flush(30)
    summary = rekey(settings)
    assert summary["consumed"] == summary["written"] + summary["refused"] + summary["dead_lettered"] == n + 1
    assert (summary["written"], summary["refused_by_reason"], summary["dead_lettered"]) == (40, {"precut.is_positive": 60}, 1)
    assert summary["published"] == {f"{name}.out": 40, f"{name}.dead": 1} and summary["topic"] == f"{name}.out"

    slim = flow.read_topic(kafka.bootstrap_servers, f"{name}.out")
    places = {}
    for message in slim:
        places.setdefault(message.key(), set()).add(message.partition())
        headers = dict(message.headers())
        number = number_of(message)
        assert message.timestamp()[1] == then + number and message.key() == b"ZTF%09d" % (number // 10)
        assert set(headers) == {"message_id", "schema", "source"} and headers["schema"] == b"slim/1"
    assert set(map(len, places.values())) == {1} and len(set.union(*places.values())) > 1
    (dead,) = flow.containers(flow.read_topic(kafka.bootstrap_servers, f"{name}.dead"))
    assert (dead["value"], dead["topic"], dead["reason"]) == (b"cut", f"{name}.in", "unknown_framing")

    # The filter behind it, with the same pre-cuts: no one is refused by them once more.
    written = {message.value(): values[number_of(message)] for message in slim}
    assert_scores_are_equal(
        "ztf", list(written.values()), list(written), None, bundle=untrained("ztf"), filters=settings.filters_in_force
    )


@pytest.mark.kafka
def test_rekey_that_dies_in_the_middle_of_a_transaction_writes_nothing_twice(kafka, place, monkeypatch):
    from kafka import flow

    from dgl_broker.stream.sink import Sink

    name, settings = place
    templates, n = flow.ZtfTemplates(), 200
    values = [templates.packet(i) for i in range(n)]
    flow.produce(kafka.bootstrap_servers, f"{name}.in", values, 4)
    attempt, calls = Sink.attempt, []

    def die(self, outputs):
        attempt(self, outputs)
        calls.append(len(outputs))
        if len(calls) == 4:
            raise RuntimeError("as if it were killed: all is produced, nothing committed")
        return {}

    monkeypatch.setattr(Sink, "attempt", die)
    with pytest.raises(RuntimeError):
        rekey(settings)
    monkeypatch.setattr(Sink, "attempt", attempt)
    summary = rekey(settings)
    assert summary["consumed"] == n - 3 * 20
    _, outcomes = rekeyed("ztf", values, filters=[load_filter(settings.filters[0])])
    wanted = Counter(o.alert_id for o in outcomes if o.status == "written")
    found = flow.containers(flow.read_topic(kafka.bootstrap_servers, f"{name}.out"))
    assert Counter(record["candidate"]["candid"] for record in found) == wanted and len(wanted) == 80


@pytest.mark.kafka
def test_audit_finds_what_was_written_refused_dead_lettered_skipped_and_written_twice(kafka, place, tmp_path, capsys):
    from confluent_kafka import Producer
    from fastavro import reader
    from kafka import flow
    from kafka.looking_back import commit

    from dgl_broker.cli import main

    name, settings = place
    templates = flow.ZtfTemplates()
    flow.produce(kafka.bootstrap_servers, f"{name}.in", [*(templates.packet(i) for i in range(50)), b"cut"], 4)
    rekey(settings)
    config, summary = tmp_path / "rekey.yaml", tmp_path / "audit.json"
    config.write_text(settings.model_dump_json(exclude_unset=True))  # JSON is YAML
    line = ["audit", "--config", str(config), "--from", "2026-01-01", "--to", "2100-01-01", "--summary", str(summary)]

    def audit():
        code, report = main(line), json.loads(summary.read_text())
        told = ("inputs", "written", "refused_unpublished", "dead_lettered", "waiting", "lost", "twice", "complete")
        return code, [report[key] for key in told], report

    code, told, report = audit()
    assert (code, told) == (0, [51, 20, 30, 1, 0, 0, 0, True])
    assert report["refused_unpublished_by_reason"] == {"precut.is_positive": 30} and "scored" not in report
    assert "written 20, refused" in capsys.readouterr().out
    # What follows is not read yet; then someone moves the group past it, and one alert is written again.
    flow.produce(kafka.bootstrap_servers, f"{name}.in", [templates.packet(i) for i in range(50, 60)], 4)
    code, told, _ = audit()
    assert (code, told) == (8, [61, 20, 30, 1, 10, 0, 0, False])
    commit(kafka.bootstrap_servers, name, f"{name}.in", flow.ends(kafka.bootstrap_servers, f"{name}.in"))
    one = flow.read_topic(kafka.bootstrap_servers, f"{name}.out")[0]
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for headers in (one.headers(), [("source", b"of no place")], None):  # two of these are none of ours
        producer.produce(f"{name}.out", one.value(), one.key(), headers=headers)
    producer.flush(30)
    code, told, report = audit()
    assert (code, told) == (8, [61, 20, 36, 1, 0, 4, 1, False]) and report["unreadable_outputs"] == 2
    positive = [list(reader(io.BytesIO(value)))[0]["candidate"]["isdiffpos"] in ("t", "1") for value, _, _ in templates.packets]
    lost = {str(flow.FIRST_ID + i) for i in range(50, 60) if positive[i % len(positive)]}
    assert {row["alert_id"] for row in report["listed"]["lost"]} == lost
    assert report["listed"]["twice"][0]["input"] == dict(one.headers())["source"].decode()


@pytest.mark.parametrize(
    ("source", "place"),
    [(b"in[3]@7", (("in", 3), 7)), (b"a[0]b[1]@2", (("a[0]b", 1), 2)), (b"in@7", None), (b"in[x]@7", None), (b"\xff", None)],
)
def test_place_of_what_was_written_is_that_of_its_input(source, place):
    from dgl_broker.stream.rekey_audit import place_of_written

    class Message:
        def headers(self):
            return [("source", source)]

    if place is None:
        with pytest.raises(KeyError):
            place_of_written(Message())
    else:
        assert place_of_written(Message()) == place


@pytest.mark.kafka
def test_command_rekeys_with_several_workers(kafka, place, tmp_path):
    import os
    import subprocess
    import sys

    from kafka import flow

    name, settings = place
    templates, n = flow.ZtfTemplates(), 100
    flow.produce(kafka.bootstrap_servers, f"{name}.in", [templates.packet(i) for i in range(n)], 4)
    config, summary = tmp_path / "rekey.yaml", tmp_path / "s.json"
    config.write_text(settings.model_dump_json(exclude_unset=True))  # JSON is YAML
    command = [sys.executable, "-m", "dgl_broker", "rekey", "--config", str(config), "--workers", "2", "--until-eof"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--summary", str(summary)], capture_output=True, text=True, env=environ, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(summary.read_text())
    assert (told["consumed"], told["written"], told["refused"], told["workers"]) == (n, 40, 60, 2)
    assert done.stdout.startswith("consumed 100 = written 40 + refused 60 + dead-lettered 0\n")
    assert len(flow.read_topic(kafka.bootstrap_servers, f"{name}.out")) == 40
