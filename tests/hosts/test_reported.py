"""Reports read back from their topic, and as a GCN-like notice."""

from datetime import UTC, datetime

import pytest
from reports_made import BIG, MJD_TAI_06, UTC_06, candidate, encode, reports

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed here")

from confluent_kafka import Producer  # noqa: E402

from dgl_broker.errors import PacketError, ServiceFailed  # noqa: E402
from dgl_broker.hosts.reported import gcn_notice, read_report, read_reports, utc_of  # noqa: E402
from dgl_broker.stream.embedded import EmbeddedKafka  # noqa: E402


def test_time_of_an_alert_is_utc():
    assert utc_of(MJD_TAI_06).isoformat(timespec="milliseconds") == "2026-11-22T06:00:00.000+00:00"
    assert utc_of(None) is None


def test_notice_says_what_the_report_says():
    first, second = reports([candidate(), candidate(alert_id=BIG + 1, band="r")])
    notice = gcn_notice(first, "https://example.org/{survey}/{object_id}")
    assert (notice["trigger_time"], notice["ra"], notice["dec"]) == (UTC_06, 150.25, -2.5)
    assert notice["id"][0] == str(BIG) and notice["event_name"] == ["169813006111211555"]
    assert (notice["alert_type"], notice["alert_tense"], notice["record_number"]) == ("initial", "current", 1)
    assert notice["mission"] == "Rubin" and notice["filter"] == ["g"]
    assert notice["classification"] == {"lensed SN Ia": 0.5, "lensed core-collapse SN": 0.25, "other": 0.25}
    assert notice["data_archive_page"] == "https://example.org/lsst/169813006111211555"
    # Published at 1,795,378,640 s: by `date -u -d @1795378640`.
    assert notice["alert_datetime"] == "2026-11-22T20:17:20.000Z"
    later = gcn_notice(second, test=True)
    assert (later["alert_type"], later["alert_tense"], later["record_number"]) == ("update", "test", 2)
    assert "data_archive_page" not in later


def test_notice_leaves_out_what_is_not_known():
    (one,) = reports([candidate()])
    unknown = dict.fromkeys(("mjd_tai", "ra", "dec", "band", "p_lsn"))
    assert set(gcn_notice(one)) - set(gcn_notice({**one, **unknown})) == {
        "trigger_time",
        "ra",
        "dec",
        "filter",
        "classification",
        "log_odds",
    }


def test_reports_are_read_back_each_once_the_newest_first():
    first, second = reports([candidate(), candidate(alert_id=BIG + 1, band="r")])
    with EmbeddedKafka() as cluster:
        cluster.create_topic("dgl.lsst.reports", 2)
        producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
        values = [(second, 0), (first, 1), (first, 0)]
        for report, partition in values:
            producer.produce("dgl.lsst.reports", encode(report), partition=partition)
        producer.produce("dgl.lsst.reports", b"nonsense", partition=0)
        producer.flush(10)
        kafka = {"bootstrap.servers": cluster.bootstrap_servers}
        found, unreadable = read_reports(kafka, ["dgl.lsst.reports"])
        assert found == [second, first] and unreadable == 1
        assert found[1]["alert_id"] == BIG and found[1]["new_alert_id"] == BIG
        assert read_reports(kafka, ["dgl.lsst.reports"], datetime(2100, 1, 1, tzinfo=UTC)) == ([], 0)


def test_kafka_that_is_away_is_said():
    with pytest.raises(ServiceFailed):
        read_reports({"bootstrap.servers": "127.0.0.1:1"}, ["dgl.lsst.reports"], timeout_s=0.2)


@pytest.mark.parametrize("value", [b"", b"\x00\x00\x00\x00\x05", None])
def test_other_messages_are_no_reports(value):
    with pytest.raises(PacketError):
        read_report(value)
