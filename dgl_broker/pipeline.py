"""Messages -> outcomes, exactly one each, in order; no I/O but the companion store's.

The one broad `except` of the program is here, around the work on a single message: one odd packet must not stall a night.
What fails for a whole batch (the model, the device, the disk) is not caught: the process stops with the offset uncommitted.
"""

import copy
import math
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

from dgl_broker import surveys, wire
from dgl_broker.errors import DglError, NotScorable, PacketError
from dgl_broker.message_id import message_id
from dgl_broker.scores import Outcome

STAGES = ("decode", "companions", "example", "model", "judge")


@dataclass
class Stages:
    """Seconds spent in each stage, and messages seen, since the start."""

    seconds: Counter = field(default_factory=Counter)

    def add(self, stage, since):
        """Account the time since `since` to a stage; returns the time now."""
        now = time.perf_counter()
        self.seconds[stage] += now - since
        return now


class Pipeline:
    """The work of `Scorer`, its parts handed in.

    Parameters
    ----------
    survey : "ztf", "lsst" or None
        None takes whatever a packet says it is.
    schemas : dgl_broker.wire.SchemaSource or None
    filters : dgl_broker.selection.FilterSet
        Empty: everything scorable is scored.
    build : callable
        (alerts, companions) -> list of Example or NotScorable.
    score : callable
        (examples) -> dgl_broker.model.ScoreTable.
    bundle_sha256 : str
    companions : store or None
        As `dgl_broker.companions` makes them.
    ungated : bool
        Score what the pre-cuts would refuse; the cuts are recorded all the same.
    limits : dgl_broker.wire.Limits
    programids : collection of int, optional
        As `Scorer` takes them.
    keep : callable, optional
        (opened message, its packet) -> what `Read.kept` is to be, of alerts past the pre-cuts.
    shadow : dgl_broker.shadow.Shadow, optional
        Looks at what is past the pre-cuts when all is judged.
    """

    def __init__(
        self,
        survey,
        schemas,
        filters,
        build,
        score,
        bundle_sha256,
        companions=None,
        ungated=False,
        limits=None,
        programids=None,
        keep=None,
        shadow=None,
    ):
        self.survey = survey
        self.schemas = schemas
        self.filters = filters
        self.build = build
        self.score = score
        self.bundle_sha256 = bundle_sha256
        self.companions = companions
        self.ungated = ungated
        self.limits = limits or wire.DEFAULT
        self.programids = None if programids is None else frozenset(programids)
        self.keep = keep or (lambda opened, packet: None)
        self.shadow = shadow
        self.stages = Stages()

    def outcomes(self, messages):
        """One outcome per message, in order."""
        at = time.perf_counter()
        read = self.read(messages)
        results = [r if isinstance(r, Outcome) else None for r in read]
        kept = [n for n, r in enumerate(results) if r is None]
        at = self.stages.add("decode", at)
        if not kept:
            return results
        alerts = [read[n].alert for n in kept]
        companions = self._fetch(alerts)
        at = self.stages.add("companions", at)
        examples = self._build(read, kept, companions, results)
        at = self.stages.add("example", at)
        scored = [n for n in kept if results[n] is None]
        if scored:
            table = self.score([examples[n] for n in scored])
            found = dict(zip(kept, companions, strict=True))
            at = self.stages.add("model", at)
            for row, n in enumerate(scored):
                try:
                    scores = table[row]
                except NotScorable as refusal:  # the networks' output for this alert alone is not finite
                    results[n] = _refused(read[n], refusal.reason, f"{read[n].alert.name}: {refusal.detail}")
                    continue
                results[n] = self._judge(read[n], examples[n], scores, found[n])
        if self.companions is not None:
            # All that got so far, scored or not: a batch offers its earlier alerts before it knows what becomes of them.
            self.companions.remember(alerts)
        at = self.stages.add("judge", at)
        if self.shadow is not None:
            beside = self.shadow.look(alerts, companions, [examples.get(n) for n in kept])
            for n, one in zip(kept, beside, strict=True):
                results[n].shadow = one
            self.stages.add("shadow", at)
        return results

    def _guarded(self, work, message, *args):
        """What `work` gives for one message, any failure of it as that message's outcome."""
        try:
            return work(message, *args)
        except PacketError as error:
            return Outcome("dead_lettered", message, error.reason, f"{message.where()}: {error.detail}")
        except DglError:
            raise  # a registry, a device, a disk: not this message's fault
        except (MemoryError, OSError):
            raise
        except Exception as error:  # noqa: BLE001
            text = f"{message.where()}: {type(error).__name__}: {error}"
            return Outcome("dead_lettered", message, "unexpected", text, traceback.format_exc())

    def read(self, messages):
        """Each message as a `Read`, an alert past the pre-cuts; or as the outcome that it has already."""
        results = [self._guarded(self._open, message) for message in messages]
        opened = {n: one for n, one in enumerate(results) if not isinstance(one, Outcome)}
        try:
            alerts = surveys.read_alerts([one.packet for one in opened.values()])
        except (DglError, MemoryError, OSError):
            raise
        except Exception:  # noqa: BLE001 - one of them is odd: find it, and let the others through
            alerts = [self._guarded(self._read_one, one.message, one.packet) for one in opened.values()]
        for (n, one), alert in zip(opened.items(), alerts, strict=True):
            results[n] = alert if isinstance(alert, Outcome) else self._guarded(self._past_precuts, one.message, one, alert)
        return results

    def _read_one(self, message, packet):
        return surveys.read_alert(packet)

    def _open(self, message):
        """A message whose record is decoded, or its refusal by what its leading fields say."""
        opened = wire.open_message(message, self.survey, self.schemas, self.limits)
        known = None
        if len(self.filters) and not self.ungated:
            head = surveys.read_head(opened)
            if head is not None:
                known = frozenset(head.facts)
                refusal = self._refusal(message, head, self.filters.precut(head.facts, known=known))
                if refusal is not None:
                    return refusal
        return _Opened(message, opened, opened.packet(), known)

    def _past_precuts(self, message, opened, alert):
        """An alert that is worth an example, or its refusal; `alert` may be what was wrong with it."""
        if isinstance(alert, PacketError):
            raise alert
        late = self.filters.precut(alert.facts, final=True, known=opened.known) if len(self.filters) else None
        cuts = {} if late is None else late.cuts
        refusal = self._refusal(message, alert, None if self.ungated else late)
        if refusal is not None:
            refusal.cuts = cuts
            return refusal
        return Read(message, alert, cuts, self.keep(opened.opened, opened.packet))

    def refused(self, messages, reason, text):
        """Outcomes of messages that are refused whatever they hold; read only as far as their records need."""
        return [self._guarded(self._refused_unscored, message, reason, text) for message in messages]

    def _refused_unscored(self, message, reason, text):
        head = self._head(message)
        return Outcome("refused", message, reason, f"{head.name}: {text}", alert=head)

    def recall(self, messages):
        """Remember the companions of messages that were scored before; nothing is scored."""
        alerts = [one.alert for one in self.read(messages) if not isinstance(one, Outcome)]
        if self.companions is not None and alerts:
            self.companions.remember(alerts)

    def with_filters(self, filters):
        """The same pipeline under other filters."""
        other = copy.copy(self)
        other.filters = filters
        return other

    def when(self, message):
        """(MJD TAI, alert id) of a message by its leading fields; (inf, 0) where these cannot be read."""
        head = self.head(message)
        return (math.inf, 0) if head is None else (head.mjd_tai, head.alert_id)

    def head(self, message):
        """The `AlertHead` of a message, or its `Alert` where a history stands before the trigger; None if unreadable."""
        head = self._guarded(self._head, message)
        return None if isinstance(head, Outcome) else head

    def _head(self, message):
        opened = wire.open_message(message, self.survey, self.schemas, self.limits)
        return surveys.read_head(opened) or surveys.read_alert(opened.packet())

    def _refusal(self, message, alert, precut):
        """The refusal of an alert or its head, or None; asked twice, in the same order, so that the reason is the same."""
        if alert.is_solar_system:
            return Outcome("refused", message, "solar_system", f"{alert.name}: matched to a solar-system object", alert=alert)
        if self.programids is not None and alert.facts.get("programid") not in (None, *self.programids):
            text = f"{alert.name}: programid {alert.facts['programid']}, configured {sorted(self.programids)}"
            return Outcome("refused", message, "programid", text, alert=alert)
        if precut is not None and precut.refused:
            text = f"{alert.name}: {precut.text}"
            return Outcome("refused", message, precut.reason, text, alert=alert, cuts=precut.cuts)
        return None

    def _fetch(self, alerts):
        if self.companions is None:
            return [{} for _ in alerts]
        return self.companions.fetch(alerts)

    def _build(self, read, kept, companions, results):
        """Examples by message index; refusals and failures go into `results`."""
        alerts = [read[n].alert for n in kept]
        try:
            built = self.build(alerts, companions)
        except (DglError, MemoryError, OSError):
            raise
        except Exception:  # noqa: BLE001 - one of them is odd: find it, and let the others through
            built = [self._guarded(self._build_one, read[n].message, a, c) for n, a, c in zip(kept, alerts, companions)]
        examples = {}
        for n, example in zip(kept, built):
            if isinstance(example, NotScorable):
                results[n] = _refused(read[n], example.reason, example.detail)
            elif isinstance(example, Outcome):
                example.alert = read[n].alert
                results[n] = example
            else:
                examples[n] = example
        return examples

    def _build_one(self, message, alert, companions):
        return self.build([alert], [companions])[0]

    def _judge(self, read, example, scores, companions):
        verdicts = self.filters.judge(read.alert.facts, scores)
        ids = example.completeness.companion_alert_ids
        return Outcome(
            "scored",
            read.message,
            alert=read.alert,
            completeness=example.completeness,
            scores=scores,
            verdicts=verdicts,
            cuts=read.cuts,
            message_id=message_id(read.alert.survey, read.alert.alert_id, self.bundle_sha256, ids),
            companions=tuple(companions.values()) if ids else (),
        )


@dataclass(slots=True)
class _Opened:
    """A message whose record is decoded; `known` are the facts that its leading fields told of, if they were asked."""

    message: object
    opened: object
    packet: object
    known: frozenset | None


@dataclass(slots=True)
class Read:
    """An alert that was read whole and that no pre-cut refuses; `kept` is what `Pipeline.keep` made of it."""

    message: object
    alert: object
    cuts: dict
    kept: object = None


def _refused(read, reason, text):
    """The refusal of an alert that was read whole; what the pre-cuts said of it stays with it."""
    return Outcome("refused", read.message, reason, text, alert=read.alert, cuts=read.cuts)
