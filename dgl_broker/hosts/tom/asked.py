"""What both modules for TOM Toolkit share: the question's fields, the reports that answer it, and scores kept with a target."""

from datetime import UTC, datetime, timedelta

from django import forms
from tom_dataproducts.models import ReducedDatum

from dgl_broker.client import Client
from dgl_broker.hosts.reported import STATES, link, read_reports, registry_of, utc_of

NAME = "DeepGraviLens"
DATA_TYPE = "deepgravilens"
SURVEYS = [("", "both"), ("ztf", "ZTF"), ("lsst", "Rubin")]
KEPT = ("log_odds", "p_lsn", "p_lensed_sn_ia", "p_lensed_sn_cc", "p_value", "band", "magnitude", "bundle_id", "bundle_sha256")


class ReportFields(forms.Form):
    """Fields of a question for reports."""

    survey = forms.ChoiceField(choices=SURVEYS, required=False)
    days = forms.FloatField(initial=7.0, min_value=0.0, required=False, help_text="reported in the last so many days")
    min_log_odds = forms.FloatField(required=False, label="Log odds from", help_text="lensed supernova : everything else")
    states = forms.MultipleChoiceField(choices=[(s, s) for s in STATES], required=False, help_text="none chosen: all")
    object_id = forms.CharField(required=False, help_text="objectId (ZTF) or diaObjectId (Rubin)")


def find_reports(parameters, place):
    """Reports that answer a question, the newest first, at most one an object: its latest.

    Parameters
    ----------
    parameters : dict
        Values of `ReportFields`.
    place : dict
        `kafka` (librdkafka's keys) and `topics`; `registry`, `registry_user` and `registry_password` where reports are framed.

    Raises
    ------
    ServiceFailed, InputUnavailable, ConfigError
    """
    days, least, states = parameters.get("days"), parameters.get("min_log_odds"), parameters.get("states")
    since = None if days is None else datetime.now(UTC) - timedelta(days=days)
    schemas = registry_of(place.get("registry"), place.get("registry_user"), place.get("registry_password"))
    found, _ = read_reports(place["kafka"], place["topics"], since, schemas)  # it has logged what it could not read
    newest = {}
    for one in found:
        if parameters.get("survey") and one["survey"] != parameters["survey"]:
            continue
        if parameters.get("object_id") and one["object_id"] != parameters["object_id"].strip():
            continue
        if states and one["state"] not in states or least is not None and (one["log_odds"] is None or one["log_odds"] < least):
            continue
        newest.setdefault((one["survey"], one["object_id"]), one)
    return list(newest.values())


def scores_of(report, place):
    """Records of all scored alerts of a report's object, asked of the service; of the report alone where none is configured.

    Raises
    ------
    ServiceFailed, ConfigError, InputUnavailable
    """
    if not place.get("service"):
        return [report]
    with Client(place["service"], place.get("token"), patience_s=5.0) as client:
        answers = client.scores_of_object(report["survey"], report["object_id"], limit=1000)
    return [a.record for a in answers if a.status == "scored"] or [report]


def save_scores(target, records, page=""):
    """One datum an alert under the target, made or brought up to date; they are given back.

    The magnitude stands in its value and makes no photometry: it has no error here, and a TOM gets the survey's own elsewhere.
    """
    saved = []
    for record in records:
        value = {name: record.get(name) for name in KEPT}
        # JSON in a browser has doubles: 64-bit ids go as text.
        value |= {"alert_id": str(record["alert_id"]), "survey": record["survey"], "page": link(page, record)}
        datum, _ = ReducedDatum.objects.update_or_create(
            target=target,
            data_type=DATA_TYPE,
            source_name=NAME,
            source_location=f"{record['survey']} {record['alert_id']}",
            defaults={"timestamp": utc_of(record["mjd_tai"]) or datetime.fromtimestamp(0, UTC), "value": value},
        )
        saved.append(datum)
    return saved
