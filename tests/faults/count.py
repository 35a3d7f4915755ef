"""What became of each input: lost, there twice, or with another score than a calm run gives it."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass

from kafka import flow

from dgl_broker.stream.batch import as_message

PLACE = re.compile(r"(.+)\[(\d+)\]\Z")
TOLERANCE = 1e-4  # of log-odds: what company in a batch may change (docs/design.md, 2)


@dataclass
class Count:
    """Inputs, and what their outcomes under read_committed come to.

    `lost` have no outcome, or passed a filter and are no candidate; `twice` are outcomes and candidates beyond the one of each
    input; `differ` are outcomes that are not those of the calm run. `extra_ids` are message ids beyond one an input, which
    readers could not de-duplicate by.
    """

    inputs: int = 0
    lost: int = 0
    twice: int = 0
    differ: int = 0
    extra_ids: int = 0

    def __add__(self, other):
        return Count(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def read_inputs(servers, topics):
    """(topic, partition, offset) -> Message of all that is in these topics."""
    messages = [as_message(m) for topic in topics for m in flow.read_topic(servers, topic)]
    return {(m.topic, m.partition, m.offset): m for m in messages}


def count(servers, outputs, expected, calm=None):
    """`Count` of all outputs there are.

    Parameters
    ----------
    servers : str
    outputs : dict
        "scores", "candidates", "dead_letters" -> topic. Refusals must be published.
    expected : dict
        (topic, partition, offset) of an input -> its Outcome in a calm run.
    calm : callable, optional
        (place, record) -> the Outcome that a calm run with this record's companions gives, where these may differ.
    """
    calm = calm or (lambda place, _record: expected[place])
    out, found, candidates, ids = Count(inputs=len(expected)), Counter(), Counter(), defaultdict(set)
    for _, record in _records(servers, outputs["scores"]):
        place = _place(record)
        found[place] += 1
        ids[place].add(record["message_id"])
        out.differ += place not in expected or _differs(record, calm(place, record))
    for _, record in _records(servers, outputs["dead_letters"]):
        place = (record["topic"], record["partition"], record["offset"])
        found[place] += 1
        ids[place].add(record["message_id"])
        one = expected.get(place)
        out.differ += one is None or one.status != "dead_lettered" or one.reason != record["reason"]
    for _, record in _records(servers, outputs["candidates"]):
        candidates[_place(record)] += 1
    passed = {place for place, outcome in expected.items() if any(v.passed for v in outcome.verdicts)}
    out.lost = len(set(expected) - set(found)) + len((passed & set(found)) - set(candidates))
    out.twice = sum(n - 1 for n in (*found.values(), *candidates.values()))
    out.differ += len(set(candidates) - passed)
    out.extra_ids = sum(len(one) - 1 for one in ids.values())
    return out


def _records(servers, topic):
    messages = flow.read_topic(servers, topic)
    return zip(messages, flow.containers(messages))


def _place(record):
    topic, partition = PLACE.match(record["source"]).groups()
    return topic, int(partition), record["source_row"]


def _differs(record, outcome):
    if (record["status"], record["reason"]) != (outcome.status, outcome.reason):
        return True
    if outcome.scores is None:
        return record["log_odds"] is not None
    if abs(record["log_odds"] - outcome.scores.log_odds) > TOLERANCE:
        return True
    return {v["filter"]: v["passed"] for v in record["verdicts"]} != {v.filter: v.passed for v in outcome.verdicts}
