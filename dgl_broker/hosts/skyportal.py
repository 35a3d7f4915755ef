"""SkyPortal: a broker provider that shows what `dgl-broker report` told of, and makes candidates of it.

SkyPortal is not a package that one installs beside ours, so nothing of it is imported here: a file of a few lines in its
`skyportal/broker_apis/` calls `provider` with its `BrokerAPI` and its way to save (`docs/hosts/skyportal.md` has that file).
"""

import asyncio
import logging
import math

from dgl_broker.client import Client
from dgl_broker.errors import PacketError
from dgl_broker.hosts.reported import read_report, read_reports, registry_of
from dgl_broker.photometry import MJD_OF_JD
from dgl_broker.stream.taking import Taker

log = logging.getLogger(__name__)
SURVEYS = {"ztf": "ZTF", "lsst": "LSST"}
RADIUS_ARCSEC = 2.0
MOST = 1000
BATCH, WAIT_S = 50, 2.0
FORM = {
    "type": "object",
    "required": ["service_url", "kafka_servers", "topics"],
    "properties": {
        "service_url": {"type": "string", "title": "Address of dgl-broker serve"},
        "token": {"type": "string", "title": "Its token (optional)"},
        "kafka_servers": {"type": "string", "title": "Kafka bootstrap servers of the reports"},
        "topics": {"type": "array", "items": {"type": "string"}, "title": "Topics of reports", "default": ["dgl.lsst.reports"]},
        "kafka_username": {"type": "string", "title": "Kafka user name (optional, SCRAM-SHA-512)"},
        "kafka_password": {"type": "string", "title": "Kafka password"},
        "registry": {"type": "string", "title": "Schema registry of the reports (where output.registry is set)"},
        "registry_username": {"type": "string", "title": "Its user name (optional)"},
        "registry_password": {"type": "string", "title": "Its password"},
        "group_id": {"type": "string", "title": "Consumer group of the ingestion", "default": "skyportal-deepgravilens"},
    },
}


def provider(base, save=None):
    """The provider's class.

    Parameters
    ----------
    base : class
        SkyPortal's `BrokerAPI`.
    save : coroutine function, optional
        (broker, data, survey, passing_alert_id, annotations) -> None: makes a candidate. Without it nothing is ingested, and
        SkyPortal is told so.
    """

    class DEEPGRAVILENS(base):
        """Reports of lensed-supernova candidates by DeepGraviLens."""

        surveys = list(SURVEYS.values())
        filter_kind = "none"
        form_json_schema_config = FORM
        ui_json_schema = {name: {"ui:widget": "password"} for name in ("token", "kafka_password", "registry_password")}
        parallel_ingestion = True  # a consumer group

        @staticmethod
        def validate_config(altdata):
            """ValueError where something is missing."""
            missing = [name for name in FORM["required"] if not (altdata or {}).get(name)]
            if missing:
                raise ValueError(f"Broker altdata must include {', '.join(missing)}.")

        @staticmethod
        def query_alerts(broker, session, **kwargs):
            """Reports, the newest first: of one object (`objectId`), of one alert (`candid`), or around a place (`ra`, `dec`,
            `radius` in arcsec); all that their topics keep where nothing is asked for.
            """
            schemas = schemas_of(broker)
            found, _ = read_reports(kafka_of(broker), broker.altdata["topics"], schemas=schemas)  # which logs what it cannot
            return [as_alert(one) for one in found if _is_asked_for(one, kwargs)]

        @staticmethod
        def get_alert(broker, alert_id, session, **kwargs):
            """An object with the scores of all its alerts; `alert_id` is SkyPortal's word for the object's id. None where
            nothing is known of it.
            """
            with Client(broker.altdata["service_url"], broker.altdata.get("token"), patience_s=5.0) as client:
                for survey in _surveys(kwargs.get("survey"), alert_id):
                    answers = client.scores_of_object(survey, alert_id, limit=MOST)
                    scored = [a.record for a in answers if a.status == "scored"]
                    if scored:
                        return as_alert(scored[0], scored)
            return None

    if save is not None:

        async def run_ingestion(broker, session=None, stop=None, max_messages=None, **kwargs):
            """Makes a candidate of each report, and commits a batch once its candidates are saved; gives their number.

            What `save` raises ends it, with the batch uncommitted: SkyPortal knows a candidate that it has by its alert. What
            is no report of ours is committed as well, and logged with its count.
            """
            kafka = {**kafka_of(broker), "isolation.level": "read_committed"}
            taker = Taker(
                kafka, broker.altdata.get("group_id", FORM["properties"]["group_id"]["default"]), broker.altdata["topics"]
            )
            count, unreadable, schemas = 0, 0, schemas_of(broker)
            try:
                while not (stop is not None and stop.is_set()) and (max_messages is None or count < max_messages):
                    at_most = BATCH if max_messages is None else min(BATCH, max_messages - count)
                    messages = await asyncio.to_thread(taker.take, at_most, WAIT_S)
                    for message in messages:
                        try:
                            report = await asyncio.to_thread(read_report, message.value(), schemas)
                        except PacketError as error:
                            unreadable += 1
                            place = f"{message.topic()}[{message.partition()}]@{message.offset()}"
                            log.warning("%s: not a report of ours, %d so far: %s", place, unreadable, error)
                            continue
                        survey = SURVEYS[report["survey"]]
                        await save(broker, as_alert(report), survey, report["alert_id"], annotations_of(report))
                        count += 1
                    if messages:
                        await asyncio.to_thread(taker.have, messages)
            finally:
                taker.close()
            return count

        DEEPGRAVILENS.run_ingestion = staticmethod(run_ingestion)
    return DEEPGRAVILENS


def as_alert(record, records=()):
    """A report, or the newest of an object's score records, as SkyPortal's standard alert: `objectId`, `candidate`, and no
    photometry, since magnitudes here have no errors. 64-bit ids are text, for browsers.
    """
    jd_tai = None if record["mjd_tai"] is None else record["mjd_tai"] + MJD_OF_JD
    candidate = {"candid": str(record["alert_id"]), "ra": record["ra"], "dec": record["dec"], "jd_tai": jd_tai}
    return {
        "objectId": record["object_id"],
        "candid": str(record["alert_id"]),
        "survey": SURVEYS[record["survey"]],
        "candidate": {**candidate, "band": record["band"], "mag": record["magnitude"]},
        "prv_candidates": [],
        "classifications": annotations_of(record),
        "scores": [{"candid": str(one["alert_id"]), "mjd_tai": one["mjd_tai"], **annotations_of(one)} for one in records],
    }


def annotations_of(record):
    """What SkyPortal keeps beside a candidate."""
    passed = record.get("filters") or [v for v in record.get("verdicts", ()) if v["passed"]]
    said = {
        name: record.get(name)
        for name in ("log_odds", "p_lsn", "p_lensed_sn_ia", "p_lensed_sn_cc", "p_value", "state", "night")
    }
    said["bundle"] = f"{record['bundle_id']}@{(record['bundle_sha256'] or '')[:8]}"
    said["filters"] = ", ".join(f"{one['filter']} v{one['version']}" for one in passed)
    return {name: value for name, value in said.items() if value is not None}


def kafka_of(broker):
    """librdkafka's keys from a broker's `altdata`."""
    altdata = broker.altdata
    kafka = {"bootstrap.servers": altdata["kafka_servers"]}
    if altdata.get("kafka_username"):
        kafka |= {
            "security.protocol": altdata.get("kafka_protocol", "SASL_SSL"),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": altdata["kafka_username"],
            "sasl.password": altdata.get("kafka_password", ""),
        }
    return kafka


def schemas_of(broker):
    """Source of the schemas of framed reports from a broker's `altdata`, or None."""
    altdata = broker.altdata
    return registry_of(altdata.get("registry"), altdata.get("registry_username"), altdata.get("registry_password"))


def _is_asked_for(report, asked):
    if asked.get("objectId") and str(asked["objectId"]) != report["object_id"]:
        return False
    if asked.get("candid") and str(asked["candid"]) != str(report["alert_id"]):
        return False
    if asked.get("survey") and SURVEYS[report["survey"]] != str(asked["survey"]).upper():
        return False
    if asked.get("ra") is None or asked.get("dec") is None:
        return True
    if report["ra"] is None or report["dec"] is None:
        return False
    place = (float(asked["ra"]), float(asked["dec"]))
    return separation_arcsec(*place, report["ra"], report["dec"]) <= float(asked.get("radius") or RADIUS_ARCSEC)


def _surveys(named, object_id):
    if named:
        return [str(named).lower()]
    return ["ztf"] if str(object_id).startswith("ZTF") else ["lsst", "ztf"]


def separation_arcsec(ra1, dec1, ra2, dec2):
    """Angle between two places [deg] by the haversine formula, which holds for small angles."""
    ra1, dec1, ra2, dec2 = map(math.radians, (ra1, dec1, ra2, dec2))
    h = math.sin((dec2 - dec1) / 2) ** 2 + math.cos(dec1) * math.cos(dec2) * math.sin((ra2 - ra1) / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(h)))) * 3600
