"""The simulator on one core: systems as arrays, and alerts as packets."""

import time

from benchmarks.report import Measure, at_least, spread
from dgl_broker.sim.packets import simulate_packets
from dgl_broker.sim.paper_recipe import RECIPES
from dgl_broker.sim.paper_sets import simulate_set
from dgl_broker.sim.population import draw_system
from dgl_broker.sim.sim_data import data_fingerprint

TITLE = "12. The simulator: systems and packets a second, on one core"
KINDS = ("lensed_sn_ia", "lensed_sn_cc")
ARRAYS_GOAL, PACKETS_GOAL = 50.0, 400.0
SEED = 12


def run(options):
    """Yields a `Measure` of the paper's sets and one of each survey's packets."""
    n, rounds = (2, 1) if options.quick else (100, min(options.rounds, 5))
    for name in RECIPES:
        simulate_set(name, 1, SEED, first=10**6)  # tables are read, and luminosities integrated, once a process
    ways = {name: spread([_arrays(name, n, turn) for turn in range(rounds)]) for name in RECIPES}
    data = data_fingerprint()
    notes = {"drawn from": "the built-in models" if data is None else f"the simulator's data {data}"}
    goals = dict.fromkeys(ways, at_least(ARRAYS_GOAL))
    yield Measure("paper sets, physical profile", "systems a second", ways, goals=goals, notes=notes)
    for survey in ("lsst", "ztf"):
        yield _packets(survey, n, rounds)


def _arrays(name, n, turn):
    began = time.process_time()
    simulate_set(name, n, SEED, first=turn * n)
    return n / (time.process_time() - began)


def _packets(survey, n, rounds):
    """Lensed supernovae from the draw to the bytes of their alerts, those without an alert as well."""
    simulate_packets(draw_system(survey, SEED, 10**6, kind=KINDS[0]), survey)
    systems, packets, alone, n_alerts, n_bytes = [], [], [], 0, 0
    for turn in range(rounds):
        began, found = time.process_time(), []
        for index in range(turn * n, (turn + 1) * n):
            found += simulate_packets(draw_system(survey, SEED, index, kind=KINDS[index % 2]), survey)
        drawn = time.process_time()
        n_bytes += sum(len(alert.value) for alert in found)
        ended = time.process_time()
        systems.append(n / (ended - began))
        packets.append(len(found) / (ended - began))
        alone.append(len(found) / (ended - drawn))
        n_alerts += len(found)
    rendered = "alerts as packets: stamps, histories and bytes"
    ways = {
        rendered: spread(alone),
        "alerts, of systems that are drawn and observed as well": spread(packets),
        "systems, with their alerts": spread(systems),
    }
    notes = {
        "systems": f"{n * rounds} lensed supernovae, Ia and core collapse in turn, with {n_alerts} alerts of "
        f"{n_bytes / max(n_alerts, 1) / 1000:.0f} kB"
    }
    return Measure(f"{survey.upper()} packets", "a second", ways, goals={rendered: at_least(PACKETS_GOAL)}, notes=notes)
