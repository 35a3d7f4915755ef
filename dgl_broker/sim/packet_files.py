"""Many systems' packets into a folder, shard by shard, on all cores; what was finished before is not made again.

`packets/NNNNN/ALERT_ID.avro` are framed LSST messages, one a file, as `replay` reads them; `packets/NNNNN.avro` is a ZTF
container of all alerts of a shard. `schemas/` holds the schema of the LSST packets, `labels.csv` one row an alert, and
`simulate.json` what was asked.
"""

import csv
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.scores import CLASSES
from dgl_broker.sim.pool import one_thread
from dgl_broker.sim.sim_data import data_fingerprint
from dgl_broker.sim.system import CLASS_OF_KIND, KINDS

PER_SHARD = 50  # systems; a few hundred alerts
CSV_COLUMNS = (
    "survey", "alert_id", "object_id", "class", "kind", "n_detections", "days_since_first", "n_images", "separation_arcsec",
    "magnification", "z_lens", "z_source", "snr", "system", "seed", "galaxy_id", "mjd_tai", "band", "n_merged", "file", "row",
)  # fmt: skip


def even_weights():
    """Share of each kind: classes equally often, and the kinds of a class equally often."""
    return {kind: 1.0 / len(CLASSES) / len(KINDS[label]) for label in CLASSES for kind in KINDS[label]}


def stream_weights(survey):
    """Share of each kind as in the sky, by the simulator's table of rates."""
    from dgl_broker.sim.rates import stream_rates

    rates = {kind: rate.objects_per_year for kind, rate in stream_rates(survey).items()}
    total = sum(rates.values())
    return {kind: rate / total for kind, rate in rates.items()}


def parse_weights(text, survey):
    """Weights from `even`, `stream`, or `kind=weight,...`.

    Raises
    ------
    ConfigError
        Naming what is unknown or no positive number.
    """
    if text == "even":
        return even_weights()
    if text == "stream":
        return stream_weights(survey)
    weights = {}
    for part in text.split(","):
        kind, _, value = part.partition("=")
        if kind not in CLASS_OF_KIND:
            raise ConfigError(f"--mix: kind {kind!r}, expected even, stream, or some of {', '.join(CLASS_OF_KIND)}")
        try:
            weights[kind] = float(value or 1.0)
        except ValueError as error:
            raise ConfigError(f"--mix: {part!r}, expected {kind}=NUMBER") from error
        if not (np.isfinite(weights[kind]) and weights[kind] > 0):
            raise ConfigError(f"--mix: {part!r}, expected a positive number")
    total = sum(weights.values())
    return {kind: value / total for kind, value in weights.items()}


def kind_of(seed, index, weights):
    """The kind of a system, by its name alone."""
    kinds = sorted(weights)
    edges = np.cumsum([weights[k] for k in kinds])
    draw = np.random.default_rng(np.random.SeedSequence([seed, index, 77])).uniform()
    return kinds[int(np.searchsorted(edges, draw * edges[-1], side="right"))]


def _write_shard(plan, shard, folder):
    """One shard: its packets, then its labels under their final name, so that a name means a finished shard."""
    from dgl_broker.sim.packets import simulate_packets
    from dgl_broker.sim.population import draw_system

    survey, seed = plan["survey"], plan["seed"]
    folder = Path(folder)
    stem = f"{shard:05d}"
    rows, records = [], []
    messages = folder / "packets" / stem
    if plan["packets"] and survey == "lsst":
        shutil.rmtree(messages, ignore_errors=True)  # what an interrupted run left
        messages.mkdir(parents=True)
    for index in range(shard * plan["per_shard"], min((shard + 1) * plan["per_shard"], plan["n"])):
        system = draw_system(plan["survey"], seed, index, kind=kind_of(seed, index, plan["weights"]))
        for alert in simulate_packets(system, survey):
            if plan["alerts_per_object"] and alert.labels["n_detections"] > plan["alerts_per_object"]:
                continue
            row = dict(alert.labels)
            if plan["packets"] and survey == "lsst":
                (messages / f"{alert.alert_id}.avro").write_bytes(alert.value)
                row |= {"file": f"packets/{stem}/{alert.alert_id}.avro", "row": 0}
            elif plan["packets"]:
                row |= {"file": f"packets/{stem}.avro", "row": len(records)}
                records.append(alert.record)
            rows.append(row)
    if records:
        from dgl_broker.surveys.ztf.write import ztf_writer

        (folder / "packets").mkdir(exist_ok=True)
        (folder / "packets" / f"{stem}.avro").write_bytes(ztf_writer().container(records))
    part = folder / "parts" / f"{stem}.csv"
    fresh = part.with_suffix(".new")
    with open(fresh, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
        for row in rows:
            writer.writerow({name: _text(row.get(name)) for name in CSV_COLUMNS})
    os.replace(fresh, part)
    return len(rows)


def _text(value):
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _agree(folder, plan):
    """Writes what is asked, or checks that the folder was begun with the same.

    Raises
    ------
    ConfigError
        Naming the first difference.
    """
    path = folder / "simulate.json"
    if not path.exists():
        path.write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n")
        return
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise StateError(f"{path}: not JSON: {error}") from error
    for name, value in plan.items():
        if before.get(name) != value and name != "n":
            raise ConfigError(f"{folder}: begun with {name} {before.get(name)!r}, asked for {value!r}; choose another folder")
    if before["n"] > plan["n"]:
        raise ConfigError(f"{folder}: holds {before['n']} systems, asked for {plan['n']}")
    if before["n"] % plan["per_shard"] and before["n"] != plan["n"]:
        raise ConfigError(
            f"{folder}: its last shard is of {before['n']} systems; more can be added to multiples of {plan['per_shard']}"
        )
    path.write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n")


def write_packet_files(survey, n, seed, folder, packets=True, mix="even", alerts_per_object=10, workers=None, progress=None):
    """Simulates systems 0 to n-1 of a run and writes labels, and packets if asked.

    Parameters
    ----------
    survey : "lsst" or "ztf"
    n, seed : int
    folder : path
        Made if it is not there; shards finished before by the same call are kept.
    packets : bool
        Without, `labels.csv` alone: what alerts there would be.
    mix : str
        `even`, `stream`, or `kind=weight,...`.
    alerts_per_object : int
        Only an object's first alerts, so many; 0 for all.
    workers : int, optional
        Processes; as many as cores by default.
    progress : callable, optional
        Called with the number of systems finished since the last call.

    Returns
    -------
    int
        Alerts in `labels.csv`.
    """
    folder = Path(folder)
    plan = {
        "survey": survey,
        "seed": seed,
        "n": n,
        "packets": packets,
        "weights": parse_weights(mix, survey),
        "alerts_per_object": alerts_per_object,
        "per_shard": PER_SHARD,
        "data": data_fingerprint(),  # systems differ with and without spectra and cadences
    }
    try:
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        _agree(folder, plan)
        if packets and survey == "lsst":
            copy_schemas(folder / "schemas")
        shards = range(-(-n // PER_SHARD))
        missing = [k for k in shards if not (folder / "parts" / f"{k:05d}.csv").exists()]
        done = n - sum(min(PER_SHARD, n - k * PER_SHARD) for k in missing)
        if progress and done:
            progress(done)
        for shard in _in_processes(plan, missing, folder, workers or os.cpu_count() or 1):
            if progress:
                progress(min(PER_SHARD, n - shard * PER_SHARD))
        return _merge(folder, shards)
    except OSError as error:
        raise StateError(f"{folder}: {error}") from error


def _in_processes(plan, shards, folder, workers):
    """Makes shards, yielding each when it is finished."""
    if workers == 1 or len(shards) < 2:
        for shard in shards:
            _write_shard(plan, shard, folder)
            yield shard
        return
    context = get_context("spawn")
    with one_thread(), ProcessPoolExecutor(min(workers, len(shards)), mp_context=context) as pool:
        waiting = {pool.submit(_write_shard, plan, shard, str(folder)): shard for shard in shards}
        try:
            for future in as_completed(waiting):
                future.result()
                yield waiting[future]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _merge(folder, shards):
    """`labels.csv` from the parts, in order of systems; the number of alerts."""
    count = 0
    fresh = folder / "labels.csv.new"
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(",".join(CSV_COLUMNS) + "\n")
        for shard in shards:
            text = (folder / "parts" / f"{shard:05d}.csv").read_text()
            count += text.count("\n")
            file.write(text)
    os.replace(fresh, folder / "labels.csv")
    return count


def copy_schemas(folder):
    """Puts the schemas of our own LSST packets into a folder, by registry id, for `--schemas`."""
    from dgl_broker.data_files import folder as shipped

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((shipped("schemas") / "write").glob("9*.avsc")):
        shutil.copyfile(path, folder / path.name)
