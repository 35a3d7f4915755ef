"""The API over HTTP, on the server that the command starts: answers, refusals, and who may change something."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import requests
from fake_scorer import scores
from tune_server import TOKEN, served
from tune_tables import columns, write_all, write_filter, write_table

from dgl_broker.alert import Message
from dgl_broker.archive.keep import Keeper, KeepRule
from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.scores import Outcome
from dgl_broker.selection import load_filter
from dgl_broker.surveys import read_alert
from dgl_broker.tune import assets
from dgl_broker.tune.access import Access, Denied, is_loopback, make_access
from dgl_broker.tune.alerts import read_alerts
from dgl_broker.tune.desk import Desk
from dgl_broker.tune.filter_file import FilterFile
from dgl_broker.tune.packets import Packets
from dgl_broker.tune.server import bind
from dgl_broker.wire import decode

BEARER = {"authorization": f"Bearer {TOKEN}"}
PAGE = Path(assets.__file__).with_name("page")


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """(alerts, table) of a made-up night."""
    table, labels, _, _ = write_all(tmp_path_factory.mktemp("night"), n_real=300, n_lensed=30, n_negative=10)
    return read_alerts([table], labels), table


@pytest.fixture
def api(night, tmp_path):
    """(ask, filter's file): `ask(method, path, body, **headers)` gives status and JSON."""
    path = write_filter(tmp_path / "f")
    with served(Desk([FilterFile(path)], night[0]), [night[1]]) as url:

        def ask(method, where, body=None, **headers):
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = requests.request(method, f"{url}{where}", json=body, headers=headers, timeout=60)
            ask.headers, ask.text = answer.headers, answer.text
            return answer.status_code, answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

        ask.url = url
        yield ask, path


def test_what_there_is_to_choose_from(api):
    ask, path = api
    status, state = ask("GET", "/api/v1/filters")
    (found,) = state["filters"]
    assert (status, found["name"], found["version"], found["threshold"], found["file"]) == (200, "bright", 1, 3.0, str(path))
    assert state["alerts"]["real"] == 330 and state["alerts"]["lensed"] == 30 and state["alerts"]["ungated"] is True
    assert [b["id"] for b in state["bundles"]] == ["small"] and state["read_only"] is False
    assert state["missing"] == [
        "no stamps and light curves: its packet was not kept: replay with --keep-packets top:2000, or give --packets DIR"
    ]
    assert [c["name"] for c in found["criteria"]] == ["reliability", "off_the_plane", "is_positive"]


def test_preview_by_threshold_and_by_operating_point(api):
    ask, _ = api
    status, by_score = ask("POST", "/api/v1/preview", {"filter": "bright", "threshold": 0.5})
    assert status == 200 and by_score["threshold"] == 0.5 and by_score["changed"] is True
    status, by_point = ask(
        "POST", "/api/v1/preview", {"filter": "bright", "operating_point": {"metric": "completeness", "value": 0.5}}
    )
    assert status == 200 and by_point["proposed"]["completeness"]["value"] >= 0.5
    rows = by_score["changes"]["entering"]["rows"]
    assert rows and all(isinstance(row["alert_id"], str) and int(row["alert_id"]) > 2**53 for row in rows)


def test_curves_nearest_and_a_night(api):
    ask, _ = api
    _, curves = ask("POST", "/api/v1/curves", {"filter": "bright"})
    assert len(curves["edges"]) == len(curves["mean"]) == 161 and len(curves["live"]) == 160 and curves["never_scored"] == []
    _, near = ask("POST", "/api/v1/nearest", {"filter": "bright", "threshold": 1.0})
    scores = [row["score"] for row in near["above"] + near["below"]]
    assert len(near["above"]) == len(near["below"]) == 12 and scores == sorted(scores, reverse=True)
    assert all("was not kept" in row["why"] for row in near["above"])
    _, night = ask("POST", "/api/v1/night?night=2025-11-22", {"filter": "bright", "threshold": -3.0})
    assert night["n_objects"] == len(night["objects"]) > 0 and night["objects"][0]["change"] in ("new", "kept")


def test_activate_history_rollback(api):
    ask, path = api
    body = {"filter": "bright", "threshold": 2.5, "expected_version": 1, "reason": "a cloudy week"}
    status, done = ask("POST", "/api/v1/activate", {**body, "who": "ana"}, **BEARER)
    assert (status, done["version"], done["complete"]) == (200, 2, True) and load_filter(path).threshold == 2.5
    status, stale = ask("POST", "/api/v1/activate", {**body, "threshold": 2.0}, **BEARER)
    assert status == 409 and stale["error"] == "stale_version" and "version 2 is in force" in stale["detail"]
    status, refused = ask("POST", "/api/v1/activate", {**body, "threshold": -9.0, "expected_version": 2}, **BEARER)
    assert status in (200, 422) and (status == 422) == bool(refused.get("reasons"))
    version = load_filter(path).version
    status, back = ask(
        "POST", "/api/v1/rollback", {"filter": "bright", "to_version": 1, "expected_version": version, "reason": "x"}, **BEARER
    )
    assert status == 200 and load_filter(path).threshold == 3.0 and back["version"] == version + 1
    _, history = ask("GET", "/api/v1/history?filter=bright")
    assert history["changes"][0]["who"] == "tester" and history["changes"][-1]["who"] == "ana"
    _, workers = ask("GET", "/api/v1/workers?filter=bright")
    assert workers["version"] == back["version"] and workers["workers"] == []


def test_the_guard_answers_422_with_its_reasons(night, tmp_path):
    path = write_filter(tmp_path / "f", budget=0, floor=1.0)
    with served(Desk([FilterFile(path)], night[0])) as url:
        body = {"filter": "bright", "threshold": 1.0, "expected_version": 1, "reason": "x"}
        answer = requests.post(f"{url}/api/v1/activate", json=body, headers=BEARER, timeout=60)
    said = answer.json()
    assert answer.status_code == 422 and said["error"] == "refused" and len(said["reasons"]) == 2
    assert "expected at most max_candidates_per_night 0" in said["reasons"][0] and "completeness_floor" in said["reasons"][1]
    assert load_filter(path).version == 1


def change(**more):
    return {"filter": "bright", "threshold": 2.0, "expected_version": 1, "reason": "x", **more}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({**BEARER, "origin": "https://evil.example"}, 403),
        ({**BEARER, "sec_fetch_site": "cross-site"}, 403),
        ({**BEARER, "host": "evil.example"}, 403),
        ({**BEARER, "content_type": "text/plain"}, 415),
    ],
)
@pytest.mark.parametrize("where", ["/api/v1/activate", "/api/v1/rollback"])
def test_nothing_is_changed_for_those_who_may_not(api, where, headers, status):
    ask, path = api
    found, said = ask("POST", where, change() if where.endswith("activate") else {**change(), "to_version": 1}, **headers)
    assert found == status and load_filter(path).version == 1
    assert TOKEN not in json.dumps(said) and not log_of(path)


def log_of(path):
    log = path.parent / "audit.jsonl"
    return log.read_text() if log.exists() else ""


def test_reads_are_for_this_host_alone(api):
    ask, _ = api
    assert ask("GET", "/api/v1/filters", host="attacker.example")[0] == 403
    assert ask("POST", "/api/v1/preview", {"filter": "bright"}, origin="null")[0] == 403
    assert ask("POST", "/api/v1/preview", {"filter": "bright"}, origin=ask.url)[0] == 200


def test_without_a_token_the_page_is_read_only(night, tmp_path):
    path = write_filter(tmp_path / "f")
    with served(Desk([FilterFile(path)], night[0]), token=None) as url:
        assert requests.get(f"{url}/api/v1/filters", timeout=60).json()["read_only"] is True
        answer = requests.post(f"{url}/api/v1/activate", json=change(), headers={"authorization": "Bearer "}, timeout=60)
    assert answer.status_code == 403 and "DGL_TUNE_TOKEN" in answer.json()["detail"] and load_filter(path).version == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"filter": "dark"}, "filter 'dark', expected one of bright"),
        ({"filter": "bright", "bundle": "none"}, "bundle 'none', expected one of"),
        ({"filter": "bright", "threshold": "3"}, "threshold"),
        ({"filter": "bright", "treshold": 3}, "treshold: Extra inputs are not permitted"),
        ({"filter": "bright", "threshold": 1e9}, "threshold"),
        ({"filter": "bright", "operating_point": {"metric": "completeness", "value": 0.9999}}, "at most"),
        ({"filter": "bright", "require": {"snr": {"min": 5}}}, "does not say which alerts meet snr"),
        ({"filter": "bright", "require": {"reliabilty": {"min": 0.5}}}, "did you mean 'reliability'"),
        ({}, "filter: Field required"),
    ],
)
def test_what_makes_no_sense_is_answered_with_what_was_expected(api, body, says):
    ask, _ = api
    status, said = ask("POST", "/api/v1/preview", body)
    text = json.dumps(said) if status == 200 else " ".join(said["reasons"])
    assert says in text and status == (200 if "does not say" in says else 422)


def test_odd_requests(api):
    ask, _ = api
    assert (
        ask("GET", "/nowhere")[0] == 404
        and ask("GET", "/static/../app.py")[0] == 404
        and ask("GET", "/static/app.py")[0] == 404
    )
    assert ask("GET", "/api/v1/history?filter=dark")[0] == 422 and ask("GET", "/alert/ztf/5?filter=bright")[0] == 404
    assert ask("POST", "/api/v1/preview", {"filter": "x" * 70_000})[0] == 413
    assert ask("POST", "/api/v1/activate", change(reason=""), **BEARER)[0] == 422
    assert ask("GET", "/healthz") == (200, {"ok": True})
    answer = requests.post(f"{ask.url}/api/v1/preview", data="{", headers={"content-type": "application/json"}, timeout=60)
    assert answer.status_code == 422
    status, described = ask("GET", "/api/v1/openapi.json")
    assert status == 200 and "/api/v1/activate" in described["paths"] and ask("GET", "/docs")[0] == 404


def test_every_answer_forbids_what_the_page_does_not_need(api):
    ask, _ = api
    for where in ("/", "/static/tune.js", "/api/v1/filters", "/nowhere"):
        ask("GET", where)
        policy = ask.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert ask.headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in ask.headers
        assert "server" not in ask.headers


def test_the_page_asks_for_nothing_from_elsewhere():
    for path in PAGE.iterdir():
        text = path.read_text()
        assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text and "//cdn" not in text, (
            path.name
        )
    assert set(assets.names()) == {p.name for p in PAGE.iterdir()} | {"plotly.min.js"}


def test_scripts_come_with_a_tag_and_are_not_sent_twice(api):
    ask, _ = api
    ask("GET", "/static/plotly.min.js", accept_encoding="gzip")
    tag, whole = ask.headers["etag"], ask.text
    assert "plotly.js v" in whole[:200] and int(ask.headers["content-length"]) < 2_000_000 < len(whole)
    assert ask("GET", "/static/plotly.min.js", if_none_match=tag)[0] == 304
    ask("GET", "/static/tune.css", accept_encoding="identity")
    assert "--band-g:" in ask.text and "LIGHT_BANDS" not in ask.text


def test_the_token_is_in_no_page_and_no_log(api, caplog):
    ask, _ = api
    with caplog.at_level(logging.DEBUG):
        ask("POST", "/api/v1/activate", change(), **BEARER)
        pages = [ask("GET", where) and ask.text for where in ("/", "/api/v1/filters", "/api/v1/history?filter=bright")]
    assert "version 2 activated by tester" in caplog.text
    assert TOKEN not in caplog.text + "".join(pages)


# Access by itself


@pytest.mark.parametrize(("host", "mine"), [("127.0.0.1", True), ("::1", True), ("127.8.8.8", True), ("localhost", True),
                                            ("0.0.0.0", False), ("192.168.1.5", False), ("example.org", False)])  # fmt: skip
def test_loopback_is_this_machine_alone(host, mine):
    assert is_loopback(host) is mine


def test_others_may_reach_it_only_with_a_token_and_under_a_name():
    with pytest.raises(ConfigError, match="DGL_TUNE_TOKEN must be set"):
        make_access("0.0.0.0", environ={})
    with pytest.raises(ConfigError, match="at least 16 characters"):
        make_access("127.0.0.1", environ={"DGL_TUNE_TOKEN": "short"})
    access = make_access("0.0.0.0", ["tune.example.org"], {"DGL_TUNE_TOKEN": TOKEN})
    access.check_request("GET", {"host": "TUNE.example.org:8050"})
    with pytest.raises(Denied, match="host '0.0.0.0'"):
        access.check_request("GET", {"host": "0.0.0.0:8050"})
    assert TOKEN not in repr(access) and make_access("::1", environ={}).read_only


@pytest.mark.parametrize("host", ["", "evil", "127.0.0.1.evil", "[::1", "127.0.0.1@evil", "localhost.evil:80"])
def test_names_that_only_look_like_this_host_are_none(host):
    with pytest.raises(Denied):
        Access(frozenset({"127.0.0.1", "::1", "localhost"})).check_request("GET", {"host": host})


def test_a_port_that_is_taken_is_told():
    with bind("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="cannot be bound: Address already in use"):
        bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match="cannot be bound"):
        bind("127.0.0.1", 700_000)


# Pictures

REAL = (2475433850315015009, 2752190655615010046)  # of tests/data/alerts, ZTF


def packet(alert_id):
    return (Path(__file__).parent / "data" / "alerts" / f"{alert_id}.avro").read_bytes()


def test_stamps_and_light_curves_come_from_the_packets_that_were_replayed(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    made = columns(n_real=3, n_lensed=0, n_negative=0)
    for n, alert_id in enumerate(REAL):
        (folder / f"{alert_id}.avro").write_bytes(packet(alert_id))
        made["alert_id"][n] = alert_id
    made["source"] = np.array([f"old/place/{i}.avro" for i in (*REAL, "gone")])
    made["source_row"][:] = 0
    path = tmp_path / "bright.yaml"
    path.write_text("{name: bright, version: 1, survey: ztf, require: {n_detections: {min: 1}}, threshold: 0}")
    desk = Desk([FilterFile(path)], read_alerts([write_table(tmp_path / "s.parquet", made)]))
    with served(desk, folder=folder) as url:
        near = requests.post(f"{url}/api/v1/nearest", json={"filter": "bright", "threshold": -99.0}, timeout=60).json()
        page = requests.get(f"{url}/alert/ztf/{REAL[0]}?filter=bright", timeout=60)
    shown = [c for c in near["above"] if "stamps" in c]
    assert len(near["above"]) == 3 and len(shown) == 2 and near["below"] == []
    assert all(c["stamps"]["difference"]["uri"].startswith("data:image/png;base64,") for c in shown)
    # 63 px of 1.01 arcsec: ZTF's stamps (Masci et al. 2019, doi:10.1088/1538-3873/aae8ac)
    assert all(c["light_curve"].startswith("<svg") and c["width_arcsec"] == pytest.approx(63.8, abs=0.5) for c in shown)
    assert "was not kept" in next(c for c in near["above"] if "stamps" not in c)["why"]
    assert page.status_code == 200 and "Stamps and light curve" in page.text and "n_detections" in page.text


def test_kept_packets_beside_the_table_come_first(tmp_path):
    write_table(tmp_path / "s.parquet", columns(n_real=1, n_lensed=0, n_negative=0))
    assert not Packets([tmp_path / "s.parquet"])
    with pytest.raises(InputUnavailable, match="no such folder"):
        Packets([], tmp_path / "nowhere")
    message = Message(packet(REAL[0]), source="x", source_row=0)
    keeper = Keeper(tmp_path / "s.kept", KeepRule(), "ztf")
    keeper.take([Outcome("scored", message, alert=read_alert(decode(message, "ztf")), scores=scores(1.0), message_id="m")])
    keeper.close()
    kept = Packets([tmp_path / "s.parquet"])
    assert kept and kept.alert("ztf", REAL[0]).alert_id == REAL[0]
    assert "was not kept" in kept.alert("ztf", 5)
