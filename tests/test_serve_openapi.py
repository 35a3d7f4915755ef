"""The service keeps to its own OpenAPI description, whatever it is sent: cases made by schemathesis."""

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from kafka import flow
from serving import TOPIC, published, record, running, until
from serving import settings as service_settings

from dgl_broker.client import Client

TOKEN = "a-token-of-this-test"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
OPERATIONS = {
    "POST /v1/score",
    "GET /v1/scores/{survey}/{alert_id}",
    "GET /v1/objects/{survey}/{object_id}",
    "GET /v1/status",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    from dgl_broker.stream.embedded import EmbeddedKafka

    with EmbeddedKafka() as cluster:
        cluster.create_topic(TOPIC, 1)
        flow.produce(cluster.bootstrap_servers, TOPIC, published(*(record(i, object_id="o") for i in range(10))), 1)
        store = {"path": str(tmp_path_factory.mktemp("store")), "topics": [TOPIC]}
        chosen = service_settings(store=store, kafka={"bootstrap.servers": cluster.bootstrap_servers}, token=TOKEN)
        with running(chosen) as one, Client(one.url, TOKEN) as client:
            until(lambda: client.score_of("ztf", 9).status == "scored")
            yield one


@pytest.fixture(scope="module")
def description(service):
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def test_every_operation_is_described(description):
    assert {o.ok().label for o in description.get_all_operations()} == OPERATIONS


@pytest.mark.parametrize(
    ("label", "mode"),
    # The status takes nothing that could be wrong.
    [(o, m) for o in sorted(OPERATIONS) for m in ("positive", "negative") if (o, m) != ("GET /v1/status", "negative")],
)
def test_answers_are_as_described(description, label, mode):
    """Status, content type and body of each answer are among those described, and none is a failure of the service."""
    operation = next(o.ok() for o in description.get_all_operations() if o.ok().label == label)
    strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
    statuses = set()

    @seed(1)
    @given(case=strategy)
    @settings(max_examples=40, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def each(case):
        response = case.call(headers=HEADERS)
        case.validate_response(response)
        statuses.add(response.status_code)

    each()
    assert statuses


@pytest.mark.parametrize("path", ["/v1/scores/ztf/9", "/v1/objects/ztf/o?limit=3", "/v1/status"])
def test_real_answers_fit_the_description(service, description, path):
    """Most made-up ids find nothing: these do."""
    response = requests.get(service.url + path, timeout=10, headers=HEADERS)
    assert response.status_code == 200
    template = {"scores": "/v1/scores/{survey}/{alert_id}", "objects": "/v1/objects/{survey}/{object_id}"}
    description[template.get(path.split("/")[2], "/v1/status")]["GET"].validate_response(response)
