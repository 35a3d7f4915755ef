"""What a process of the stream ends with: its exit code, and what its log says of the failure."""

import logging

from dgl_broker.errors import DglError, ServiceFailed

log = logging.getLogger("dgl_broker")


def exit_code(worker, stop, **how):
    """The exit code of `worker.run(**how)`: 0, the error's own, or 128 + the signal that asked for the end.

    What fails is told by the log, which leaves secrets out.
    """
    try:
        worker.run(**how)
    except ServiceFailed as error:
        if not stop():
            log.error("%s", error)
            return error.exit_code
        log.warning("%s", error)  # it was to end anyway, and what was not delivered is read again
    except DglError as error:
        log.error("%s", error)
        return error.exit_code
    except Exception:  # noqa: BLE001 - a device, a bug: whatever it is, it must not be told past the log
        log.exception("unforeseen")
        return 1
    return stop.exit_code
