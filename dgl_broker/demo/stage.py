"""One survey's night on the stage: an embedded Kafka, a feeder, and the streaming filter as `dgl-broker run` runs it."""

import threading
from dataclasses import dataclass, field, replace

from dgl_broker.demo.night import night
from dgl_broker.demo.record import Recorder
from dgl_broker.errors import DglError, ServiceFailed
from dgl_broker.settings import Settings
from dgl_broker.stream.clients import make_consumer
from dgl_broker.stream.embedded import Feeder
from dgl_broker.stream.worker import Worker

PARTITIONS = 4
BATCH = 64
_READ_BACK_S = 20.0


@dataclass
class Show:
    """What one survey's night gave.

    `summary` is the filter's own closing summary; `read_back` counts what an independent consumer then found in the output
    topics, (messages, different message ids) by topic.
    """

    survey: str
    bundle: object
    filter: object
    recorder: Recorder
    labels: dict = field(default_factory=dict)
    n_sent: int = 0
    summary: dict = field(default_factory=dict)
    read_back: dict = field(default_factory=dict)


def choose_bundle(survey):
    """The bundle that ships for a survey, or one with random weights where none does."""
    from dgl_broker.model import default_bundle, load_bundle, untrained_bundle

    if (default_bundle(survey) / "card.json").is_file():
        return load_bundle("default", survey=survey)
    return untrained_bundle(survey)


def choose_filter(survey, bundle):
    """The survey's shipped filter; where it was tuned for other weights, its threshold is taken as a guess."""
    from dgl_broker.selection import load_filter

    # Without a source nothing watches the file, and no status is written beside it.
    chosen = replace(load_filter(f"lensed_sn_{survey}"), source=None)
    return chosen if chosen.bundle_sha256 in (None, bundle.sha256) else replace(chosen, bundle_sha256=None)


def settings_of(survey, kafka, folder):
    """The configuration of the filter: what an operator would write in `broker.yaml`."""
    schemas = None
    if survey == "lsst":
        from dgl_broker.data_files import folder as shipped

        schemas = str(shipped("schemas") / "write")
    return Settings.model_validate(
        {
            "survey": survey,
            "kafka": {"bootstrap.servers": kafka.bootstrap_servers},
            "input": {"topics": [f"alerts.{survey}.simulated"], "schemas": schemas},
            "output": {"refused": "all", "spill": str(folder / "spill")},
            "batch": {"max_alerts": BATCH, "max_wait_s": 0.5},
        }
    )


def play(kafka, survey, n_alerts, seed, folder, stop, progress=None, processes=None, bundle=None):
    """Feed a night to the filter and run it until every message has its outcome.

    Parameters
    ----------
    kafka : dgl_broker.stream.embedded.EmbeddedKafka
    survey : "lsst" or "ztf"
    n_alerts, seed : int
    folder : Path
        For what the filter may have to write.
    stop : dgl_broker.stream.stopping.Stop
    progress : callable, optional
        (accounts, lag) -> None.
    processes : int, optional
        As `night` takes it.
    bundle : Bundle, optional
        By default `choose_bundle(survey)`.

    Returns
    -------
    Show

    Raises
    ------
    DglError
        As the filter or the simulator failed.
    """
    from dgl_broker.scorer import Scorer

    bundle = bundle or choose_bundle(survey)
    chosen = choose_filter(survey, bundle)
    settings = settings_of(survey, kafka, folder)
    topics = (settings.scores_topic, settings.candidates_topic, settings.dead_letters_topic)
    for topic in (*settings.input.topics, *topics):
        kafka.create_topic(topic, PARTITIONS)
    recorder = Recorder(Scorer(survey, bundle, filters=[chosen], schemas=settings.input.schemas, batch_size=BATCH))
    show = Show(survey, bundle, chosen, recorder)
    feed = _Feed(Feeder(kafka, settings.input.topics[0], PARTITIONS, settings.group_id), show, n_alerts, seed, stop, processes)
    worker = Worker(settings, stop, progress, scorer=recorder)
    feed.start()
    try:
        worker.run(max_alerts=n_alerts)
    finally:
        feed.end()
    show.summary = worker.summary()
    show.read_back = {topic: read_back(settings.kafka, topic) for topic in topics}
    return show


class _Feed:
    """The simulator's side: a thread that produces, and stops the filter if it fails."""

    def __init__(self, feeder, show, n_alerts, seed, stop, processes):
        self._feeder, self._show, self._stop = feeder, show, stop
        self._night = night(show.survey, n_alerts, seed, processes)
        self._failed = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def start(self):
        self._thread.start()

    def _run(self):
        try:
            for value, labels in self._night:
                if self._stop() or self._ended.is_set():
                    break
                if labels is not None:
                    self._show.labels[labels["alert_id"]] = labels
                self._feeder.send(value, partition=self._show.n_sent % PARTITIONS)
                self._show.n_sent += 1
        except Exception as error:  # noqa: BLE001 - whatever it was, the filter must not wait for more
            self._fail(error)
        finally:
            self._night.close()
            try:
                self._feeder.close()
            except DglError as error:
                self._fail(error)

    def _fail(self, error):
        self._failed = self._failed or error
        self._stop.ask()

    def end(self):
        """Wait for the thread; raises what it failed of."""
        self._ended.set()
        self._thread.join(timeout=60)
        if isinstance(self._failed, DglError):
            raise self._failed
        if self._failed is not None:
            raise ServiceFailed(f"the simulated night: {type(self._failed).__name__}: {self._failed}") from self._failed


def read_back(kafka, topic):
    """(messages, different message ids) of an output topic, as a plain consumer of another group finds them."""
    consumer = make_consumer(kafka, f"reader-of-{topic}", **{"auto.offset.reset": "earliest"})
    n, ids, at_end = 0, set(), set()
    try:
        wanted = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.subscribe([topic])
        idle = 0.0
        while at_end != wanted and idle < _READ_BACK_S:
            message = consumer.poll(0.5)
            if message is None:
                idle += 0.5
            elif message.error() is not None:
                if message.error().name() != "_PARTITION_EOF":
                    raise ServiceFailed(f"embedded Kafka: {topic}: {message.error().str()}")
                at_end.add(message.partition())
            else:
                n += 1
                ids.add(dict(message.headers() or ()).get("message_id"))
    finally:
        consumer.close()
    return n, len(ids)
