"""Stamps of a batch -> planes of the image: on one north-up grid, on the asinh scale of nJy or of a stamp's own noise."""

import numpy as np

from dgl_broker.north_up import place_north_up
from dgl_broker.stamp_quality import level_and_noise

MAX_NOISE_UNITS = 1e6  # a hot pixel of 1e30 must not overflow in the sums of the resampling


def _ring_noise(stamp):
    """Level and noise of a stamp's outermost two pixels: median, and 1.4826 times the median absolute deviation."""
    edge = np.ones(stamp.pixels.shape, bool)
    edge[2:-2, 2:-2] = False
    ring = stamp.pixels[edge & stamp.valid]
    if ring.size < 16:
        ring = stamp.pixels[stamp.valid]
    return level_and_noise(ring)


def _scaled(stamp, softening_njy):
    """Pixels on the asinh scale: of nJy, or of the stamp's own noise above its own level where there is no zero point."""
    if stamp.in_njy:
        return stamp.pixels / np.float32(softening_njy)
    level, noise = _ring_noise(stamp)
    scaled = (stamp.pixels.astype(float) - level) / (noise or stamp.pixels.std() or 1.0)
    return np.where(stamp.valid, np.clip(scaled, -MAX_NOISE_UNITS, MAX_NOISE_UNITS), 0.0).astype(np.float32)


def place_planes(stamps, side, pixel_scale_arcsec, softening_njy):
    """Stamps on one north-up grid, on the asinh scale.

    Parameters
    ----------
    stamps : dict of (n, name) to Stamp
        n the alert: what lies alike on one alert's pixels is placed in one step.
    side : int
    pixel_scale_arcsec : float
        Of the grid.
    softening_njy : float
        Where the scale turns from linear to logarithmic [nJy].

    Returns
    -------
    dict of (n, name) to (plane, valid)
        float32 and bool, (side, side); the same to the bit whatever else is in the batch.
    """
    placed = {}
    alike = {}
    for keys in _on_one_grid(stamps):
        alike.setdefault((len(keys), stamps[keys[0]].pixels.shape), []).append(keys)
    for (n_planes, shape), groups in alike.items():
        flat = [stamps[key] for keys in groups for key in keys]
        planes, valid = place_north_up(
            np.stack([_scaled(stamp, softening_njy) for stamp in flat]).reshape(-1, n_planes, *shape),
            np.stack([stamp.valid for stamp in flat]).reshape(-1, n_planes, *shape),
            np.stack([stamp.matrix for stamp in flat[::n_planes]]),
            np.array([(stamp.x0, stamp.y0) for stamp in flat[::n_planes]]),
            side,
            pixel_scale_arcsec,
        )
        planes = np.arcsinh(planes)
        placed.update({k: (planes[i, p], valid[i, p]) for i, keys in enumerate(groups) for p, k in enumerate(keys)})
    return placed


def _on_one_grid(stamps):
    """The keys of stamps, together where they are of one alert and lie alike: template and difference of a packet."""
    apart = {}
    for key, stamp in stamps.items():
        place = (key[0], stamp.pixels.shape, stamp.x0, stamp.y0, stamp.matrix.tobytes())
        apart.setdefault(place, []).append(key)
    return apart.values()
