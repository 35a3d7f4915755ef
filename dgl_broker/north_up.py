"""Stamps of any orientation onto one north-up grid, whole batches at a time.

The grid: rows grow north, columns grow west (east is left, as on every finding chart), the alert on the centre, between
pixels where the side is even.
"""

import numpy as np

from dgl_broker import native

KEYS_A = -0.5  # cubic convolution exact to third order, Keys 1981, doi:10.1109/TASSP.1981.1163711


def _keys_weights(t):
    """Weights of the four samples around a fraction t in [0, 1); shape (4,) + t.shape, float32."""
    a = KEYS_A
    s = 1.0 - t
    return np.stack(
        [
            a * t * s * s,
            1.0 + t * t * ((a + 2.0) * t - (a + 3.0)),
            1.0 + s * s * ((a + 2.0) * s - (a + 3.0)),
            a * s * t * t,
        ]
    ).astype(np.float32)


def _source_coordinates(inverse, origins, side, pixel_scale_arcsec):
    """Where each grid pixel lies on the stamps: x, y of shape (n, side * side)."""
    offset = (np.arange(side) - (side - 1) / 2.0) * pixel_scale_arcsec
    north, east = np.meshgrid(offset, -offset, indexing="ij")
    east, north = east.ravel(), north.ravel()
    x = inverse[:, 0, 0, None] * east + inverse[:, 0, 1, None] * north + origins[:, 0, None]
    y = inverse[:, 1, 0, None] * east + inverse[:, 1, 1, None] * north + origins[:, 1, None]
    return x, y


def place_north_up(pixels, valid, matrices, origins, side, pixel_scale_arcsec):
    """Resample stamps of one shape to the north-up grid by cubic convolution, flux kept.

    Parameters
    ----------
    pixels, valid : arrays, shape (n, P, H, W)
        float32 and bool: P planes of each stamp that share its grid (template, difference).
    matrices : array, shape (n, 2, 2)
        Arcsec per pixel: (east, north) = matrix @ (dx, dy).
    origins : array, shape (n, 2)
        The alert's place (x0, y0), 0-based pixels.
    side : int
    pixel_scale_arcsec : float

    Returns
    -------
    placed, placed_valid : arrays, shape (n, P, side, side)
        float32 and bool. A pixel is valid where the four stamp pixels around it are; masked or missing outer taps are left
        out and the rest renormalised. Surface brightness times the ratio of pixel areas, so that sums keep the flux.
        Only elementwise operations: a stamp's result does not depend on its companions in the batch.
    """
    shape = (*pixels.shape[:2], side, side)
    if native.COMPILED is not None:
        flat = np.ascontiguousarray(pixels, np.float32).reshape(-1, *pixels.shape[2:])
        masks = np.ascontiguousarray(valid, bool).reshape(flat.shape)
        as_they_are = [(0.0, 1.0, np.inf)] * len(flat)
        found = place_scaled(list(flat), list(masks), as_they_are, matrices, origins, side, pixel_scale_arcsec)
        return found[0].reshape(shape), found[1].reshape(shape)
    inverse, area = _inverse_and_area(matrices, pixel_scale_arcsec)
    placed, sound = _place(pixels, valid, inverse, origins, area, side, pixel_scale_arcsec)
    return placed.reshape(shape), sound.reshape(shape)


def place_scaled(pixels, valid, scaling, matrices, origins, side, pixel_scale_arcsec):
    """What `place_north_up` does, to the bit, in the compiled module, after scaling what of the pixels is needed.

    Parameters
    ----------
    pixels : list of array, shape (H, W), float32
        n planes; those of one stamp stand one after the other.
    valid : list of array or None
        Masks of the same shape, bool; None where no pixel is masked.
    scaling : list of (level, unit, limit)
        What is placed is (pixel - level) / unit, of at most that size.
    matrices, origins, side, pixel_scale_arcsec
        As of `place_north_up`.

    Returns
    -------
    placed, placed_valid : arrays, shape (n, side, side)
    """
    inverse, area = _inverse_and_area(matrices, pixel_scale_arcsec)
    placed, sound = native.COMPILED.place_north_up(
        pixels,
        [None if mask is None else mask.view(np.uint8) for mask in valid],
        np.array(scaling, np.float64),
        np.concatenate([inverse.reshape(-1, 4), origins, area[:, None]], axis=1, dtype=np.float64),
        side,
        pixel_scale_arcsec,
    )
    shape = (len(pixels), side, side)
    return np.frombuffer(placed, np.float32).reshape(shape), np.frombuffer(sound, bool).reshape(shape)


def _inverse_and_area(matrices, pixel_scale_arcsec):
    """Inverse matrices, and the grid's pixel area over the stamps'."""
    return np.linalg.inv(matrices), (pixel_scale_arcsec**2 / np.abs(np.linalg.det(matrices))).astype(np.float32)


def _place(pixels, valid, inverse, origins, area, side, pixel_scale_arcsec):
    n, planes, height, width = pixels.shape
    x, y = _source_coordinates(inverse, origins, side, pixel_scale_arcsec)
    x_taps, wx = _taps(x, width)
    y_taps, wy = _taps(y, height)
    values = np.where(valid, pixels, np.float32(0))
    whole = valid.all(axis=(2, 3))
    placed = np.empty((n, planes, side * side), np.float32)
    sound = np.empty((n, planes, side * side), bool)

    def place(way, rows, which):
        """Planes `which` of stamps `rows`; planes of one stamp lie alike and share their taps."""
        if len(rows):
            taps = [a[:, rows] for a in (x_taps, wx, y_taps, wy)]
            at = np.ix_(rows, which)
            placed[at], sound[at] = way(values[at], valid[at], *taps)

    # Which way a plane takes depends on its own mask alone: company must not change a bit.
    place(_place_whole, np.flatnonzero(whole.all(axis=1)), range(planes))
    for plane in range(planes):
        place(_place_whole, np.flatnonzero(whole[:, plane] & ~whole.all(axis=1)), [plane])
        place(_place_masked, np.flatnonzero(~whole[:, plane]), [plane])
    return np.where(sound, placed * area[:, None, None], np.float32(0)), sound


def _taps(at, size):
    """The four samples around each place along one axis: indices (4, n, S), and weights, 0 outside the stamp."""
    first = np.floor(at + 1e-6)  # 1e-6 px: a grid that coincides with the stamp's must not lose pixels to rounding
    weights = _keys_weights(np.clip(at - first, 0.0, 1.0))
    taps = first.astype(np.int32) + np.arange(-1, 3, dtype=np.int32)[:, None, None]
    weights[(taps < 0) | (taps >= size)] = 0.0
    return np.clip(taps, 0, size - 1), weights


def _place_whole(values, valid, x_taps, wx, y_taps, wy):
    """Stamps without masked pixels: what lies inside is separable in x and y."""
    n, planes, height, width = values.shape
    flat = np.ascontiguousarray(values).reshape(-1)
    base = (np.arange(n, dtype=np.int32) * (planes * height * width))[:, None]
    total = np.zeros((n, planes, x_taps.shape[2]), np.float32)
    for j in range(4):
        row = base + y_taps[j] * width
        for i in range(4):
            index = row + x_taps[i]
            w = wx[i] * wy[j]
            for p in range(planes):
                total[:, p] += flat[index + p * height * width] * w
    sum_x, sum_y = wx[0] + wx[1] + wx[2] + wx[3], wy[0] + wy[1] + wy[2] + wy[3]
    # An inner tap outside the stamp has lost its weight: the remaining sum then falls below one half.
    weight = sum_x * sum_y
    sound = (np.abs(sum_x - 1) < 0.1) & (np.abs(sum_y - 1) < 0.1)
    total /= np.where(sound, weight, np.float32(1))[:, None]
    return total, np.repeat(sound[:, None], planes, axis=1)


def _place_masked(values, valid, x_taps, wx, y_taps, wy):
    """Stamps with masked pixels: weights are summed pixel by pixel."""
    n, planes, height, width = values.shape
    flat, good = values.reshape(n * planes, -1), valid.reshape(n * planes, -1)
    rows = np.arange(n * planes)[:, None]
    total = np.zeros((n * planes, x_taps.shape[2]), np.float32)
    weight = np.zeros_like(total)
    sound = np.ones(total.shape, bool)
    sum_x, sum_y = wx[0] + wx[1] + wx[2] + wx[3], wy[0] + wy[1] + wy[2] + wy[3]
    inside = np.repeat((np.abs(sum_x - 1) < 0.1) & (np.abs(sum_y - 1) < 0.1), planes, axis=0)
    for j in range(4):
        for i in range(4):
            index = np.repeat(y_taps[j] * width + x_taps[i], planes, axis=0)
            w = np.repeat(wx[i] * wy[j], planes, axis=0)
            present = good[rows, index]
            total += flat[rows, index] * w
            weight += np.where(present, w, np.float32(0))
            if i in (1, 2) and j in (1, 2):
                sound &= present | (np.abs(w) < 1e-6)
    sound &= inside & (weight > 0.5)
    total /= np.where(sound, weight, np.float32(1))
    return total.reshape(n, planes, -1), sound.reshape(n, planes, -1)
