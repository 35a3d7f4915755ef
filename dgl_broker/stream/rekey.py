"""Alerts past the pre-cuts, slimmed to what scoring needs, to a topic keyed by object: what stands before filters that scale.

The loop, its accounts and its faults are those of `run`; in place of scoring an alert is written, so that
consumed = written + refused + dead-lettered. Always one transaction a batch.
"""

from dataclasses import dataclass

from dgl_broker import __version__
from dgl_broker.message_id import message_id
from dgl_broker.observe import Watch
from dgl_broker.outputs.avro import make_form
from dgl_broker.outputs.publish import DEAD_LETTERS, Output, Provenance, Publisher
from dgl_broker.pipeline import Pipeline
from dgl_broker.scores import Outcome
from dgl_broker.selection import FilterSet, load_filter
from dgl_broker.stream.limits import largest_message
from dgl_broker.stream.run_loop import Rules
from dgl_broker.stream.worker import MAX_POLL_INTERVAL_MS, Worker
from dgl_broker.surveys.slim import SCIENCE, slim_record
from dgl_broker.wire.slim import NAME, Slimmer

WRITTEN = "written"
# Java's default: whoever joins our topic with others by their keys finds equal keys in equal partitions.
PARTITIONER = {"partitioner": "murmur2_random"}


@dataclass(slots=True)
class Written(Outcome):
    """The outcome of an alert that goes on: `slim` is its packet as it is written."""

    slim: bytes = b""


class Rekeyer:
    """Messages to outcomes; it stands where the `Scorer` stands in the loop.

    Parameters
    ----------
    survey : "ztf" or "lsst"
    filters : FilterSet
    schemas : dgl_broker.wire.SchemaSource, optional
    programids : collection of int, optional
        ZTF programmes whose alerts are written; others, and those of an unknown one, are refused.
    limits : dgl_broker.wire.Limits
    science : bool
        As `surveys.slim.slim_record` takes it.
    """

    def __init__(self, survey, filters, schemas=None, programids=None, limits=None, science=False):
        self.filters = filters
        self.programids = programids
        self._slimmer, self._science = Slimmer([SCIENCE]), science
        self._pipeline = Pipeline(survey, schemas, filters, None, None, None, None, False, limits, programids, self._slim)

    @property
    def stages(self):
        """Seconds spent in each stage since the start."""
        return dict(self._pipeline.stages.seconds)

    def score(self, messages):
        """One outcome a message, in order: written, refused or dead-lettered.

        Raises
        ------
        ServiceFailed, InputUnavailable
            Where not a message but the registry failed.
        """
        return [one if isinstance(one, Outcome) else self._written(one) for one in self._pipeline.read(messages)]

    def _written(self, read):
        alert = read.alert
        if self.programids is not None and alert.facts.get("programid") not in self.programids:
            # An unknown one counts as a partnership's: what is written can be read by others.
            return Outcome("refused", read.message, "programid", f"{alert.name}: no programid", alert=alert)
        return Written(WRITTEN, read.message, alert=alert, cuts=read.cuts, slim=read.kept)

    def _slim(self, opened, packet):
        record = slim_record(packet.record, self._science, self._pipeline.limits.stamp_bytes)
        return self._slimmer.encode(opened.writer, record)


class RekeyPublisher(Publisher):
    """Outcomes as `Output`s: slimmed alerts and dead letters; refusals are only counted.

    Parameters
    ----------
    survey : str
    topics : dict
        "written" and "dead_letters" -> topic.
    spill_folder : path
    limit_bytes : int
        Largest message that the broker takes on the topic of dead letters.
    group_id : str, optional
        Consumer group, for the header of dead letters.
    """

    def __init__(self, survey, topics, spill_folder, limit_bytes, group_id=None):
        forms = {DEAD_LETTERS: make_form("dead_letter", topics[DEAD_LETTERS])}
        super().__init__(topics, forms, Provenance(survey, None, None, group_id), "none", None, spill_folder, limit_bytes)

    def outputs(self, outcome):
        """All that is to be produced for one outcome, in a list."""
        if outcome.status != WRITTEN:
            return super().outputs(outcome)
        alert, message = outcome.alert, outcome.message
        its_id = message_id(alert.survey, alert.alert_id, NAME)
        headers = [*self._headers(its_id, NAME), ("source", message.where().encode())]
        key = (alert.object_id or str(alert.alert_id)).encode()
        # The survey's time goes with it: what is too old stays too old.
        return [Output(WRITTEN, self.topics[WRITTEN], key, outcome.slim, headers, timestamp_ms=message.timestamp_ms)]

    def _headers(self, message_id, schema_name):
        return [("message_id", message_id.encode()), ("schema", schema_name.encode())]


def make_rekeyer(settings, schemas):
    """The `Rekeyer` that the settings ask for."""
    s = settings
    filters = FilterSet([load_filter(f) for f in s.filters_in_force])
    filters.check_survey(s.survey)
    return Rekeyer(s.survey, filters, schemas, s.published_programids, s.packet_limits, s.rekey.science)


def make_publisher(settings):
    """The `RekeyPublisher` that the settings ask for."""
    s = settings
    limit = largest_message(s.kafka, s.dead_letters_topic, s.service.timeout_s)
    topics = {WRITTEN: s.rekey.topic, DEAD_LETTERS: s.dead_letters_topic}
    return RekeyPublisher(s.survey, topics, s.rekey.spill, limit, s.group_id)


class RekeyWorker(Worker):
    """One process of `rekey`.

    Parameters
    ----------
    settings : RekeySettings
    stop : Stop
    progress : callable, optional
    watch : Watch, optional
    """

    def __init__(self, settings, stop, progress=None, watch=None):
        kafka = {**PARTITIONER, **settings.kafka}
        super().__init__(settings.model_copy(update={"kafka": kafka}), stop, watch=watch or Watch(progress, done=WRITTEN))

    def _scorer(self):
        s, schemas = self.settings, self._open_schemas()
        rekeyer = make_rekeyer(s, schemas)
        self.watch.metrics.set_info("dgl_run_info", s.survey, __version__, s.group_id, s.delivery)
        self.watch.info = {"survey": s.survey, "topic": s.rekey.topic}
        self._report_status(rekeyer.filters)
        return schemas, rekeyer

    def _publisher(self, scorer, schemas):
        return make_publisher(self.settings)

    def _rules(self, stop_after):
        s = self.settings
        poll_s = int(s.kafka.get("max.poll.interval.ms", MAX_POLL_INTERVAL_MS)) / 1000.0
        return Rules(s.batch.max_alerts, s.batch.max_wait_s, None, stop_after, poll_s / 2.0)
