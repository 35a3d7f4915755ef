"""The scores of a replayed night, for a running filter to be held against."""

import numpy as np

from dgl_broker.archive.score_columns import read_score_columns
from dgl_broker.errors import ConfigError
from dgl_broker.nights import UNKNOWN, nights_of
from dgl_broker.observe.drift import make_reference

COLUMNS = ("survey", "mjd_tai", "status", "log_odds", "bundle_id", "bundle_sha256", "injected")


def reference_of_table(path, night=None):
    """A `Reference` of the real, scored alerts in a table of `dgl-broker replay`, a file or a folder.

    Parameters
    ----------
    path : path
    night : str, optional
        Of this night alone; by default of all there are.

    Raises
    ------
    InputUnavailable
        If the table cannot be read or lacks a column.
    ConfigError
        If it has scores of two bundles or surveys, or too few.
    """
    table = read_score_columns(path, COLUMNS.__contains__)
    mjd_tai, log_odds = table.numbers["mjd_tai"], table.numbers["log_odds"]
    of = {name: table.words[name].text() for name in ("survey", "bundle_id", "bundle_sha256")}
    keep = table.words["status"].text() == "scored"
    if "injected" in table.numbers:
        keep &= ~(table.numbers["injected"] > 0)  # NaN is unknown, which is real
    if not keep.any():
        raise ConfigError(f"{path}: no scored alert that is real")
    found = {name: sorted(set(values[keep].tolist())) for name, values in of.items()}
    if any(len(values) > 1 for values in found.values()):
        text = ", ".join(f"{name} {' and '.join(values)}" for name, values in found.items())
        raise ConfigError(f"{path}: {text}, expected one survey and one bundle")
    nights = nights_of(found["survey"][0], mjd_tai)
    keep &= np.isfinite(log_odds) & ((nights == night) if night is not None else True)
    known = sorted(set(nights[keep].tolist()) - {UNKNOWN})
    if not known:
        raise ConfigError(f"{path}: no scored alert of the night {night}")
    name = known[0] if len(known) == 1 else f"{known[0]}/{known[-1]}"
    bundle_id, bundle_sha256 = found["bundle_id"][0], found["bundle_sha256"][0]
    return make_reference(found["survey"][0], name, bundle_id, bundle_sha256, log_odds[keep])
