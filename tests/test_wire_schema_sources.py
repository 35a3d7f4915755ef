import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from packets import LSST_SCHEMA, lsst_message

from dgl_broker.errors import InputUnavailable, PacketError, ServiceFailed
from dgl_broker.wire import FolderSchemas, decode, schema_source
from dgl_broker.wire.registry import RegistrySchemas


def write(folder, name, schema):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(schema))


def in_parts(schema):
    """The alert without its parts, and the parts by full name, as Rubin's files are laid out."""
    schema = json.loads(json.dumps(schema))
    parts = {}
    for field in schema["fields"]:
        kind = field["type"]
        if isinstance(kind, dict):
            parts[f"lsst.v10_0.{kind['name']}"] = {**kind, "namespace": "lsst.v10_0"}
            field["type"] = f"lsst.v10_0.{kind['name']}"
        elif isinstance(kind, list) and isinstance(kind[1], dict) and kind[1]["type"] == "record":
            parts[f"lsst.v10_0.{kind[1]['name']}"] = {**kind[1], "namespace": "lsst.v10_0"}
            field["type"] = ["null", f"lsst.v10_0.{kind[1]['name']}"]
    return schema, parts


def test_folder_is_searched_below_for_ids_and_for_rubins_names(tmp_path):
    alert, parts = in_parts(LSST_SCHEMA)
    assert set(parts) == {"lsst.v10_0.diaSource", "lsst.v10_0.diaObject"}
    write(tmp_path / "a" / "10", "lsst.v10_0.alert.avsc", alert)
    for name, part in parts.items():
        write(tmp_path / "a" / "10", f"{name}.avsc", part)
    write(tmp_path / "b", "900001.avsc", LSST_SCHEMA)
    write(tmp_path / "b", "score.avsc", {"type": "string"})
    schemas = schema_source(str(tmp_path))
    assert schemas.ids() == [1000, 900001]
    whole = decode(lsst_message(), "lsst", schemas)
    assert whole.record == decode(lsst_message(number=900001), "lsst", schemas).record
    assert schemas.writer_schema(1000) is schemas.writer_schema(1000)


def test_unknown_id_is_the_messages_fault_and_a_missing_folder_is_not(tmp_path):
    write(tmp_path, "1000.avsc", LSST_SCHEMA)
    with pytest.raises(PacketError, match="unknown_schema: schema id 1200: not in .*, which has 1000"):
        FolderSchemas(tmp_path).writer_schema(1200)
    with pytest.raises(InputUnavailable, match="nowhere is no folder"):
        FolderSchemas(tmp_path / "nowhere")


def test_schema_put_there_later_is_found(tmp_path, monkeypatch):
    write(tmp_path, "1000.avsc", LSST_SCHEMA)
    schemas = FolderSchemas(tmp_path)
    write(tmp_path, "1200.avsc", LSST_SCHEMA)
    monkeypatch.setattr("dgl_broker.wire.schema_sources.RESCAN_S", 0.0)
    assert schemas.writer_schema(1200).schema_id == 1200


def test_two_different_files_of_one_id_are_refused_and_two_equal_ones_are_not(tmp_path):
    write(tmp_path / "a", "1000.avsc", LSST_SCHEMA)
    write(tmp_path / "b", "1000.avsc", LSST_SCHEMA)
    assert FolderSchemas(tmp_path).ids() == [1000]
    write(tmp_path / "b", "1000.avsc", {**LSST_SCHEMA, "doc": "other"})
    with pytest.raises(InputUnavailable, match="differ, both are schema 1000"):
        FolderSchemas(tmp_path)


def test_missing_part_is_named(tmp_path):
    alert, _ = in_parts(LSST_SCHEMA)
    write(tmp_path, "lsst.v10_0.alert.avsc", alert)
    with pytest.raises(PacketError, match="bad_schema: no type 'lsst.v10_0.diaSource', neither in the schema nor beside it"):
        FolderSchemas(tmp_path).writer_schema(1000)


def test_nothing_given_is_no_source():
    assert schema_source(None) is None


class Registry(ThreadingHTTPServer):
    """A schema registry that answers from a dict of path -> (status, body); unknown ids as Confluent's does."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.asked, self.authorization, self.passing = {}, [], None, []
        self.url = f"http://127.0.0.1:{self.server_port}/schema-registry"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def give(self, path, schema, references=()):
        body = {"schema": json.dumps(schema), "references": list(references)} if references else {"schema": json.dumps(schema)}
        self.answers[path] = (200, body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.removeprefix("/schema-registry")
        self.server.asked.append(path)
        self.server.authorization = self.headers.get("Authorization")
        if self.server.passing:
            status, body = self.server.passing.pop(0), {"error_code": 50001}
        else:
            unknown = (404, {"error_code": 40403, "message": "Schema not found"})
            status, body = self.server.answers.get(path, unknown)
        text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def registry():
    server = Registry()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def naps(monkeypatch):
    taken = []
    monkeypatch.setattr("dgl_broker.wire.registry.time.sleep", taken.append)
    return taken


@pytest.fixture
def open_registry(registry):
    made = []

    def make(**options):
        made.append(RegistrySchemas(registry.url + "/", **options))
        return made[-1]

    yield make
    for source in made:
        source.close()


def test_schema_is_json_within_json_and_asked_for_once(registry, open_registry):
    registry.give("/schemas/ids/1000", LSST_SCHEMA)
    source = open_registry()
    for _ in range(3):
        assert decode(lsst_message(), "lsst", source).schema == "lsst 10.0"
    assert registry.asked == ["/schemas/ids/1000"]


def test_schema_source_makes_a_registry_of_a_url(registry):
    registry.give("/schemas/ids/1000", LSST_SCHEMA)
    source = schema_source(registry.url, "reader", "secret")
    assert source.writer_schema(1000).version == "10.0"
    assert registry.authorization == "Basic " + base64.b64encode(b"reader:secret").decode()
    source.close()


def test_user_and_password_in_the_url_are_used_and_not_shown(registry):
    registry.give("/schemas/ids/1000", LSST_SCHEMA)
    source = schema_source(registry.url.replace("http://", "http://reader:secret@"))
    assert source.writer_schema(1000).version == "10.0"
    assert registry.authorization == "Basic " + base64.b64encode(b"reader:secret").decode()
    assert "secret" not in repr(source)
    source.close()


def test_references_are_followed_to_their_own_references(registry, open_registry):
    alert, parts = in_parts(LSST_SCHEMA)
    forced = next(f for f in alert["fields"] if f["name"] == "prvDiaForcedSources")
    parts["lsst.v10_0.diaForcedSource"] = {**forced["type"][1]["items"], "namespace": "lsst.v10_0"}
    forced["type"] = ["null", {"type": "array", "items": "lsst.v10_0.diaForcedSource"}]

    def refer(*names):
        return [{"name": n, "subject": f"part {n}", "version": 3} for n in names]

    registry.give("/schemas/ids/1000", alert, refer("lsst.v10_0.diaSource", "lsst.v10_0.diaObject"))
    for name, part in parts.items():
        chained = refer("lsst.v10_0.diaForcedSource") if name.endswith("diaObject") else ()
        registry.give(f"/subjects/part%20{name}/versions/3", part, chained)
    assert decode(lsst_message(), "lsst", open_registry()).record["diaSourceId"] == 2**60 + 1


def test_unknown_id_is_a_dead_letter_and_not_asked_for_again(registry, open_registry):
    source = open_registry()
    for _ in range(3):
        with pytest.raises(PacketError, match="unknown_schema: schema id 4242: not in registry http"):
            decode(lsst_message(number=4242), "lsst", source)
    assert registry.asked == ["/schemas/ids/4242"]


def test_busy_registry_is_asked_again(registry, open_registry, naps):
    registry.give("/schemas/ids/1000", LSST_SCHEMA)
    registry.passing = [503, 500, 429]
    assert open_registry().writer_schema(1000).version == "10.0"
    assert naps == [0.5, 1.0, 2.0]


def test_registry_that_stays_busy_stops_the_process(registry, open_registry, naps):
    registry.passing = [503] * 10
    with pytest.raises(ServiceFailed, match="schema id 1000: status 503, 5 times"):
        open_registry().writer_schema(1000)
    assert len(naps) == 4


def test_registry_that_is_not_there_stops_the_process(naps):
    source = RegistrySchemas("http://127.0.0.1:9", retries=2, timeout_s=1.0)  # the discard port: nobody listens
    with pytest.raises(ServiceFailed, match="ConnectionError, 3 times"):
        decode(lsst_message(), "lsst", source)
    source.close()


@pytest.mark.parametrize(
    "status, body",
    [
        (404, "<html>not found</html>"),
        (404, {"detail": "Not Found"}),
        (200, "<html>welcome</html>"),
        (200, ["AVRO"]),
        (401, {}),
        (403, {}),
    ],
)
def test_answer_that_is_no_registrys_concerns_all_messages(registry, open_registry, status, body):
    registry.answers["/schemas/ids/1000"] = (status, body)
    with pytest.raises(InputUnavailable, match=f"status {status}"):
        decode(lsst_message(), "lsst", open_registry())


def test_schema_of_another_kind_or_broken_is_the_messages_fault(registry, open_registry):
    source = open_registry()
    registry.answers["/schemas/ids/1"] = (200, {"schema": "message A {}", "schemaType": "PROTOBUF"})
    registry.answers["/schemas/ids/2"] = (200, {"schema": "{"})
    registry.answers["/schemas/ids/3"] = (200, {"subject": "x"})
    for number in (1, 2, 3):
        with pytest.raises(PacketError, match="bad_schema"):
            source.writer_schema(number)


@pytest.mark.parametrize(
    "references",
    [
        5,
        "abc",
        {"a": 1},
        [1],
        [{}],
        [{"subject": "a"}],
        [{"subject": {"a": "b" * 5000}, "version": 1}],
        [{"subject": "a", "version": []}],
    ],
)
def test_references_that_are_none_are_the_messages_fault(registry, open_registry, references):
    registry.answers["/schemas/ids/1000"] = (200, {"schema": json.dumps(LSST_SCHEMA), "references": references})
    with pytest.raises(PacketError, match="bad_schema: a schema refers to") as caught:
        decode(lsst_message(), "lsst", open_registry())
    assert len(str(caught.value)) < 200


def test_reference_that_nests_without_end_is_the_messages_fault(registry, open_registry):
    def deep(levels):
        return '{"type":' * levels + '"int"' + "}" * levels

    references = [{"subject": "deep", "version": 1}]
    registry.answers["/schemas/ids/1000"] = (200, {"schema": json.dumps(LSST_SCHEMA), "references": references})
    registry.answers["/subjects/deep/versions/1"] = (200, {"schema": deep(100_000)})
    with pytest.raises(PacketError, match="bad_schema: schema is no JSON"):
        decode(lsst_message(), "lsst", open_registry())
    registry.answers["/subjects/deep/versions/1"] = (200, {"schema": deep(200)})
    assert decode(lsst_message(), "lsst", open_registry()).survey == "lsst"  # nobody asked for what it holds


def test_check_asks_for_something_every_registry_has(registry, open_registry):
    registry.answers["/schemas/types"] = (200, ["AVRO"])
    open_registry().check()
    assert registry.asked == ["/schemas/types"]  # no schema is needed for it, so an empty registry is ready too


@pytest.mark.parametrize(
    "answer, error, words",
    [
        ((404, {"error": "no such page"}), InputUnavailable, "its types: status 404, no answer of a schema registry"),
        ((200, {"types": ["AVRO"]}), InputUnavailable, "its types: status 200, no answer of a schema registry"),
        ((401, {}), InputUnavailable, "its types: not allowed"),
        ((503, {}), ServiceFailed, "its types: status 503"),
    ],
)
def test_check_says_what_is_wrong_with_a_registry(registry, open_registry, answer, error, words):
    registry.answers["/schemas/types"] = answer
    with pytest.raises(error, match=words):
        open_registry(retries=0).check()
