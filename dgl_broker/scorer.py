"""Bytes in, outcomes out: the whole program without Kafka.

The stream, the replay, Spark and other brokers' plugins are thin shells around `Scorer`. It keeps nothing between messages
but the companions, where a store is given.
"""

import copy
from dataclasses import dataclass

import numpy as np

from dgl_broker import model, wire
from dgl_broker.alert import Message
from dgl_broker.companion_desk import CompanionDesk
from dgl_broker.companions import open_store
from dgl_broker.errors import ConfigError
from dgl_broker.example import ExampleSpec, build_examples, stack
from dgl_broker.paper_example import PaperSpec, batch_from_arrays, build_paper_examples
from dgl_broker.pipeline import Pipeline
from dgl_broker.selection import FilterSet, load_filter

BATCH = 256  # alerts; where the networks reach their speed on a CPU


@dataclass(frozen=True)
class ArrayScores:
    """Scores of arrays: `table` of the usable samples, `rows` their numbers, `usable` of shape (N,)."""

    table: object
    rows: np.ndarray
    usable: np.ndarray

    def __len__(self):
        return len(self.usable)

    def column(self, name):
        """One score for all N samples, NaN where a sample is constant or not finite."""
        out = np.full(len(self.usable), np.nan)
        out[self.rows] = self.table.column(name)
        return out


class Scorer:
    """Alerts to outcomes.

    Parameters
    ----------
    survey : "lsst", "ztf" or None
        Whose packets come; not needed for paper bundles scored by `score_arrays`.
    bundle : str or Path
        "default" (the survey's own), the id of a shipped bundle, or a folder.
    device : "cpu", "cuda", "cuda:N" or "auto"
        Asked for a GPU that is not there it raises DeviceUnavailable.
    filters : list of path, name or Filter
        Empty: everything scorable is scored, and nothing is a candidate.
    schemas : folder, URL or dgl_broker.wire.SchemaSource
        Writer schemas of Confluent-framed packets.
    companions : None, "memory" or a store
    prevalence : float
        Declared share of lensed supernovae in the stream, for `posterior`.
    ungated : bool
        Score also what the filters' pre-cuts would refuse, and record each cut.
    limits : dgl_broker.wire.Limits, optional
        How large a message may be and how long it may take.
    programids : list of int, optional
        ZTF programmes whose alerts may be published; others are refused.
    shadow : str, Path or Bundle, optional
        Another bundle that scores beside, on the same device, and judges nothing.

    Raises
    ------
    ConfigError, InputUnavailable, DeviceUnavailable, StateError
    """

    def __init__(
        self,
        survey=None,
        bundle="default",
        device="cpu",
        filters=(),
        schemas=None,
        companions=None,
        prevalence=1e-6,
        ungated=False,
        batch_size=BATCH,
        limits=None,
        programids=None,
        remember=None,
        precision=None,
        shadow=None,
    ):
        self.survey = survey
        self.bundle = bundle if isinstance(bundle, model.Bundle) else model.load_bundle(bundle, survey=survey)
        card = self.bundle.card
        if survey and card.get("survey") not in (None, survey):
            raise ConfigError(f"bundle {card['id']} is for {card['survey']}, the alerts are of {survey}")
        self.ensemble = model.Ensemble(self.bundle, device=device, prevalence=prevalence, precision=precision)
        self.batch_size = int(batch_size)
        if card["kind"] == "alert":
            self.spec = ExampleSpec.from_card(card)
            build = build_examples
        else:
            self.spec = PaperSpec.from_card(card)
            build = build_paper_examples
        self.filters = filters if isinstance(filters, FilterSet) else FilterSet([load_filter(f) for f in filters])
        self.filters.check_bundle(self.bundle_sha256)
        self.filters.check_survey(survey)
        limits = limits or wire.DEFAULT
        if companions is not None:
            store = open_store(companions) if isinstance(companions, str) else companions
            companions = CompanionDesk(store, remember, limits.stamp_bytes)
        self._pipeline = Pipeline(
            survey,
            schemas if hasattr(schemas, "writer_schema") else wire.schema_source(schemas),
            self.filters,
            lambda alerts, found: build(alerts, self.spec, found, limits.stamp_bytes),
            self._score_examples,
            self.bundle_sha256,
            companions,
            ungated,
            limits,
            programids,
            shadow=self._make_shadow(shadow, device, prevalence, precision, limits),
        )

    def _make_shadow(self, bundle, device, prevalence, precision, limits):
        if bundle is None:
            return None
        from dgl_broker.shadow import Shadow

        return Shadow(bundle, self.survey, self.spec, self.bundle_sha256, device, prevalence, precision, limits.stamp_bytes)

    @property
    def shadow(self):
        """The bundle that scores beside, as `dgl_broker.shadow.Shadow`, or None."""
        return self._pipeline.shadow

    @property
    def bundle_id(self):
        """Id on the bundle's card."""
        return self.bundle.card["id"]

    @property
    def bundle_sha256(self):
        """Hash of weights, SVM, fusion and card."""
        return self.bundle.sha256

    @property
    def schemas(self):
        """Source of the writer's schemas of framed packets; None where none was given."""
        return self._pipeline.schemas

    @property
    def device_name(self):
        """The device that the scores come from."""
        return self.ensemble.device_name

    @property
    def is_trained(self):
        """Whether the bundle's weights were trained at all."""
        return bool(self.bundle.card.get("trained", True))

    @property
    def stages(self):
        """Seconds spent in each stage of the pipeline since the start."""
        return dict(self._pipeline.stages.seconds)

    @property
    def companion_counters(self):
        """Counters of the companion store; empty without one."""
        return dict(self._pipeline.companions.store.counters) if self._pipeline.companions else {}

    def score(self, messages):
        """One `Outcome` per message, in the same order; a bad message never raises.

        Parameters
        ----------
        messages : sequence of bytes or Message
            None stands for a message without a value (a tombstone of Kafka) and is a dead letter like other garbage.

        Raises
        ------
        ServiceFailed, StateError, RuntimeError
            Where not a message but the registry, the device or the disk failed.
        """
        messages = [m if isinstance(m, Message) else Message(b"" if m is None else bytes(memoryview(m))) for m in messages]
        outcomes = []
        for start in range(0, len(messages), self.batch_size):
            outcomes += self._pipeline.outcomes(messages[start : start + self.batch_size])
        return outcomes

    def refuse(self, messages, reason, text):
        """Outcomes of messages that are not to be scored: refused for `reason`, or dead letters where they cannot be read.

        Parameters
        ----------
        messages : sequence of Message
        reason : str
        text : str
            Why, for people; the alert's name is put before it.
        """
        return self._pipeline.refused(messages, reason, text)

    def when(self, message):
        """(MJD TAI, alert id) of a message, by which alerts are put in order of time; what cannot be read comes last."""
        return self._pipeline.when(message)

    def head(self, message):
        """What a message's leading fields say (`surveys.AlertHead`, or the whole `Alert`), or None where it cannot be read."""
        return self._pipeline.head(message)

    def build_examples(self, alerts, companions):
        """Examples as they are scored, or NotScorable with the reason.

        Parameters
        ----------
        alerts : list of Alert
        companions : list of dict
            Per alert {band: Companion}.
        """
        return self._pipeline.build(alerts, companions)

    def recall(self, messages):
        """Remember the companions that these messages leave, without scoring them: they were scored by an earlier process.

        In batches as they were scored then, so that the store is as it was.
        """
        for start in range(0, len(messages), self.batch_size):
            self._pipeline.recall(messages[start : start + self.batch_size])

    def with_filters(self, filters):
        """The same scorer under other filters: bundle, device and companions are shared.

        Raises
        ------
        ConfigError, GuardRefused
            As the constructor.
        """
        other = copy.copy(self)
        other.filters = filters if isinstance(filters, FilterSet) else FilterSet([load_filter(f) for f in filters])
        other.filters.check_bundle(self.bundle_sha256)
        other.filters.check_survey(self.survey)
        other._pipeline = self._pipeline.with_filters(other.filters)
        return other

    def score_arrays(self, images, light_curves):
        """Scores of arrays as the paper's networks take them: paper bundles.

        Parameters
        ----------
        images : array, shape (N, 4, 45, 45), float32
            Mean griz images.
        light_curves : array, shape (N, T, 4), float32
            T of the bundle's card. Both are scaled jointly per sample here.

        Returns
        -------
        ArrayScores
        """
        if self.bundle.card["kind"] != "paper":
            raise ConfigError(f"bundle {self.bundle_id} scores alerts, not arrays; a paper bundle does")
        batch, usable = batch_from_arrays(images, light_curves, self.bundle.card)
        rows = np.flatnonzero(usable)
        kept = type(batch)(batch.images[rows], batch.light_curves[rows], batch.contexts[rows])
        return ArrayScores(self.ensemble.score(kept, [{} for _ in rows]), rows, usable)

    def _score_examples(self, examples):
        return self.ensemble.score(stack(examples), [e.completeness.strata for e in examples])
