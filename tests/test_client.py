"""The client of the service: ids exact, patience with a busy service and none with a wrong request, and no torch."""

import subprocess
import sys
from pathlib import Path

import pytest
import requests
from fake_scorer import FakeScorer
from scripted import serving
from serving import running, settings

from dgl_broker import client as module
from dgl_broker.client import Client
from dgl_broker.errors import ConfigError, InputUnavailable, ServiceFailed

FINE = (200, {"version": "0", "scoring": [], "queued_packets": 0, "store": None})
BUSY = {"code": "busy", "detail": "the queue is full", "store": None}


@pytest.fixture
def waits(monkeypatch):
    """The pauses that were made, in place of making them."""
    made = []
    monkeypatch.setattr(module.time, "sleep", made.append)
    return made


def test_packets_are_scored_in_order_whatever_their_number():
    seen = []
    with running(settings(), {"ztf": FakeScorer(lambda m: seen.append(len(m)))}) as service, Client(service.url) as client:
        found = client.score(
            "ztf", [f"{2**62 + i} {w}".encode() for i, w in enumerate(["scored", "poor", "cut"] * 3)], at_once=4
        )
        assert [a.alert_id for a in found] == [2**62 + i if i % 3 < 2 else None for i in range(9)]
        assert [(a.status, a.reason) for a in found[:3]] == [
            ("scored", None),
            ("refused", "no_cutouts"),
            ("dead_lettered", "truncated"),
        ]
        assert found[2].error and found[0].behind_s is None and found[0].record["companion_alert_ids"] == []
        assert client.score("ztf", []) == [] and seen == [4, 4, 1]
        with pytest.raises(InputUnavailable, match="no packets of lsst"):
            client.score("lsst", [b"1 scored"])
        with pytest.raises(InputUnavailable, match="follows no filter"):
            client.score_of("ztf", 1)
        with pytest.raises(ConfigError, match="status 422"):
            client.score("des", [b"1 scored"])


def test_busy_service_is_asked_again_when_it_says(waits):
    answers = [(429, BUSY, {"Retry-After": "7"}), (503, BUSY), None, (502, b"<html>a proxy</html>"), FINE]
    with serving({"GET /v1/status": answers}) as script, Client(script.url) as client:
        assert client.status()["version"] == "0"
        assert len(script.requests) == 5
    assert waits == [7.0, 14.0, 28.0, 30.0]


def test_patience_ends(waits, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    with serving({"GET /v1/status": [(503, BUSY)]}) as script, Client(script.url, patience_s=10) as client:
        with pytest.raises(ServiceFailed, match="status 503: the queue is full"):
            client.status()
        assert len(script.requests) == 4  # after 1, 2 and 4 s; another would be after 15 s
    with Client("http://127.0.0.1:9", patience_s=0) as client, pytest.raises(ServiceFailed, match="ConnectionError"):
        client.status()


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ((401, {"code": "no_token", "detail": "expected a token"}), ConfigError, "status 401: expected a token"),
        ((404, {"code": "not_found", "detail": "Not Found", "store": None}), InputUnavailable, "status 404"),
        ((404, b"<html>some other server</html>"), ServiceFailed, "no answer of dgl-broker serve"),
        ((200, b"not JSON"), ServiceFailed, "no answer of dgl-broker serve"),
        ((200, [1]), ServiceFailed, "no answer of dgl-broker serve"),
    ],
)
def test_other_answers_are_errors_at_once(answer, kind, said):
    with serving({"GET /v1/scores/*": [answer]}) as script, Client(script.url, token="t" * 20) as client:
        with pytest.raises(kind, match=said):
            client.score_of("ztf", 2**62)
        assert [r["path"] for r in script.requests] == [f"/v1/scores/ztf/{2**62}"]
        assert script.requests[0]["headers"]["Authorization"] == "Bearer " + "t" * 20


def test_object_ids_cannot_leave_their_place_in_the_url():
    missing = (404, {"code": "not_found", "detail": "", "store": {"behind_s": 1.0, "behind_messages": 0, "following": True}})
    with serving({"GET /v1/objects/*": [missing]}) as script, Client(script.url) as client:
        assert client.scores_of_object("ztf", "../../metrics?x=1#y") == []
        assert script.requests[0]["path"] == "/v1/objects/ztf/..%2F..%2Fmetrics%3Fx%3D1%23y"


def test_address_must_be_one():
    with pytest.raises(ConfigError, match="expected http"):
        Client("localhost:8060")


def test_it_needs_requests_and_nothing_else():
    """As in a host's environment, where this package is installed without what it depends on."""
    code = f"""
import sys
sys.path += [{str(Path(requests.__file__).parents[1])!r}, {str(Path(__file__).parents[1])!r}]
import requests
before = set(sys.modules)
import dgl_broker.client
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(new - set(sys.stdlib_module_names)))
"""
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['dgl_broker']"
