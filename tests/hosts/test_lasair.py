"""Lasair's own client against a local server with recorded answers: annotated once, again on news only, and nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from measured import MEASURING, Clock, keep
from recorded import ANSWER, BIG, FAILED, STORE, record, refused
from scripted import serving

lasair = pytest.importorskip("lasair", reason="lasair is not installed here: tox -e host-lasair")

from dgl_broker.client import Client  # noqa: E402
from dgl_broker.errors import ConfigError  # noqa: E402
from dgl_broker.hosts.lasair import CANDIDATE, NO_CANDIDATE, SCORE_WAITS_S, Annotator  # noqa: E402

ACCEPTED = (200, {"status": "success"})
LIMITED = (429, {"detail": "Request was throttled. Expected available in 3112 seconds."})
LIST = "/api/annotatelist/"
NO_OBJECT = (404, {"code": "not_found", "detail": "nothing published", "store": STORE})


def of_object(*records):
    body = {"survey": "ztf", "object_id": "x", "n_alerts": len(records), "records": list(records), "store": STORE}
    return 200, body


class Place:
    """An annotator, the service it asks and the Lasair it tells, with a clock of its own."""

    def __init__(self, tmp_path, service, api, survey="ztf", **options):
        self.now, self.service, self.api = 1e9, service, api
        client = lasair.lasair_client("a-token-of-this-test", endpoint=f"{api.url}/api", timeout=10.0)
        asking = Client(service.url, patience_s=0.0)
        self.annotator = Annotator(survey, asking, client, "dgl", tmp_path / "l.db", clock=lambda: self.now, **options)

    def run(self, *object_ids, key="objectId"):
        self.annotator.take(json.dumps({key: one}).encode() for one in object_ids)
        self.annotator.work()

    @property
    def annotations(self):
        """All that were accepted or not, in order."""
        return [one for body in self.api.bodies(LIST) for one in body["annotations"]]

    @property
    def counts(self):
        return self.annotator.counts


@pytest.fixture
def place(tmp_path):
    """Makes a place whose service and Lasair give these answers."""
    import contextlib

    with contextlib.ExitStack() as held:

        def make(scores, api=(ACCEPTED,), **options):
            service = held.enter_context(serving({"GET /v1/objects/*": list(scores)}))
            there = held.enter_context(serving({f"POST {LIST}": list(api)}))
            made = Place(tmp_path, service, there, **options)
            held.callback(made.annotator.close)
            return made

        yield make


def test_object_is_annotated_with_its_newest_score(place):
    here = place(
        [of_object(record(BIG), record(BIG - 1, log_odds=9.0), refused(BIG - 2))], url="https://example.org/{object_id}"
    )
    here.run("ZTF18abc")
    (one,) = here.annotations
    assert here.api.requests[0]["headers"]["Authorization"] == "Token a-token-of-this-test"
    assert (one["objectId"], one["topic"], one["classification"]) == ("ZTF18abc", "dgl", CANDIDATE)
    assert len(one["version"]) <= 16 and one["version"].startswith(ANSWER["record"]["bundle_sha256"][:8])
    said = json.loads(one["classdict"])
    assert said["alert_id"] == str(BIG) and said["log_odds"] == record()["log_odds"] and said["max_log_odds"] == 9.0
    assert said["n_scored"] == 2 and one["url"] == "https://example.org/ZTF18abc" and str(BIG) in one["explanation"]
    assert here.counts["annotated"] == 1 and here.annotator.listed == 0


def test_same_score_is_said_once_and_news_again(place):
    low = record(log_odds=-5.0, verdicts=FAILED)
    scores = [low, low, {**low, "log_odds": -4.95}, {**low, "log_odds": -4.8}, record(log_odds=-4.8)]
    here = place([of_object(one) for one in scores])
    for _ in scores:
        here.run("ZTF1")
    said = [(one["classification"], json.loads(one["classdict"])["log_odds"]) for one in here.annotations]
    assert said == [(NO_CANDIDATE, -5.0), (NO_CANDIDATE, -4.8), (CANDIDATE, -4.8)]
    assert here.counts["unchanged"] == 2


def test_what_was_said_is_remembered_over_a_restart(place, tmp_path):
    here = place([of_object(record())])
    here.run("ZTF1")
    here.annotator.close()
    again = Place(tmp_path, here.service, here.api)
    again.run("ZTF1")
    assert len(here.annotations) == 1 and again.counts["unchanged"] == 1
    again.annotator.close()


def test_rubin_ids_are_exact_and_floats_are_none(place):
    here = place([of_object(record(survey="lsst"))], survey="lsst")
    here.run(BIG, float(BIG), True, None, "", key="diaObjectId")
    here.annotator.take([b"not JSON", b"[]", b'{"objectId": "ZTF1"}'])
    assert here.service.requests[0]["path"] == f"/v1/objects/lsst/{BIG}"
    assert [one["objectId"] for one in here.annotations] == [str(BIG)]
    assert here.counts["unreadable"] == 7 and here.counts["messages"] == 8


def test_objects_go_together_in_one_call(place):
    here = place([of_object(record())])
    here.run(*(f"ZTF{i}" for i in range(40)))
    assert len(here.api.requests) == 1 and len(here.annotations) == 40


def test_limit_of_requests_is_waited_out_and_nothing_is_lost(place):
    here = place([of_object(record())], api=[LIMITED, LIMITED, ACCEPTED])
    here.run("ZTF1", "ZTF2")
    here.run("ZTF3")  # meanwhile messages are taken, and nobody is asked
    assert len(here.api.requests) == 1 and here.annotator.listed == 3
    here.now += 601
    here.annotator.work()
    here.now += 601
    here.annotator.work()
    assert [len(b["annotations"]) for b in here.api.bodies(LIST)] == [2, 3, 3]
    assert (here.counts["limited"], here.counts["annotated"], here.annotator.listed) == (2, 3, 0)


@pytest.mark.parametrize("answer", [(500, {"detail": "oops"}), (200, b"<html>"), (200, {"error": "database"}), None])
def test_lasair_in_trouble_is_asked_again(place, answer):
    here = place([of_object(record())], api=[answer, ACCEPTED])
    here.run("ZTF1")
    assert here.annotator.listed == 1 and here.counts["failed"] == 1
    here.now += 31
    here.annotator.work()
    assert here.annotator.listed == 0 and here.counts["annotated"] == 1


@pytest.mark.parametrize(("status", "counted"), [(404, "unknown_object"), (400, "not_accepted")])
def test_object_that_lasair_does_not_take_holds_up_no_other(place, status, counted):
    def answer(request):
        ids = [one["objectId"] for one in request["body"]["annotations"]]
        return (status, {"detail": "no such object"}) if "ZTF2" in ids else ACCEPTED

    here = place([of_object(record())], api=[answer])
    here.run("ZTF1", "ZTF2", "ZTF3")
    assert (here.counts["annotated"], here.counts[counted], here.annotator.listed) == (2, 1, 0)
    assert [len(b["annotations"]) for b in here.api.bodies(LIST)] == [3, 1, 1, 1]


def test_wrong_token_ends_it(place):
    here = place([of_object(record())], api=[(401, {"detail": "Invalid token"})])
    with pytest.raises(ConfigError, match="annotator dgl"):
        here.run("ZTF1")
    assert here.annotator.listed == 1


def test_score_that_is_not_there_is_looked_for_again_and_then_given_up(place):
    here = place([NO_OBJECT, NO_OBJECT, of_object(record()), NO_OBJECT])
    here.run("ZTF1")
    assert here.annotator.listed == 1
    for wait in SCORE_WAITS_S[:2]:
        here.now += wait
        here.annotator.work()
    assert here.counts["annotated"] == 1 and here.annotator.listed == 0
    here.run("ZTF2")
    for wait in SCORE_WAITS_S:
        here.now += wait
        here.annotator.work()
    assert here.counts["no_score"] == 1 and here.annotator.listed == 0


def test_refused_objects_are_not_annotated(place):
    here = place([of_object(refused())])
    here.run("ZTF1")
    assert not here.annotations and here.annotator.listed == 1


def test_service_that_is_away_loses_nothing(place):
    here = place([(503, {"code": "unavailable", "detail": "stopping", "store": None}), of_object(record())])
    here.run("ZTF1")
    assert here.annotator.listed == 1 and not here.annotations
    here.now += 31
    here.annotator.work()
    assert here.counts["annotated"] == 1


def test_packets_are_scored_where_they_are_at_hand(place, stage, alert_files):
    """With a packet of the object's newest alert, from wherever it is kept: the score is that of the stream."""
    file = next(f for f in alert_files if f.name.startswith("1127561442515015001"))
    here = place([NO_OBJECT], packet_of=lambda object_id: file.read_bytes() if object_id == "ZTF20aafsnpp" else None)
    here.annotator.service = Client(stage.url)
    here.run("ZTF20aafsnpp")
    said = json.loads(here.annotations[0]["classdict"])
    wanted = stage.published["ztf"][1127561442515015001]
    assert said["alert_id"] == "1127561442515015001" and said["log_odds"] == pytest.approx(wanted["log_odds"], abs=1e-4)


def test_annotations_are_those_of_the_stream(stage, place):
    """Real alerts that the filter scored: each object has the score of its newest alert, to the last bit."""
    newest = {}
    for one in stage.published["ztf"].values():
        if one["status"] == "scored" and one["mjd_tai"] >= newest.get(one["object_id"], one)["mjd_tai"]:
            newest[one["object_id"]] = one
    here = place([NO_OBJECT])
    here.annotator.service = Client(stage.url)
    clock = Clock()
    for together in [[one] for one in newest] if MEASURING else [list(newest)]:
        with clock:
            here.run(*together)
    said = {one["objectId"]: (one["classification"], json.loads(one["classdict"])["log_odds"]) for one in here.annotations}
    wanted = {i: (CANDIDATE if r["verdicts"][0]["passed"] else NO_CANDIDATE, r["log_odds"]) for i, r in newest.items()}
    assert said == wanted and len({c for c, _ in said.values()}) == 2
    stream, odds = ({i: odds for i, (_, odds) in one.items()} for one in (wanted, said))
    keep("lasair", "ztf", newest.values(), stream, odds, clock)


@pytest.mark.parametrize("killed", [False, True])
def test_command_reads_the_topic_and_loses_nothing(tmp_path, killed):
    """The process, from Kafka on: ended by SIGTERM or SIGKILL while Lasair is limited, and started again."""
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed here: tox -e host-lasair")
    from confluent_kafka import Producer

    from dgl_broker.stream.embedded import EmbeddedKafka

    accepts = []

    def answer(request):
        return ACCEPTED if accepts else LIMITED

    with (
        EmbeddedKafka() as cluster,
        serving({"GET /v1/objects/*": [of_object(record())]}) as service,
        serving({f"POST {LIST}": [answer]}) as api,
    ):
        cluster.create_topic("lasair_1dgl", 1)
        producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
        for i in range(30):
            producer.produce("lasair_1dgl", json.dumps({"objectId": f"ZTF{i}"}).encode())
        producer.flush(10)
        command = [sys.executable, "-m", "dgl_broker.hosts.lasair", "--survey", "ztf", "--topic-in", "lasair_1dgl"]
        command += ["--annotator", "dgl", "--state", str(tmp_path / "l.db"), "--kafka", cluster.bootstrap_servers]
        command += ["--endpoint", f"{api.url}/api", "--service", service.url]
        environ = {**os.environ, "LASAIR_TOKEN": "a-token-of-this-test"}
        first = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(lambda: len(api.requests) == 1, first)
        first.send_signal(signal.SIGKILL if killed else signal.SIGTERM)
        out, err = first.communicate(timeout=60)
        assert killed or json.loads(out)["limited"] == 1
        accepts.append(True)
        second = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        sent = lambda: {one["objectId"] for b in api.bodies(LIST)[1:] for one in b["annotations"]}  # noqa: E731
        wait_for(lambda: len(sent()) == 30, second)
        second.send_signal(signal.SIGTERM)
        out, err = second.communicate(timeout=60)
    assert json.loads(out)["annotated"] == 30 and b"a-token-of-this-test" not in err


def wait_for(condition, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
