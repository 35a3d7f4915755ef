"""The command `dgl-broker`: one module a verb, each imported only when its verb is asked for.

Exit codes: 0 finished (refusals and dead letters included), 2 usage or configuration, 3 input or schema unavailable,
4 device unavailable, 5 a service failed too often in a row, 6 state or disk, 7 refused by a guard, 8 `--strict` and
something was dead-lettered, or an audit found inputs without an outcome, 130/143 signals, 1 anything unforeseen.
"""

import argparse
import sys
from importlib import import_module

from dgl_broker import __version__
from dgl_broker.errors import DglError

DESCRIPTION = "DeepGraviLens as a filter for astronomy alert brokers: lensed-supernova candidates of ZTF and Rubin/LSST."
VERBS = {
    "demo": "a simulated night through the real pipeline on an embedded Kafka, with a page to look at",
    "run": "the streaming filter: Kafka in, scores and candidates out",
    "rekey": "alerts past the pre-cuts, slimmed, to a topic keyed by object",
    "report": "of the candidates, each object once a state, and a cap a night",
    "replay": "archived alerts through the same pipeline, scores to a table",
    "explain": "one score made again and compared, and what moved it",
    "validate": "a replay judged: completeness, purity, nights, the best, and against another",
    "deadletters": "what could not be read: list it, show it, replay it after a fix",
    "audit": "whether every input of a window of time has its outcome",
    "serve": "scores over HTTP: of packets sent to it, and of what the filter published",
    "score": "images and light curves as arrays through a paper bundle",
    "inspect": "one packet: the alert, what the network sees, why it is or is not scorable",
    "check-config": "every problem of a configuration at once",
    "import-weights": "the authors' published weights into a bundle",
    "simulate": "systems, observations and alert packets from the simulator",
    "dataset": "training data from real packets and labels",
    "train": "train or refresh a bundle",
    "reference": "scores of a replayed night, for a running filter to see drift",
    "calibrate": "re-anchor the null of the p-values on a running stream",
    "evaluate": "judge a bundle on a test set",
    "control": "what must not tell the classes apart, and what real alerts score",
    "tune": "choose thresholds: a local page, its API, and commands",
}


def _module(verb):
    return import_module(f"dgl_broker.cli.{verb.replace('-', '_')}")


def _parser(verb):
    from dgl_broker.native import decoder_name

    parser = argparse.ArgumentParser(prog="dgl-broker", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"dgl-broker {__version__} (decoder: {decoder_name()})")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, text in VERBS.items():
        if name == verb:
            _module(name).add_parser(verbs)
        else:
            verbs.add_parser(name, help=text, add_help=False)
    return parser


def main(argv=None):
    """Run one verb; the process's exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    verb = next((a for a in argv if not a.startswith("-")), None)
    try:
        args = _parser(verb).parse_args(argv)
        return _module(args.verb).run(args)
    except DglError as error:
        print(f"dgl-broker {verb or ''}".rstrip() + f": {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing is wrong here.
        sys.stderr.close()
        return 0
