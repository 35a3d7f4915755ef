"""What the verbs that stream share: `run` and `rekey`, as one process or as several under a supervisor."""

import argparse
import sys
from pathlib import Path


def count(text):
    """A number of 1 or more."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number of 1 or more")
    return number


def add_arguments(parser, config):
    """Add what both take; `config` is the usual name of the file."""
    parser.add_argument("--config", required=True, type=Path, metavar=config)
    parser.add_argument(
        "--workers", type=count, metavar="N", help="N supervised processes in one consumer group (default: workers.count)"
    )
    parser.add_argument("--until-eof", action="store_true", help="end at the partitions' ends as they stand at the start")
    parser.add_argument("--summary", type=Path, metavar="S.json", help="write the closing summary there")


def stream(args, settings, make_worker, job, done="scored", **alone):
    """Run to the end that was asked for, and tell the summary; the exit code.

    Parameters
    ----------
    args : namespace
        With what `add_arguments` added.
    settings : Settings or RekeySettings
    make_worker : callable
        (stop, progress) -> the worker that this process is, where there is no supervisor.
    job : dict
        What each worker is told to do, beside its settings: as `worker_process.make_worker` takes it.
    done : "scored" or "written"
    **alone
        Options of `Worker.run` that only a process by itself can keep; ConfigError where they are set and there are workers.
    """
    from dgl_broker.observe.log import set_up_log
    from dgl_broker.observe.progress import Progress
    from dgl_broker.observe.summary import summary_text, write_summary
    from dgl_broker.stream.ending import exit_code
    from dgl_broker.stream.stopping import Stop

    n = args.workers or settings.workers.count
    if n is not None:
        _refuse(alone)
        alone = {}
    with Stop() as stop:
        with Progress() as progress:
            set_up_log(settings.log.format, settings.log.level, settings.secrets(), sys.stderr)
            worker = make_worker(stop, progress) if n is None else _supervisor(settings, n, stop, job, progress, done)
            code = exit_code(worker, stop, until_eof=args.until_eof, **alone)
        summary = worker.summary()
        if args.summary:
            write_summary(summary, args.summary)
        print(summary_text(summary))
    return code


def _refuse(alone):
    from dgl_broker.errors import ConfigError

    given = [f"--{name.replace('_', '-')}" for name, value in alone.items() if value]
    if given:
        raise ConfigError(f"{' and '.join(given)} with workers: expected one process, which counts by itself")


def _supervisor(settings, n, stop, job, progress, done):
    from dgl_broker.cli import worker_process
    from dgl_broker.stream.workers.supervisor import Supervisor

    command = [sys.executable, "-P", worker_process.__file__]
    supervisor = Supervisor(settings, n, stop, command, job, progress, done)
    stop.before_leaving = supervisor.kill
    return supervisor
