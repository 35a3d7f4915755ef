"""What was measured, as one table and one JSON file a benchmark, with the machine and the versions that it was measured on."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from dgl_broker import __version__
from dgl_broker.native import decoder_name

PACKAGES = ("numpy", "torch", "fastavro", "astropy", "scipy", "scikit-learn", "deflate", "cavro", "confluent-kafka")
SPREAD = (16, 50, 84)  # percentiles over rounds: the median, with what would be one sigma of a Gaussian on either side


class NotRun(Exception):
    """A benchmark, or what is left of it, cannot run here; the text says why."""


@dataclass
class Measure:
    """One thing measured, in several ways, and what the one is to the other.

    Attributes
    ----------
    what, unit : str
        Of what, and in what the ways are.
    ways, ratios : dict of str to (low, median, high)
        Over rounds; see `spread`. Ratios are of rounds, not of medians: what slows a round slows both.
    goals : dict of str to (">=" or "<=", float)
        What the median of a way or ratio of that name should be; see `at_least`, `at_most`.
    notes : dict
        What else there is to say, such as the alerts that it was measured on.
    """

    what: str
    unit: str
    ways: dict
    ratios: dict = field(default_factory=dict)
    goals: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)


def at_least(value):
    """A goal: so much or more."""
    return (">=", float(value))


def at_most(value):
    """A goal: so much or less."""
    return ("<=", float(value))


def met(goal, found):
    """Whether a median meets a goal."""
    sign, value = goal
    return found >= value if sign == ">=" else found <= value


def spread(values):
    """(low, median, high) of rounds; of one value three times that."""
    return tuple(float(value) for value in np.percentile(values, SPREAD))


def compared(what, spent, ratios, goals=None, unit="us an alert", notes=None):
    """A `Measure` of ways measured in turns.

    Parameters
    ----------
    what : str
    spent : dict of str to array, shape (rounds,)
        From `timing.interleaved`.
    ratios : dict of str to (array, array)
        Of the one over the other, round by round.
    goals : dict of str to goal, optional
    """
    return Measure(
        what=what,
        unit=unit,
        ways={name: spread(values) for name, values in spent.items()},
        ratios={name: spread(np.asarray(over) / np.asarray(under)) for name, (over, under) in ratios.items()},
        goals=goals or {},
        notes=notes or {},
    )


def text(measure):
    """A measure as lines for the terminal."""
    lines = [f"\n  {measure.what} [{measure.unit}]"]
    lines += [f"    {key}: {value}" for key, value in measure.notes.items()]
    for mark, values in (("", measure.ways), ("x", measure.ratios)):
        for name, (low, median, high) in values.items():
            goal = measure.goals.get(name)
            verdict = "" if goal is None else f"  goal {goal[0]} {goal[1]:g}: {'met' if met(goal, median) else 'missed'}"
            lines.append(f"    {shown(median) + mark:>9}  ({shown(low)} .. {shown(high)})  {name}{verdict}")
    return "\n".join(lines)


def shown(value):
    """A number with three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine():
    """What it ran on, and how busy that was."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": " ".join([platform.system(), platform.release().partition("-")[0]]),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _processor():
    """The processor's name, with what of its arithmetic decides how fast networks run."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    has = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in facts.get("flags", "").split()]
    return " ".join([facts.get("model name", platform.machine()), f"({', '.join(has)})" if has else ""]).strip()


def versions():
    """Of Python, this package, and those that are compared."""
    found = {"python": platform.python_version(), "dgl-broker": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def write(name, title, measures, options, seconds, not_run=None):
    """Path of the JSON file that holds a benchmark's measures, and why it did not run where it did not."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{name}.json"
    content = {
        "benchmark": name,
        "title": title,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "not_run": not_run,
        "machine": machine(),
        "versions": versions(),
        "decoder": decoder_name(),
        "options": {name: getattr(options, name) for name in ("rounds", "quick", "long", "alerts")},
        "percentiles": list(SPREAD),
        "measures": [asdict(measure) for measure in measures],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
