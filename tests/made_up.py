"""Made-up examples for tests of training and evaluation: small arrays in which the class can be seen, but not always."""

import numpy as np

from dgl_broker.scores import CLASSES
from dgl_broker.sim.system import CLASS_OF_KIND
from dgl_broker.training.shards import Table, columns_of
from dgl_broker.training.splits import split_of

FEATURES = ["mask", "age", "gap", "flux", "is_detection", "band_g", "band_r"]
CARD = {
    "id": "tiny",
    "kind": "alert",
    "survey": "lsst",
    "classes": list(CLASSES),
    "input": {
        "image": {"side": 12, "pixel_scale_arcsec": 0.2, "planes": ["template", "difference"], "softening_njy": 20.0},
        "light_curve": {"steps": 5, "features": FEATURES, "softening_njy": 100.0, "mask": "mask"},
        "context": ["n_detections", "host_g", "has_host_g"],
        "bands": "gr",
        "minimum": {"n_detections": 1, "n_bands": 1, "valid_fraction": 0.3},
    },
    "network": {
        "widths": {
            "cnn": {"channels": [4, 6], "kernels": [5, 3], "strides": [2, 2], "paddings": [2, 1], "hidden": [16, 12],
                    "features": 8, "dropout_maps": 0.1, "dropout": 0.1},
            "gru": {"hidden": 6, "layers": 1, "features": 8},
            "fc": {"hidden": [16, 12, 10], "features": 8, "head": [6, 5]},
            "glonet": {"hidden": [24, 16], "features": 8, "head": [6]},
            "transformer": {"layers": 1, "heads": 2, "feedforward": 16},
            "lonet": {"hidden": 12, "features": 8, "head": [6]},
            "munet": {"cnn": 6, "hidden": 12, "features": 8, "head": [8, 6]},
        }
    },
}  # fmt: skip
KINDS = ("sn_ia_host", "agn", "sn_ia_lrg", "sn_ia_in_lens", "lensed_quasar", "lensed_sn_ia", "lensed_sn_cc")


def labels(n_objects, seed=1, alerts=2, fractions=None, kinds=KINDS):
    """Label columns of objects with `alerts` alerts each, one object a system."""
    rows = []
    for i in range(n_objects):
        kind = kinds[i % len(kinds)]
        rng = np.random.default_rng([seed, i])
        for k in range(1, alerts + 1):
            rows.append(
                {
                    "split": split_of(seed, i, fractions),
                    "seed": seed,
                    "system": i,
                    "galaxy_run": seed,
                    "galaxy_id": i,
                    "object_id": f"o{seed}-{i}",
                    "alert_id": seed * 10**15 + i * 100 + k,
                    "class": CLASSES.index(CLASS_OF_KIND[kind]),
                    "kind": kind,
                    "n_detections": k,
                    "curve_detections": k,
                    "days_since_first": 3.0 * (k - 1),
                    "bands_used": "gr"[: 1 + k % 2],
                    "snr": 5 + 20 * rng.random(),
                    "flux_njy": 1000 * rng.random(),
                    "separation_arcsec": 2 * rng.random() if "lensed_sn" in kind else np.nan,
                    "n_images": 2 + 2 * (i % 3 == 0) if "lensed_sn" in kind else 1,
                    "host_mag": 20 + 4 * rng.random(),
                    "precut": 1,
                }
            )
    return columns_of(rows)


def table(n_objects, seed=1, alerts=2, fractions=None, kinds=KINDS, contrast=1.0):
    """A table in which image, light curve and context each say something about the class."""
    columns = labels(n_objects, seed, alerts, fractions, kinds)
    rng = np.random.default_rng(seed)
    c = columns["class"].astype(int)
    n = len(c)
    images = rng.normal(size=(n, 2, 12, 12)).astype(np.float32)
    y, x = np.mgrid[:12, :12] - 5.5
    ring = np.exp(-((np.hypot(x, y) - 3) ** 2))
    images[:, 0] += contrast * 2 * (c > 0)[:, None, None] * ring
    images[:, 1] += contrast * 2 * (c > 1)[:, None, None] * ring
    curves = np.zeros((n, 5, len(FEATURES)), np.float32)
    curves[:, :, 0] = 1
    curves[:, :, 1] = np.log1p(np.arange(4, -1, -1)) / 3
    curves[:, 1:, 2] = np.log1p(1) / 3
    curves[:, :, 3] = rng.normal(size=(n, 5)) + contrast * np.where(c == 3, 1.5, np.where(c == 2, -1.5, 0))[:, None]
    curves[:, -1, 4] = 1
    curves[:, :, 5] = 1
    contexts = np.stack([np.log1p(columns["n_detections"]) / 3, rng.normal(size=n), np.ones(n)], 1).astype(np.float32)
    return Table.of_arrays(images, curves, contexts, columns, {"survey": "lsst", "input": CARD["input"]})


def split(made, name):
    """Rows of one split."""
    return made.select(made.labels["split"] == name)
