"""A night in small for adapters: real alerts through the streaming filter, and the service that answers what it published.

Run by the interpreter that has this package with all it needs (DGL_MAIN_PYTHON), since a host's own environment has neither
torch nor our pins: `stage.py OUT.json ALERT_FILE...`. The real pieces, on librdkafka's mock cluster: `run` to the end of its
input, then `serve` with its store. OUT.json has the service's address, the records that were published, and the cluster.
It ends when its standard input does.
"""

import contextlib
import json
import sys
import tempfile
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]
SURVEYS = ("ztf", "lsst")
PARTITIONS = 8  # the mock cluster keeps some 5 MB of each
THRESHOLD = {"ztf": -3.0, "lsst": -4.3}  # log-odds that about half of the shared alerts reach


def main(out, files):
    """Set the stage, say where it is, and wait."""
    from dgl_broker.observe.log import set_up_log
    from dgl_broker.serve.answers import api_record
    from dgl_broker.stream.embedded import EmbeddedKafka

    set_up_log(stream=sys.stderr)
    with EmbeddedKafka() as cluster, tempfile.TemporaryDirectory() as folder:
        packets = _packets(files)
        settings = {s: _settings(cluster, s, folder) for s in SURVEYS if packets[s]}
        scorers = {s: _scorer(chosen) for s, chosen in settings.items()}
        records = {s: _run(chosen, scorers[s], packets[s]) for s, chosen in settings.items()}
        with _serving(cluster, scorers, folder) as service:
            told = {
                "url": service.url,
                "kafka": cluster.bootstrap_servers,
                "schemas": str(_schemas()),
                "published": {s: [api_record(r) for r in found] for s, found in records.items()},
            }
            Path(out).write_text(json.dumps(told))
            sys.stdin.read()


def _packets(files):
    """survey -> packets of these files, each of one alert."""
    from dgl_broker.errors import PacketError
    from dgl_broker.wire import FolderSchemas, open_message

    found, schemas = {survey: [] for survey in SURVEYS}, FolderSchemas(_schemas())
    for file in files:
        value = Path(file).read_bytes()
        with contextlib.suppress(PacketError):  # broken, or of many alerts: such a message would be a dead letter
            found[open_message(value, None, schemas).survey].append(value)
    return found


def _schemas():
    import lsst.alert.packet

    return Path(lsst.alert.packet.__file__).parent / "schema"


def _settings(cluster, survey, folder):
    """Settings of a filter that scores all it can and passes the better half of the shared alerts."""
    from kafka.flow import filter_file

    from dgl_broker.settings_model import Settings

    cluster.create_topic(f"{survey}.in", PARTITIONS)
    for topic in (f"dgl.{survey}.scores", f"dgl.{survey}.candidates", f"dgl.{survey}.deadletters"):
        cluster.create_topic(topic, 1)
    return Settings.model_validate(
        {
            "survey": survey,
            "kafka": {"bootstrap.servers": cluster.bootstrap_servers},
            "filters": [str(filter_file(f"{folder}/lenient_{survey}.yaml", survey, {}, THRESHOLD[survey]))],
            "input": {"topics": [f"{survey}.in"], "schemas": str(_schemas())},
            "output": {"spill": f"{folder}/spill"},
            "batch": {"max_wait_s": 0.2},
            "service": {"timeout_s": 1.0},  # the mock cluster leaves some questions unanswered
        }
    )


def _scorer(settings):
    from dgl_broker.stream.worker import make_scorer
    from dgl_broker.wire import schema_source

    return make_scorer(settings, schema_source(settings.input.schemas))


def _run(settings, scorer, values):
    """Score records that the filter publishes of these packets."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    from dgl_broker.stream.stopping import Stop
    from dgl_broker.stream.worker import Worker
    from dgl_broker.wire.records import read_record

    producer = Producer(settings.kafka)
    for n, value in enumerate(values):
        producer.produce(settings.input.topics[0], value, partition=n % PARTITIONS)
    producer.flush(30)
    Worker(settings, Stop(), scorer=scorer).run(until_eof=True)
    reader = Consumer({**settings.kafka, "group.id": "stage", "enable.partition.eof": True})
    reader.assign([TopicPartition(settings.scores_topic, 0, 0)])
    records = []
    while not (message := reader.poll(10)).error():
        records.append(read_record(message.value()))
    reader.close()
    return records


class _serving:
    """The service in a thread, caught up."""

    def __init__(self, cluster, scorers, folder):
        from dgl_broker.serve.serve_settings import ServeSettings
        from dgl_broker.serve.server import Service
        from dgl_broker.stream.stopping import Stop

        settings = ServeSettings.model_validate(
            {
                "port": _free_port(),
                "surveys": {survey: {} for survey in scorers},
                "store": {"path": f"{folder}/store", "topics": [f"dgl.{s}.scores" for s in scorers]},
                "kafka": {"bootstrap.servers": cluster.bootstrap_servers},
            }
        )
        self.service = Service(settings, Stop(), scorers)
        self.thread = threading.Thread(target=self.service.run)

    def __enter__(self):
        from dgl_broker.client import Client

        self.thread.start()
        if not self.service.wait_listening(120):
            raise RuntimeError("the service does not listen")
        self.service.url = f"http://127.0.0.1:{self.service.port}"
        with Client(self.service.url) as client:
            while (client.status()["store"] or {}).get("behind_messages") != 0:
                threading.Event().wait(0.05)
        return self.service

    def __exit__(self, *_):
        self.service.stop.ask()
        self.thread.join()


def _free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
