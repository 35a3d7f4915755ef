"""AMPEL's own core, alert consumer and T2 worker (on mongomock in the place of a MongoDB) with our units."""

import os
import re
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from measured import Clock, keep
from recorded import AWAY, BIG, FAILED, PASSED, UNKNOWN, found, record, refused, unknown
from scripted import serving

pytest.importorskip("ampel.core", reason="AMPEL is not installed here: tox -e host-ampel")
mongomock = pytest.importorskip("mongomock", reason="mongomock is not installed here: tox -e host-ampel")

import fastavro  # noqa: E402
import yaml  # noqa: E402
from ampel.content.T1Document import T1Document  # noqa: E402
from ampel.dev.DevAmpelContext import DevAmpelContext  # noqa: E402
from ampel.enum.DocumentCode import DocumentCode  # noqa: E402
from ampel.log.AmpelLogger import AmpelLogger  # noqa: E402
from ampel.model.UnitModel import UnitModel  # noqa: E402
from ampel.secret.AmpelVault import AmpelVault  # noqa: E402
from ampel.secret.DictSecretProvider import DictSecretProvider  # noqa: E402

from dgl_broker.errors import ConfigError, ServiceFailed  # noqa: E402
from dgl_broker.hosts.ampel import __main__ as configuration  # noqa: E402
from dgl_broker.hosts.ampel.DeepGraviLensFilter import DeepGraviLensFilter  # noqa: E402
from dgl_broker.hosts.ampel.T2DeepGraviLens import T2DeepGraviLens, newest_alert  # noqa: E402

ALERTS = Path(__file__).parents[1] / "data/alerts"
LOG_ODDS = record()["log_odds"]
JOB = configuration.__file__.replace("__main__.py", "job_ztf.yml")


def ztf_point(candid, jd, **body):
    return {"id": candid, "stock": 1, "tag": ["ZTF"], "body": {"jd": jd, "fid": 1, "magpsf": 19.0, **body}}


STATE = [ztf_point(-3352405322819025, 2460001.5), ztf_point(BIG - 7, 2460000.5), ztf_point(BIG, 2460001.0)]
del STATE[0]["body"]["magpsf"]  # an upper limit, later than all


def state(age_s=0.0):
    """A T1 document made so long ago."""
    return T1Document(stock=1, link=1, dps=[d["id"] for d in STATE], code=0, meta=[{"ts": time.time() - age_s}])


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """AMPEL's configuration with our units in it, as the page says to make it."""
    path = tmp_path_factory.mktemp("ampel") / "conf.yaml"
    configuration.build(path)
    return path


@pytest.fixture
def mongo(monkeypatch):
    """One mongomock for all that AMPEL connects to."""
    shared, create = mongomock.MongoClient(), mongomock.Database.create_collection
    monkeypatch.setattr("ampel.core.AmpelDB.MongoClient", lambda *args, **kwargs: shared)
    # Codecs, and compression of the disk: mongomock has neither.
    monkeypatch.setattr("mongomock.codec_options.is_supported", lambda *args: None)
    monkeypatch.setattr("mongomock.Database.create_collection", lambda self, name, **options: create(self, name))
    return shared


@pytest.fixture
def context(config, mongo):
    vault = AmpelVault([DictSecretProvider({"dgl/token": "a-token-of-this-test"})])
    return DevAmpelContext.load(config=str(config), purge_db=True, vault=vault)


def unit(context, name, **options):
    """A unit made by AMPEL's loader, secrets resolved."""
    model = UnitModel(unit=name, config={"survey": "ztf", **options})
    return context.loader.new_logical_unit(model, logger=AmpelLogger.get_logger())


def test_units_are_found_by_their_names(context):
    assert isinstance(unit(context, "T2DeepGraviLens"), T2DeepGraviLens)
    assert isinstance(unit(context, "DeepGraviLensFilter"), DeepGraviLensFilter)


def test_newest_detection_is_the_alert_whatever_the_order():
    for points in (STATE, STATE[::-1]):
        assert newest_alert("ztf", points) == BIG
    assert newest_alert("ztf", STATE[:1]) is None
    lsst = [
        {"id": -5, "body": {"diaSourceId": BIG, "midpointMjdTai": 61000.25, "psfFlux": 1.0}},
        {"id": -6, "body": {"diaForcedSourceId": 9, "midpointMjdTai": 61002.0}},
        {"id": -7, "body": {"diaObjectId": BIG + 5, "ra": 1.0}},
        {"id": 9, "body": {"diaSourceId": BIG + 3, "midpointMjdTai": 61000.125}},
    ]
    assert newest_alert("lsst", lsst) == BIG


def test_newest_detection_of_a_rubin_packet_is_its_trigger():
    """AMPEL's own supplier and shaper for LSST, on a real packet of several hundred detections and forced points."""
    supplier = pytest.importorskip("ampel.lsst.alert.LSSTAlertSupplier", reason="ampel-lsst is not installed here")
    from ampel.lsst.ingest.LSSTDataPointShaper import LSSTDataPointShaper

    with open(ALERTS / "fink_transfer_20260305.avro", "rb") as file:
        packet = next(fastavro.reader(file))
    alert = supplier.LSSTAlertSupplier._shape(packet)
    points = LSSTDataPointShaper(logger=AmpelLogger.get_logger()).process(alert.datapoints, alert.stock)
    assert len(points) > 300 and alert.id == packet["diaSource"]["diaSourceId"] > 2**53
    assert newest_alert("lsst", points) == newest_alert("lsst", points[::-1]) == alert.id


def test_score_of_a_state_is_its_body_and_ids_are_exact(context):
    with serving({f"GET /v1/scores/ztf/{BIG}": [found(record())]}) as service:
        t2 = unit(context, "T2DeepGraviLens", url=service.url, token={"label": "dgl/token"})
        result = t2.process(state(), STATE)
        assert service.requests[0]["headers"]["Authorization"] == "Bearer a-token-of-this-test"
    assert result.code is None and result.tag == "DGL_CANDIDATE"
    assert result.body["alert_id"] == BIG and isinstance(result.body["alert_id"], int)
    assert result.body["log_odds"] == record()["log_odds"] and "companion_alert_ids" not in result.body


@pytest.mark.parametrize(
    ("answer", "age_s", "code", "reason"),
    [
        (found(refused()), 0, "T2_MISSING_INFO", "no_cutouts"),
        (UNKNOWN, 5, "RERUN_REQUESTED", None),
        (UNKNOWN, 700, "T2_MISSING_INFO", "not_published"),
        (unknown(behind_s=900.0), 700, "RERUN_REQUESTED", None),
        (unknown(behind_s=None), 700, "RERUN_REQUESTED", None),
        (AWAY, 700, "RERUN_REQUESTED", None),
        (None, 700, "RERUN_REQUESTED", None),
    ],
)
def test_what_is_no_score_has_a_document_code(context, answer, age_s, code, reason):
    with serving({"GET /v1/scores/*": [answer]}) as service:
        result = unit(context, "T2DeepGraviLens", url=service.url).process(state(age_s), STATE)
    assert result.code == DocumentCode[code] and (result.body or {}).get("reason") == reason


def test_state_without_a_detection_asks_nothing(context):
    with serving({}) as service:
        result = unit(context, "T2DeepGraviLens", url=service.url).process(state(), STATE[:1])
        assert result.code == DocumentCode.T2_MISSING_INFO and not service.requests


def test_wrong_token_is_an_error_of_the_configuration(context):
    answer = (401, {"code": "no_token", "detail": "expected a token", "store": None})
    with serving({"GET /v1/scores/*": [answer]}) as service, pytest.raises(ConfigError):
        unit(context, "T2DeepGraviLens", url=service.url).process(state(), STATE)


@pytest.mark.parametrize(
    ("options", "answer", "verdict"),
    [
        ({}, found(record()), True),
        ({}, found(record(verdicts=FAILED)), -3),
        ({"filters": [PASSED[0]["filter"]]}, found(record()), True),
        ({"filters": ["another"]}, found(record()), -3),
        ({"min_log_odds": LOG_ODDS}, found(record(verdicts=[])), True),
        ({"min_log_odds": LOG_ODDS + 0.1}, found(record()), -3),
        ({}, found(refused()), -2),
        ({}, UNKNOWN, -1),
    ],
)
def test_filter_accepts_what_passed(context, options, answer, verdict):
    with serving({f"GET /v1/scores/ztf/{BIG}": [answer]}) as service:
        assert unit(context, "DeepGraviLensFilter", url=service.url, **options).process(SimpleNamespace(id=BIG)) is verdict


def test_filter_rejects_nothing_because_the_service_is_away(context):
    with serving({"GET /v1/scores/*": [None]}) as service, pytest.raises(ServiceFailed):
        unit(context, "DeepGraviLensFilter", url=service.url, patience_s=0.1).process(SimpleNamespace(id=BIG))


@pytest.fixture
def run_job(config, mongo, monkeypatch, tmp_path):
    """`ampel job` as its command line starts it."""
    from ampel.cli.main import main

    def run(job):
        file = tmp_path / "job.yml"
        file.write_text(yaml.safe_dump(job))
        arguments = ["ampel", "job", "-config", str(config), "-schema", str(file), "-no-conf-check", "-no-agg"]
        monkeypatch.setattr(sys, "argv", arguments)
        main()
        return next(mongo[name] for name in mongo.list_database_names() if "t2" in mongo[name].list_collection_names())

    return run


@pytest.mark.skipif(not os.environ.get("DGL_SHARED"), reason="DGL_SHARED names no folder of collected alerts")
def test_job_gives_the_scores_that_the_filter_gave(stage, alert_files, run_job, tmp_path):
    """Real alerts: the T0 filter lets through what the filter passed, and T2 documents hold its scores to the last bit."""
    published = stage.published["ztf"]
    night = tmp_path / "night.tar.gz"
    with tarfile.open(night, "w:gz") as tar:
        for file in _night_files(alert_files):
            tar.add(file, file.name)
    with open(JOB) as text:
        job = yaml.safe_load(text)
    consumer, worker = (task["config"] for task in job["task"])
    consumer["supplier"]["config"]["loader"]["config"]["file_path"] = str(night)
    directive = consumer["directives"]
    directive["filter"]["config"]["url"] = directive["ingest"]["combine"][0]["state_t2"][0]["config"]["url"] = stage.url
    assert worker == {}
    db = run_job(job)
    found = {doc["body"][0]["alert_id"]: doc for doc in db["t2"].find({"unit": "T2DeepGraviLens"})}
    passed = {i for i, r in published.items() if any(v["passed"] for v in r["verdicts"])}
    wanted = passed & _candids(alert_files)
    assert set(found) == wanted and wanted
    for alert_id, doc in found.items():
        body = doc["body"][0]
        assert doc["code"] == 0 and "DGL_CANDIDATE" in doc["tag"] and body["log_odds"] == published[alert_id]["log_odds"]
        assert body["verdicts"] == published[alert_id]["verdicts"]


def test_unit_gives_every_score_of_the_stream(context, stage):
    """A state after another: all that the filter scored, to the last bit."""
    wanted = {i: r["log_odds"] for i, r in stage.published["ztf"].items() if r["status"] == "scored"}
    t2, clock, found_ = unit(context, "T2DeepGraviLens", url=stage.url), Clock(), {}
    for alert_id in wanted:
        with clock:
            result = t2.process(state(), [ztf_point(alert_id, 2460000.5)])
        found_[alert_id] = result.body["log_odds"]
    assert found_ == wanted and wanted
    keep("ampel", "ztf", stage.published["ztf"].values(), wanted, found_, clock)


def _night_files(alert_files):
    """Files that AMPEL's supplier reads: packets with a candid at their top, in a codec that fastavro alone knows."""
    return [f for f in alert_files if "ztf" in str(f) and re.search(r"/v(3_3|4_0[12])/", str(f))]


def _candids(alert_files):
    ids = set()
    for file in _night_files(alert_files):
        with open(file, "rb") as packet:
            ids |= {record["candid"] for record in fastavro.reader(packet)}
    return ids
