"""The accounts of a run, and the closing summary in which they balance.

consumed = scored + refused + dead-lettered (of `rekey`: written in place of scored): asked before anything of a batch leaves.
`expired` stands apart: offsets that retention took before they were read, an upper bound on alerts.
"""

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dgl_broker.errors import DglError, StateError


class AccountsDoNotBalance(DglError):
    """An alert has no outcome, or two: a bug, and the process stops with the batch uncommitted."""


@dataclass(slots=True)
class Tally:
    """Counts of one batch, or their sum over a run. Injected alerts that pass are no candidates, and counted apart."""

    consumed: int = 0
    scored: int = 0
    written: int = 0
    refused: int = 0
    dead_lettered: int = 0
    candidates: int = 0
    injected_passed: int = 0
    refused_by_reason: Counter = field(default_factory=Counter)
    dead_lettered_by_reason: Counter = field(default_factory=Counter)
    candidates_by_filter: Counter = field(default_factory=Counter)
    published: Counter = field(default_factory=Counter)

    def check(self):
        """Raises AccountsDoNotBalance if they do not."""
        outcomes = self.scored + self.written + self.refused + self.dead_lettered
        if self.consumed != outcomes:
            raise AccountsDoNotBalance(f"consumed {self.consumed}, but {outcomes} outcomes: {self}")

    def add(self, other):
        """Add another tally to this one."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def as_dict(self):
        """As JSON takes it."""
        return {name: dict(v) if isinstance(v := getattr(self, name), Counter) else v for name in self.__slots__}

    @classmethod
    def from_dict(cls, values):
        """What `as_dict` gave."""
        return cls(**{name: Counter(v) if isinstance(v, dict) else v for name, v in values.items()})


def tally(consumed, outcomes, outputs=()):
    """Tally of one batch of `consumed` messages.

    Raises
    ------
    AccountsDoNotBalance
        If there is not exactly one outcome a message, each of a known kind.
    """
    out = Tally(consumed=consumed)
    for outcome in outcomes:
        if outcome.status == "scored":
            out.scored += 1
            passed = [v.filter for v in outcome.verdicts if v.passed]
            if outcome.is_injected:
                out.injected_passed += bool(passed)
            else:
                out.candidates += bool(passed)
                out.candidates_by_filter.update(passed)
        elif outcome.status == "written":
            out.written += 1
        elif outcome.status == "refused":
            out.refused += 1
            out.refused_by_reason[outcome.reason] += 1
        elif outcome.status == "dead_lettered":
            out.dead_lettered += 1
            out.dead_lettered_by_reason[outcome.reason] += 1
    out.published.update(output.topic for output in outputs)
    out.check()
    return out


class Accounts:
    """Sum of the delivered batches of a run.

    Parameters
    ----------
    done : "scored" or "written"
        What becomes of an alert that is neither refused nor dead-lettered.
    """

    def __init__(self, done="scored"):
        self.done = done
        self.total = Tally()
        self.batches = 0
        self.expired = 0
        self.withheld = 0
        self.began = time.time()

    def start(self):
        """Count seconds from now: the bundle is loaded."""
        self.began = time.time()

    @property
    def consumed(self):
        """Messages whose outcomes are out."""
        return self.total.consumed

    def settle(self, one):
        """Take in a delivered batch."""
        self.total.add(one)
        self.batches += 1
        self.total.check()

    def as_dict(self, **more):
        """What `summary.json` holds; `more` goes in at the end."""
        t = self.total
        seconds = time.time() - self.began
        out = {
            "consumed": t.consumed,
            self.done: getattr(t, self.done),
            "refused": t.refused,
            "dead_lettered": t.dead_lettered,
            "expired": self.expired,
            "candidates": t.candidates,
            "injected_passed": t.injected_passed,
            "refused_by_reason": dict(t.refused_by_reason.most_common()),
            "dead_lettered_by_reason": dict(t.dead_lettered_by_reason.most_common()),
            "candidates_by_filter": dict(t.candidates_by_filter.most_common()),
            "published": dict(sorted(t.published.items())),
            "withheld": self.withheld,
            "batches": self.batches,
            "seconds": round(seconds, 3),
            "alerts_per_s": round(t.consumed / seconds, 3) if seconds > 0 else None,
            **more,
        }
        if self.done != "scored":  # nothing is judged
            del out["candidates"], out["candidates_by_filter"], out["injected_passed"]
        return out


def summary_text(summary):
    """The closing summary for people, of the dict that `Accounts.as_dict` gives."""
    done = "scored" if "scored" in summary else "written"
    candidates = f"candidates {summary['candidates']}, " if "candidates" in summary else ""
    lines = [
        f"consumed {summary['consumed']} = {done} {summary[done]} + refused {summary['refused']}"
        f" + dead-lettered {summary['dead_lettered']}",
        f"{candidates}expired before they were read {summary['expired']}"
        f", {summary['seconds']:.1f} s, {summary['alerts_per_s'] or 0:.1f} alerts/s",
    ]
    for name, title in (
        ("refused_by_reason", "refused"),
        ("dead_lettered_by_reason", "dead-lettered"),
        ("candidates_by_filter", "candidates"),
        ("published", "published"),
    ):
        if summary.get(name):
            lines.append(f"{title}: " + ", ".join(f"{reason} {count}" for reason, count in summary[name].items()))
    if summary.get("injected_passed"):
        lines.append(f"injected alerts that pass, no candidates: {summary['injected_passed']}")
    if summary.get("withheld"):
        lines.append(f"withheld from publication, of a programme that is not configured: {summary['withheld']}")
    if summary.get("workers"):
        died = ", ".join(f"{cause} {count}" for cause, count in summary["worker_restarts"].items())
        lines.append(f"workers: {summary['workers']}" + (f", started anew after {died}" if died else ""))
    if summary.get("in_doubt"):
        lines.append(f"not counted, since nobody could say whether they left before their worker died: {summary['in_doubt']}")
    if summary.get("ended"):
        lines.append(f"ended: {summary['ended']}")
    return "\n".join(lines)


def write_summary(summary, path):
    """Write `summary` to `path`, whole or not at all.

    Raises
    ------
    StateError
        If it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(summary, indent=2) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise StateError(f"{path}: the summary cannot be written: {error.strerror}") from error
