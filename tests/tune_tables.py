"""Made-up score tables for tests of tuning: real nights, injected lensed supernovae, known negatives, facts of pre-cuts."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dgl_broker.archive.sinks import table_schema

BUNDLE, OTHER = "ab" * 32, "cd" * 32
FILTER = """
name: bright
version: 1
survey: ztf
bundle_sha256: {bundle}
require:
  reliability: {{min: 0.2, why: the stream's own limit}}
  off_the_plane: {{any: [{{galactic_latitude_deg: {{min: 7}}}}, {{galactic_latitude_deg: {{max: -7}}}}]}}
  is_positive: {{equals: true}}
threshold: {threshold}
completeness_floor: {floor}
max_candidates_per_night: {budget}
"""
FIRST_NIGHT = 61000  # MJD; 2025-11-21


def write_filter(folder, threshold=3.0, floor=0.1, budget=200, bundle=BUNDLE, name="bright"):
    """The file of a filter, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(FILTER.format(threshold=threshold, floor=floor, budget=budget, bundle=bundle).replace("bright", name))
    return path


def columns(n_real=2000, n_lensed=200, n_negative=100, nights=5, seed=1, first_id=1_000_000_000_000_000_001):
    """Columns of a table: `n_lensed` and `n_negative` objects of three alerts each besides the real ones of the nights."""
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.zeros(n_real, int), np.ones(3 * n_lensed, int), np.full(3 * n_negative, 2)])
    n = len(groups)
    number = np.arange(n)
    real_object = rng.integers(0, max(n_real // 2, 1), n)
    object_id = np.where(groups == 0, real_object, 10_000_000 + (number - n_real) // 3).astype(str)
    detections = np.where(groups == 0, rng.integers(1, 20, n), 1 + (number - n_real) % 3 * 4)
    log_odds = rng.normal(np.choose(groups, [-4.0, 3.0, -2.0]), np.choose(groups, [2.0, 2.0, 2.0]))
    return {
        "survey": np.full(n, "ztf"),
        "alert_id": first_id + number,
        "object_id": object_id,
        "mjd_tai": FIRST_NIGHT + rng.integers(0, nights, n) + rng.uniform(0.1, 0.5, n),
        "ra": rng.uniform(0, 360, n),
        "dec": rng.uniform(-30, 80, n),
        "band": rng.choice(["g", "r"], n),
        "status": np.full(n, "scored"),
        "log_odds": log_odds,
        "p_lsn": 1 / (1 + np.exp(-log_odds)),
        "bundle_id": np.full(n, "small"),
        "bundle_sha256": np.full(n, BUNDLE),
        "injected": groups == 1,
        "source": np.full(n, "night.avro"),
        "source_row": number,
        "fact.n_detections": detections.astype(float),
        "fact.reliability": rng.uniform(0, 1, n),
        "fact.galactic_latitude_deg": rng.uniform(-90, 90, n),
        "fact.is_positive": rng.random(n) < 0.9,
        "group": groups,
    }


def write_table(path, made, filters=(("bright", 1),)):
    """A Parquet file of columns; what is not given is null. NaN is null."""
    made = {k: v for k, v in made.items() if k != "group"}
    fields = list(table_schema())
    n = len(made["alert_id"])
    known = {f.name: f.type for f in fields}
    arrays, names = [], []
    for f in fields:
        values = made.get(f.name)
        arrays.append(pa.nulls(n, f.type) if values is None else pa.array(values, f.type, from_pandas=True))
        names.append(f.name)
    for name, values in made.items():
        if name not in known:
            arrays.append(pa.array(values, from_pandas=True))
            names.append(name)
    table = pa.table(arrays, names=names)
    meta = {"filters": json.dumps([{"name": f, "version": v} for f, v in filters])}
    pq.write_table(table.replace_schema_metadata(meta), path, compression="snappy")
    return path


def write_labels(path, made):
    """Labels of the made-up lensed supernovae (every second of type Ia) and negatives."""
    lines = ["survey,alert_id,object_id,class,source"]
    known = np.flatnonzero(made["group"])
    for group, object_id in sorted(set(zip(made["group"][known].tolist(), made["object_id"][known].tolist()))):
        word = ("lensed_sn_ia" if int(object_id) % 2 else "lensed_sn_cc") if group == 1 else "agn"
        lines.append(f"ztf,,{object_id},{word},{'injected' if group == 1 else 'TNS'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_all(folder, **options):
    """(table, labels, filter's file, columns) in a folder."""
    made = columns(**options)
    return (
        write_table(folder / "scores.parquet", made),
        write_labels(folder / "labels.csv", made),
        write_filter(folder / "filters"),
        made,
    )
