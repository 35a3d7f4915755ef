"""`dgl-broker tune`: choose a filter's threshold and pre-cuts on replayed scores, and put them into force.

Without an action it serves the page; its actions do the same in a terminal.
"""

import argparse
import os
import sys
from pathlib import Path

DEFAULT_PORT = 8050
ACTIONS = {
    "show": "filters in force, their workers and last change",
    "preview": "what a threshold would do; changes nothing",
    "activate": "put a threshold into force, unless a guard refuses it",
    "rollback": "put an earlier version into force again",
    "history": "who changed what, when and why",
    "carry": "the filter for a refreshed bundle, at the same operating point",
    "copy": "shipped filters into a folder of your own, where they can be changed",
}


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("tune", help="choose thresholds: a local page, its API, and commands", parents=[_shared()])
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"of the page (default {DEFAULT_PORT})")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to; others than loopback need a token")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="name of a proxy in front of the page"
    )
    parser.add_argument("--packets", type=Path, metavar="DIR", help="kept packets, or the packets that were replayed")
    parser.add_argument(
        "--schemas", default=os.environ.get("DGL_SCHEMAS"), metavar="DIR|URL", help="writers' schemas, for --packets"
    )
    actions = parser.add_subparsers(dest="action", metavar="|".join(ACTIONS))
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, parents=[_shared()])
        if name in ("preview", "activate"):
            _add_proposal(action)
        if name in ("activate", "rollback", "carry"):
            action.add_argument("--reason", required=True, metavar="TEXT", help="why, for the audit log")
            action.add_argument("--who", metavar="NAME", help="for the audit log; by default the user")
        if name in ("activate", "rollback"):
            action.add_argument("--expected-version", type=int, metavar="V", help="refuse if another is in force by then")
            action.add_argument("--wait", type=float, default=20.0, metavar="S", help="for the workers to take it (default 20)")
        if name == "rollback":
            action.add_argument("--to", type=int, metavar="V", help="version to restore; by default the one before")
        if name == "carry":
            action.add_argument("--to", required=True, metavar="BUNDLE", help="folder, hash or id of the refreshed bundle")
            action.add_argument(
                "--by", choices=["completeness", "fpr", "candidates_per_night"], help="what is to stay as it is"
            )
            action.add_argument("--out", type=Path, metavar="F.yaml", help="by default <filter>.<hash>.yaml beside the filter")
        if name == "copy":
            action.add_argument("--to", type=Path, required=True, metavar="DIR", help="made if it is not there")
        if name in ("show", "preview", "history"):
            action.add_argument("--json", action="store_true", help="as JSON")


def _shared():
    """Options that go before or after the action."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--scores", action="extend", nargs="+", metavar="scores.parquet",
                        help="tables of `replay`; with --config also kafka:TOPIC[@FROM..TO], what was published")  # fmt: skip
    shared.add_argument("--labels", type=Path, metavar="labels.csv", help="survey, alert_id or object_id, class, source")
    shared.add_argument(
        "--config", type=Path, metavar="broker.yaml", help="whose filters, bundle, prevalence and status folder"
    )
    shared.add_argument(
        "--filter", action="append", metavar="F", help="a file, or the name of a shipped one, where no --config"
    )
    shared.add_argument("--bundle", metavar="B", help="whose scores: hash, its beginning, or id; by default the filter's own")
    shared.add_argument("--status", type=Path, metavar="DIR", help="where the workers report; by default beside the filter")
    shared.add_argument(
        "--sampled", type=float, metavar="SHARE", help="share of the stream that was replayed (default: the manifest's)"
    )
    shared.add_argument("--prevalence", type=float, metavar="P", help="share of lensed supernovae among alerts (default 1e-6)")
    return shared


def _add_proposal(action):
    point = action.add_mutually_exclusive_group()
    point.add_argument("--threshold", type=float, metavar="T")
    point.add_argument("--completeness", type=float, metavar="C", help="the highest threshold that finds this share")
    point.add_argument("--fpr", type=float, metavar="R", help="the lowest threshold at which at most this share passes")
    point.add_argument("--candidates", type=float, metavar="N", help="the lowest threshold with at most N in the worst night")
    action.add_argument("--precuts", type=Path, metavar="F.yaml", help="pre-cuts as in this filter's `require`")


def run(args):
    """Serve the page, or do what was asked; the exit code."""
    from dgl_broker.cli import tune_actions

    for name in ("scores", "labels", "config", "filter", "bundle", "status", "sampled", "prevalence"):
        if not hasattr(args, name):
            setattr(args, name, None)
    if args.action is None:
        return serve(args)
    return getattr(tune_actions, args.action)(args)


def serve(args):
    """The page, until a signal ends it."""
    import logging

    from dgl_broker.cli.tune_actions import is_topic, make_desk, user
    from dgl_broker.errors import ConfigError, DglError
    from dgl_broker.tune.access import TOKEN_VARIABLE, make_access

    try:
        from dgl_broker.tune.app import make_app
        from dgl_broker.tune.assets import plotly_file
        from dgl_broker.tune.packets import Packets
        from dgl_broker.tune.server import bind, make_server
    except ModuleNotFoundError as error:
        if not str(error.name).startswith(("fastapi", "starlette", "uvicorn")):
            raise
        raise DglError(
            f"the page needs {error.name}: pip install 'dgl-broker[tune]'; `tune show`, `preview`, ... do not"
        ) from error

    if not args.scores:
        raise ConfigError("tune: no --scores, expected a table of `dgl-broker replay`")
    plotly_file()
    access = make_access(args.host, args.allow_host)
    socket = bind(args.host, args.port)  # before minutes are spent on reading
    with socket:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
        logging.getLogger("dgl_broker").setLevel(logging.INFO)
        desk, settings = make_desk(args, said=lambda text: print(text, file=sys.stderr))
        schemas = args.schemas or (settings.input.schemas if settings is not None else None)
        packets = Packets([s for s in args.scores if not is_topic(s)], args.packets, schemas)
        server = make_server(make_app(desk, packets, access, user()))
        host, port = socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{'127.0.0.1' if shown in ('0.0.0.0', '[::]') else shown}:{port}/", flush=True)
        if access.read_only:
            print(
                f"read-only: set {TOKEN_VARIABLE} in the environment to activate and roll back from the page", file=sys.stderr
            )
        server.run(sockets=[socket])
    return 0
