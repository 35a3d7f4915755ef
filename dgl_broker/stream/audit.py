"""An audit of a window of time: every input has its outcome, or is on a list.

Outcomes name the place of their input (topic, partition, offset), so they are matched without decoding the input: 2 bytes an
offset of the window are kept, and nothing else that grows. Inputs without an outcome are scored once more, companions aside:
only what the configuration refuses without publishing it may have left no trace.
"""

import contextlib
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np

from dgl_broker.errors import InputUnavailable, PacketError
from dgl_broker.observe.summary import AccountsDoNotBalance
from dgl_broker.outputs.kept import time_text
from dgl_broker.outputs.publish import GROUP
from dgl_broker.scores import Outcome
from dgl_broker.stream.batch import as_message, message_headers
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.reading import RangeReader
from dgl_broker.stream.redelivery import REPLAYED, LookingBack, own_schemas
from dgl_broker.stream.topics import expand
from dgl_broker.topic_names import is_template
from dgl_broker.wire.records import read_record

SCORED, REFUSED, DEAD, AGAIN, PASSED, CANDIDATE = 1, 2, 4, 8, 16, 32
COUNT = 256  # the upper byte: outcomes of this input, replayed dead letters aside, at most 255
STATUS_BITS = {"scored": SCORED, "refused": REFUSED}
PLACE = re.compile(r"(.+)\[(\d+)\]\Z", re.DOTALL)
SKEW_MS = 3_600_000  # the survey's clock may be ahead of ours by so much: outputs are read from this long before the window
LISTED = 1000  # of each kind, at most, by place; all are counted
BATCH_BYTES = 64 * 1024 * 1024


class Window:
    """What is known of each offset of the inputs' ranges.

    Parameters
    ----------
    ranges : dict
        (topic, partition) -> (first, end).
    """

    def __init__(self, ranges):
        self.ranges = ranges
        self.marks = {place: np.zeros(end - first, dtype=np.uint16) for place, (first, end) in ranges.items()}

    def note(self, place, offset, bits, counts=False):
        """An output of the input at this place; False where that is outside the window."""
        if place not in self.ranges or offset is None:
            return False
        first, end = self.ranges[place]
        if not first <= offset < end:
            return False
        marks, n = self.marks[place], offset - first
        marks[n] |= bits
        if counts and marks[n] < 255 * COUNT:
            marks[n] += COUNT
        return True

    def of(self, place, offset):
        """(bits, number of outcomes) of one input."""
        mark = int(self.marks[place][offset - self.ranges[place][0]])
        return mark % COUNT, mark // COUNT


def place_of_score(record):
    """((topic, partition), offset) of the input of a score record, or (None, None) where it does not say."""
    found = PLACE.match(record.get("source") or "")
    return ((found[1], int(found[2])), record.get("source_row")) if found else (None, None)


def input_topics(topics, nights, from_ms, to_ms):
    """Names that `input.topics` stood for at any time of the window."""
    when, end = (datetime.fromtimestamp(t / 1000.0, UTC) for t in (from_ms, to_ms))
    names = []
    while when < end:
        names += expand(topics, nights, when)
        when += timedelta(hours=12)  # the names of a night appear an hour before it
    return list(dict.fromkeys([*names, *expand(topics, nights, end)]))


class Audit(LookingBack):
    """The audit of one configuration. Nothing is published, and the companion store is not touched."""

    done = "scored"  # what became of inputs that came through

    def __init__(self, settings, stop, scorer=None):
        super().__init__(self._without_companions(settings), stop, scorer=scorer)
        self.listed, self.counts, self.by_reason = {}, Counter(), Counter()

    @staticmethod
    def _without_companions(settings):
        return settings.model_copy(update={"companions": type(settings.companions)()})

    @property
    def max_age_s(self):
        """Age [s] beyond which inputs may have been refused without being looked at; None where that is never done."""
        return self.settings.overload.max_age_s

    def audit(self, from_ms, to_ms):
        """Read the window; the report as a dict, `complete` in it.

        Raises
        ------
        InputUnavailable
            If an input topic given by name is not there.
        DglError
            As the part that failed says.
        """
        s = self.settings
        failures = Failures(s.service.max_failures, self.stop)
        with contextlib.ExitStack() as closing:
            inputs = RangeReader(s.kafka, s.group_id, failures, s.service.timeout_s)
            closing.callback(inputs.close)
            isolation = {"isolation.level": "read_committed"}
            outputs = RangeReader(s.kafka, s.group_id, failures, s.service.timeout_s, **isolation)
            closing.callback(outputs.close)
            window, retention = self._window(inputs, from_ms, to_ms)
            # Before the outputs: what is committed by now has its outcome there; a filter that runs meanwhile goes on.
            committed = inputs.committed(list(window.ranges))
            self._read_outputs(outputs, window, from_ms - SKEW_MS)
            judge = _Judge(self, closing)
            for place, (first, end) in window.ranges.items():
                self._read_inputs(inputs, window, place, first, end, committed[place], judge)
        return self._report(from_ms, to_ms, retention, committed, window)

    def _window(self, reader, from_ms, to_ms):
        s = self.settings
        names = input_topics(s.input.topics, s.input.nights, from_ms, to_ms)
        places = reader.places(names)
        missing = {t for t in s.input.topics if not is_template(t)} - {topic for topic, _ in places}
        if missing:
            raise InputUnavailable(f"topic {', '.join(sorted(missing))}: not on the cluster, or hidden from this user")
        ranges = reader.ranges(places, from_ms, to_ms)
        lows = {place: low for place, (low, _) in reader.ranges(places).items()}
        # The window begins where the partition does, and that is not its beginning: what lay before may have been in it.
        cut = [f"{t}[{p}]@{first}" for (t, p), (first, _) in ranges.items() if first == lows[t, p] and first > 0]
        return Window(ranges), {"cut": cut, "lows": lows}

    def _output_topics(self):
        """Topic -> what takes note of a message on it."""
        s, schemas = self.settings, own_schemas(self.settings)
        notes = {
            s.scores_topic: self._note_score,
            s.candidates_topic: self._note_candidate,
            s.dead_letters_topic: self._note_dead,
        }
        return {topic: partial(note, schemas) for topic, note in notes.items()}

    def _read_outputs(self, reader, window, from_ms):
        for topic, note in self._output_topics().items():
            for place, (first, end) in reader.ranges(reader.places([topic]), from_ms).items():
                for message in reader.read(place, first, end):
                    try:
                        note(window, message)
                    except (PacketError, KeyError, TypeError):
                        self.counts["unreadable_outputs"] += 1

    def _note_score(self, schemas, window, message):
        record = read_record(message.value() or b"", schemas)
        place, offset = place_of_score(record)
        # What is injected passes filters as others do, and is no candidate.
        passed = not record.get("injected") and any(v["passed"] for v in record["verdicts"])
        bits = STATUS_BITS[record["status"]] | (PASSED if passed else 0)
        if any(name == REPLAYED for name, _ in message_headers(message)):
            window.note(place, offset, bits | AGAIN)
        else:
            window.note(place, offset, bits, counts=True)

    def _note_candidate(self, schemas, window, message):
        window.note(*place_of_score(read_record(message.value() or b"", schemas)), CANDIDATE)

    def _note_dead(self, schemas, window, message):
        # `run`, `rekey` and filters of other groups may share the topic; letters of before there was this header are ours.
        its_group = dict(message_headers(message)).get(GROUP)
        if its_group is not None and its_group != self.settings.group_id.encode():
            return
        record = read_record(message.value() or b"", schemas)
        window.note((record["topic"], record["partition"]), record["offset"], DEAD, counts=True)

    def _read_inputs(self, reader, window, place, first, end, committed, judge):
        without, n_bytes = [], 0
        for message in reader.read(place, first, end):
            self.counts["inputs"] += 1
            bits, n = window.of(place, message.offset())
            if bits & (SCORED | REFUSED | DEAD):
                self._with_outcome(message, bits, n)
            elif committed is None or message.offset() >= committed:
                self._miss("waiting", message, "the group has not committed it")
            else:
                without.append(message)
                n_bytes += len(message.value() or b"")
            if len(without) >= self.settings.batch.max_alerts or n_bytes > BATCH_BYTES:
                judge(without)
                without, n_bytes = [], 0
        judge(without)

    def _with_outcome(self, message, bits, n):
        if bits & DEAD:
            self.counts["dead_lettered"] += 1
            self.counts["dead_lettered_and_replayed"] += bool(bits & AGAIN)
        else:
            self.counts[self.done if bits & SCORED else "refused_published"] += 1
        if n > 1:
            self.counts["inputs_with_duplicates"] += 1
            self.counts["duplicates"] += n - 1
            if self.settings.delivery == "exactly_once":
                self._miss("twice", message, f"{n} outcomes under exactly_once")
        kinds = bool(bits & SCORED) + bool(bits & REFUSED) + bool(bits & DEAD)
        self.counts["of_two_kinds"] += kinds > 1 and not bits & AGAIN
        if bits & PASSED and not bits & CANDIDATE:
            self._miss("candidates_missing", message, "it passed a filter, and is not on the candidates topic")

    def _miss(self, kind, message, text, alert_id=None):
        self.counts[kind] += 1
        listed = self.listed.setdefault(kind, [])
        if len(listed) < LISTED:
            place = f"{message.topic()}[{message.partition()}]@{message.offset()}"
            its_id = None if alert_id is None else str(alert_id)  # text: JSON's readers keep 53 bits
            came = time_text(message.timestamp()[1] if message.timestamp()[0] else None)
            listed.append({"input": place, "time": came, "alert_id": its_id, "found": text})

    def _report(self, from_ms, to_ms, retention, committed, window):
        c = self.counts
        names = ("inputs", self.done, "refused_published", "refused_unpublished", "withheld", "dead_lettered")
        problems = ("lost", "perhaps_too_old", "waiting", "candidates_missing", "twice")
        expired = {p: low - (committed[p] or 0) for p, low in retention["lows"].items() if committed[p] is not None}
        report = {
            "from": time_text(from_ms),
            "to": time_text(to_ms),
            "topics": sorted({topic for topic, _ in window.ranges}),
            **{name: c[name] for name in names},
            "refused_unpublished_by_reason": dict(self.by_reason.most_common()),
            "expired": sum(n for n in expired.values() if n > 0),
            "cut_by_retention": retention["cut"],
            **{name: c[name] for name in ("inputs_with_duplicates", "duplicates", "of_two_kinds")},
            "dead_lettered_and_replayed": c["dead_lettered_and_replayed"],
            "unreadable_outputs": c["unreadable_outputs"],
            **{name: c[name] for name in problems},
            "complete": not any(c[name] for name in problems),
            "listed": self.listed,
        }
        outcomes = sum(report[n] for n in (*names[1:], "lost", "perhaps_too_old", "waiting"))
        if outcomes != report["inputs"]:
            raise AccountsDoNotBalance(f"audit: {report['inputs']} inputs, {outcomes} of them told: {report}")
        return report


class _Judge:
    """What became of inputs without an outcome, by scoring them again with what is configured; made when first needed."""

    def __init__(self, audit, closing):
        self.audit, self.closing = audit, closing
        self.scorer = self.publisher = None

    def __call__(self, kafka_messages):
        if not kafka_messages:
            return
        if self.scorer is None:
            self._make()
        outcomes = self.scorer.score([as_message(m) for m in kafka_messages])
        for message, outcome in zip(kafka_messages, outcomes, strict=True):
            self._one(message, outcome)

    def _one(self, message, outcome):
        audit = self.audit
        # A dead letter's outputs are not asked for: they may spill to a file, and there are always some.
        if outcome.status == "dead_lettered" or self._outputs(outcome):
            said = outcome.status + (f" ({outcome.reason})" if outcome.reason else "")
            kind = "perhaps_too_old" if self._may_have_been_too_old(outcome) else "lost"
            audit._miss(kind, message, f"no outcome; judged again it is {said}", outcome.alert_id)
        elif self.publisher.withheld:
            audit.counts["withheld"] += 1
        else:
            audit.counts["refused_unpublished"] += 1
            audit.by_reason[outcome.reason] += 1

    def _may_have_been_too_old(self, outcome):
        """Whether it may have been refused `too_old` without a trace: old by now, read, and by policy not published then."""
        max_age_s, its_ms = self.audit.max_age_s, outcome.message.timestamp_ms
        if max_age_s is None or its_ms is None or outcome.alert is None or time.time() - its_ms / 1000.0 < max_age_s:
            return False
        return not self._outputs(Outcome("refused", outcome.message, "too_old", alert=outcome.alert))

    def _outputs(self, outcome):
        self.publisher.withheld = 0
        return self.publisher.outputs(outcome)

    def _make(self):
        self.scorer, self.publisher = self.audit.parts(self.closing)
