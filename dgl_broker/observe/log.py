"""The log: to standard error, as text or as one JSON object a line, with every known secret left out."""

import json
import logging
import sys
import time

HIDDEN = "***"


class HideSecrets(logging.Filter):
    """Replaces known secrets in messages and tracebacks, whoever logs them."""

    def __init__(self, secrets):
        super().__init__()
        # Longest first, so that one that holds another is hidden whole.
        self.secrets = sorted({s for s in secrets if s}, key=len, reverse=True)

    def clean(self, text):
        """`text` without secrets."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def filter(self, record):
        if self.secrets:
            record.msg, record.args = self.clean(record.getMessage()), ()
            if record.exc_info:
                record.exc_text = self.clean(logging.Formatter().formatException(record.exc_info))
                record.exc_info = None
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line.

    Parameters
    ----------
    worker : int, optional
        Number of the worker that logs.
    """

    def __init__(self, worker=None):
        super().__init__()
        self.who = {} if worker is None else {"worker": worker}

    def format(self, record):
        fields = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            **self.who,
            "logger": record.name,
            "message": record.getMessage(),
        }
        trace = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else None)
        if trace:
            fields["traceback"] = trace
        return json.dumps(fields, ensure_ascii=False)


def set_up_log(style="text", level="info", secrets=(), stream=None, worker=None):
    """Send the log of this package and of librdkafka to `stream` (standard error).

    Parameters
    ----------
    style : "text" or "json"
    level : "debug", "info", "warning" or "error"
    secrets : iterable of str
        Texts that must not appear.
    worker : int, optional
        Number of this worker, told with each line.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    if style == "json":
        handler.setFormatter(JsonLines(worker))
    else:
        who = "" if worker is None else f"worker {worker}: "
        formatter = logging.Formatter(f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    handler.addFilter(HideSecrets(secrets))
    for name in ("dgl_broker", "librdkafka"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    logging.getLogger("dgl_broker").setLevel(level.upper())
    # librdkafka tells every lost connection at INFO; its own level `debug` is asked for by kafka.debug.
    logging.getLogger("librdkafka").setLevel("DEBUG" if level == "debug" else "WARNING")
    return handler
