"""What a data set is to be: survey, input, campaigns of systems with their kinds and splits; and the choices it makes.

A *plan* (a dict, from JSON) says what to make:

    {"survey": "lsst", "profile": "lsst", "input": {... of the card ...}, "filter": "lensed_sn_lsst",
     "alerts": {"early": 10, "later": 3},
     "campaigns": [{"name": "fit", "seed": 1, "systems": 60000, "per_shard": 250,
                    "kinds": {"sn_ia_lrg": 2.0, ...}, "splits": {"train": 0.8, ...}}]}
"""

import json

import numpy as np

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.training.shards import COLUMNS, read_info
from dgl_broker.training.splits import check_fractions, unit_hash

PLAN_KEYS = {"survey", "profile", "input", "alerts", "filter", "campaigns"}
CAMPAIGN_KEYS = {"name", "seed", "systems", "per_shard", "kinds", "splits", "alerts"}


def check_plan(plan):
    """The plan with all defaults filled in.

    Raises
    ------
    ConfigError
        Naming the key, what was found and what was expected.
    """
    from dgl_broker.sim.system import CLASS_OF_KIND

    unknown = sorted(set(plan) - PLAN_KEYS)
    missing = sorted({"survey", "input", "campaigns"} - set(plan))
    if unknown or missing:
        raise ConfigError(f"plan: unknown keys {unknown}, missing {missing}; known are {sorted(PLAN_KEYS)}")
    alerts = {"early": 10, "later": 3, **plan.get("alerts", {})}
    campaigns, seen = [], set()
    for campaign in plan["campaigns"]:
        unknown = sorted(set(campaign) - CAMPAIGN_KEYS)
        missing = sorted({"name", "seed", "systems"} - set(campaign))
        if unknown or missing:
            raise ConfigError(f"plan: campaign has unknown keys {unknown}, misses {missing}")
        strange = sorted(set(campaign.get("kinds") or {}) - set(CLASS_OF_KIND))
        if strange:
            raise ConfigError(f"plan: campaign {campaign['name']}: kinds {strange}, expected some of {sorted(CLASS_OF_KIND)}")
        if campaign["seed"] in seen:
            raise ConfigError(f"plan: seed {campaign['seed']} used twice: the same systems would be in two campaigns")
        seen.add(campaign["seed"])
        campaigns.append(
            {
                "per_shard": 250,
                "kinds": None,
                **campaign,
                "splits": check_fractions(campaign["splits"]) if "splits" in campaign else None,
                "alerts": {**alerts, **campaign.get("alerts", {})},
            }
        )
    return {"profile": plan["survey"], "filter": None, **plan, "alerts": alerts, "campaigns": campaigns}


def kind_of(seed, index, kinds):
    """Kind of a system by the weights of `kinds`, from its name alone; None (the population's own mix) without weights."""
    if not kinds:
        return None
    names = sorted(kinds)
    edges = np.cumsum([float(kinds[name]) for name in names])
    return names[int(np.searchsorted(edges, unit_hash("kind", seed, index) * edges[-1], side="right"))]


def chosen(n_detections, early, later, *name):
    """Which alerts of one object are kept: those up to detection `early`, and `later` of the rest, by hash of `name`.

    Parameters
    ----------
    n_detections : sequence of int
        Of each alert of the object, trigger included.

    Returns
    -------
    list of int
        Indices, ascending.
    """
    keep = [i for i, n in enumerate(n_detections) if n <= early]
    rest = sorted((i for i, n in enumerate(n_detections) if n > early), key=lambda i: unit_hash("later", *name, i))
    return sorted(keep + rest[:later])


def shard_name(campaign, number):
    """Folder name of one shard."""
    return f"{campaign['name']}-{number:05d}"


def agree(plan, folder):
    """Write the plan beside the shards, or see that those that are there are of the same plan."""
    old = read_info(folder)
    if old:
        same = all(old.get(key) == plan[key] for key in ("survey", "profile", "input", "filter"))
        if "simulator_data" in old:
            same &= old["simulator_data"] == plan.get("simulator_data")
        else:  # nobody knows any more
            plan = {key: value for key, value in plan.items() if key != "simulator_data"}
        for campaign in plan["campaigns"]:
            before = next((c for c in old.get("campaigns", []) if c["name"] == campaign["name"]), None)
            same &= before is None or {**before, "systems": 0} == {**campaign, "systems": 0}
        if not same:
            raise ConfigError(f"{folder}: made by another plan (see its dataset.json); use another folder")
        kept = {c["name"]: c for c in old.get("campaigns", [])}
        for campaign in plan["campaigns"]:
            more = kept.get(campaign["name"], campaign)["systems"]
            if campaign["systems"] != more and min(campaign["systems"], more) % campaign["per_shard"]:
                size = campaign["per_shard"]
                raise ConfigError(f"{folder}: campaign {campaign['name']} grows only by whole shards of {size}")
        plan = {**plan, "campaigns": list({**kept, **{c["name"]: c for c in plan["campaigns"]}}.values())}
    try:
        path = folder / "dataset.json"
        fresh = path.with_suffix(".part")
        fresh.write_text(json.dumps({**plan, "columns": list(COLUMNS)}, indent=1))
        fresh.replace(path)
    except OSError as error:
        raise StateError(f"{folder}: cannot be written: {error}") from error
