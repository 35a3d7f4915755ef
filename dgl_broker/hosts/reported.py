"""Reports for those outside: read back from their topic, and as a GCN-like notice.

What people are told of is decided by `dgl-broker report` alone; here its reports are only read and put into others' forms.
"""

import logging
from datetime import UTC, datetime, timedelta

from dgl_broker.errors import ConfigError, PacketError
from dgl_broker.librdkafka import properties
from dgl_broker.photometry import MJD_OF_JD, jd_utc_from_mjd_tai
from dgl_broker.reports.records import webhook_text
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.reading import RangeReader
from dgl_broker.stream.stopping import Stop
from dgl_broker.wire import schema_source
from dgl_broker.wire.records import read_record

log = logging.getLogger(__name__)
MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
TRIES = 3
STATES = ("new", "confirmed", "brighter")
ALERT_TYPE = {"new": "initial", "confirmed": "update", "brighter": "update"}
MISSION = {"ztf": "ZTF", "lsst": "Rubin"}


def read_reports(kafka, topics, since=None, schemas=None, timeout_s=10.0):
    """Reports that stand on these topics, the newest first, each once.

    Parameters
    ----------
    kafka : dict
        librdkafka's keys.
    topics : list of str
        Such as dgl.lsst.reports; one that is not there holds none.
    since : datetime, optional
        Those published from then on, by Kafka's time.
    schemas : RegistrySchemas, optional
        For reports that are framed, as `output.registry` has them.
    timeout_s : float
        For one answer of Kafka.

    Returns
    -------
    reports : list of dict
        With the fields of `schemas/report.avsc`; ids are integers.
    unreadable : int
        Messages on the topics that are no reports of ours; told in the log as well, with what is wrong with the last.

    Raises
    ------
    ConfigError, ServiceFailed, InputUnavailable
    """
    unknown = sorted(set(kafka) - set(properties()))
    if unknown:
        raise ConfigError(f"kafka: {unknown[0]} is none of librdkafka's keys")
    from_ms = None if since is None else int(since.timestamp() * 1000)
    # Transactions: what was aborted was never reported.
    reader = RangeReader(
        kafka, "dgl-broker-reported", Failures(TRIES, Stop()), timeout_s, **{"isolation.level": "read_committed"}
    )
    found, unreadable = {}, 0
    try:
        for place, (first, end) in reader.ranges(reader.places(list(topics)), from_ms).items():
            for message in reader.read(place, first, end):
                try:
                    report = read_report(message.value(), schemas)
                except PacketError as error:
                    unreadable += 1
                    problem = f"{message.topic()}[{message.partition()}]@{message.offset()}: {error}"
                    continue
                found[report["message_id"]] = report
    finally:
        reader.close()
    if unreadable:
        log.warning("%d messages are no reports of ours, the last: %s", unreadable, problem)
    return sorted(found.values(), key=lambda r: r["published_ms"] or 0, reverse=True), unreadable


def read_report(value, schemas=None):
    """A message of the reports' topic as a dict.

    Raises
    ------
    PacketError
        If it is no report of ours.
    """
    record = read_record(value or b"", schemas)
    if record.get("state") not in STATES or not record.get("message_id"):
        raise PacketError("unknown_schema", "a record, but no report")
    return record


def registry_of(registry, user=None, password=None):
    """Source of the schemas that framed reports are registered with, or None where there is no registry.

    Parameters
    ----------
    registry : str or None
        As `output.registry` of the filter and of `dgl-broker report` has it.
    user, password : str, optional
        Its login.
    """
    return schema_source(registry or None, user or None, password or None)


def utc_of(mjd_tai):
    """A time MJD TAI as datetime UTC, or None."""
    if mjd_tai is None:
        return None
    return MJD_EPOCH + timedelta(days=float(jd_utc_from_mjd_tai(mjd_tai)) - MJD_OF_JD)


def link(template, report):
    """A page about the object: `template` with {survey}, {object_id} and {alert_id} in it."""
    return template.format(survey=report["survey"], object_id=report["object_id"], alert_id=report["alert_id"])


def gcn_notice(report, url="", test=False):
    """A report as JSON in the words of GCN's core schemas (nasa-gcn/gcn-schema: Alert, DateTime, Event, Localization, ...).

    Parameters
    ----------
    report : dict
    url : str
        Template of a page about the object.
    test : bool
        Whether to say that it is a test.
    """
    p_lsn = report["p_lsn"]
    notice = {
        "mission": MISSION[report["survey"]],
        "messenger": "EM",
        "record_number": STATES.index(report["state"]) + 1,
        "alert_datetime": _iso(datetime.fromtimestamp((report["published_ms"] or 0) / 1000, UTC)),
        "alert_tense": "test" if test else "current",
        "alert_type": ALERT_TYPE[report["state"]],
        "trigger_time": _iso(utc_of(report["mjd_tai"])),
        "event_name": [report["object_id"]],
        "id": [str(report["alert_id"]), report["message_id"]],
        "ra": report["ra"],
        "dec": report["dec"],
        "filter": None if report["band"] is None else [report["band"]],
        "additional_info": webhook_text(report),
        "data_archive_page": link(url, report) or None,
    }
    if p_lsn is not None:
        ia, cc = report["p_lensed_sn_ia"], report["p_lensed_sn_cc"]
        notice["classification"] = {"lensed SN Ia": ia, "lensed core-collapse SN": cc, "other": max(0.0, 1.0 - ia - cc)}
        notice["log_odds"] = report["log_odds"]
    return {name: value for name, value in notice.items() if value is not None}


def _iso(when):
    return None if when is None else when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
