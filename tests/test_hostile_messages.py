"""Messages that are odd as a whole: keys and headers, broken blocks behind good ones, what only one of two stages sees."""

import ctypes
import json
import random
import time

import packets as made
import pytest
from confluent_kafka import Consumer
from fuzz.forms import SCHEMA, SMALL_ID, block, container, framed, packet, payload
from fuzz.judge import equal, judge
from fuzz.mutations import mutants
from fuzz.seeds import Schemas, lsst_record, seeds, ztf_record
from simulated import scorer

from dgl_broker.archive.sources import read_messages
from dgl_broker.librdkafka import library
from dgl_broker.outputs.deadletters import dead_letter_record
from dgl_broker.selection import parse_filter
from dgl_broker.stream.batch import as_message
from dgl_broker.surveys.avro_parts import long_of
from dgl_broker.wire import Limits
from dgl_broker.wire.codecs import compress

FAINT = """
name: bright
version: 1
description: nothing in these tests is so bright
survey: {survey}
require:
  snr: {{min: 1000}}
score: log_odds
threshold: 0.0
"""


def produce_raw(servers, topic, value, key, headers):
    """One message whose key and names of headers are any bytes: Python's producer takes text alone."""
    topics, partition, values, keys, flags, header, end, copy = 1, 3, 4, 5, 7, 9, 0, 2  # rd_kafka_vtype_t, RD_KAFKA_MSG_F_COPY
    lib, reason = library(), ctypes.create_string_buffer(512)
    lib.rd_kafka_new.restype = ctypes.c_void_p
    conf = lib.rd_kafka_conf_new()
    lib.rd_kafka_conf_set(conf, b"bootstrap.servers", servers.encode(), reason, len(reason))
    producer = ctypes.c_void_p(lib.rd_kafka_new(0, ctypes.c_void_p(conf), reason, len(reason)))
    size, text = ctypes.c_size_t, ctypes.c_char_p
    arguments = [topics, text(topic.encode()), partition, ctypes.c_int32(0), flags, copy]
    arguments += [values, text(value), size(len(value)), keys, text(key), size(len(key))]
    for name, content in headers:
        arguments += [header, text(name), text(content), ctypes.c_ssize_t(len(content))]
    assert lib.rd_kafka_producev(producer, *arguments, end) == 0
    assert lib.rd_kafka_flush(producer, 10_000) == 0
    lib.rd_kafka_destroy(producer)


def test_key_and_headers_that_are_not_utf8_reach_the_dead_letter_or_are_left_out(mock_kafka):
    mock_kafka.create_topic("alerts", 1)
    key = b"\xff\xfe\x00{"
    produce_raw(mock_kafka.bootstrap_servers, "alerts", b"no packet", key, [(b"\xff\xfe", b"\xff"), (b"x", b"y")])
    produce_raw(mock_kafka.bootstrap_servers, "alerts", b"nor this", key, [("ü".encode(), b"\xff")])
    consumer = Consumer(
        {"bootstrap.servers": mock_kafka.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest", "log_level": 0}
    )
    consumer.subscribe(["alerts"])
    messages = [as_message(m) for m in consumer.consume(2, 30)]
    consumer.close()
    assert [(m.value, m.key, m.headers) for m in messages] == [(b"no packet", key, ()), (b"nor this", key, (("ü", b"\xff"),))]
    for outcome in scorer("lsst").score(messages):
        assert (outcome.status, outcome.reason) == ("dead_lettered", "unknown_framing")
        assert dead_letter_record(outcome, "lsst")["key"] == key


def test_headers_that_are_not_utf8_stop_no_filter_that_has_run_for_a_while(mock_kafka):
    # Python checks less in a call that it has made often: there the error of the name came out of the next call instead.
    often = 100
    mock_kafka.create_topic("alerts", 1)
    for n in range(often + 1):
        headers = [(b"\xff\xfe", b"\xff")] if n == often else [(b"x", b"y")]
        produce_raw(mock_kafka.bootstrap_servers, "alerts", b"v", b"k", headers)
    consumer = Consumer(
        {"bootstrap.servers": mock_kafka.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest", "log_level": 0}
    )
    consumer.subscribe(["alerts"])
    came = []
    while len(came) <= often:
        came += consumer.consume(often + 1 - len(came), 30)
    consumer.close()
    assert [as_message(m).headers for m in came] == [(("x", b"y"),)] * often + [()]


def test_halves_of_surrogate_pairs_in_a_schema_stop_no_publisher():
    # JSON may spell them, UTF-8 cannot hold them: an error that quoted one could not be written, and the process ended.
    odd = {**json.loads(json.dumps(made.LSST_SCHEMA)), "namespace": "x", "version": "\ud800"}
    without_band = lsst_record()
    without_band["diaSource"] = without_band["diaSource"] | {"band": "zz"}
    values = [
        container(odd, [(1, payload("lsst", record) + tail)])
        for record in (without_band, lsst_record())
        for tail in (b"", b"x")
    ]
    values.append(
        container({**odd, "fields": [{"name": "a", "type": {"type": "enum", "name": "\ud800", "symbols": ["\udfff"]}}]}, [])
    )
    account = judge("lsst", [(f"value {n}", value) for n, value in enumerate(values)], random.Random(1))
    assert account.failures == []
    assert account.outcomes["scored", None] == 1 and account.outcomes.total() == 5


@pytest.mark.parametrize("survey, record", [("ztf", ztf_record()), ("lsst", lsst_record())])
def test_good_blocks_of_a_file_are_scored_and_the_broken_rest_is_one_dead_letter(survey, record, tmp_path):
    good = block(1, payload(survey, record))
    broken = good[:40] + b"\xff" * 8 + good[48:-16] + b"another marker!!"
    data = container(SCHEMA[survey], []) + good * 3 + broken + good
    (tmp_path / "alerts.avro").write_bytes(data)
    messages = list(read_messages([tmp_path], survey))
    outcomes = scorer(survey).score(messages)
    assert [o.status for o in outcomes] == ["scored"] * 3 + ["dead_lettered"]
    assert outcomes[-1].reason == "sync_marker" and outcomes[-1].message.value.endswith(broken + good)
    # As one message it is a dead letter whole, whichever of its blocks is bad: nothing says which alert was meant.
    (whole,) = scorer(survey).score([data])
    assert (whole.status, whole.reason) == ("dead_lettered", "many_records")


def test_a_frame_cut_behind_its_leading_fields_is_refused_by_a_precut_that_these_settle():
    # A frame says nowhere how long it is, and Kafka's own checksum covers it: a cut that is met was made by its producer. What
    # the pre-cut reads is there; the histories behind are looked at for survivors alone, and only these pay for it.
    filters = [parse_filter(FAINT.format(survey="lsst"), "bright.yaml")]
    whole = packet("lsst", lsst_record())
    cut = whole[: len(whole) // 2]
    refused = scorer("lsst", schemas=Schemas(), filters=filters).score([whole, cut])
    assert [(o.status, o.reason) for o in refused] == [("refused", "precut.snr")] * 2
    assert refused[0].error == refused[1].error and refused[0].alert_id == refused[1].alert_id
    for ungated in (scorer("lsst", schemas=Schemas()), scorer("lsst", schemas=Schemas(), filters=filters, ungated=True)):
        sane, broken = ungated.score([whole, cut])
        assert sane.status == "scored" and (broken.status, broken.reason) == ("dead_lettered", "undecodable")
    # Within its leading fields a cut is a dead letter, filters or not.
    (early,) = scorer("lsst", schemas=Schemas(), filters=filters).score([whole[:60]])
    assert (early.status, early.reason) == ("dead_lettered", "undecodable")


def test_a_container_that_is_cut_or_overwritten_behind_its_leading_fields_is_a_dead_letter_before_any_precut():
    filters = [parse_filter(FAINT.format(survey="ztf"), "bright.yaml")]
    whole = packet("ztf", ztf_record(), "null")
    outcomes = scorer("ztf", filters=filters).score([whole, whole[:-1], whole[:-16] + bytes(16), whole[: len(whole) // 2]])
    assert [o.reason for o in outcomes] == ["precut.snr", "truncated", "sync_marker", "truncated"]
    assert [o.status for o in outcomes] == ["refused"] + ["dead_lettered"] * 3


def in_front(survey, kind, content, codec="null"):
    """A sane packet with one more field before all others, which nobody asks for."""
    record = ztf_record() if survey == "ztf" else lsst_record()
    schema = {**SCHEMA[survey], "fields": [{"name": "extra", "type": kind}, *SCHEMA[survey]["fields"]]}
    return container(schema, [(1, compress(codec, content + payload(survey, record)))], codec.encode())


def giants():
    """(name, survey, value) of messages of megabytes, or of few bytes that stand for megabytes."""
    n, flags = 3_000_000, {"type": "array", "items": "boolean"}
    texts = {"type": "map", "values": "string"}
    yield "three million booleans", "ztf", in_front("ztf", flags, long_of(n) + b"\1" * n + b"\0")
    yield "the same in 3 kB", "lsst", in_front("lsst", flags, long_of(n) + b"\1" * n + b"\0", "deflate")
    yield "a million texts", "ztf", in_front("ztf", texts, long_of(n // 3) + b"\2a\0" * (n // 3) + b"\0", "zstandard")
    yield "a text of eight million letters", "ztf", packet("ztf", ztf_record(publisher="x" * 8_000_000), "null")
    yield "a name of eight million letters", "ztf", packet("ztf", ztf_record(objectId="x" * 8_000_000), "snappy")
    yield "nine megabytes", "lsst", framed(SMALL_ID, bytes(9_000_000))
    yield "a stamp of seven megabytes", "lsst", packet("lsst", lsst_record(cutoutDifference=b"SIMPLE" + bytes(7_000_000)))
    rows = [made.lsst_forced(-0.001 * i, 10_000 + i) for i in range(3000)]
    yield "a history of 3,000 rows", "lsst", packet("lsst", lsst_record(prvDiaForcedSources=rows))
    yield "a history of 21,000 rows", "lsst", packet("lsst", lsst_record(prvDiaForcedSources=rows * 7))
    yield "four hundred thousand empty blocks", "ztf", container(SCHEMA["ztf"], []) + block(0, b"") * 400_000
    yield "a million alerts", "ztf", container(SCHEMA["ztf"], [(1_000_000, payload("ztf", ztf_record()) * 700)])


def test_giants_end_soon_and_sane_packets_beside_them_have_their_scores(decoder):
    limits, found = Limits(seconds=0.3), {}
    scorers = {survey: scorer(survey, schemas=Schemas(), limits=limits) for survey in ("ztf", "lsst")}
    sane = {survey: next(s.value for s in seeds() if s.survey == survey) for survey in scorers}
    alone = {survey: one.score([sane[survey]])[0] for survey, one in scorers.items()}
    for name, survey, value in giants():
        start = time.process_time()
        before, giant, after = scorers[survey].score([sane[survey], value, sane[survey]])
        assert time.process_time() - start < 2.0, name  # 0.3 s of decoding, and what the sane ones take
        assert equal(before, alone[survey]) and equal(after, alone[survey]) and before.status == "scored"
        found[name] = giant.reason or giant.status
    # The compiled decoder passes over a million values in milliseconds, and so has no need to stop.
    unread = "too_slow" if decoder == "python" else "scored"
    assert found.pop("four hundred thousand empty blocks") in ("no_record", "too_slow")
    # Counted once read by fastavro, which takes half of the time that is given, and all of it on a busy machine.
    assert found.pop("a history of 21,000 rows") in ("too_large", "too_slow")
    assert found == {
        "three million booleans": unread,
        "the same in 3 kB": unread,
        "a million texts": unread,
        "a text of eight million letters": "scored",
        "a name of eight million letters": "too_large",
        "nine megabytes": "too_large",
        "a stamp of seven megabytes": "bad_cutout",
        "a history of 3,000 rows": "scored",
        "a million alerts": "many_records",
    }


def test_real_packets_in_hostile_company_have_the_scores_that_they_have_alone():
    for survey in ("ztf", "lsst"):
        sane = [s.value for s in seeds() if s.survey == survey and (s.is_real or not s.record)]
        alone = [scorer(survey, schemas=Schemas()).score([value])[0] for value in sane]
        hostile = [value for _, value, its in mutants(11, 200) if its == survey]
        mixed = hostile + sane
        order = random.Random(8).sample(range(len(mixed)), len(mixed))
        outcomes = dict(zip(order, scorer(survey, schemas=Schemas()).score([mixed[i] for i in order])))
        for one, i in zip(alone, range(len(hostile), len(mixed))):
            assert equal(one, outcomes[i])
        assert sum(one.status == "scored" for one in alone) >= 4
