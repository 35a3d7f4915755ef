"""The page's own web server, on a socket that is bound before anything is said to be there."""

import logging
import socket

import uvicorn

from dgl_broker.errors import ConfigError

log = logging.getLogger(__name__)


def bind(host, port):
    """A socket that listens.

    Raises
    ------
    ConfigError
        If the address cannot be had, such as a port that is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(64)
    except (OSError, OverflowError) as error:
        made.close()
        raise ConfigError(f"{host}:{port}: cannot be bound: {getattr(error, 'strerror', None) or error}") from error
    return made


def make_server(app):
    """The server; `run(sockets=[bind(...)])` serves until `should_exit` is set or a signal comes."""
    # No access log: it would hold what is asked, and nothing of use.
    options = {"log_config": None, "access_log": False, "ws": "none", "lifespan": "off", "server_header": False}
    return uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=3, **options))
