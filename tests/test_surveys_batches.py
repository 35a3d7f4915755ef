"""Alerts are read a batch at a time, and each is the same to the bit as read alone."""

import random
from dataclasses import replace

import packets as made
import pytest
from decoders import plain

from dgl_broker.errors import PacketError
from dgl_broker.surveys import read_alert, read_alerts
from dgl_broker.wire import Packet, decode, decode_all

pytestmark = pytest.mark.usefixtures("decoder")


def packets_of_both():
    """Packets of both surveys with histories of many lengths, real ones among them, and three that cannot be read."""
    rng = random.Random(5)
    found = []
    for n in (0, 1, 2, 30):
        days = [-rng.uniform(0, 20) for _ in range(n)]
        rows = [made.ztf_row(d, rng.uniform(17, 20), rng.choice((1, 2, 3)), rng.choice("tf10")) for d in days]
        rows += [made.ztf_limit(d + 0.5) for d in days]
        rows += rows[: n // 2]  # each of these twice
        forced = [made.ztf_forced(d, rng.gauss(0, 500), magnr=18.0, sigmagnr=0.1, distnr=0.3) for d in days]
        found.append(decode(made.ztf_message(made.ztf_record(rows, forced))))
        sources = [made.lsst_source(d, 99 - k, rng.gauss(0, 500), rng.choice("ugrizy")) for k, d in enumerate(days)]
        forced = [made.lsst_forced(d, 100 - k, rng.gauss(0, 500)) for k, d in enumerate([0.0, *days])]
        found.append(decode(made.lsst_message(made.lsst_record(sources or None, forced)), None, made.Schemas()))
    for path in sorted(made.DATA.glob("*v4_02.avro")) + sorted(made.DATA.glob("fink_transfer*.avro")):
        found += [packet for packet, _ in decode_all(path.read_bytes())]
    odd = decode(made.ztf_message(made.ztf_record(fid=4)))
    return [*found, odd, odd, Packet("lsst", "lsst 10.0", {**found[1].record, "diaSource": None})]


def test_a_batch_reads_each_alert_as_if_it_were_alone():
    packets = packets_of_both()
    random.Random(6).shuffle(packets)
    together = read_alerts(packets)
    assert sum(isinstance(alert, PacketError) for alert in together) == 3
    for packet, alert in zip(packets, together, strict=True):
        if isinstance(alert, PacketError):
            with pytest.raises(PacketError) as caught:
                read_alert(packet)
            assert (caught.value.reason, caught.value.detail) == (alert.reason, alert.detail)
        else:
            assert plain(read_alert(packet)) == plain(alert)


def test_order_of_rows_does_not_matter():
    packet = max(packets_of_both(), key=lambda p: len(p.record.get("prvDiaForcedSources") or ()))
    rng = random.Random(7)
    expected = plain(read_alert(packet).light_curve)
    for _ in range(3):
        shuffled = {
            name: rng.sample(list(value), len(value)) if name.startswith("prv") else value
            for name, value in packet.record.items()
        }
        assert plain(read_alert(replace(packet, record=shuffled)).light_curve) == expected


def test_no_packets_are_no_alerts():
    assert read_alerts([]) == []
