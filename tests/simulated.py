"""Packets from the project's own simulator and writer, and scorers to score them with."""

from functools import lru_cache

from dgl_broker.data_files import folder
from dgl_broker.model import untrained_bundle
from dgl_broker.scorer import Scorer
from dgl_broker.sim.packets import simulate_packets
from dgl_broker.sim.population import draw_system

OWN_SCHEMAS = folder("schemas") / "write"


@lru_cache(maxsize=4)
def packets(survey, n, seed=5):
    """`n` simulated alerts of one survey: (bytes, labels) of systems of mixed kinds, a few alerts of each."""
    kinds = ("lensed_sn_ia", "sn_ia_lrg", "agn", "lensed_sn_cc", "sn_cc_host", "lensed_quasar", "variable_star")
    found, index = [], 0
    while len(found) < n:
        system = draw_system(survey, seed, index, kind=kinds[index % len(kinds)])
        for alert in simulate_packets(system, survey, max_alerts=4):
            found.append((alert.value, alert.labels))
        index += 1
    return tuple(found[:n])


@lru_cache(maxsize=4)
def untrained(survey):
    """A bundle with random weights; the same in every test."""
    return untrained_bundle(survey, seed=3)


def scorer(survey="lsst", **options):
    """A Scorer with random weights and the schemas of our own writer."""
    return Scorer(**({"survey": survey, "bundle": untrained(survey), "schemas": OWN_SCHEMAS} | options))
