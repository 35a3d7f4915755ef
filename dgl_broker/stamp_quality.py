"""Is there a source on the difference stamp where the alert says? Noise, cosmic rays and constants are refused.

Judged on the stamp's own pixels, so that what a packet claims of itself does not matter.
"""

import math
from dataclasses import dataclass

import numpy as np

from dgl_broker import native
from dgl_broker.errors import NotScorable

HALF = 3  # px; the window around the alert is 7 x 7
SEARCH = 1  # px; the source may lie that far from the stated place
REACH = HALF + SEARCH
SIDE = 2 * REACH + 1
OFFSETS = np.mgrid[:3, :3]  # of the pixels around one


@dataclass(frozen=True, slots=True)
class StampQuality:
    """What a difference stamp shows near the alert.

    `snr`: greatest matched-filter signal-to-noise (absolute). `sharpness`: share of the brightest pixel in the 3 x 3 around
    it, 0.11 for a constant, below about 0.5 for a PSF, near 1 for a single hot pixel. `neighbours`: geometric mean of two
    opposite neighbours over the bright pixel between them, the least of rows and columns, each raised by 2 sigma of the noise
    in its favour. A Gaussian of sigma s px gives exp(-1 / 2 s^2) wherever in its pixel it lies, blends of several more, a
    track one pixel wide nearly 0.
    """

    snr: float
    sharpness: float
    neighbours: float


def _kernel(sigma_px):
    y, x = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]
    kernel = np.exp(-0.5 * (x * x + y * y) / sigma_px**2)
    return (kernel / np.sqrt((kernel**2).sum())).astype(np.float32)


# Gaussian of the survey's usual seeing: 0.8" on 0.2" pixels, 2.0" on 1.01" pixels. A width wrong by a third costs 4 % of
# the S/N: for Gaussians it goes as 2 s t / (s^2 + t^2).
_KERNELS = {"lsst": _kernel(0.8 / 0.2 / 2.355), "ztf": _kernel(2.0 / 1.01 / 2.355)}


def measure(stamps, survey):
    """`StampQuality` of difference stamps about their alerts' places; each the same to the bit in any company.

    Parameters
    ----------
    stamps : sequence of Stamp
    survey : "lsst" or "ztf"

    Returns
    -------
    list of StampQuality or None
        None where the alert's place is not on the stamp, or the stamp is constant.
    """
    surroundings = [_surroundings(stamp) for stamp in stamps]
    found = [None] * len(stamps)
    there = [n for n, one in enumerate(surroundings) if one is not None]
    if not there:
        return found
    windows = np.stack([surroundings[n][0] for n in there])
    noise = np.array([surroundings[n][1] for n in there], np.float32)
    core = windows[:, 1:-1, 1:-1].reshape(len(there), -1)
    brightest = np.abs(core).argmax(axis=1)
    peak = np.take_along_axis(core, brightest[:, None], axis=1)[:, 0]
    y, x = np.divmod(brightest, SIDE - 2)
    rows, columns = (place[:, None, None] + OFFSETS[axis] for axis, place in enumerate((y, x)))
    around = windows[np.arange(len(there))[:, None, None], rows, columns] * np.sign(peak)[:, None, None]
    with np.errstate(over="ignore"):
        snr = _matched(windows, _KERNELS[survey]) / noise
    sharpness, neighbours = _sharpness(around, np.abs(peak)), _neighbours(around, noise)
    for n, *measured in zip(there, snr.tolist(), sharpness.tolist(), neighbours.tolist(), strict=True):
        if math.isfinite(measured[0]):  # else what noise there is is subnormal: constant but for some pixels
            found[n] = StampQuality(*measured)
    return found


def _surroundings(stamp):
    """The window around the alert above the stamp's level, (9, 9), and the noise; None for constants and places beside."""
    height, width = stamp.pixels.shape
    x, y = int(round(stamp.x0)), int(round(stamp.y0))
    if not (0 <= x < width and 0 <= y < height):
        return None
    values = stamp.pixels[stamp.valid]
    if values.size < 9:
        return None
    level, noise = level_and_noise(values)
    if noise <= 0:
        if values.min() == values.max():
            return None
        noise = float(values.std())
    # Pixels may differ by less than their squares can tell.
    return None if noise <= 0 else (_window(stamp, x, y, level), noise)


def _matched(windows, kernel):
    """Greatest absolute output of the matched filter in each window, shape (n,); summed in one order, whatever n is."""
    n = 2 * SEARCH + 1
    filtered = np.zeros((len(windows), n, n), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for y, row in enumerate(kernel):
            for x, weight in enumerate(row):
                filtered += windows[:, y : y + n, x : x + n] * weight
        return np.abs(filtered).max(axis=(1, 2))


def _sharpness(around, peak):
    """See `StampQuality.sharpness`; `around` (n, 3, 3) with the source positive."""
    light = around.clip(min=0)
    total = sum(light[:, y, x] for y in range(3) for x in range(3))
    return np.divide(peak, total, out=np.ones_like(peak), where=total > 0)


def level_and_noise(values):
    """Median, and 1.4826 times the median absolute deviation, of finite pixels of shape (n,), float32."""
    if native.COMPILED is not None:
        return as_noise(*map(np.float32, native.COMPILED.level_and_spread(values)))
    level = _median(values)
    return as_noise(level, _median(np.abs(values - level)))


def as_noise(level, spread):
    """Level and noise of a median and a median absolute deviation, as if pixels were Gaussian."""
    return level, 1.4826 * spread


def _median(values):
    """As `np.median`, in a third of the time; -0 as 0, since which one of several zeros is found is chance."""
    middle = values.size // 2
    if values.size % 2:
        return np.partition(values, middle)[middle] + np.float32(0)
    below, above = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return (below + above) / np.float32(2) + np.float32(0)


def _window(stamp, x, y, level):
    """The pixels around (x, y) above `level`, (9, 9); 0 beside the stamp and where it is masked."""
    window = np.zeros((SIDE, SIDE), np.float32)
    top, left = y - REACH, x - REACH
    rows, columns = slice(max(top, 0), top + SIDE), slice(max(left, 0), left + SIDE)
    pixels = np.where(stamp.valid[rows, columns], stamp.pixels[rows, columns] - level, 0)
    height, width = pixels.shape
    window[rows.start - top : rows.start - top + height, columns.start - left : columns.start - left + width] = pixels
    return window


def _neighbours(around, noise):
    """See `StampQuality.neighbours`; `around` (n, 3, 3) with the source positive."""
    raised = around.clip(min=0.0) + 2.0 * noise[:, None, None]
    with np.errstate(over="ignore"):
        pairs = np.minimum(raised[:, 0, 1] * raised[:, 2, 1], raised[:, 1, 0] * raised[:, 1, 2])
    return np.sqrt(pairs) / np.maximum(around[:, 1, 1], noise)


def judge_difference(alert, quality, minimum):
    """Refuse an alert whose difference stamp has this quality, where it is not enough.

    Raises
    ------
    NotScorable
        `constant_stamp`, `no_source` (below the card's `stamp_snr`), `too_sharp` (above its `max_sharpness`, or below its
        `min_neighbours`).
    """
    if quality is None:
        raise NotScorable("constant_stamp", f"{alert.name}: the difference stamp is constant, or the alert lies beside it")
    if quality.snr < minimum.get("stamp_snr", 0.0):
        raise NotScorable(
            "no_source",
            f"{alert.name}: signal-to-noise {quality.snr:.1f} at the alert's place on the difference stamp, "
            f"the bundle needs {minimum['stamp_snr']}",
        )
    if quality.sharpness > minimum.get("max_sharpness", 1.0):
        raise NotScorable(
            "too_sharp",
            f"{alert.name}: {quality.sharpness:.2f} of the light near the peak is in one pixel, sharper than any star; "
            f"the bundle takes at most {minimum['max_sharpness']}",
        )
    if quality.neighbours < minimum.get("min_neighbours", 0.0):
        raise NotScorable(
            "too_sharp",
            f"{alert.name}: the pixels beside the peak hold {quality.neighbours:.2f} of it, narrower than any star; "
            f"the bundle needs {minimum['min_neighbours']}",
        )
