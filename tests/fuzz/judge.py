"""What must hold for any batch of packets, hostile or not: one outcome each, which can be published, and no harm to the others.

Most go through the pipeline with a stand-in for the networks, whose score is a number made of the example: that costs a
millisecond, and tells two examples apart that differ in one bit. A share goes through the whole `Scorer`.
"""

import re
import time
import traceback
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import packets as made
from fake_scorer import scores
from make_alerts import alert_card

from dgl_broker.alert import Message
from dgl_broker.companion_desk import CompanionDesk
from dgl_broker.companions import open_store
from dgl_broker.example import ExampleSpec, build_examples
from dgl_broker.outputs.avro import ConfluentForm, load_schema
from dgl_broker.outputs.publish import CANDIDATES, DEAD_LETTERS, SCORES, Provenance, Publisher
from dgl_broker.pipeline import Pipeline
from dgl_broker.selection import FilterSet, parse_filter
from dgl_broker.wire import DEFAULT
from dgl_broker.wire.records import read_record
from fuzz.seeds import Schemas, seeds

STATUSES = ("scored", "refused", "dead_lettered")
REASON = re.compile(r"[a-z_]+(\.[a-z_]+)?")
BUNDLE = "ab" * 32
FORMS = ("score", "score", "dead_letter")  # schemas of what is published: scores, candidates, dead letters
FILTER = """
name: any
version: 1
description: what can be asked of a packet, so that both stages of decoding have something to judge
survey: {survey}
require:
  snr: {{min: 0.001}}
  n_detections: {{min: 1}}
  days_since_first: {{max: 10000}}
  galactic_latitude_deg: {{min: -90}}
score: log_odds
threshold: 0.0
"""
KEYS = (None, b"313897383979122767", b"\xff\xfe\x00", b"", b"{", b'{"type": "record"}', b"{\xff", b"\xf0\x9f\x92")
HEADERS = ((), (("producer_timestamp", b"1700000000000"),), (("\N{SNOWMAN}", b"\xff\xfe"), ("", None)), (("x", b""),) * 3)
# Beyond the limit on decoding: what examples of the largest stamps and longest histories take, many times over.
SLACK_S = 1.0


@dataclass
class Account:
    """What was judged: outcomes by status and reason, and everything that should not have been, as (name, what)."""

    outcomes: Counter = field(default_factory=Counter)
    failures: list = field(default_factory=list)
    sane: int = 0
    whole: int = 0
    slowest_s: float = 0.0
    slowest: str = ""

    def add(self, other):
        """Take in another's."""
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.sane, self.whole = self.sane + other.sane, self.whole + other.whole
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest = other.slowest_s, other.slowest


class _Table(list):
    """Stands in for the networks' scores: each a number made of its example."""


def stand_in(examples):
    """A table of scores of examples; raises where one is not what the networks are promised."""
    for example in examples:
        for array in (example.image, example.light_curve, example.context):
            assert array.dtype == np.float32 and np.isfinite(array).all()
    return _Table(scores(float(mark(example))) for example in examples)


def mark(example):
    """A number that stands for an example to the bit."""
    return zlib.crc32(example.context.tobytes(), zlib.crc32(example.light_curve.tobytes(), zlib.crc32(example.image.tobytes())))


@cache
def _pipeline(survey, with_filter):
    spec = ExampleSpec.from_card(alert_card(survey))
    filters = FilterSet([parse_filter(FILTER.format(survey=survey), "any.yaml")] if with_filter else [])
    return Pipeline(survey, Schemas(), filters, lambda a, c: build_examples(a, spec, c), stand_in, BUNDLE)


@cache
def _scorer(survey):
    from simulated import scorer

    return scorer(survey, schemas=Schemas())


@cache
def _our_schemas():
    return made.Schemas(**{f"id{number}": load_schema(name) for number, name in enumerate(FORMS)})


@cache
def _publisher(survey):
    topics = {kind: kind for kind in (SCORES, CANDIDATES, DEAD_LETTERS)}
    forms = {kind: ConfluentForm(load_schema(name), FORMS.index(name)) for kind, name in zip(topics, FORMS)}
    return Publisher(topics, forms, Provenance(survey, "untrained", BUNDLE), "all", None, "nowhere", 1 << 30)


@cache
def _sane(survey):
    return next(s.value for s in seeds() if s.survey == survey and s.record)


@cache
def _sane_alone(survey, whole, with_filter):
    return run(survey, [Message(_sane(survey))], whole, with_filter)[0]


def run(survey, messages, whole, with_filter):
    """Outcomes of messages: of the whole scorer, or of the pipeline with its stand-in, which keeps companions or filters."""
    if whole:
        return _scorer(survey).score(messages)
    pipeline = _pipeline(survey, with_filter)
    pipeline.companions = None if with_filter else CompanionDesk(open_store("memory"))  # a new store: none knows the last batch
    return pipeline.outcomes(messages)


def judge(survey, named, rng, whole=False):
    """An `Account` of packets of one survey, judged as one batch with a sane one among them.

    Parameters
    ----------
    survey : "ztf" or "lsst"
    named : list of (name, value)
    rng : random.Random
        For keys, headers, the sane one's place, and whether pre-cuts are asked.
    whole : bool
        Through the whole scorer.
    """
    account, with_filter = Account(whole=len(named) if whole else 0), rng.random() < 0.5
    place = rng.randrange(len(named) + 1)
    keys = [rng.choice(KEYS) if rng.random() < 0.1 else None for _ in named]
    messages = [
        Message(value, "alerts", 0, n, key, 1_700_000_000_000, rng.choice(HEADERS))
        for n, ((_, value), key) in enumerate(zip(named, keys))
    ]
    messages.insert(place, Message(_sane(survey), "alerts", 1, 0))
    expected = _sane_alone(survey, whole, with_filter)
    start = time.thread_time()
    try:
        outcomes = run(survey, messages, whole, with_filter)
    except Exception:  # noqa: BLE001 - whatever leaves the pipeline is what is looked for
        account.failures.append((f"a batch of {named[0][0]} to {named[-1][0]}", traceback.format_exc()))
        return account
    spent = time.thread_time() - start
    if spent > account.slowest_s:
        account.slowest_s, account.slowest = spent, f"batch of {named[0][0]}"
    if len(outcomes) != len(messages):
        account.failures.append((named[0][0], f"{len(outcomes)} outcomes of {len(messages)} messages"))
        return account
    sane = outcomes.pop(place)
    account.sane += 1
    if not equal(sane, expected):
        account.failures.append((f"a batch of {named[0][0]}", f"the sane packet has {sane}, alone {expected}"))
    messages.pop(place)
    for (name, _), message, outcome in zip(named, messages, outcomes):
        account.outcomes[outcome.status, outcome.reason] += 1
        problem = wrong_with(survey, message, outcome)
        if problem:
            account.failures.append((name, problem))
    if spent > 0.5:
        _find_slow(survey, named, messages, whole, with_filter, account)
    return account


def _find_slow(survey, named, messages, whole, with_filter, account):
    for (name, _), message in zip(named, messages):
        start = time.thread_time()
        run(survey, [message], whole, with_filter)
        spent = time.thread_time() - start
        if spent > DEFAULT.seconds + SLACK_S:
            account.failures.append((name, f"{spent:.2f} s of CPU"))


def equal(one, other):
    """Whether two outcomes of one packet are the same: log-odds to 1e-4 (property 2 of the design), all else to the bit."""
    if (one.status, one.reason, one.alert_id, one.completeness, one.cuts, one.message_id) != (
        other.status, other.reason, other.alert_id, other.completeness, other.cuts, other.message_id,
    ):  # fmt: skip
        return False
    if one.scores is None:
        return other.scores is None
    return abs(one.scores.log_odds - other.scores.log_odds) < 1e-4 and abs(one.scores.p_lsn - other.scores.p_lsn) < 1e-6


def wrong_with(survey, message, outcome):
    """What is wrong with an outcome and what is published of it, in words; None where nothing is."""
    if outcome.message is not message:
        return "the outcome is another message's"
    if outcome.status not in STATUSES or (outcome.reason is None) != (outcome.status == "scored"):
        return f"status {outcome.status!r} with reason {outcome.reason!r}"
    if outcome.status != "scored" and (not REASON.fullmatch(outcome.reason) or not outcome.error):
        return f"reason {outcome.reason!r}, text {outcome.error!r}"
    if outcome.reason == "unexpected":
        return f"nobody foresaw it: {outcome.traceback}"
    if outcome.error and len(outcome.error) > 1000:
        return f"a text of {len(outcome.error)} characters: {outcome.error[:200]}"
    try:
        outputs = _publisher(survey).outputs(outcome)
        records = [read_record(one.value, _our_schemas()) for one in outputs]
    except Exception:  # noqa: BLE001
        return f"{outcome.status} ({outcome.reason}) cannot be published: {traceback.format_exc()}"
    if outcome.status == "dead_lettered":
        kept = [(r["value"], r["key"], r["reason"]) for r in records]
        return None if kept == [(message.value, message.key, outcome.reason)] else f"dead letter of other content: {kept}"
    if not records or any(r["alert_id"] != outcome.alert_id or r["object_id"] != outcome.object_id for r in records):
        return f"{len(records)} records for {outcome.status} alert {outcome.alert_id}"
    return None
