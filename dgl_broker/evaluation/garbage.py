"""Abstention: stamps that show nothing, in packets that claim a lensed supernova.

Each packet is a good one (a simulated lensed supernova that the bundle scores), whose difference stamp, or all three, are
replaced; light curve and host facts stay as they were, which is the worst that a broken stamp can come with. To abstain is to
refuse, or to score below the threshold.
"""

import dataclasses

import numpy as np

from dgl_broker.errors import NotScorable
from dgl_broker.evaluation.intervals import clopper_pearson

GARBAGE = ("noise", "cosmic_ray", "constant", "wrong_pixel_scale", "not_finite")
KINDS = ("lensed_sn_ia", "lensed_sn_cc")


def good_alerts(survey, n, seed=90_001):
    """`n` alerts of simulated lensed supernovae, one an object, through writer and reader; systems of no training run."""
    from dgl_broker.sim.packets import own_schemas, simulate_packets
    from dgl_broker.sim.population import draw_system
    from dgl_broker.surveys import read_alert
    from dgl_broker.wire import decode

    alerts, index, schemas = [], 0, own_schemas(survey)
    while len(alerts) < n:
        system = draw_system(survey, seed, index, kind=KINDS[index % 2])
        packets = simulate_packets(system, survey)
        if packets:
            pick = packets[int(system.rng(900).integers(len(packets)))]
            alerts.append(read_alert(decode(pick.value, survey, schemas)))
        index += 1
    return alerts


def fits_bytes(pixels, matrix_arcsec, x0, y0):
    """A plain FITS image (H, W) with its matrix [arcsec per pixel] and the source at (x0, y0), 0-based."""
    from dgl_broker.surveys.fits_write import data, header

    m = np.asarray(matrix_arcsec) / 3600.0
    cards = [("SIMPLE", True, ""), ("BITPIX", -32, ""), ("NAXIS", 2, ""), ("NAXIS1", pixels.shape[1], ""),
             ("NAXIS2", pixels.shape[0], ""), ("CRPIX1", float(x0 + 1), ""), ("CRPIX2", float(y0 + 1), ""),
             ("CD1_1", float(m[0, 0]), ""), ("CD1_2", float(m[0, 1]), ""), ("CD2_1", float(m[1, 0]), ""),
             ("CD2_2", float(m[1, 1]), "")]  # fmt: skip
    return header(cards) + data(np.asarray(pixels, np.float32), ">f4")


def spoiled(alert, garbage, rng):
    """The alert with a stamp of `garbage`, one of `GARBAGE`."""
    from dgl_broker.stamps import read_stamp

    cutouts = alert.cutouts
    stamp = read_stamp(cutouts.difference, "difference", cutouts)
    values = stamp.pixels[stamp.valid]
    noise = 1.4826 * float(np.median(np.abs(values - np.median(values)))) or 1.0
    shape = stamp.pixels.shape
    pixels, matrix, scale = rng.normal(0.0, noise, shape), stamp.matrix, cutouts.pixel_scale_arcsec
    both = {}
    if garbage == "cosmic_ray":
        pixels += _track(shape, stamp.x0, stamp.y0, rng) * noise
    elif garbage == "constant":
        pixels = np.full(shape, float(rng.normal(0.0, 10 * noise)) or 1.0)
    elif garbage == "wrong_pixel_scale":
        pixels, factor = stamp.pixels.copy(), 2.0 ** float(rng.choice([-2, -1, 1, 2]))
        matrix, scale = matrix * factor, None if scale is None else scale * factor
    elif garbage == "not_finite":
        pixels = np.where(rng.random(shape) < 0.8, np.nan, pixels)
    if garbage in ("noise", "constant"):  # the template shows nothing either
        template = rng.normal(0.0, noise, shape) if garbage == "noise" else pixels
        both["template"] = fits_bytes(template, matrix, stamp.x0, stamp.y0)
    difference = fits_bytes(pixels, matrix, stamp.x0, stamp.y0)
    changed = dataclasses.replace(
        cutouts, difference=difference, pixel_scale_arcsec=scale, to_njy=_units(cutouts.to_njy, both), **both
    )
    return dataclasses.replace(alert, cutouts=changed)


def _units(to_njy, both):
    """Pixels written here are as read, in nJy already (or in noise where there is no zero point)."""
    science, template, difference = to_njy
    return (
        science,
        1.0 if both and np.isfinite(template) else template,
        1.0 if np.isfinite(difference) else difference,
    )


def _track(shape, x0, y0, rng):
    """A cosmic ray through the source's place: a streak of 1 to 12 px, one pixel wide, 20 to 200 times the noise."""
    image = np.zeros(shape)
    angle, length, height = rng.uniform(0, np.pi), int(rng.integers(1, 13)), rng.uniform(20, 200)
    for step in np.linspace(-0.5, 0.5, 4 * length) * (length - 1):
        y, x = int(round(y0 + step * np.sin(angle))), int(round(x0 + step * np.cos(angle)))
        if 0 <= y < shape[0] and 0 <= x < shape[1]:
            image[y, x] = height
    return image


def abstention(bundle, threshold, n=300, device="cpu", seed=7, alerts=None):
    """How many spoiled alerts are refused or score below the threshold, and how many good ones are refused.

    Parameters
    ----------
    bundle : dgl_broker.model.Bundle
    threshold : float
        On log_odds.
    n : int
        Alerts of each kind of garbage.
    alerts : list of Alert, optional
        Good ones; simulated without.

    Returns
    -------
    dict
        `good`: n, refused, share, interval, by reason; each of `GARBAGE`: n, refused, below (of the threshold, not refused),
        abstained (both) as share with Clopper-Pearson interval; `all_garbage` together.
    """
    from dgl_broker.example import ExampleSpec, build_examples, stack
    from dgl_broker.model import Ensemble

    spec = ExampleSpec.from_card(bundle.card)
    ensemble = Ensemble(bundle, device=device)
    good = good_alerts(bundle.survey, n) if alerts is None else alerts
    rng = np.random.default_rng(seed)

    def judge(these):
        examples = build_examples(these, spec)
        kept = [e for e in examples if not isinstance(e, NotScorable)]
        refused = [e.reason for e in examples if isinstance(e, NotScorable)]
        score = ensemble.score(stack(kept)).log_odds if kept else np.zeros(0)
        return score, refused

    _, refused = judge(good)
    reasons = {r: refused.count(r) for r in sorted(set(refused))}
    out = {"good": {"n": len(good), "refused": len(refused), **_share(len(refused), len(good)), "reasons": reasons}}
    held, total = 0, 0
    for name in GARBAGE:
        score, refused = judge([spoiled(alert, name, rng) for alert in good])
        below = int((score < threshold).sum())
        abstained = len(refused) + below
        out[name] = {"n": len(good), "refused": len(refused), "below": below, **_share(abstained, len(good))}
        held, total = held + abstained, total + len(good)
    out["all_garbage"] = {"n": total, **_share(held, total)}
    return out


def _share(k, n):
    return {"share": k / n if n else None, "interval": clopper_pearson(k, n)}
