"""Packets kept beside their scores, and read again: bytes, companions, schemas, whatever came in which order."""

import random
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from make_alerts import gaussian, wcs_cards
from simulated import OWN_SCHEMAS, packets, scorer

from dgl_broker import surveys, wire
from dgl_broker.alert import Message
from dgl_broker.archive.keep import Keeper, KeepRule, clear_kept, parse_keep
from dgl_broker.archive.kept import KeptPackets, kept_folders
from dgl_broker.cli import main
from dgl_broker.companions import Companion, as_stored
from dgl_broker.errors import ConfigError, InputUnavailable, PacketError
from dgl_broker.scores import Outcome
from dgl_broker.stamps import Stamp

DATA = Path(__file__).parent / "data" / "alerts"
SCHEMAS = wire.schema_source(OWN_SCHEMAS)


def outcome(alert_id, log_odds, value=None, mjd=61000.25, survey="ztf", companions=(), status="scored"):
    """An outcome with as much as is kept of it."""
    scores = None if log_odds is None else SimpleNamespace(log_odds=log_odds, bundle_sha256="ab")
    alert = SimpleNamespace(survey=survey, alert_id=alert_id, mjd_tai=mjd, name=f"{survey} {alert_id}", object_id="one")
    message = Message(value or b"packet %d" % alert_id, source="night.avro", source_row=alert_id)
    return Outcome(status, message, alert=alert, scores=scores, companions=tuple(companions))


def companion(object_id):
    """What an earlier alert of an object left in g: a template turned by 20 degrees."""
    cards = wcs_cards(20.0)
    matrix = 3600 * np.array([[cards["PC1_1"], cards["PC1_2"]], [cards["PC2_1"], cards["PC2_2"]]])
    pixels = gaussian(30, 14.7, 14.4)
    stamp = Stamp(pixels, np.ones(pixels.shape, bool), matrix, 14.7, 14.4, True)
    return Companion("lsst", object_id, "g", 7, 60999.0, stamp, None, 150.0, 2.2)


def read(value):
    """The alert of a simulated LSST packet."""
    return surveys.read_alert(wire.decode(value, "lsst", SCHEMAS))


def kept_ids(folder):
    with KeptPackets.open(folder) as kept:
        return kept.ids()


@pytest.mark.parametrize("text, rule", [("none", None), ("all", KeepRule()), ("top:2000", KeepRule(2000))])
def test_rules(text, rule):
    assert parse_keep(text) == rule and (rule is None or str(rule) == text)


@pytest.mark.parametrize("text", ["", "top", "top:", "top:0", "top:-3", "top:1e3", "top:²", "best:5"])
def test_a_rule_that_makes_no_sense(text):
    with pytest.raises(ConfigError, match="top:2000"):
        parse_keep(text)


def test_the_best_are_kept_whatever_the_order_and_however_often(tmp_path):
    # Ties at the edge are settled by the id, so the five are 104 .. 100 by score and 7 for the tie of 7 and 8.
    alerts = [outcome(100 + n, float(n)) for n in range(5)] + [outcome(7, -1.0), outcome(8, -1.0)]
    expected = [("ztf", 104), ("ztf", 103), ("ztf", 102), ("ztf", 101), ("ztf", 100), ("ztf", 7)]
    for seed in range(4):
        random.Random(seed).shuffle(alerts)
        keeper = Keeper(tmp_path / str(seed), KeepRule(6), "ztf")
        for start in range(0, len(alerts), 2):
            keeper.take(alerts[start : start + 2])
            keeper.take(alerts[start : start + 2])
        keeper.close()
        assert kept_ids(tmp_path / str(seed)) == expected


def test_all_keeps_refusals_and_no_dead_letters(tmp_path):
    keeper = Keeper(tmp_path, KeepRule(), "ztf")
    keeper.take([outcome(1, 0.5), outcome(2, None, status="refused"), outcome(3, None, status="dead_lettered")])
    keeper.close()
    with KeptPackets.open(tmp_path) as kept:
        assert kept.ids() == [("ztf", 1), ("ztf", 2)] and len(kept) == 2
        assert kept.value("ztf", 2) == b"packet 2" and kept.value("ztf", 3) is None
        assert ("ztf", 1) in kept and ("lsst", 1) not in kept
        message = kept.message("ztf", 1)
        assert (message.source, message.source_row, message.value) == ("night.avro", 1, b"packet 1")


def test_only_scored_ones_are_among_the_best(tmp_path):
    keeper = Keeper(tmp_path, KeepRule(2), "ztf")
    keeper.take([outcome(1, None, status="refused"), outcome(2, -5.0)])
    keeper.close()
    assert kept_ids(tmp_path) == [("ztf", 2)]


def test_ids_beyond_a_double_stay_exact(tmp_path):
    keeper = Keeper(tmp_path, KeepRule(), "lsst")
    keeper.take([outcome(2**62 + 1, 1.0, survey="lsst"), outcome(2**62 + 2, 2.0, survey="lsst")])
    keeper.close()
    with KeptPackets.open(tmp_path) as kept:
        assert kept.value("lsst", 2**62 + 1) == b"packet %d" % (2**62 + 1)
        assert kept.value("lsst", 2**62) is None


def test_companions_come_back_as_they_were_used_and_go_with_their_alert(tmp_path):
    value = packets("lsst", 20)[0][0]
    alert = read(value)
    # As the pipeline has them: from a store, centred on the alert.
    used = as_stored(companion(alert.object_id)).centred_on(alert.ra, alert.dec)
    scores = SimpleNamespace(log_odds=1.0, bundle_sha256="ab")
    first = Outcome("scored", Message(value), alert=alert, scores=scores, companions=(used,))
    keeper = Keeper(tmp_path, KeepRule(1), "lsst", SCHEMAS)
    keeper.take([first])
    with KeptPackets.open(tmp_path) as kept:
        found = kept.companions("lsst", alert.alert_id)
        assert list(found) == ["g"] and found["g"].alert_id == 7 and found["g"].difference is None
        assert (found["g"].ra, found["g"].dec) == (alert.ra, alert.dec)
        assert found["g"].template.x0 == used.template.x0 and np.array_equal(found["g"].template.pixels, used.template.pixels)
    keeper.take([outcome(5, 9.0, survey="lsst")])
    keeper.close()
    with KeptPackets.open(tmp_path) as kept:
        assert kept.ids() == [("lsst", 5)]
        assert kept._ask("SELECT COUNT(*) FROM companions", ()) == [[(0,)]]


def test_framed_packets_are_read_with_the_schema_that_was_kept(tmp_path):
    values = [value for value, _ in packets("lsst", 20)[:3]]
    keeper = Keeper(tmp_path, KeepRule(), "lsst", SCHEMAS)
    made = scorer("lsst")
    outcomes = made.score([Message(v, source="x", source_row=n) for n, v in enumerate(values)])
    keeper.take(outcomes)
    keeper.close()
    with KeptPackets.open(tmp_path) as kept:
        again = scorer("lsst", schemas=kept.schemas).score([kept.message("lsst", o.alert_id) for o in outcomes])
        assert [kept.value("lsst", o.alert_id) for o in outcomes] == values
        assert [kept.alert("lsst", o.alert_id).schema for o in outcomes] == [o.alert.schema for o in outcomes]
    assert [(o.status, o.scores and o.scores.log_odds) for o in again] == [
        (o.status, o.scores and o.scores.log_odds) for o in outcomes
    ]


def test_a_row_of_a_table_comes_back_as_a_container_that_says_the_same(tmp_path):
    record = {
        "objectId": "ZTF1", "candid": 2**62 + 1, "schemavsn": "3.3", "publisher": None, "cutoutScience": {"stampData": b"\x00"},
        "candidate": {"jd": 2460000.5, "fid": 1, "rb": float("nan"), "isdiffpos": "t", "drb": None, "x": True},
        "prv_candidates": [{"jd": 1.0, "candid": 2**61 + 1}, {"jd": 2.0, "candid": None}, None], "fp_hists": [],
    }  # fmt: skip
    packet = wire.Packet("ztf", "ztf 3.3", record)
    found = wire.archives.Container(wire.encode_packet(packet), wire.DEFAULT)
    payload, start, stop = found.one()
    whole, _ = found.schema.read_whole(payload, start, stop=stop)
    assert np.isnan(whole["candidate"].pop("rb")) and np.isnan(record["candidate"].pop("rb"))
    assert whole == record and isinstance(whole["candidate"]["x"], bool)


def test_rows_of_brokers_tables_score_the_same_from_what_is_kept(shared, tmp_path):
    from dgl_broker.archive.sources import read_messages

    table = shared / "data/alerts/ztf/parquet"
    some = list(read_messages([sorted(Path(table).glob("*.parquet"))[0]], "ztf"))[:12]
    made = scorer("ztf")
    outcomes = made.score(some)
    keeper = Keeper(tmp_path, KeepRule(), "ztf")
    keeper.take(outcomes)
    keeper.close()
    with KeptPackets.open(tmp_path) as kept:
        again = made.score([kept.message("ztf", o.alert_id) for o in outcomes])
    assert [(o.status, o.reason) for o in again] == [(o.status, o.reason) for o in outcomes]
    scored = [(a.scores.log_odds, b.scores.log_odds) for a, b in zip(again, outcomes) if a.scores]
    assert len(scored) > 3 and all(a == b for a, b in scored)


def test_of_a_stream_each_nights_best_stay_and_old_nights_go(tmp_path):
    keeper = Keeper(tmp_path, KeepRule(2), "ztf", nights=2)
    for night in range(3):
        keeper.take([outcome(10 * night + n, float(n + 100 * (night == 0)), mjd=61000.25 + night) for n in range(4)])
    keeper.close()
    assert sorted(kept_ids(tmp_path)) == [("ztf", 12), ("ztf", 13), ("ztf", 22), ("ztf", 23)]


def test_two_processes_keep_the_best_of_both(tmp_path):
    keepers = [Keeper(tmp_path, KeepRule(10), "ztf") for _ in range(2)]
    numbers = list(range(200))
    random.Random(1).shuffle(numbers)
    for start in range(0, 200, 20):
        for one, half in zip(keepers, (numbers[start : start + 10], numbers[start + 10 : start + 20])):
            one.take([outcome(n, n / 10) for n in half])
    for one in keepers:
        one.close()
    assert kept_ids(tmp_path) == [("ztf", n) for n in range(199, 189, -1)]


def test_threads_may_read_while_a_filter_writes(tmp_path):
    keeper = Keeper(tmp_path, KeepRule(50), "ztf")
    keeper.take([outcome(n, float(n)) for n in range(50)])
    kept, wrong = KeptPackets.open(tmp_path), []

    def read():
        for _ in range(20):
            for n in range(40, 50):
                if kept.value("ztf", n) != b"packet %d" % n:
                    wrong.append(n)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(50, 60):
        keeper.take([outcome(n - 20, -1.0)])
    for thread in threads:
        thread.join()
    kept.close()
    keeper.close()
    assert not wrong


def test_shards_beside_a_table_are_found_and_cleared(tmp_path):
    for name, number in (("scores.shard-0-of-2.kept", 1), ("scores.shard-1-of-2.kept", 2), ("other.kept", 3)):
        keeper = Keeper(tmp_path / name, KeepRule(), "ztf")
        keeper.take([outcome(number, 1.0)])
        keeper.close()
    with KeptPackets.beside(tmp_path / "scores.parquet") as kept:
        assert kept.ids() == [("ztf", 1), ("ztf", 2)]
    clear_kept(tmp_path / "other.kept")
    assert not (tmp_path / "other.kept").exists() and KeptPackets.beside(tmp_path / "other.parquet") is None
    assert len(kept_folders(tmp_path / "scores")) == 2


def test_a_replay_keeps_its_best_and_clears_what_an_earlier_one_kept(tmp_path):
    import pyarrow.parquet as pq

    out = tmp_path / "scores.parquet"
    args = ["replay", str(DATA), "--survey", "ztf", "--bundle", "default", "--out", str(out), "--quiet"]
    assert main([*args, "--keep-packets", "top:3"]) == 0
    rows = [r for r in pq.read_table(out).to_pylist() if r["status"] == "scored"]
    best = {r["alert_id"]: r for r in sorted(rows, key=lambda r: -r["log_odds"])[:3]}
    assert len(rows) > 3
    with KeptPackets.beside(out) as kept:
        assert {i for _, i in kept.ids()} == set(best)
        for alert_id, row in best.items():
            assert kept.value("ztf", alert_id) == Path(row["source"]).read_bytes()
    assert main(args) == 0 and KeptPackets.beside(out) is None


def test_a_folder_without_kept_packets_is_told(tmp_path):
    with pytest.raises(InputUnavailable, match="no kept packets"):
        KeptPackets.open(tmp_path)
    (tmp_path / "packets.sqlite").write_bytes(b"something else, long enough to be no database at all")
    with pytest.raises(InputUnavailable, match="not kept packets"):
        KeptPackets.open(tmp_path)


def test_an_alert_without_kept_schema_says_so(tmp_path):
    keeper = Keeper(tmp_path, KeepRule(), "lsst")
    value = packets("lsst", 20)[0][0]
    alert = read(value)
    keeper.take([Outcome("refused", Message(value), "no_cutouts", alert=alert)])
    keeper.close()
    with KeptPackets.open(tmp_path) as kept, pytest.raises(PacketError, match="was not kept"):
        kept.alert("lsst", alert.alert_id)
