"""Runs benchmarks: `python -m benchmarks [NAME ...] [--quick | --long] [--alerts real|simulated] [--out FOLDER]`."""

import argparse
import os
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

# One thread each, before numpy and torch are loaded: the filter runs a process a core.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# In the order of their titles.
BENCHMARKS = (
    "decode",
    "examples",
    "ensemble",
    "svm",
    "end_to_end",
    "visit",
    "night",
    "device",
    "start",
    "members",
    "archives",
    "simulator",
)


def main(argv=None):
    """Run those that are named, or all; the process's exit code."""
    from benchmarks import report

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What the filter costs, measured.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few alerts and rounds: whether it runs, not what it costs")
    parser.add_argument("--long", action="store_true", help="ten visits in a row, and an hour of a night")
    parser.add_argument("--minutes", type=float, help="of each of a night's two streams (default 2.7; 60 with --long)")
    parser.add_argument(
        "--alerts",
        choices=("real", "simulated"),
        default="real",
        help="real: those of the tests, and of DGL_SHARED where it is set (default); simulated: the simulator's",
    )
    parser.add_argument("--rounds", type=int, default=15, help="how often each way is measured (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of the JSON files (default %(default)s)")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}, expected 1 or more")
    if options.minutes is not None and not options.minutes > 0:
        parser.error(f"--minutes {options.minutes:g}, expected more than 0")
    if options.quick:
        options.rounds = min(options.rounds, 2)
    failed = []
    for name in options.names or BENCHMARKS:
        module = import_module(f"benchmarks.{name}")
        print(f"\n{module.TITLE}", flush=True)
        start, measures, not_run = time.monotonic(), [], "interrupted"
        try:
            for measure in module.run(options):
                print(report.text(measure), flush=True)
                measures.append(measure)
            not_run = None
        except report.NotRun as error:
            not_run = str(error)
            print(f"\n  not run: {not_run}")
        except Exception as error:  # noqa: BLE001 - the next ones have their own numbers
            traceback.print_exc()
            failed.append(name)
            not_run = f"failed after {len(measures)} of its measures: {type(error).__name__}: {str(error)[:200]}"
        finally:
            seconds = time.monotonic() - start
            path = report.write(name, module.TITLE, measures, options, seconds, not_run)
            print(f"  -> {path} after {seconds:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
