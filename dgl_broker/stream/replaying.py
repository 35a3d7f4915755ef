"""Kafka's two ends of a replay: a range of a topic as sources of messages, and outcomes published to topics of other names."""

import contextlib
import re
from functools import partial

from dgl_broker.errors import ConfigError, InputUnavailable, PacketError
from dgl_broker.settings_model import parse_start
from dgl_broker.stream.batch import as_message
from dgl_broker.stream.clients import make_producer
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.reading import RangeReader
from dgl_broker.stream.redelivery import LookingBack, own_schemas
from dgl_broker.stream.sink import Sink
from dgl_broker.topic_names import TOPIC
from dgl_broker.wire.records import read_record

PREFIX = "kafka:"
_RANGE = re.compile(r"kafka:([^@\[]+)(?:\[(\d+)\])?(?:@(.*)\.\.(.*))?\Z")
QUEUED_KBYTES = 8192  # a partition: a replay reads all of them side by side


class TopicRange:
    """One partition of a topic between two offsets, as `archive.sources.FileSource` is one file.

    Parameters
    ----------
    open_reader : callable
        () -> RangeReader.
    place : (str, int)
    first, end : int
        Offsets from `first` up to `end`.
    """

    def __init__(self, open_reader, place, first, end):
        self._open, self.place, self.first, self.end = open_reader, place, first, end
        self.name = f"{PREFIX}{place[0]}[{place[1]}]@{first}..{end}"

    def state(self):
        """Offsets; how many bytes there are is not known before they are read."""
        return {"first_offset": self.first, "end_offset": self.end}

    def messages(self, survey=None, limits=None, digest=None):
        """Its messages, in order of offset; the digest takes in their values."""
        with contextlib.closing(self._open()) as reader:
            for found in reader.read(self.place, self.first, self.end):
                message = as_message(found)
                if digest is not None:
                    digest.update(message.value)
                yield message


def topic_ranges(text, settings, stop):
    """The sources of `kafka:TOPIC`, of all its partitions or one, between two times or offsets.

    Parameters
    ----------
    text : str
        `kafka:TOPIC`, `kafka:TOPIC@2026-11-22T04:00..2026-11-22T06:00` (Kafka's timestamps, UTC), `kafka:TOPIC[3]@1000..2000`;
        either end may be left out.
    settings : Settings
    stop : Stop

    Raises
    ------
    ConfigError
        If it is none of them.
    InputUnavailable, ServiceFailed
    """
    topic, partition, low, high = parse_range(text)
    failures = Failures(settings.service.max_failures, stop)
    open_reader = partial(
        RangeReader,
        settings.kafka,
        settings.group_id,
        failures,
        settings.service.timeout_s,
        **{"queued.max.messages.kbytes": QUEUED_KBYTES},
    )
    with contextlib.closing(open_reader()) as reader:
        places = [p for p in reader.places([topic]) if partition is None or p[1] == partition]
        if not places:
            raise InputUnavailable(f"{text}: no such topic or partition on the cluster, or hidden from this user")
        by_time = [end for end in (low, high) if isinstance(end, _Time)]
        ranges = reader.ranges(places, *(e.ms if isinstance(e, _Time) else None for e in (low, high))) if by_time else None
        ranges = ranges or reader.ranges(places)
    out = []
    for place in places:
        first, end = ranges[place]
        first = max(first, low) if isinstance(low, int) else first
        end = min(end, high) if isinstance(high, int) else end
        if first < end:
            out.append(TopicRange(open_reader, place, first, end))
    return out


class _Time:
    """One end of a range that is a time [ms since 1970 UTC]."""

    def __init__(self, ms):
        self.ms = ms


def parse_range(text):
    """(topic, partition or None, first, end) of `kafka:...`; an end is an offset, a time, or None.

    Raises
    ------
    ConfigError
    """
    found = _RANGE.match(text)
    if not found or not TOPIC.match(found[1]):
        raise ConfigError(f"{text}: expected kafka:TOPIC, kafka:TOPIC@FROM..TO or kafka:TOPIC[PARTITION]@FROM..TO")
    ends = [_end(text, part) for part in (found[3], found[4])]
    if any(isinstance(end, int) for end in ends) and any(isinstance(end, _Time) for end in ends):
        raise ConfigError(f"{text}: an offset and a time, expected two of a kind")
    return found[1], None if found[2] is None else int(found[2]), *ends


def _end(text, part):
    if not part:
        return None
    if part.isascii() and part.isdecimal():
        return int(part)
    try:
        when = parse_start(part)
    except ValueError:
        when = None
    if not isinstance(when, int):
        raise ConfigError(f"{text}: {part!r}, expected an offset or an ISO time such as 2026-11-22T04:00")
    return _Time(when)


def score_records(text, settings, stop):
    """Records of a topic of scores, as `kafka:TOPIC...` names it; what is no record of ours is left out.

    Yields
    ------
    dict
    """
    schemas = own_schemas(settings)
    for source in topic_ranges(text, settings, stop):
        for message in source.messages():
            with contextlib.suppress(PacketError):
                yield read_record(message.value, schemas)


class ReplayPublisher(LookingBack):
    """Publishes a replay's outcomes as the live filter does, to topics of other names.

    At least once: every output is acknowledged before the ledger says that its batch is done, and has the id that the live
    filter gives it, by which readers de-duplicate. What a replay injected is never published.

    Parameters
    ----------
    settings : Settings
        Of the live filter.
    prefix : str
        Put before the names of its topics.
    scorer : Scorer
    schemas : SchemaSource or None
    stop : Stop
    """

    def __init__(self, settings, prefix, scorer, schemas, stop):
        names = {name: prefix + getattr(settings, f"{name}_topic") for name in ("scores", "candidates", "dead_letters")}
        if bad := [name for name in names.values() if not TOPIC.match(name)]:
            raise ConfigError(f"--topic-prefix {prefix!r}: {bad[0]!r} is no name of a topic")
        output = settings.output.model_copy(update={**names, "desc": None})
        settings = settings.model_copy(update={"output": output})
        super().__init__(settings, stop, scorer=scorer)
        self.publisher = self._publisher(scorer, schemas)
        failures = Failures(settings.service.max_failures, stop, self.watch.failed)
        self._sink = Sink(make_producer(settings.kafka), failures, self.publisher.smaller)

    @property
    def topics(self):
        """Names of the topics that are written."""
        return sorted(self.publisher.topics.values())

    @property
    def withheld(self):
        """Records that were not published since they are of a programme that is not; those of injected alerts never are."""
        return self.publisher.withheld

    def outputs(self, outcomes):
        """What is to be produced for a batch."""
        real = [o for o in outcomes if not o.message.injected]
        return [output for outcome in real for output in self.publisher.outputs(outcome)]

    def deliver(self, outputs):
        """Produce them and wait until the broker has acknowledged each."""
        self._sink.deliver(outputs)
