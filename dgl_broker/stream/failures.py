"""Failures of a service, counted in a row: one that answers again starts at zero, one that does not ends the process."""

import logging

from dgl_broker.errors import ServiceFailed

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 30.0


class Failures:
    """Count of failures in a row, of all services by name.

    Parameters
    ----------
    limit : int
        This many in a row of one service raise ServiceFailed.
    stop : dgl_broker.stream.stopping.Stop
        Its `wait` is the pause between tries; once it is asked for, the next failure is the last.
    on_failure : callable, optional
        (service) -> None, for metrics.
    """

    def __init__(self, limit, stop, on_failure=None):
        self.limit = limit
        self.stop = stop
        self.on_failure = on_failure or (lambda service: None)
        self.in_a_row = {}

    def failed(self, service, text):
        """Take note of a failure; pauses, longer each time, before the next try.

        Raises
        ------
        ServiceFailed
            If it is one too many, or the process is to stop.
        """
        count = self.in_a_row[service] = self.in_a_row.get(service, 0) + 1
        self.on_failure(service)
        log.warning("%s failed (%d in a row): %s", service, count, text)
        if count >= self.limit:
            raise ServiceFailed(f"{service} failed {count} times in a row: {text}")
        if self.stop():
            raise ServiceFailed(f"{service} failed while this process was to stop: {text}")
        self.stop.wait(min(0.1 * 2**count, LONGEST_PAUSE_S))

    def worked(self, service):
        """Take note that the service answered."""
        self.in_a_row[service] = 0
