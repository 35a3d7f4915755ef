"""The mutation run: `python tests/fuzz/run.py --packets 1000000` judges so many hostile packets, and ends with 1 if one harmed.

Every packet has its place, and is made from it and the seed alone: `--seed 1 --start 4711 --packets 1` is that one again.
"""

import argparse
import contextlib
import faulthandler
import json
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dgl_broker.native import decoder_name
from fuzz.judge import Account, judge
from fuzz.mutations import mutants

CHUNK = 128  # places made at once, judged as one batch a survey
# Nothing that ends takes so long: of CPU, and on the wall, where a busy machine may keep us waiting. The process is killed
# then, and says where it was.
HANG_CPU_S, HANG_WALL_S = 60, 1800.0
SHOWN = 20  # failures told in full
TOLD_EVERY = 10_000


def parser():
    """What the command takes."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--packets", type=int, default=1_000_000)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--start", type=int, default=0, help="place of the first")
    made.add_argument("--minutes", type=float, help="end after this long, with what is done by then")
    made.add_argument(
        "--whole", type=int, default=25, help="each so many-th chunk goes through the whole scorer, networks and all"
    )
    made.add_argument("--log", type=Path, help="file that is told the progress and every failure; else standard output")
    made.add_argument("--summary", type=Path, help="JSON file with the counts")
    return made


def _tell(log, text):
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=log, flush=True)


def _end_if_it_hangs():
    """From now on a limit on time, until it is asked for anew."""
    faulthandler.register(signal.SIGXCPU, file=sys.stderr, chain=True)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + HANG_CPU_S, hard))
    faulthandler.dump_traceback_later(HANG_WALL_S, exit=True, file=sys.stderr)


@contextlib.contextmanager
def _no_limit_behind():
    """Time is as unlimited afterwards as it was before."""
    before = resource.getrlimit(resource.RLIMIT_CPU)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_CPU, before)
        faulthandler.unregister(signal.SIGXCPU)


def memory_mib():
    """Most memory that this process has had [MiB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_chunk(seed, start, n, whole):
    """An `Account` of `n` places, through the whole scorer or not."""
    rng = random.Random(f"judge:{seed}:{start}")
    account, by_survey = Account(), {}
    for name, value, survey in mutants(seed, n, start):
        by_survey.setdefault(survey, []).append((name, value))
    for survey, named in by_survey.items():
        account.add(judge(survey, named, rng, whole))
    return account


def judged(options, log):
    """(Account, packets, summary) of the whole run."""
    account, began, cpu, done = Account(), time.monotonic(), time.process_time(), 0
    warm = None
    while done < options.packets:
        if options.minutes and time.monotonic() - began > 60.0 * options.minutes:
            _tell(log, f"{options.minutes:g} minutes are over")
            break
        n = min(CHUNK, options.packets - done)
        _end_if_it_hangs()
        before = len(account.failures)
        whole = options.whole > 0 and (options.start + done) // CHUNK % options.whole == 0
        account.add(one_chunk(options.seed, options.start + done, n, whole))
        for name, what in account.failures[before:]:
            _tell(log, f"FAILED {name}\n{what if len(account.failures) <= SHOWN else what.strip().splitlines()[-1]}")
        done += n
        if warm is None and done >= 1000:
            warm = memory_mib()
        if done // TOLD_EVERY != (done - n) // TOLD_EVERY:
            _tell(log, f"{done} packets, {len(account.failures)} failures, {time.process_time() - cpu:.0f} s of CPU")
    return account, summary(options, account, done, time.process_time() - cpu, warm or memory_mib())


def summary(options, account, done, cpu_s, warm):
    """What the JSON file holds."""
    statuses = Counter()
    for (status, _), n in account.outcomes.items():
        statuses[status] += n
    reasons = {f"{s}: {r}": n for (s, r), n in account.outcomes.most_common() if r is not None}
    return {
        "what": "mutation run over alert packets (tests/fuzz/run.py)",
        "packets": done,
        "seed": options.seed,
        "start": options.start,
        "decoder": decoder_name(),
        "through_the_whole_scorer": account.whole,
        "outcomes": dict(statuses),
        "reasons": reasons,
        "sane_packets_beside": account.sane,
        "failures": len(account.failures),
        "slowest_batch_cpu_s": round(account.slowest_s, 3),
        "slowest_batch": account.slowest,
        "memory_grown_mib": round(memory_mib() - warm, 1),
        "cpu_s": round(cpu_s, 1),
        "cpu_ms_a_packet": round(1000.0 * cpu_s / max(done, 1), 3),
        "machine": f"{_cpu()}, {os.cpu_count()} cores, one used; {platform.system()}, Python {platform.python_version()}",
        "commit": _commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _commit():
    """What was tried: the checkout's commit, with a `+` where files were changed since; None where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(arguments=None):
    """Runs; 0 where nothing harmed."""
    options = parser().parse_args(arguments)
    warnings.simplefilter("error")
    with options.log.open("a") if options.log else contextlib.nullcontext(sys.stdout) as log:
        _tell(log, f"seed {options.seed}, places {options.start} to {options.start + options.packets}")
        with _no_limit_behind():
            account, found = judged(options, log)
        _tell(log, json.dumps(found, indent=1))
    if options.summary:
        options.summary.parent.mkdir(parents=True, exist_ok=True)
        options.summary.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if account.failures else 0


if __name__ == "__main__":
    sys.exit(main())
