"""Training data of packets with labels: real alerts, or those that `dgl-broker simulate --packets` wrote.

Objects are kept whole: the images of one lens, and whatever lies within 5" of it, go into one split. What the labels do
not say stays unknown.
"""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, InputUnavailable, NotScorable, PacketError, StateError
from dgl_broker.scores import CLASSES
from dgl_broker.training.dataset import labels_of, summed_counts
from dgl_broker.training.presets import load_preset
from dgl_broker.training.progress import bar
from dgl_broker.training.shards import COLUMNS, columns_of, read_info, write_shard
from dgl_broker.training.splits import check_fractions, group_by_sky, split_of, unit_hash

NEEDED = ("alert_id", "class")
ROWS_A_SHARD = 4000
TRUTH_INTEGERS = ("n_images",)


def read_label_table(path):
    """Rows of a label file by (survey or None, alert id).

    Returns
    -------
    dict
        (survey, alert_id) -> row, numbers as numbers, empty cells left out.

    Raises
    ------
    InputUnavailable
        If the file cannot be read.
    ConfigError
        Naming the row: a column that is missing, an unknown class, an alert with two labels that differ.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8") as held:
            rows = list(csv.DictReader(held))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputUnavailable(f"{path}: cannot be read: {error}") from error
    if not rows:
        raise ConfigError(f"{path}: no rows, expected a header with {', '.join(NEEDED)} and a row for each alert")
    missing = [name for name in NEEDED if name not in rows[0]]
    if missing:
        raise ConfigError(f"{path}: no column {', '.join(missing)}; there are {', '.join(rows[0])}")
    table = {}
    for number, row in enumerate(rows, start=2):
        if row["class"] not in CLASSES:
            raise ConfigError(f"{path}: row {number}: class {row['class']!r}, expected one of {', '.join(CLASSES)}")
        try:
            alert_id = int(row["alert_id"])
        except ValueError as error:
            raise ConfigError(f"{path}: row {number}: alert_id {row['alert_id']!r}, expected an integer") from error
        key = (row.get("survey") or None, alert_id)
        kept = {name: _typed(name, value, path, number) for name, value in row.items() if value}
        if table.setdefault(key, kept)["class"] != row["class"]:
            raise ConfigError(f"{path}: row {number}: alert {alert_id} is {row['class']} here and {table[key]['class']} above")
    return table


def _typed(name, value, path, number):
    """A cell in the type of its column; ConfigError where it is no number and must be one."""
    kind = COLUMNS.get(name, ("U",))[0]
    if isinstance(kind, str):
        return value
    if name == "class":
        return value
    try:
        return int(value) if np.issubdtype(kind, np.integer) else float(value)
    except ValueError as error:
        raise ConfigError(f"{path}: row {number}: {name} {value!r}, expected a number") from error


def dataset_of_packets(packets, labels, out, preset=None, schemas=None, splits=None, source_name="packets"):
    """Shards of packets whose labels are known.

    Parameters
    ----------
    packets : path
        A folder of packets (or one file).
    labels : path
        CSV, see `read_label_table`; `survey` may be missing where all are of one.
    out : path
        The data folder.
    preset : str, optional
        Whose input to make; `<survey>_alert` without.
    schemas : str, optional
        Writers' schemas by id (LSST): folder or URL. The `schemas` folder beside the packets, where there is one, else our own.
    splits : dict, optional
        Share by split; `DEFAULT_FRACTIONS` without.
    source_name : str
        Stands for the run in the hash that splits systems.

    Returns
    -------
    dict
        Counts: `messages`, `kept`, `unlabelled`, `unreadable.<reason>`, `refused.<reason>`, `absent` (labels without a packet).
    """
    table = read_label_table(labels)
    surveys = {survey for survey, _ in table} - {None}
    if len(surveys) > 1:
        raise ConfigError(f"{labels}: surveys {sorted(surveys)}; make a data set of each")
    found, counts = _read(packets, table, next(iter(surveys), None), schemas)
    if not found:
        raise InputUnavailable(f"{packets}: no packet that can be read has a label in {labels} ({dict(counts)})")
    survey = found[0][0].survey
    preset = load_preset(preset or f"{survey}_alert")
    fractions = check_fractions(splits) if splits else None
    _write_info(Path(out), survey, preset["card"]["input"], packets, labels, fractions)
    system = group_by_sky([a.ra for a, _ in found], [a.dec for a, _ in found])
    system = _one_system_an_object([a.object_id for a, _ in found], system)
    run = int(unit_hash("run", source_name, Path(packets).name) * 2**31)
    order = np.argsort(system, kind="stable")
    with bar("examples", len(found), "alerts") as advance:
        for number, start in enumerate(range(0, len(order), ROWS_A_SHARD)):
            part = order[start : start + ROWS_A_SHARD]
            alerts = [found[i][0] for i in part]
            truth = [found[i][1] for i in part]
            shard = _examples(alerts, truth, system[part], run, preset["card"], fractions)
            if number == 0:
                shard[-1].update(counts)
            write_shard(out, f"packets-{number:05d}", *shard)
            advance(len(part))
    return summed_counts(out)


def _read(packets, table, survey, schemas):
    """(Alert, label row) of every packet that can be read and has a label, and the counts."""
    from dgl_broker.archive.sources import read_messages
    from dgl_broker.surveys import read_alert
    from dgl_broker.wire import decode

    source, counts, found, seen = _schemas(packets, survey, schemas), Counter(), [], set()
    for message in read_messages([packets], survey):
        counts["messages"] += 1
        packet = getattr(message, "packet", None)
        try:
            if isinstance(packet, PacketError):
                raise packet
            alert = read_alert(decode(message.value, survey, source) if packet is None else packet)
        except PacketError as error:
            counts[f"unreadable.{error.reason}"] += 1
            continue
        label = table.get((alert.survey, alert.alert_id)) or table.get((None, alert.alert_id))
        if label is None:
            counts["unlabelled"] += 1
        elif alert.alert_id in seen:
            counts["repeated"] += 1
        else:
            seen.add(alert.alert_id)
            found.append((alert, label))
    counts["absent"] = sum(alert_id not in seen for _, alert_id in table)
    return found, counts


def _schemas(packets, survey, schemas):
    """Where writers' schemas come from."""
    from dgl_broker.wire import schema_source

    if schemas:
        return schema_source(schemas)
    beside = Path(packets) / "schemas"
    if beside.is_dir():
        return schema_source(str(beside))
    if survey == "ztf":
        return None
    from dgl_broker.sim.packets import own_schemas

    return own_schemas("lsst")


def _one_system_an_object(object_ids, system):
    """Systems joined where one object's alerts fell into several (its place is measured anew each time)."""
    system = np.array(system)
    home = {}
    for i, name in enumerate(object_ids):
        if name is None:
            continue
        first = home.setdefault(name, i)
        if system[i] != system[first]:
            system[system == system[i]] = system[first]
    return system


def _examples(alerts, truth, system, run, card, fractions):
    """Arrays, label columns and counts of one shard."""
    from dgl_broker.example import ExampleSpec, build_examples, stack
    from dgl_broker.training.dataset import empty_rows

    counts, kept, rows = Counter(), [], []
    for alert, label, number, example in zip(alerts, truth, system, build_examples(alerts, ExampleSpec.from_card(card))):
        if isinstance(example, NotScorable):
            counts[f"refused.{example.reason}"] += 1
            continue
        kept.append(example)
        rows.append(
            {
                **{name: value for name, value in label.items() if name in COLUMNS},
                **labels_of(alert, example, label),
                "split": split_of(run, int(number), fractions),
                "seed": run,
                "system": int(number),
                "galaxy_run": -1,
                "galaxy_id": -1,
                "class": CLASSES.index(label["class"]),
                "kind": label.get("kind", label["class"]),
                "campaign": "packets",
            }
        )
    counts["kept"] = len(kept)
    if kept:
        batch = stack(kept)
        arrays = batch.images, batch.light_curves, batch.contexts
    else:
        arrays = empty_rows(card["input"])
    return *arrays, columns_of(rows), counts


def _write_info(out, survey, card_input, packets, labels, fractions):
    info = {"survey": survey, "input": card_input, "packets": str(packets), "labels": str(labels), "splits": fractions}
    old = read_info(out)
    if old and old.get("input") != card_input:
        raise ConfigError(f"{out}: holds examples of another input; use another folder")
    if old and old != json.loads(json.dumps(info)):
        raise ConfigError(f"{out}: holds a data set of other packets or splits; use another folder, `train` takes several")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "dataset.json").write_text(json.dumps(info, indent=1))
    except OSError as error:
        raise StateError(f"{out}: cannot be written: {error}") from error
