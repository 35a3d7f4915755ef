"""Dead letters: listed by reason, shown with their bytes, replayed after a fix, and never twice."""

import json
import os
import struct
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_scorer import BUNDLE, FakeScorer

from dgl_broker.alert import Message
from dgl_broker.archive.deadletters import LetterFolder, original_bytes
from dgl_broker.archive.sinks import DeadLetterFolder
from dgl_broker.cli import main
from dgl_broker.errors import InputUnavailable, PacketError, ServiceFailed, StateError
from dgl_broker.message_id import message_id
from dgl_broker.outputs.avro import make_form
from dgl_broker.outputs.deadletters import dead_letter_record, spill
from dgl_broker.outputs.kept import Groups, letter_of_record
from dgl_broker.scores import Outcome
from dgl_broker.wire.records import read_record

ROOT = Path(__file__).parents[1]


def dead(n, reason="truncated", traceback=None, **message):
    """A dead-lettered outcome."""
    place = message or {"topic": "in", "partition": 1, "offset": n}
    return Outcome("dead_lettered", Message(b"%d cut" % n, **place), reason, f"no {n}", traceback)


@pytest.fixture
def folder(tmp_path):
    """Seven dead letters of a replay, one of another reason, one a row of a table."""
    outcomes = [dead(n, source="a.avro", source_row=n) for n in range(5)]
    outcomes += [dead(5, "unexpected", "Traceback: line 7", source="b.avro", source_row=0)]
    outcomes += [dead(6, source="c.parquet", source_row=3)]
    DeadLetterFolder(tmp_path / "x.deadletters").write(outcomes)
    return tmp_path / "x.deadletters"


def fixed():
    """A scorer that has learnt to read what it could not."""
    from kafka.looking_back import Fixed

    return Fixed()


def test_list_groups_by_reason_and_prefers_an_example_with_a_traceback(folder, tmp_path, capsys):
    assert main(["deadletters", "list", str(folder), "--summary", str(tmp_path / "s.json")]) == 0
    report = json.loads((tmp_path / "s.json").read_text())
    assert [(g["reason"], g["count"], g["bytes"]) for g in report["reasons"]] == [("truncated", 6, 30), ("unexpected", 1, 5)]
    example = report["reasons"][1]["example"]
    assert (example["number"], example["where"], example["traceback"]) == ("5", "b.avro#0", "Traceback: line 7")
    said = capsys.readouterr().out
    assert "6 truncated" in said and "no 5" in said and "Traceback: line 7" in said and "7 dead letters" in said


def test_list_of_a_reason_and_of_a_time(folder, capsys):
    assert main(["deadletters", "list", str(folder), "--reason", "unexpected"]) == 0
    assert "1 dead letters" in capsys.readouterr().out
    os.utime(folder / "00000002.bin", (1000, 1000))  # file times are when they were dead-lettered
    assert main(["deadletters", "list", str(folder), "--since", "2001-01-01"]) == 0
    assert "6 dead letters" in capsys.readouterr().out
    assert main(["deadletters", "list", str(folder), "--since", "yesterday"]) == 2


def test_an_error_out_of_a_packet_does_not_steer_the_terminal(tmp_path, capsys):
    DeadLetterFolder(tmp_path / "d").write([dead(0, source="a\x1b[2J", source_row=0)])
    assert main(["deadletters", "list", str(tmp_path / "d")]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_show_writes_the_bytes_for_this_user_alone_and_never_over_a_file(folder, tmp_path, capsys):
    out = tmp_path / "it.bin"
    assert main(["deadletters", "show", str(folder), "5", "--out", str(out)]) == 0
    assert out.read_bytes() == b"5 cut" and out.stat().st_mode & 0o777 == 0o600
    its_id = LetterFolder(folder).find("5").id
    assert its_id in capsys.readouterr().out
    assert main(["deadletters", "show", str(folder), its_id, "--out", str(out)]) == 6
    assert main(["deadletters", "show", str(folder), "99"]) == 3
    assert main(["deadletters", "show", "5"]) == 2


def test_replay_of_a_folder_scores_each_once(folder):
    letters = LetterFolder(folder)
    account = letters.replay(FakeScorer())
    assert (account["failed_again"], account["scored"], account["unavailable"]) == (6, 0, 1)
    assert not letters.table.exists()
    assert letters.replay(fixed(), reason="unexpected")["scored"] == 1
    account = letters.replay(fixed(), batch_size=2)
    counts = [account[name] for name in ("seen", "replayed_before", "unavailable", "failed_again", "scored")]
    assert counts == [7, 1, 1, 0, 5]
    assert letters.replay(fixed())["replayed_before"] == 6
    rows = pq.read_table(letters.table).to_pylist()
    assert sorted(r["alert_id"] for r in rows) == [0, 1, 2, 3, 4, 5]
    ids = {letter.number: letter.id for letter in letters.letters()}
    assert {r["dead_letter_id"] for r in rows} == set(ids.values()) - {ids["6"]}
    assert next(r for r in rows if r["alert_id"] == 3)["message_id"] == message_id("ztf", 3, BUNDLE)


def test_replay_that_fails_in_the_middle_leaves_the_table_as_it_was(folder):
    letters = LetterFolder(folder)
    letters.replay(fixed(), reason="unexpected")
    before = letters.table.read_bytes()

    def break_down(messages):
        if any(m.value == b"3 cut" for m in messages):
            raise RuntimeError("the device")

    broken = fixed()
    broken.before = break_down
    with pytest.raises(RuntimeError):
        letters.replay(broken, batch_size=2)
    assert letters.table.read_bytes() == before
    assert {p.name for p in folder.iterdir() if p.suffix != ".bin"} == {"index.jsonl", "scores.parquet"}


def test_another_replay_of_the_archive_takes_what_was_replayed_of_the_old_letters_with_it(folder):
    LetterFolder(folder).replay(fixed())
    assert (folder / "scores.parquet").exists()
    DeadLetterFolder(folder).write([dead(1, source="a.avro", source_row=1)])  # the same letter again, of a new table
    assert {p.name for p in folder.iterdir()} == {"00000000.bin", "index.jsonl"}
    account = LetterFolder(folder).replay(fixed())
    assert (account["replayed_before"], account["scored"]) == (0, 1)
    (folder / "scores.parquet").write_bytes(b"someone else's")
    DeadLetterFolder(folder).write([])
    assert [p.name for p in folder.iterdir()] == ["scores.parquet"]


def test_other_bytes_at_the_same_place_are_another_letter(folder):
    letters = LetterFolder(folder)
    letters.replay(fixed())
    (folder / "00000002.bin").write_bytes(b"77 cut")
    assert letters.replay(fixed())["scored"] == 1


def test_one_replay_of_a_folder_at_a_time(folder):
    scorer = fixed()
    scorer.before = lambda messages: LetterFolder(folder).replay(fixed())
    with pytest.raises(StateError, match="another replay"):
        LetterFolder(folder).replay(scorer)


def test_real_packets_are_scored_once_their_schema_is_there(tmp_path):
    """LSST packets without a folder of schemas are dead letters; with one they get what a direct run gives them."""
    pytest.importorskip("lsst.alert.packet", reason="lsst-alert-packet has the official schemas")
    from kafka import flow
    from kafka.registry import official_lsst_schemas

    from dgl_broker.scorer import Scorer

    alerts, out, bundle = tmp_path / "alerts", tmp_path / "scores.parquet", tmp_path / "bundle"
    alerts.mkdir()
    for name in flow.LsstTemplates.names:
        (alerts / name).write_bytes((flow.ALERTS / name).read_bytes())
    flow.tiny_bundle(bundle, "lsst", 0.2)
    (tmp_path / "none").mkdir()
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    for number, schema in official_lsst_schemas().items():
        (schemas / f"{number}.avsc").write_text(json.dumps(schema))
    given = ["--survey", "lsst", "--bundle", str(bundle)]
    assert main(["replay", str(alerts), *given, "--out", str(out)]) == 0
    folder = tmp_path / "scores.deadletters"
    assert main(["deadletters", "replay", str(folder), *given, "--strict"]) == 8
    assert main(["deadletters", "replay", str(folder), *given, "--schemas", str(schemas), "--strict"]) == 0
    rows = {r["alert_id"]: r for r in pq.read_table(folder / "scores.parquet").to_pylist()}
    direct = Scorer("lsst", bundle, schemas=schemas).score([(alerts / name).read_bytes() for name in flow.LsstTemplates.names])
    assert {o.alert_id: (o.status, o.reason) for o in direct} == {n: (r["status"], r["reason"]) for n, r in rows.items()}
    assert len(rows) == 3 and any(o.scores for o in direct)
    for outcome in direct:
        if outcome.scores:
            assert rows[outcome.alert_id]["log_odds"] == pytest.approx(outcome.scores.log_odds, abs=1e-4)


def test_record_comes_back_from_a_container_and_from_a_frame():
    record = dead_letter_record(dead(3), "ztf", BUNDLE, 5)
    assert read_record(make_form("dead_letter", "t").encode(record)) == record
    with pytest.raises(PacketError, match="unknown_framing"):
        read_record(b"hello")
    with pytest.raises(PacketError, match="no registry"):
        read_record(struct.pack(">bI", 0, 1))


def test_spilled_bytes_key_and_headers_come_back(tmp_path):
    message = Message(b"abc", "in", 0, 7, b"k" * 3000, 9, (("h", b"\xff"), ("n", None)))
    record = spill(dead_letter_record(Outcome("dead_lettered", message, "too_large", "x"), "ztf"), tmp_path)
    assert letter_of_record(record, "0:0").open() == message
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in list(tmp_path.glob("*.*")):
        file.rename(moved / file.name)
    with pytest.raises(InputUnavailable, match="spilled to"):
        letter_of_record(record, "0:0").open()
    assert letter_of_record(record, "0:0", moved).open() == message
    next(moved.glob("*.bin")).write_bytes(b"abd")
    with pytest.raises(InputUnavailable, match="sha256"):
        letter_of_record(record, "0:0", moved).open()


def test_equal_bytes_with_other_keys_and_headers_spill_side_by_side(tmp_path):
    messages = [Message(b"abc", "in", 0, n, bytes([107 + n]) * 3000, 9, (("h", b"%d" % n),)) for n in range(2)]
    records = [spill(dead_letter_record(Outcome("dead_lettered", m, "too_large", "x"), "ztf"), tmp_path) for m in messages]
    assert len(list(tmp_path.glob("*.bin"))) == 1
    assert [letter_of_record(record, "0:0").open() for record in records] == messages


def test_groups_tell_first_and_last_time():
    groups = Groups()
    for n, time_ms in ((0, 2000), (1, 1000), (2, None), (3, 86_400_000)):
        groups.add(letter_of_record(dead_letter_record(dead(n), "ztf", None, time_ms), f"0:{n}"))
    (group,) = groups.as_list()
    assert (group["count"], group["first"], group["last"]) == (
        4,
        "1970-01-01T00:00:01.000+00:00",
        "1970-01-02T00:00:00.000+00:00",
    )


# On Apache Kafka


@pytest.fixture
def place(kafka, tmp_path, request):
    from kafka.looking_back import Place

    return lambda **how: Place(kafka, request.node.name, tmp_path, **how)


def redeliver(one, scorer, **how):
    from dgl_broker.stream.redelivery import Redelivery
    from dgl_broker.stream.stopping import Stop

    return Redelivery(one.settings, Stop(), scorer=scorer).replay(**how)


def kept(one):
    from dgl_broker.stream.failures import Failures
    from dgl_broker.stream.redelivery import TopicLetters
    from dgl_broker.stream.stopping import Stop

    return closing(TopicLetters(one.settings, Failures(3, Stop())))


def marks(messages):
    """Dead-letter id in the header `replayed` -> how often."""
    return Counter(dict(m.headers())["replayed"].decode() for m in messages if "replayed" in dict(m.headers()))


@pytest.mark.kafka
def test_dead_letters_of_a_topic_are_replayed_once_marked_spilled_ones_too(place, tmp_path):
    from kafka import flow

    one = place()
    one.feed(0, 30)
    large = b"99 cut " + b"x" * 1_200_000  # more than the 1,000,000 bytes that librdkafka's producer takes
    flow.produce(one.servers, f"{one.name}.in", [large], 1)
    assert one.run()["dead_lettered"] == 7
    n_scores = len(one.messages("scores"))
    with kept(one) as letters:
        found = {letter.open().value: letter for letter in letters.letters()}
        assert set(found) == {large, *(b"%d cut" % n for n in range(4, 30, 5))}
        its = found[b"14 cut"]
        assert letters.find(its.id).number == its.number and letters.find(its.number).id == its.id
        with pytest.raises(InputUnavailable):
            letters.find("0:999999")
        assert original_bytes(found[large], tmp_path / "large") and (tmp_path / "large").read_bytes() == large
        assert not list(letters.letters(reason="other")) and not list(letters.letters(since_ms=4_000_000_000_000))

    account = redeliver(one, FakeScorer())
    assert (account["seen"], account["failed_again"], account["failed_again_by_reason"]) == (7, 7, {"truncated": 7})
    assert len(one.messages("dead_letters")) == 7 and len(one.messages("scores")) == n_scores

    account = redeliver(one, fixed())
    assert (account["seen"], account["scored"], account["failed_again"]) == (7, 7, 0)
    assert account["published"] == {f"{one.name}.scores": 7, f"{one.name}.candidates": 7}
    scores = one.messages("scores")
    assert marks(scores) == marks(one.messages("candidates")) == Counter(letter.id for letter in found.values())
    record = next(r for r in flow.containers(scores) if r["alert_id"] == 14)
    assert record["message_id"] == message_id("ztf", 14, BUNDLE)
    assert f"{record['source']}@{record['source_row']}" == its.where

    account = redeliver(one, fixed())
    assert (account["replayed_before"], account["scored"]) == (7, 0)
    assert len(one.messages("scores")) == len(scores) and len(one.messages("dead_letters")) == 7


@pytest.mark.kafka
def test_replay_that_dies_goes_on_where_it_was_and_redelivered_letters_count_once(place):
    from kafka import flow

    one = place(batch={"max_alerts": 5})
    one.feed(0, 60)
    one.run()
    # What a crash before the commit leaves under at_least_once: each dead letter twice, under one id.
    again = one.messages("dead_letters")
    flow.produce(one.servers, f"{one.name}.dead_letters", [m.value() for m in again], 1)

    def break_down(messages):
        if len(scorer.seen) == 5:
            raise RuntimeError("the device")

    scorer = fixed()
    scorer.before = break_down
    with pytest.raises(RuntimeError):
        redeliver(one, scorer)
    assert sum(marks(one.messages("scores")).values()) == 5
    account = redeliver(one, fixed())
    assert (account["seen"], account["scored"]) == (24, 7) and account["replayed_before"] + account["repeated"] == 17
    done = marks(one.messages("scores"))
    assert len(done) == 12 and set(done.values()) == {1}


@pytest.mark.kafka
def test_second_replay_at_the_same_time_fences_the_first(place):
    one = place()
    one.feed(0, 20)
    one.run()
    scorer = fixed()
    scorer.before = lambda messages: redeliver(one, fixed())
    with pytest.raises(ServiceFailed):
        redeliver(one, scorer)
    done = marks(one.messages("scores"))
    assert len(done) == 4 and set(done.values()) == {1}


@pytest.mark.kafka
def test_command_lists_and_shows_a_topic(place, tmp_path, monkeypatch, capsys):
    one = place()
    one.feed(0, 10)
    one.run()
    config = tmp_path / "broker.yaml"
    config.write_text(json.dumps(one.raw))  # JSON is YAML
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        code = main(["deadletters", *arguments, "--config", str(config)])
        return code, capsys.readouterr().out

    code, listed = command("list", "--all")
    assert code == 0 and "2 truncated" in listed and "2 dead letters" in listed
    number, its_id = listed.split()[:2]
    code, shown = command("show", number)
    assert code == 0 and its_id in shown
    assert (tmp_path / f"{its_id}.bin").read_bytes().endswith(b" cut")
    assert command("show", "nothing")[0] == 3
