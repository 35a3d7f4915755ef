"""The stage behind the candidates: what needs one place has one. One member of its group reports, the others stand by."""

import contextlib
import logging
import threading

from dgl_broker import __version__
from dgl_broker.errors import ServiceFailed
from dgl_broker.observe.health import serve
from dgl_broker.observe.report_watch import ReportWatch
from dgl_broker.reports import Ledger, Rules
from dgl_broker.reports.rows import decode_row
from dgl_broker.stream.compacted import make_compacted
from dgl_broker.stream.failures import Failures
from dgl_broker.stream.reading import RangeReader
from dgl_broker.stream.report_member import Member
from dgl_broker.stream.report_tenure import COMMITTED_ONLY, Tenure, report_form
from dgl_broker.stream.webhook import Webhook

log = logging.getLogger(__name__)
STANDBY_POLL_S = 0.2
LOOK_S = 2.0  # while there are no candidates yet
FENCED_S = 10.0  # a member that was fenced hears within this that it lost the reports


def rules_of(settings):
    """The rules of the reports that the settings ask for."""
    r = settings.reports
    filters = None if r.filters is None else frozenset(r.filters)
    return Rules(settings.survey, r.max_per_night, r.brighter_mag, r.min_log_odds, filters)


def beside_run(settings):
    """Settings of a process beside `run`: without ids that are one process's alone, which would make two processes one."""
    kafka = {k: v for k, v in settings.kafka.items() if k not in ("group.instance.id", "transactional.id")}
    return settings.model_copy(update={"kafka": kafka})


class ReportStage:
    """One process of the stage.

    Parameters
    ----------
    settings : Settings
    stop : Stop
    """

    def __init__(self, settings, stop):
        self.settings = beside_run(settings)
        self.stop = stop
        self.watch = ReportWatch()
        self.ended = "before it began"
        self._tenure = None
        self._webhook_failed = None

    def run(self, until_eof=False):
        """Until told to stop, or until the candidates that are there are read; a member that stands by waits for its turn.

        Raises
        ------
        DglError
            As the part that failed says; what is out is committed with the state that says so.
        """
        s, watch = self.settings, self.watch
        failures = Failures(s.service.max_failures, self.stop, watch.failed)
        self.ended = "by a failure"
        with contextlib.ExitStack() as closing:
            if s.metrics.port is not None:
                server = serve(watch.health, watch.metrics, s.metrics.host, s.metrics.port)
                closing.callback(server.server_close)
                closing.callback(server.shutdown)
            watch.metrics.set_info("dgl_run_info", s.survey, __version__, s.reports_group_id, "exactly_once")
            form = report_form(s)
            self._make_state(failures)
            if s.reports.webhook is not None and not until_eof:
                closing.callback(self._start_webhook().join)
                closing.callback(self.stop.ask)
            member = Member(s.kafka, s.reports_group_id, s.reports_state_topic)
            closing.callback(member.close)
            closing.callback(self._end_tenure)
            while not self.stop() and self._turn(member, failures, form, until_eof):
                pass
        if self._webhook_failed is not None:
            raise self._webhook_failed
        if until_eof and s.reports.webhook is not None:
            Webhook(s, self.stop, watch).run(until_eof=True)
        self.ended = "by a signal" if self.stop.signal is not None else "all that was asked for is read"

    def summary(self):
        """What `summary.json` holds."""
        return self.watch.as_dict(survey=self.settings.survey, ended=self.ended)

    def _make_state(self, failures):
        """Make the state's topic where it is not there, and wait until it is: a group given nothing would look again late."""
        s = self.settings
        reader = RangeReader(s.kafka, s.reports_group_id, failures, s.service.timeout_s)
        try:
            if not reader.places([s.reports_state_topic]):
                make_compacted(s.kafka, s.reports_state_topic, "to remember what was reported", s.service.timeout_s)
            while not reader.places([s.reports_state_topic]) and not self.stop():
                self.stop.wait(STANDBY_POLL_S)
        finally:
            reader.close()

    def _turn(self, member, failures, form, until_eof):
        """One round of the loop; False when all is read."""
        member.poll(STANDBY_POLL_S if self._tenure is None else 0.0)
        if self._tenure is not None and self._tenure.number != member.tenure:
            self._end_tenure()
        self.watch.stand(member.joined, member.tenure is not None, self._tenure is not None)
        if member.tenure is None:
            return True
        try:
            if self._tenure is None:
                self._tenure = Tenure(self.settings, rules_of(self.settings), member, failures, self.watch, form, until_eof)
                return True
            if not self._tenure.open():
                return self._wait_for_candidates(until_eof)
            return self._tenure.turn(self.stop)
        except ServiceFailed as error:
            if not self._was_fenced(member):
                raise
            log.warning("%s; another member reports", error)
            self._end_tenure()
            return True

    def _wait_for_candidates(self, until_eof):
        log.info("topic %s: not there yet", self.settings.candidates_topic)
        if until_eof:
            return False
        self.stop.wait(LOOK_S)
        return True

    def _was_fenced(self, member):
        """Whether the group has given the reports to another while this member was held up."""
        before, waited = member.tenure, 0.0
        while member.tenure == before and waited < FENCED_S and not self.stop():
            member.poll(STANDBY_POLL_S)
            waited += STANDBY_POLL_S
        return member.tenure != before

    def _end_tenure(self):
        tenure, self._tenure = self._tenure, None
        if tenure is not None:
            tenure.close()

    def _start_webhook(self):
        thread = threading.Thread(target=self._send, name="webhook")
        thread.start()
        return thread

    def _send(self):
        try:
            Webhook(self.settings, self.stop, self.watch).run()
        except Exception as error:  # noqa: BLE001 - a device, a bug: the process must not go on as if it sent
            if not self.stop():
                self._webhook_failed = error
                self.stop.ask()
            else:
                log.warning("webhook: %s", error)


def send_again(settings, stop):
    """Post what was set aside once more; the account: (sent, set aside again)."""
    watch = ReportWatch()
    Webhook(beside_run(settings), stop, watch, again=True).run(until_eof=True)
    return watch.sent, watch.undelivered


def read_nights(settings, stop):
    """Night -> {reported, would_have_passed, max_per_night} from the state's topic; nothing is joined or written."""
    s, ledger = settings, Ledger(rules_of(settings))
    failures = Failures(s.service.max_failures, stop)
    reader = RangeReader(s.kafka, s.reports_group_id, failures, s.service.timeout_s, **COMMITTED_ONLY)
    try:
        for place, (first, end) in reader.ranges(reader.places([s.reports_state_topic])).items():
            for message in reader.read(place, first, end):
                key, row = decode_row(message.key(), message.value())
                if key[0] == "night":
                    ledger.put(key, row)
    finally:
        reader.close()
    watch = ReportWatch()
    watch.rebuilt(ledger, rules_of(settings))
    return watch.as_dict()["nights"]
