"""Stamps of a batch -> planes of the image: on one north-up grid, on the asinh scale of nJy or of a stamp's own noise."""

import math

import numpy as np

from dgl_broker import native
from dgl_broker.north_up import place_north_up, place_scaled
from dgl_broker.stamp_quality import as_noise, level_and_noise
from dgl_broker.stamps import all_valid

MAX_NOISE_UNITS = 1e6  # a hot pixel of 1e30 must not overflow in the sums of the resampling


def _ring_level_and_noise(stamp):
    """Level and noise of a stamp's outermost two pixels: median, and 1.4826 times the median absolute deviation."""
    if native.COMPILED is not None:
        found = native.COMPILED.ring_level_and_spread(stamp.pixels, stamp.valid.view(np.uint8))
        return as_noise(*map(np.float32, found))
    edge = np.ones(stamp.pixels.shape, bool)
    edge[2:-2, 2:-2] = False
    ring = stamp.pixels[edge & stamp.valid]
    if ring.size < 16:
        ring = stamp.pixels[stamp.valid]
    return level_and_noise(ring)


def _scale(stamp, softening_njy):
    """(level, unit, limit) of the asinh scale: (pixel - level) / unit is placed, of at most that size.

    Of nJy, or of the stamp's own noise above its own level where there is no zero point.
    """
    if stamp.in_njy:
        return 0.0, softening_njy, math.inf
    level, noise = _ring_level_and_noise(stamp)
    return float(level), float(noise or stamp.pixels.std() or 1.0), MAX_NOISE_UNITS


def _scaled(stamp, softening_njy):
    level, unit, limit = _scale(stamp, softening_njy)
    if stamp.in_njy:
        return stamp.pixels / np.float32(unit)
    scaled = (stamp.pixels.astype(float) - level) / unit
    return np.where(stamp.valid, np.clip(scaled, -limit, limit), 0.0).astype(np.float32)


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
    placed, alike = {}, {}
    place = _place if native.COMPILED is None else _place_compiled
    for keys in _on_one_grid(stamps):
        alike.setdefault((len(keys), stamps[keys[0]].pixels.shape), []).append(keys)
    for (n_planes, _), groups in alike.items():
        keys = [key for together in groups for key in together]
        flat = [stamps[key] for key in keys]
        matrices = np.array([stamp.matrix for stamp in flat[::n_planes]])
        origins = np.array([(stamp.x0, stamp.y0) for stamp in flat[::n_planes]])
        planes, valid = place(flat, softening_njy, matrices, origins, side, pixel_scale_arcsec)
        placed.update(zip(keys, zip(np.arcsinh(planes, out=planes), valid)))
    return placed


def _place(stamps, softening_njy, matrices, origins, side, pixel_scale_arcsec):
    """Planes and where they are valid, (n, side, side), of n stamps; those of one place stand one after the other."""
    pixels, valid = np.stack([_scaled(stamp, softening_njy) for stamp in stamps]), np.stack([stamp.valid for stamp in stamps])
    shape = (len(matrices), -1, *pixels.shape[1:])
    found = place_north_up(pixels.reshape(shape), valid.reshape(shape), matrices, origins, side, pixel_scale_arcsec)
    return [planes.reshape(-1, side, side) for planes in found]


def _place_compiled(stamps, softening_njy, matrices, origins, side, pixel_scale_arcsec):
    """The same to the bit, scaled and placed in one step."""
    of_njy = 0.0, float(np.float32(softening_njy)), math.inf
    scaling = [of_njy if stamp.in_njy else _scale(stamp, softening_njy) for stamp in stamps]
    whole = all_valid(stamps[0].pixels.shape)
    masks = [None if stamp.valid is whole else stamp.valid for stamp in stamps]
    return place_scaled([stamp.pixels for stamp in stamps], masks, scaling, matrices, origins, side, pixel_scale_arcsec)


def _on_one_grid(stamps):
    """The keys of stamps, together where they are of one alert and lie alike: template and difference of a packet."""
    apart = {}
    for key, stamp in stamps.items():
        place = (key[0], stamp.pixels.shape, stamp.x0, stamp.y0, stamp.matrix.tobytes())
        apart.setdefault(place, []).append(key)
    return apart.values()
