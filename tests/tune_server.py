"""The tuning page served for a test, on a free port of this machine, by the server that the command uses."""

import threading
from contextlib import contextmanager

from dgl_broker.tune.access import Access
from dgl_broker.tune.app import make_app
from dgl_broker.tune.packets import Packets
from dgl_broker.tune.server import bind, make_server

TOKEN = "a token for tests only"


@contextmanager
def served(desk, tables=(), token=TOKEN, **packets):
    """Address of the page, while it is served."""
    access = Access(frozenset({"127.0.0.1", "localhost"}), token)
    server = make_server(make_app(desk, Packets(tables, **packets), access, "tester"))
    with bind("127.0.0.1", 0) as socket:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
