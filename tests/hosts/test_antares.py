"""ANTARES's devkit with our filters: tags and properties, and its own harness, which takes the network away."""

import pytest
from measured import Clock, keep
from recorded import AWAY, BIG, FAILED, PASSED, UNKNOWN, found, record, refused
from scripted import serving

pytest.importorskip("antares_devkit", reason="antares-devkit is not installed here: tox -e host-antares")

from antares_devkit.models import DevkitAlert, DevKitLocus  # noqa: E402
from antares_devkit.utils import filter_report, get_filter_instances, locus_property_generator, locus_tag_generator  # noqa: E402

from dgl_broker.hosts import antares  # noqa: E402

ZTF, LSST = antares.DeepGraviLensZtf, antares.DeepGraviLensLsst
V = ZTF.VERSION


def verdicts(passed, name=ZTF.FILTER, version=V):
    return [{**(PASSED if passed else FAILED)[0], "filter": name, "version": version}]


def locus(alert_id=BIG, survey=1, **properties):
    """A locus whose newest alert is of ZTF (1) or Rubin (4)."""
    spelled = {1: ("ztf_candidate", "ztf_candid"), 4: ("lsst_diaSource", "lsst_diaSource_diaSourceId")}[survey]
    alert = DevkitAlert(id=f"{spelled[0]}:{alert_id}", mjd=61000.0, properties={"ant_survey": survey, spelled[1]: alert_id})
    older = DevkitAlert(id="ztf_candidate:1", mjd=60999.0, properties={"ant_survey": survey})
    return DevKitLocus(id="ANT2026x", ra=1.0, dec=2.0, alerts=[older, alert], user_properties=properties)


@pytest.fixture
def ask(monkeypatch):
    """A filter that asks a server with these answers."""

    def make(service, kind=ZTF):
        monkeypatch.setenv(antares.URL, service.url)
        monkeypatch.setenv(antares.TOKEN, "a-token-of-this-test")
        return kind()

    return make


def test_passing_alert_tags_the_locus_under_version_and_completeness(ask):
    one = record(verdicts=verdicts(True), log_odds=4.5)
    with serving({f"GET /v1/scores/ztf/{BIG}": [found(one)]}) as service:
        report = filter_report(ask(service), here := locus())
        assert service.requests[0]["headers"]["Authorization"] == "Bearer a-token-of-this-test"
    version, floor = antares.operating_point("lensed_sn_ztf")
    assert f"deepgravilens_ztf_v{version}_c{floor:g}" == ZTF.NAME
    assert report["new_tags"] == [ZTF.NAME] and len(report["new_locus_properties"]) == 5
    assert here.properties[f"{ZTF.NAME}_log_odds"] == here.properties[f"{ZTF.NAME}_max_log_odds"] == 4.5
    assert here.properties[f"{ZTF.NAME}_num_passed_alerts"] == 1 and here.properties[f"{ZTF.NAME}_last_alert"] == str(BIG)
    assert here.properties[f"{ZTF.NAME}_bundle"] == f"{one['bundle_id']}@{one['bundle_sha256'][:8]}"


def test_all_that_is_set_is_declared(ask):
    with serving({"GET /v1/scores/*": [found(record(verdicts=verdicts(True)))]}) as service:
        report = filter_report(ask(service), locus())
    assert {t["name"] for t in locus_tag_generator([ZTF])} == set(report["new_tags"])
    declared = {p["name"]: p["type"] for p in locus_property_generator([ZTF])}
    assert set(declared) == set(report["new_locus_properties"]) and set(declared.values()) == {"float", "int", "str"}


def test_alert_that_did_not_pass_is_noted_without_a_tag(ask):
    name = ZTF.NAME
    before = {f"{name}_max_log_odds": 6.0, f"{name}_num_passed_alerts": 2, f"{name}_last_alert": "1"}
    with serving({"GET /v1/scores/*": [found(record(verdicts=verdicts(False), log_odds=-3.0))]}) as service:
        assert ask(service).run(here := locus(**before)).status == "Succeeded"
    assert not here.tags and here.properties[f"{name}_log_odds"] == -3.0
    assert here.properties[f"{name}_max_log_odds"] == 6.0 and here.properties[f"{name}_num_passed_alerts"] == 2


def test_alert_that_comes_twice_counts_once(ask):
    with serving({"GET /v1/scores/*": [found(record(verdicts=verdicts(True)))]}) as service:
        asking, here = ask(service), locus()
        asking.run(here)
        asking.run(here)
    assert here.properties[f"{ZTF.NAME}_num_passed_alerts"] == 1


def test_rubin_alerts_are_asked_for_by_their_own_id(ask):
    judged = verdicts(True, LSST.FILTER, LSST.VERSION)
    with serving({f"GET /v1/scores/lsst/{BIG}": [found(record(survey="lsst", verdicts=judged))]}) as service:
        assert ask(service, LSST).run(here := locus(survey=4)).status == "Succeeded"
        assert here.tags == {LSST.NAME}
        assert ask(service, LSST).run(locus(survey=1)).status == "Skipped", "a ZTF alert triggers nothing of Rubin's"
        assert len(service.requests) == 1


def test_id_never_comes_from_a_float():
    alert = DevkitAlert(id=f"ztf_candidate:{BIG}", mjd=1.0, properties={"ztf_candid": float(BIG)})
    assert antares.survey_id(alert, "ztf") == BIG != int(float(BIG))
    with pytest.raises(antares.NoScore):
        antares.survey_id(DevkitAlert(id="no number", mjd=1.0), "ztf")


@pytest.mark.parametrize(
    ("answer", "name", "said"),
    [
        (UNKNOWN, "NoScore", "unknown"),
        (found(refused()), "NoScore", "refused (no_cutouts)"),
        (found(record(verdicts=verdicts(True, version=V + 1))), "NoScore", f"judged by version {V + 1}"),
        (found(record(verdicts=[])), "NoScore", "not judged by it"),
        (AWAY, "ServiceFailed", "status 503"),
        (None, "ServiceFailed", "ConnectionError"),
    ],
)
def test_locus_without_a_score_is_skipped_with_a_reason(ask, answer, name, said):
    with serving({"GET /v1/scores/*": [answer]}) as service:
        done = ask(service).run(here := locus())
    assert (done.status, done.exception_name) == ("Skipped", name) and said in done.exception_message
    assert not here.tags and not here.properties


def test_service_that_is_away_is_left_alone_for_a_while(ask):
    with serving({"GET /v1/scores/*": [AWAY]}) as service:
        asking = ask(service)
        said = [asking.run(locus()).exception_message for _ in range(3)]
        assert len(service.requests) == 1 and "a moment ago" in said[2]


def test_wrong_token_is_an_error(ask):
    with serving({"GET /v1/scores/*": [(401, {"code": "no_token", "detail": "expected a token", "store": None})]}) as service:
        done = ask(service).run(locus())
    assert (done.status, done.exception_name) == ("Errored", "ConfigError")


def test_devkits_own_harness_takes_the_network_away(monkeypatch):
    """As test/unit/test_filters.py of the devkit: filters made by their names, on a locus, with sockets disabled."""
    pytest_socket = pytest.importorskip("pytest_socket")
    names = {"DeepGraviLensZtf": antares.__name__, "DeepGraviLensLsst": antares.__name__}
    monkeypatch.setattr("antares_devkit.utils.get_filters_path", lambda: names)
    made = get_filter_instances()
    assert [type(one) for one in made] == [ZTF, LSST]
    pytest_socket.disable_socket()
    try:
        done = made[0].run(here := locus())
    finally:
        pytest_socket.enable_socket()
    assert (done.status, done.exception_name) == ("Skipped", "ServiceFailed")
    assert "SocketBlockedError" in done.exception_message and not here.properties


def test_tags_and_scores_are_those_of_the_stream(stage, ask, monkeypatch):
    """Real alerts that the filter scored: each locus has that score to the last bit, and the tag where it passed."""
    published = {i: r for i, r in stage.published["ztf"].items() if r["status"] == "scored"}
    judged = published[min(published)]["verdicts"][0]
    kind = antares.make_filter("OfTheStage", "ztf", judged["filter"], judged["version"], None)
    monkeypatch.setenv(antares.URL, stage.url)
    asking, tagged, found_, clock = kind(), set(), {}, Clock()
    for alert_id in published:
        here = locus(alert_id)
        with clock:
            done = asking.run(here)
        assert done.status == "Succeeded"
        found_[alert_id] = here.properties[f"{kind.NAME}_log_odds"]
        tagged |= {alert_id} if here.tags else set()
    wanted = {i: r["log_odds"] for i, r in published.items()}
    assert found_ == wanted
    assert tagged == {i for i, r in published.items() if r["verdicts"][0]["passed"]} and tagged
    keep("antares", "ztf", published.values(), wanted, found_, clock)
