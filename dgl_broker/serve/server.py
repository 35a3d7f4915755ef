"""The service as a process: its parts made from the settings, run until it is told to stop, closed in order."""

import asyncio
import contextlib
import logging
import socket
import threading

import uvicorn

from dgl_broker.errors import DglError, StateError
from dgl_broker.serve.app import make_app
from dgl_broker.serve.desk import Desk
from dgl_broker.serve.follower import Follower
from dgl_broker.serve.packets import SteadySchemas
from dgl_broker.serve.serve_metrics import ServeMetrics
from dgl_broker.serve.store import ScoreStore
from dgl_broker.wire import schema_source

log = logging.getLogger(__name__)
REGISTRY_TIMEOUT_S, REGISTRY_RETRIES = 5.0, 1  # someone waits for an answer
KEEP_ALIVE_S = 30


def _schemas(place, user, password):
    options = {"timeout_s": REGISTRY_TIMEOUT_S, "retries": REGISTRY_RETRIES} if str(place).startswith("http") else {}
    return schema_source(place, user, password.get_secret_value() if password else None, **options)


def make_scorers(settings):
    """survey -> `Scorer` of each survey that is scored."""
    if not settings.scored_surveys:
        return {}
    from dgl_broker.scorer import Scorer

    scorers = {}
    for survey in settings.scored_surveys:
        chosen = getattr(settings.surveys, survey)
        schemas = _schemas(chosen.schemas, chosen.schemas_user, chosen.schemas_password)
        if schemas is not None:
            schemas = SteadySchemas(schemas)
            schemas.check()
        scorers[survey] = scorer = Scorer(
            survey=survey,
            bundle=chosen.bundle,
            device=settings.device,
            filters=settings.filters_of(survey),
            schemas=schemas,
            prevalence=settings.prevalence,
            batch_size=settings.batch.max_alerts,
            ungated=chosen.ungated,
            programids=chosen.programids if survey == "ztf" else None,
        )
        trained = scorer.is_trained
        log.log(logging.INFO if trained else logging.WARNING, "%s: bundle %s%s on %s", survey, scorer.bundle_id,
                "" if trained else ", whose weights are UNTRAINED: its scores mean nothing,", scorer.device_name)  # fmt: skip
    return scorers


class Service:
    """The service of these settings.

    Parameters
    ----------
    settings : ServeSettings
    stop : Stop
    scorers : dict, optional
        survey -> Scorer; made from the settings where not given.

    Attributes
    ----------
    port : int or None
        The port once it listens.
    failure : Exception or None
        What ended it.
    """

    def __init__(self, settings, stop, scorers=None):
        self.settings, self.stop = settings, stop
        self.port = self.failure = None
        self._given_scorers = scorers
        self._listening = threading.Event()

    def run(self):
        """Serve until `stop` says so; what is in hand then is answered.

        Raises
        ------
        DglError
            If a part cannot be made, or failed while serving.
        """
        settings, metrics = self.settings, ServeMetrics()
        with contextlib.ExitStack() as closing:
            store = follower = desk = None
            if settings.store is not None:
                store = ScoreStore(settings.store.path, settings.store.max_bytes, settings.store.keep_days)
                closing.callback(store.close)
                kept = settings.store
                schemas = _schemas(kept.registry, kept.registry_user, kept.registry_password)
                follower = Follower(store, settings.kafka, kept.topics, schemas, self._failed)
                closing.callback(follower.close)
                follower.start()
            scorers = make_scorers(settings) if self._given_scorers is None else self._given_scorers
            if scorers:
                batch, limits = settings.batch, settings.limits
                desk = Desk(scorers, batch.max_alerts, batch.max_wait_s, limits.queue_packets, metrics.batch, self._failed)
                closing.callback(desk.close)
            metrics.desk, metrics.store, metrics.follower = desk, store, follower
            app = make_app(settings, desk, metrics, lambda: self._conditions(desk, follower), store, follower)
            asyncio.run(self._serve(app))
        if isinstance(self.failure, DglError):
            raise self.failure
        if self.failure is not None:
            raise RuntimeError("the service failed") from self.failure

    def wait_listening(self, timeout_s=30.0):
        """Until it listens; whether it does."""
        return self._listening.wait(timeout_s)

    def _failed(self, error):
        self.failure = error
        self.stop.ask()

    def _conditions(self, desk, follower):
        return {
            "serving": not self.stop(),
            "scoring": desk is None or desk.failed is None,
            # Behind is told in each answer; that it never was told anything is not ready.
            "store": follower is None or follower.state()["behind_s"] is not None,
        }

    async def _serve(self, app):
        settings = self.settings
        tls = {} if settings.tls is None else {"ssl_certfile": settings.tls.certificate, "ssl_keyfile": settings.tls.key}
        try:
            config = uvicorn.Config(
                app,
                settings.host,
                settings.port,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                limit_concurrency=settings.limits.connections,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(settings.limits.answer_s) + 1,
                **tls,
            )
            config.load()
        except OSError as error:
            raise StateError(f"tls: {error}") from error
        theirs, ours = logging.getLogger("uvicorn"), logging.getLogger("dgl_broker")
        theirs.handlers, theirs.propagate = ours.handlers, ours.propagate  # where no secret passes
        theirs.setLevel(logging.WARNING)
        server = _Server(config)
        with self._bound(config) as listener:
            self.port = listener.getsockname()[1]
            log.info("serving on %s://%s:%d", "https" if tls else "http", settings.host, self.port)
            watching = asyncio.create_task(self._watch(server))
            await server.serve(sockets=[listener])
            watching.cancel()

    @contextlib.contextmanager
    def _bound(self, config):
        family = socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET
        # Named as TCP, since asyncio sends without Nagle's delay only then: 40 ms an answer otherwise.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.settings.host, self.settings.port))
        except OSError as error:
            listener.close()
            raise StateError(f"{self.settings.host}:{self.settings.port}: {error.strerror}") from error
        with listener:
            yield listener

    async def _watch(self, server):
        """Tells who waits once it serves, and the server once it is to stop."""
        while not server.started:
            await asyncio.sleep(0.01)
        self._listening.set()
        while not self.stop():
            await asyncio.sleep(0.05)
        server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves the signals to `Stop`, which every verb has."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield
