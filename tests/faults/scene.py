"""Where a fault happens: topics of its own, members of one group on them, and what became of each input."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from kafka import flow
from kafka.flow import PATIENCE_S

from dgl_broker.errors import ServiceFailed
from dgl_broker.settings_model import Settings
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.worker import Worker
from faults import cheap
from faults.count import count, read_inputs
from faults.timeline import Timeline

OUTPUTS = ("scores", "candidates", "dead_letters")
DELIVERIES = ("at_least_once", "exactly_once")
TESTS = Path(__file__).parents[1]
# A member that is silent so long is given up; the machine that tests run on may be busy, so not less.
SESSION_MS = 4000
# What a killed member left open hides later outputs for so long. No fault of its own ends a transaction before.
TRANSACTION_MS = 30_000


class Scene:
    """Topics, configuration and members of one try of a fault.

    Parameters
    ----------
    broker : kafka.broker.Topics
    name : str
        Of the group, and the beginning of the topics' names.
    folder : path
    delivery : str
    n_partitions : int
        Of each input topic.
    scorer : callable
        () -> scorer of a member in this process, and of the calm run.
    inputs : list of str, optional
        Topics that are read, where there is more than one.
    watched : int, optional
        Partitions of each that will be there, where some are added.
    limits : dict, optional
        Output ("scores", "candidates", "dead_letters") -> its `max.message.bytes`.
    raw : dict
        Settings over ours, section by section.
    """

    def __init__(
        self,
        broker,
        name,
        folder,
        delivery,
        n_partitions=4,
        scorer=cheap.CheapScorer,
        inputs=None,
        watched=None,
        limits=None,
        **raw,
    ):
        self.broker, self.servers, self.name = broker, broker.bootstrap_servers, name
        self.folder, self.delivery, self.n_partitions = Path(folder), delivery, n_partitions
        self.folder.mkdir(parents=True, exist_ok=True)
        self.make_scorer = scorer
        self.topics = {key: f"{name}.{key}" for key in OUTPUTS}
        self.inputs = inputs or [f"{name}.in"]
        self.fed, self.members, self.started_again = 0, [], 0
        settings = {
            "survey": "ztf",
            "filters": [],
            "delivery": delivery,
            "kafka": {
                "bootstrap.servers": self.servers,
                "group.id": name,
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": 500,
                "reconnect.backoff.max.ms": 500,
            },
            "input": {"topics": self.inputs},
            "output": self.topics | {"spill": str(self.folder / "spill"), "refused": "all"},
            "batch": {"max_alerts": 40, "max_wait_s": 0.1},
            "service": {"timeout_s": 10.0},
        }
        if delivery == "exactly_once":
            settings["kafka"] |= {"transaction.timeout.ms": TRANSACTION_MS, "delivery.timeout.ms": TRANSACTION_MS}
        for section, given in raw.items():
            old = settings.get(section, {})
            settings[section] = {**old, **given} if isinstance(given, dict) and isinstance(old, dict) else given
        self.config = self.folder / "broker.yaml"
        self.config.write_text(json.dumps(settings))  # JSON is YAML
        self.settings = Settings.model_validate(settings)
        for topic in self.inputs:
            broker.create_topic(topic, n_partitions)
        for key, topic in self.topics.items():
            broker.create_topic(topic, 2, **({"max_message_bytes": limits[key]} if limits and key in limits else {}))
        self.timeline = Timeline(self.servers, name, [(t, p) for t in self.inputs for p in range(watched or n_partitions)])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End what still runs."""
        for member in self.members:
            member.end()
        self.timeline.close()

    def feed(self, n, topic=None, values=None, **conf):
        """The next `n` messages into the input, of every kind in turn."""
        made = cheap.values(self.fed, n) if values is None else values
        flow.produce(self.servers, topic or self.inputs[0], made, self.n_partitions, **conf)
        self.fed += len(made)

    def start_thread(self, scorer=None):
        """A member in this process."""
        self.members.append(InProcess(self.settings, scorer or self.make_scorer()))
        return self.members[-1]

    def start_configured(self):
        """A member in this process with the scorer that the configuration asks for."""
        self.members.append(InProcess(self.settings, None))
        return self.members[-1]

    def start_process(self, *arguments, how=None, environ=None):
        """A member that is a process; `how` as `faults.member` takes it."""
        folder = self.folder / f"member{len(self.members)}"
        self.members.append(Process(folder, self.config, *arguments, how=how, environ=environ))
        return self.members[-1]

    def wait_until_read(self, seconds=PATIENCE_S):
        """Until the group has committed all that is in its input topics."""
        self.timeline.wait_for(sum(self.ends()), seconds, still=self.nobody_ended_unasked)

    def ends(self):
        """Ends of all partitions of the input as they stand, in the timeline's order."""
        return [end for topic in self.inputs for _, end in sorted(flow.ends(self.servers, topic).items())]

    def nobody_ended_unasked(self):
        """Raises where a member has ended that nobody ended."""
        for member in self.members:
            assert member.may_have_ended or not member.has_ended, f"a member ended by itself: {member.why()}"

    def supervise(self, seconds=PATIENCE_S):
        """`wait_until_read`, with members in this process started again where a service failed them for good."""

        def start_again():
            for n, member in enumerate(self.members):
                if member.has_ended and not member.may_have_ended:
                    assert isinstance(member.error, ServiceFailed), member.why()
                    self.started_again += 1
                    self.members[n] = InProcess(self.settings, self.make_scorer())

        self.timeline.wait_for(sum(self.ends()), seconds, still=start_again)

    def expected(self):
        """(topic, partition, offset) of each input -> its outcome in a calm run."""
        messages = read_inputs(self.servers, self.inputs)
        return dict(zip(messages, self.make_scorer().score(list(messages.values())), strict=True))

    def count(self, expected=None, calm=None):
        """`Count` of what became of the inputs."""
        return count(self.servers, self.topics, self.expected() if expected is None else expected, calm)


class InProcess:
    """A worker in a thread."""

    def __init__(self, settings, scorer):
        self.scorer, self.error, self.may_have_ended = scorer, None, False
        self._stop = Stop()
        self.worker = Worker(settings, self._stop, scorer=scorer)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.worker.run()
        except Exception as error:  # noqa: BLE001 - whatever ends a member is what the test asks about
            self.error = error

    @property
    def has_ended(self):
        """Whether its thread is over."""
        return not self._thread.is_alive()

    def why(self):
        """What it ended with."""
        return repr(self.error)

    def wait(self, seconds=PATIENCE_S):
        """Its error, or None, once it has ended."""
        self._thread.join(seconds)
        assert self.has_ended, f"still running after {seconds:g} s"
        return self.error

    def stop(self):
        """Let it leave in order; its summary."""
        self.may_have_ended = True
        self._stop.ask()
        error = self.wait()
        if error is not None:
            raise error
        return self.worker.summary()

    def end(self):
        """End it somehow."""
        self._stop.ask()
        self._thread.join(30)


class Process(flow.Filter):
    """`dgl-broker run` in a process of its own, with a cheap scorer unless asked otherwise."""

    def __init__(self, folder, config, *arguments, how=None, environ=None):
        self.may_have_ended = False
        self.how = {"scorer": "cheap", **(how or {})}
        ours = {"PYTHONPATH": os.pathsep.join((str(flow.ROOT), str(TESTS))), "DGL_FAULTS_MEMBER": json.dumps(self.how)}
        program = [sys.executable, "-m", "faults.member"]
        super().__init__(folder, config, *arguments, environ=ours | (environ or {}), program=program)

    @property
    def has_ended(self):
        """Whether the process is over."""
        return self.process.poll() is not None

    def why(self):
        """Its exit code and the end of its log."""
        return f"exit code {self.process.poll()}\n{self.log[-3000:]}"

    def kill(self):
        """SIGKILL."""
        self.may_have_ended = True
        self.process.kill()
        self.process.wait(20)

    def stop(self, seconds=PATIENCE_S):
        """SIGTERM; its summary once it has left."""
        self.may_have_ended = True
        self.wait_for("bundle ")  # until then a signal ends it as it ends any program
        self.signal(signal.SIGTERM)
        code = self.wait(seconds)
        assert code == 128 + signal.SIGTERM, self.why()
        return self.summary

    def wait_until_stopped(self, seconds=PATIENCE_S):
        """Until the process is stopped by SIGSTOP."""
        deadline = time.monotonic() + seconds
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert not self.has_ended, self.why()
            assert time.monotonic() < deadline, f"not stopped after {seconds:g} s:\n{self.log[-3000:]}"
            time.sleep(0.02)

    def end(self):
        """End it somehow."""
        if not self.has_ended:
            self.process.kill()
            self.process.wait(20)
