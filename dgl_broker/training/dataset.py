"""Shards of examples straight from the simulator: a packet is written, read, turned into an example, and dropped.

A plan (see `plan.py`) says what to make. Each system's split is the hash of (seed, index), decided before it is drawn;
its kind is drawn with the weights of `kinds`. Kept are all alerts of an object up to its detection number `early`, and
`later` of those after, so that every number of detections is in domain. This module imports no torch: it runs in a
process per core.
"""

import json
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from dgl_broker.errors import NotScorable, PacketError
from dgl_broker.scores import CLASSES
from dgl_broker.sim.pool import one_thread
from dgl_broker.sim.sim_data import data_fingerprint
from dgl_broker.training.plan import agree, check_plan, chosen, kind_of, shard_name
from dgl_broker.training.progress import bar
from dgl_broker.training.shards import columns_of, shard_names, write_shard
from dgl_broker.training.splits import split_of


class Simulator:
    """Where alerts come from in production: `draw_system`, `simulate_packets`, and the reader of the live stream."""

    def __init__(self, plan):
        from dgl_broker.example import ExampleSpec

        self.survey, self.profile = plan["survey"], plan["profile"]
        self.spec = ExampleSpec.from_card({"id": self.survey, "kind": "alert", **{k: plan[k] for k in ("survey", "input")}})
        self.schemas = _own_schemas(self.survey)
        self.filter = None
        if plan.get("filter"):
            from dgl_broker.selection import load_filter

            self.filter = load_filter(plan["filter"])

    def packets(self, seed, index, kind):
        """The system and its packets, in order of time: (System, list of SimulatedAlert)."""
        from dgl_broker.sim.packets import simulate_packets
        from dgl_broker.sim.population import draw_system

        system = draw_system(self.profile, seed, index, kind=kind)
        return system, simulate_packets(system, self.survey)

    def read(self, value):
        """The `Alert` of one packet, by the way of the live stream."""
        from dgl_broker.surveys import read_alert
        from dgl_broker.wire import decode

        return read_alert(decode(value, self.survey, self.schemas))

    def examples(self, alerts):
        """An `Example` or a `NotScorable` for each alert of one system, in order of time.

        Where the card has planes for companions, the earlier alerts among these are what a store would have given.
        """
        from dgl_broker.example import build_examples

        if not self.spec.companion_bands:
            return build_examples(alerts, self.spec)
        from dgl_broker.companion_desk import CompanionDesk
        from dgl_broker.companions import open_store

        return build_examples(alerts, self.spec, CompanionDesk(open_store("none")).fetch(alerts))

    def stack(self, examples):
        """Arrays of some examples."""
        from dgl_broker.example import stack

        return stack(examples)

    def precut(self, alert):
        """1 where the shipped pre-cuts pass, 0 where not, -1 where none were named in the plan."""
        if self.filter is None:
            return -1
        return int(self.filter.precut(alert.facts).passed is True)


def _own_schemas(survey):
    """Where the writer's own schemas are found; None for ZTF, whose packets carry theirs."""
    if survey != "lsst":
        return None
    from dgl_broker.sim.packets import own_schemas

    return own_schemas(survey)


def rows_of_system(source, campaign, index):
    """Examples and labels of one system.

    Returns
    -------
    examples : list of Example
    rows : list of dict
        Labels of each (see `shards.COLUMNS`).
    counts : Counter
        `systems.<kind>`, `silent.<kind>` (no alert at all), `alerts`, `kept`, `refused.<reason>`, `unreadable.<reason>`.
    """
    seed, early, later = campaign["seed"], campaign["alerts"]["early"], campaign["alerts"]["later"]
    split = split_of(seed, index, campaign["splits"])
    system, packets = source.packets(seed, index, kind_of(seed, index, campaign["kinds"]))
    counts = Counter({f"systems.{system.kind}": 1, "alerts": len(packets)})
    if not packets:
        counts[f"silent.{system.kind}"] += 1
        return [], [], counts
    by_object = {}
    for i, packet in enumerate(packets):
        by_object.setdefault(str(packet.labels["object_id"]), []).append(i)
    keep = []
    for name, members in by_object.items():
        numbers = [packets[i].labels["n_detections"] for i in members]
        keep += [members[j] for j in chosen(numbers, early, later, seed, index, name)]
    alerts, labels = [], []
    for i in sorted(keep):
        try:
            alerts.append(source.read(packets[i].value))
            labels.append(packets[i].labels)
        except PacketError as error:
            counts[f"unreadable.{error.reason}"] += 1
    examples, rows = [], []
    for alert, label, example in zip(alerts, labels, source.examples(alerts)):
        if isinstance(example, NotScorable):
            counts[f"refused.{example.reason}"] += 1
            continue
        examples.append(example)
        rows.append(
            {
                **labels_of(alert, example, label),
                **brightness_of(system.truth),
                "split": split,
                "seed": seed,
                "system": index,
                "galaxy_run": seed,
                "galaxy_id": system.galaxy_id,
                "campaign": campaign["name"],
                "class": CLASSES.index(system.label),
                "kind": system.kind,
                "precut": source.precut(alert),
            }
        )
    counts["kept"] += len(examples)
    return examples, rows, counts


def brightness_of(truth):
    """i magnitudes of the galaxies, as the simulator's truth has them: lens, the transient's host, the brighter of both."""
    lens, source = truth.get("lens_mag_i"), truth.get("host_mag_i")
    there = [m for m in (lens, source) if m is not None]
    return {"lens_mag": lens, "source_mag": source, "host_mag": min(there, default=None)}


def labels_of(alert, example, label):
    """Label columns of one alert that do not depend on where it came from: the packet's own, then the simulator's truth."""
    first = alert.first_detection_mjd_tai
    found = {
        "object_id": alert.object_id or "",
        "alert_id": alert.alert_id,
        "n_detections": alert.n_detections,
        "days_since_first": None if first is None else alert.mjd_tai - first,
        "mjd_tai": alert.mjd_tai,
        "band": alert.band,
        "bands_used": example.completeness.bands_used,
        "n_epochs": example.completeness.n_epochs,
        "valid_fraction": example.completeness.valid_fraction,
        "snr": alert.flux_njy / alert.flux_err_njy if alert.flux_err_njy else None,
        "flux_njy": alert.flux_njy,
        "curve_detections": example.completeness.n_detections,
        "stamp_snr": example.completeness.stamp_snr,
        "stamp_sharpness": example.completeness.stamp_sharpness,
        "reliability": alert.reliability,
    }
    truth = ("n_images", "separation_arcsec", "magnification", "z_lens", "z_source", "lens_mag", "source_mag", "host_mag")
    found.update({name: label[name] for name in truth if label.get(name) is not None})
    return found


def make_shard(plan, campaign, number, folder, source=None):
    """Make and write shard `number` of a campaign; gives its counts."""
    source = Simulator(plan) if source is None else source
    started, counts, examples, rows = time.monotonic(), Counter(), [], []
    first = number * campaign["per_shard"]
    for index in range(first, min(first + campaign["per_shard"], campaign["systems"])):
        found, labels, count = rows_of_system(source, campaign, index)
        examples += found
        rows += labels
        counts += count
    if examples:
        batch = source.stack(examples)
        images, light_curves, contexts = batch.images, batch.light_curves, batch.contexts
    else:
        images, light_curves, contexts = empty_rows(plan["input"])
    kept = {**counts, "seconds": round(time.monotonic() - started, 2)}
    write_shard(folder, shard_name(campaign, number), images, light_curves, contexts, columns_of(rows), kept)
    return kept


def empty_rows(card_input):
    """Arrays of no rows in the shapes that a card's input has."""
    image, curve = card_input["image"], card_input["light_curve"]
    shapes = (
        (0, len(image["planes"]), image["side"], image["side"]),
        (0, curve["steps"], len(curve["features"])),
        (0, len(card_input.get("context", ()))),
    )
    return tuple(np.zeros(shape, np.float32) for shape in shapes)


def make_dataset(plan, folder, workers=None, source=None):
    """Make all shards of a plan that are not there yet; gives the summed counts of the whole folder.

    Parameters
    ----------
    plan : dict
        See the head of this module.
    folder : path
        The data folder; made where it is not there.
    workers : int, optional
        Processes, one thread each; all cores without. 0 works in this process.
    source : object, optional
        In place of `Simulator` (with `workers=0`).

    Raises
    ------
    ConfigError
        If the folder was made by another plan (more systems or campaigns are no other plan).
    StateError
        If the disk does not take a shard.
    """
    plan = {**check_plan(plan), "simulator_data": data_fingerprint()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    agree(plan, folder)
    done = set(shard_names(folder))
    tasks = [
        (campaign, number)
        for campaign in plan["campaigns"]
        for number in range(-(-campaign["systems"] // campaign["per_shard"]))
        if shard_name(campaign, number) not in done
    ]
    workers = (os.cpu_count() or 1) if workers is None else workers
    with bar("shards", len(tasks), "shards") as advance:
        if workers == 0:
            for campaign, number in tasks:
                counts = make_shard(plan, campaign, number, folder, source)
                advance(1, f"{counts.get('kept', 0)} examples")
        elif tasks:
            with one_thread(), ProcessPoolExecutor(workers, get_context("spawn"), max_tasks_per_child=50) as pool:
                waiting = {pool.submit(make_shard, plan, c, n, folder): (c, n) for c, n in tasks}
                try:
                    for future in as_completed(waiting):
                        counts = future.result()
                        advance(1, f"{counts.get('kept', 0)} examples in {counts['seconds']} s")
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    return summed_counts(folder)


def summed_counts(folder):
    """Counts of all shards of a data folder together, as a plain dict."""
    total = Counter()
    for name in shard_names(folder):
        total.update(json.loads((Path(folder) / "shards" / name / "counts.json").read_text()))
    return dict(total)
