"""Dead letters of a topic: listed, found, and replayed through the live pipeline, each at most once.

What was replayed is remembered on a compacted topic of its own, `<dead letters>.replayed`: one small record a letter, key its
id. Outcomes and memory leave in one transaction, so a reader under `read_committed` never sees one without the other; the
transactional id is the group's, so a second replay fences the first before it reads the memory.
"""

import contextlib
import json
import logging
import time

from dgl_broker.errors import InputUnavailable, PacketError
from dgl_broker.outputs.kept import fail_again, is_wanted, letter_of_record, new_account, open_letter
from dgl_broker.outputs.publish import Output
from dgl_broker.stream.batch import Batch
from dgl_broker.stream.clients import make_producer
from dgl_broker.stream.compacted import make_compacted
from dgl_broker.stream.delivery import ExactlyOnce
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.reading import RangeReader
from dgl_broker.stream.sink import Sink
from dgl_broker.stream.worker import Worker, make_scorer
from dgl_broker.wire import schema_source
from dgl_broker.wire.records import read_record

log = logging.getLogger(__name__)
REPLAYED = "replayed"  # name of the header, and of the memory's kind
BATCH_BYTES = 64 * 1024 * 1024


def memory_topic(settings):
    """Topic that says which dead letters were replayed."""
    return f"{settings.dead_letters_topic}.replayed"


def own_schemas(settings):
    """The registry that our outputs are registered with, or None."""
    out = settings.output
    return _source(settings, out.registry, out.registry_user, out.registry_password)


def _source(settings, place, user, password):
    options = {"timeout_s": settings.service.timeout_s} if str(place).startswith("http") else {}
    return schema_source(place, user, password.get_secret_value() if password else None, **options)


def schemas_of(settings):
    """The source of the input's schemas, that there is one; None where none is configured."""
    read = settings.input
    schemas = _source(settings, read.schemas, read.schemas_user, read.schemas_password)
    if schemas is not None:
        schemas.check()
    return schemas


class LookingBack(Worker):
    """A process beside the filter: its scorer and its publisher, made from the same settings, and no member of its group."""

    def parts(self, closing):
        """(scorer, publisher); what they hold is let go when `closing` is."""
        schemas = schemas_of(self.settings)
        # Not as `run` makes it: this process does not say which filters are in force.
        scorer = self._given_scorer or make_scorer(self.settings, schemas)
        if hasattr(scorer.filters, "close"):
            closing.callback(scorer.filters.close)
        if not getattr(scorer, "is_trained", True):
            log.warning("bundle %s: its weights are UNTRAINED: its scores mean nothing", scorer.bundle_id)
        return scorer, self._publisher(scorer, schemas)


class TopicLetters:
    """The dead letters on the topic of `settings`.

    Attributes
    ----------
    unreadable : int
        Records on the topic that are none of ours.
    """

    def __init__(self, settings, failures):
        s = self.settings = settings
        self.topic = s.dead_letters_topic
        # Ours is written in transactions, also by this module: what was aborted was never there.
        isolation = {"isolation.level": "read_committed"}
        self.reader = RangeReader(s.kafka, s.group_id, failures, s.service.timeout_s, **isolation)
        self.schemas = own_schemas(s)
        self.unreadable = 0

    def close(self):
        """Let go of the connections."""
        self.reader.close()

    def letters(self, reason=None, since_ms=None):
        """All as the topic's end stands now, partition by partition; `since_ms` by Kafka's time of the dead letter."""
        for place, (first, end) in self.reader.ranges(self.reader.places([self.topic]), since_ms).items():
            for message in self.reader.read(place, first, end):
                letter = self._letter(message)
                if letter is not None and is_wanted(letter, reason, since_ms):
                    yield letter

    def find(self, name):
        """The letter of this id, or this `partition:offset`.

        Raises
        ------
        InputUnavailable
        """
        partition, colon, offset = name.partition(":")
        if colon and partition.isdecimal() and offset.isdecimal():
            place, offset = (self.topic, int(partition)), int(offset)
            if place in self.reader.places([self.topic]):
                for message in self.reader.read(place, offset, min(offset + 1, self.reader.cluster.watermarks(place)[1])):
                    letter = self._letter(message)
                    if letter is not None:
                        return letter
        else:
            for letter in self.letters():
                if letter.id == name:
                    return letter
        raise InputUnavailable(f"topic {self.topic}: no dead letter {name}")

    def replayed(self):
        """Ids of the letters that were replayed, each 16 bytes."""
        topic, done = memory_topic(self.settings), set()
        for place, (first, end) in self.reader.ranges(self.reader.places([topic])).items():
            for message in self.reader.read(place, first, end):
                with contextlib.suppress(ValueError, TypeError):  # no key of ours: nothing that we wrote
                    done.add(bytes.fromhex((message.key() or b"").decode("ascii")))
        return done

    def _letter(self, message):
        try:
            record = read_record(message.value() or b"", self.schemas)
            if record["dead_lettered_ms"] is None:
                record["dead_lettered_ms"] = message.timestamp()[1]
            return letter_of_record(record, f"{message.partition()}:{message.offset()}", self.settings.output.spill)
        except (PacketError, KeyError):
            self.unreadable += 1
            return None


class Redelivery(LookingBack):
    """Replays the dead letters of a topic with the parts that `run` has: scorer, filters, publisher."""

    def replay(self, reason=None, since_ms=None):
        """Score and publish what was not replayed before, marked by a header `replayed` with the letter's id.

        Returns
        -------
        dict
            As `outputs.kept.new_account` has it, and `unreadable` and `published` (topic -> count).
        """
        s = self.settings
        failures = Failures(s.service.max_failures, self.stop)
        account = {**new_account(), "unreadable": 0, "published": {}}
        with contextlib.ExitStack() as closing:
            letters = TopicLetters(s, failures)
            closing.callback(letters.close)
            if not letters.reader.places([s.dead_letters_topic]):
                return account
            scorer, publisher = self.parts(closing)
            if not letters.reader.places([memory_topic(s)]):
                make_compacted(s.kafka, memory_topic(s), "to remember what was replayed", s.service.timeout_s)
            producer = make_producer(s.kafka, f"{s.group_id}-deadletters")
            # Before the memory is read: this fences another replay, which can then add nothing to it.
            delivery = ExactlyOnce(None, Sink(producer, failures, publisher.smaller), failures, s.service.timeout_s)
            done = letters.replayed()
            for batch in self._batches(letters, done, account, reason, since_ms):
                self._one(batch, scorer, publisher, delivery, letters, account)
                if self.stop():
                    break
            account["unreadable"] = letters.unreadable
        return account

    def _batches(self, letters, done, account, reason, since_ms):
        """(letter, message) of those to be replayed, by batches."""
        tried, batch, n_bytes = set(), [], 0
        for letter in letters.letters(reason, since_ms):
            account["seen"] += 1
            its_id = bytes.fromhex(letter.id)
            if its_id in done:
                account["replayed_before"] += 1
                continue
            if its_id in tried:
                account["repeated"] += 1
                continue
            tried.add(its_id)
            message = open_letter(account, letter)
            if message is None:
                continue
            batch.append((letter, message))
            n_bytes += letter.size
            if len(batch) >= self.settings.batch.max_alerts or n_bytes > BATCH_BYTES:
                yield batch
                batch, n_bytes = [], 0
        if batch:
            yield batch

    def _one(self, batch, scorer, publisher, delivery, letters, account):
        outputs = []
        outcomes = scorer.score([message for _, message in batch])
        for (letter, _), outcome in zip(batch, outcomes, strict=True):
            if outcome.status == "dead_lettered":
                fail_again(account, outcome)
                continue
            account[outcome.status] += 1
            made = publisher.outputs(outcome)
            for output in made:
                output.headers = [*output.headers, (REPLAYED, letter.id.encode())]
                account["published"][output.topic] = account["published"].get(output.topic, 0) + 1
            outputs += [*made, self._memory(letter, outcome, scorer)]
        if not outputs:
            return
        empty = Batch()  # no offsets of the input belong to this: the group is where it was
        empty.membership = (None, letters.reader.consumer.consumer_group_metadata())
        delivery.deliver(outputs, empty)

    def _memory(self, letter, outcome, scorer):
        said = {"status": outcome.status, "reason": outcome.reason, "bundle_sha256": scorer.bundle_sha256}
        value = json.dumps({**said, "replayed_ms": time.time_ns() // 1_000_000}).encode()
        return Output(REPLAYED, memory_topic(self.settings), letter.id.encode(), value, [])
