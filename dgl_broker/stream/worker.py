"""One process of the streaming filter: the parts made from the settings, run, and closed in order."""

import contextlib
import logging
from functools import partial

from dgl_broker import __version__
from dgl_broker.observe import Watch
from dgl_broker.observe.drift import read_reference
from dgl_broker.observe.health import serve
from dgl_broker.outputs.avro import make_form
from dgl_broker.outputs.publish import CANDIDATES, DEAD_LETTERS, SCORES, Provenance, Publisher
from dgl_broker.settings import parse_start
from dgl_broker.stream.begun import begun_topics
from dgl_broker.stream.clients import make_producer
from dgl_broker.stream.delivery import AtLeastOnce, DryRun, ExactlyOnce, transactional_id
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.limits import largest_message
from dgl_broker.stream.run_loop import Rules, RunLoop
from dgl_broker.stream.sink import Sink
from dgl_broker.stream.source import Source
from dgl_broker.stream.topics import Subscription

log = logging.getLogger(__name__)
MAX_POLL_INTERVAL_MS = 300_000  # librdkafka's: a member that does not poll for so long is thrown out


def make_scorer(settings, schemas):
    """The `Scorer` that the settings ask for."""
    from dgl_broker.companions import open_store
    from dgl_broker.scorer import Scorer
    from dgl_broker.selection import predicate

    companions, remember = None, None
    if settings.companions.store != "none":
        chosen = settings.companions
        companions = open_store(chosen.store, url=chosen.url, expire_days=chosen.expire_days)
        remember = predicate(chosen.remember, "companions.remember") if chosen.remember else None
    return Scorer(
        survey=settings.survey,
        bundle=settings.bundle,
        device=settings.device,
        filters=settings.filters_in_force,
        schemas=schemas,
        companions=companions,
        remember=remember,
        prevalence=settings.prevalence,
        batch_size=settings.batch.max_alerts,
        programids=None if settings.published_programids is None else sorted(settings.published_programids),
        limits=settings.packet_limits,
        shadow=settings.shadow_bundle,
    )


class Worker:
    """The filter of one process.

    Parameters
    ----------
    settings : Settings
    stop : Stop
    progress : callable, optional
        As `Watch` takes it.
    scorer : Scorer, optional
        Made from the settings where not given.
    keeper : callable, optional
        (source of schemas) -> an object with `take(outcomes)` and `close()`, which is handed the outcomes of every delivered
        batch, as `dgl_broker.archive.keep.Keeper`.
    watch : Watch, optional
        In place of one of its own.
    """

    def __init__(self, settings, stop, progress=None, scorer=None, keeper=None, watch=None):
        self.settings = settings
        self.stop = stop
        self.watch = watch or Watch(progress)
        self.ended = "before it began"
        self._given_scorer = scorer
        self._make_keeper = keeper
        self._shadow_problem = None

    def run(self, until_eof=False, max_alerts=None, dry_run=False, at_start=None):
        """Until the end that was asked for, or until `stop` says so.

        Parameters
        ----------
        until_eof : bool or Ends
        max_alerts : int, optional
        dry_run : bool
        at_start : collection of str, optional
            As `Subscription` takes it.

        Raises
        ------
        DglError
            As the part that failed says; everything delivered before is committed.
        """
        settings, watch = self.settings, self.watch
        failures = Failures(settings.service.max_failures, self.stop, watch.failed)
        self.ended = "by a failure"
        with contextlib.ExitStack() as closing:
            if settings.metrics.port is not None:
                server = serve(watch.health, watch.metrics, settings.metrics.host, settings.metrics.port)
                closing.callback(server.server_close)
                closing.callback(server.shutdown)
            schemas, scorer = self._scorer()
            closing.callback(_close, scorer)
            publisher = self._publisher(scorer, schemas)
            keeper = self._make_keeper(schemas) if self._make_keeper else None
            if keeper is not None:
                closing.callback(keeper.close)
            source = self._source(failures, until_eof, not dry_run, at_start)
            closing.callback(source.close)
            source.open()
            delivery = self._delivery(source, publisher, failures, dry_run)
            loop = RunLoop(
                source,
                scorer,
                publisher,
                delivery,
                watch,
                self._rules(max_alerts),
                self.stop,
                between=lambda: self._between(scorer, publisher),
                after=keeper.take if keeper is not None else None,
            )
            watch.accounts.start()
            loop.run()
            watch.take_scorer(scorer, publisher)
        self.ended = "by a signal" if self.stop() else "all that was asked for is read"

    def summary(self):
        """What `summary.json` holds."""
        return self.watch.accounts.as_dict(ended=self.ended, **self.watch.info)

    def _open_schemas(self):
        """The source of the packets' schemas, that there is one; None where none is configured."""
        from dgl_broker.wire import schema_source

        read, service = self.settings.input, self.settings.service
        password = read.schemas_password.get_secret_value() if read.schemas_password else None
        options = {"timeout_s": service.timeout_s} if str(read.schemas).startswith("http") else {}
        schemas = schema_source(read.schemas, read.schemas_user, password, **options)
        if schemas is not None:
            schemas.check()
        self.watch.health.set("schemas", True)
        return schemas

    def _scorer(self):
        schemas = self._open_schemas()
        scorer = self._given_scorer or make_scorer(self.settings, schemas)
        self.watch.health.set("bundle", True)
        m, s = self.watch.metrics, self.settings
        m.set_info("dgl_bundle_info", str(scorer.bundle_id), str(scorer.bundle_sha256))
        m.set_info("dgl_device_info", str(scorer.device_name))
        m.set_info("dgl_run_info", s.survey, __version__, s.group_id, s.delivery)
        self._hold_against_reference(scorer)
        self.watch.info = {
            "survey": s.survey,
            "bundle_id": scorer.bundle_id,
            "bundle_sha256": scorer.bundle_sha256,
            "device": str(scorer.device_name),
        }
        trained = getattr(scorer, "is_trained", True)
        log.log(logging.INFO if trained else logging.WARNING, "bundle %s%s on %s", scorer.bundle_id,
                "" if trained else ", whose weights are UNTRAINED: its scores mean nothing,", scorer.device_name)  # fmt: skip
        if getattr(scorer, "shadow", None) is not None:
            beside = scorer.shadow.bundle
            log.info("shadow bundle %s (%s) scores beside and judges nothing", beside.id, beside.sha256[:8])
        self._report_status(scorer.filters)
        return schemas, scorer

    def _report_status(self, filters):
        """Say from now on which filters are in force."""
        if hasattr(filters, "report_status"):
            filters.report_status(self.settings.status)

    def _hold_against_reference(self, scorer):
        if self.settings.metrics.reference is None:
            return
        reference = read_reference(self.settings.metrics.reference)
        if not self.watch.hold_against(reference, scorer.bundle_sha256):
            text = "metrics.reference: scores of bundle %s, and %s runs: no drift is told"
            log.warning(text, reference.bundle_sha256, scorer.bundle_sha256)

    def _publisher(self, scorer, schemas):
        s = self.settings
        topics = {SCORES: s.scores_topic, CANDIDATES: s.candidates_topic, DEAD_LETTERS: s.dead_letters_topic}
        registry = None
        if s.output.registry:
            from dgl_broker.outputs.registry import OutputRegistry

            password = s.output.registry_password.get_secret_value() if s.output.registry_password else None
            registry = OutputRegistry(s.output.registry, s.output.registry_user, password, s.service.timeout_s)
        forms = {kind: make_form("dead_letter" if kind == DEAD_LETTERS else "score", topics[kind], registry) for kind in topics}
        desc = None
        if s.output.desc:
            from dgl_broker.outputs.desc import BrokerMessages

            d = s.output.desc
            desc = BrokerMessages(
                d.topic, d.schemas, schemas, d.broker_name, d.classifier_name, scorer.bundle_sha256, d.class_id
            )
        return Publisher(
            topics,
            forms,
            Provenance(s.survey, scorer.bundle_id, scorer.bundle_sha256, s.group_id),
            s.output.refused,
            s.published_programids,
            s.output.spill,
            largest_message(s.kafka, s.dead_letters_topic, s.service.timeout_s),
            desc,
        )

    def _source(self, failures, until_eof, member, at_start):
        s = self.settings
        begun = partial(begun_topics, s.kafka, s.group_id, s.service.timeout_s) if member else None
        return Source(
            s.kafka,
            s.group_id,
            Subscription(s.input.topics, s.input.nights, at_start=at_start, begun=begun),
            failures,
            parse_start(s.input.start),
            until_eof,
            member,
            s.service.timeout_s,
        )

    def _rules(self, stop_after):
        s = self.settings
        poll_s = int(s.kafka.get("max.poll.interval.ms", MAX_POLL_INTERVAL_MS)) / 1000.0
        return Rules(s.batch.max_alerts, s.batch.max_wait_s, s.overload.max_age_s, stop_after, poll_s / 2.0)

    def _delivery(self, source, publisher, failures, dry_run):
        s = self.settings
        if dry_run:
            return DryRun()
        if s.delivery == "exactly_once":
            producer = make_producer(s.kafka, transactional_id(s.kafka, s.group_id))
            return ExactlyOnce(source, Sink(producer, failures, publisher.smaller), failures, s.service.timeout_s)
        return AtLeastOnce(source, Sink(make_producer(s.kafka), failures, publisher.smaller))

    def _told_shadow(self, scorer):
        """Log what goes wrong with the bundle that scores beside; the same thing once."""
        shadow = getattr(scorer, "shadow", None)
        if shadow is not None and shadow.problem != self._shadow_problem:
            self._shadow_problem = shadow.problem
            log.warning("shadow bundle %s: %s", shadow.bundle.id, shadow.problem)

    def _between(self, scorer, publisher):
        if hasattr(scorer.filters, "refresh"):
            for change in scorer.filters.refresh():
                log.warning("%s", change) if change.refused else log.info("%s", change)
        self._told_shadow(scorer)
        self.watch.take_scorer(scorer, publisher)


def _close(scorer):
    if hasattr(scorer.filters, "close"):
        scorer.filters.close()
