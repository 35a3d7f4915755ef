"""Bundles with random weights, for the demonstration and the tests until trained ones are at hand. Their cards say so."""

import torch

from dgl_broker.context import context_names
from dgl_broker.errors import ConfigError
from dgl_broker.light_curve import POINT_FEATURES
from dgl_broker.model.bundle import make_bundle
from dgl_broker.model.fusion import Fusion
from dgl_broker.model.fusion_networks import build_members
from dgl_broker.model.shape import NetworkShape, alert_widths

# Side and scale of the stamps (30 px of 0.2" in LSST packets, 63 px of 1.01" in ZTF's), and where flux scales turn from linear
# to logarithmic [nJy]: for fluxes a fifth of the 5-sigma depth of a visit, r 24.6 (LSST) and r 20.6 (ZTF).
ALERT_INPUTS = {
    "lsst": {
        "bands": "ugrizy",
        "side": 30,
        "scale": 0.2,
        "pixel_softening_njy": 20.0,
        "flux_softening_njy": 105.0,
        "stamp": {"stamp_snr": 3.2, "max_sharpness": 0.7},
    },
    "ztf": {
        "bands": "gri",
        "side": 33,
        "scale": 1.012,
        "pixel_softening_njy": 1000.0,
        "flux_softening_njy": 4200.0,
        "stamp": {"stamp_snr": 5.0, "max_sharpness": 0.6},
    },
}


def untrained_card(survey):
    """Card of an alert bundle for `survey` with everything that an example can hold; ConfigError for another survey."""
    if survey not in ALERT_INPUTS:
        raise ConfigError(f"survey {survey!r}, expected one of {', '.join(ALERT_INPUTS)}")
    known = ALERT_INPUTS[survey]
    return {
        "id": f"{survey}_untrained",
        "kind": "alert",
        "survey": survey,
        "trained": False,
        "input": {
            "bands": known["bands"],
            "image": {
                "side": known["side"],
                "pixel_scale_arcsec": known["scale"],
                "planes": ["template", "difference", "template_mask", "difference_mask"],
                "softening_njy": known["pixel_softening_njy"],
            },
            "light_curve": {"steps": 48, "features": list(POINT_FEATURES), "softening_njy": known["flux_softening_njy"]},
            "context": list(context_names(survey, known["bands"])),
            "minimum": {"n_detections": 1, "n_bands": 1, "valid_fraction": 0.3, **known["stamp"]},
        },
        "network": {"widths": alert_widths(known["side"]).to_dict()},
        "limits": ["The weights are random: scores mean nothing."],
    }


def untrained_bundle(survey="lsst", seed=0, card=None):
    """A bundle with random weights, fused by mean log-probability, without calibration; `"trained": false` on its card.

    Parameters
    ----------
    survey : "lsst" or "ztf"
    seed : int
        The same seed gives the same weights; torch's own generator is left as it was.
    card : dict, optional
        In place of `untrained_card(survey)`, for instance a paper bundle's.
    """
    card = {**(untrained_card(survey) if card is None else card), "trained": False}
    shape = NetworkShape.from_card(card)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = build_members(shape)
    return make_bundle(card, networks, Fusion())
