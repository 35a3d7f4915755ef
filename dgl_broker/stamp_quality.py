"""Is there a source on the difference stamp where the alert says? Noise, cosmic rays and constants are refused.

Judged on the stamp's own pixels, so that what a packet claims of itself does not matter.
"""

from dataclasses import dataclass

import numpy as np

from dgl_broker import native
from dgl_broker.errors import NotScorable

HALF = 3  # px; the window around the alert is 7 x 7
SEARCH = 1  # px; the source may lie that far from the stated place
REACH = HALF + SEARCH
SIDE = 2 * REACH + 1


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


def _shifted():
    """For each shift of the kernel in the window the pixels under it, as indices (shift y, kernel y, shift x, kernel x)."""
    shift, kernel = np.arange(2 * SEARCH + 1), np.arange(2 * HALF + 1)
    y = shift[:, None, None, None] + kernel[:, None, None]
    return y * SIDE + shift[:, None] + kernel


_SHIFTED = _shifted()


def measure(stamp, survey):
    """`StampQuality` of a difference stamp about the alert's place.

    Returns
    -------
    StampQuality or None
        None where the alert's place is not on the stamp, or the stamp is constant.
    """
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
    if noise <= 0:
        return None  # pixels that differ, but by less than their squares can tell
    window = _window(stamp, x, y, level)
    with np.errstate(over="ignore"):
        filtered = (window.take(_SHIFTED) * _KERNELS[survey][:, None, :]).sum(axis=(1, 3))
        snr = float(np.abs(filtered).max() / noise)
    if not np.isfinite(snr):
        return None  # what noise there is is subnormal: constant but for some pixels
    core = window[1:-1, 1:-1]
    peak = divmod(int(np.abs(core).argmax()), core.shape[1])
    around = window[peak[0] : peak[0] + 3, peak[1] : peak[1] + 3] * np.sign(core[peak])
    total = around.clip(min=0).sum()
    sharpness = float(abs(core[peak]) / total) if total > 0 else 1.0
    return StampQuality(snr, sharpness, _neighbours(window * np.sign(core[peak]), peak, noise))


def level_and_noise(values):
    """Median, and 1.4826 times the median absolute deviation, of finite pixels of shape (n,), float32."""
    if native.COMPILED is not None:
        level, spread = map(np.float32, native.COMPILED.level_and_spread(values))
    else:
        level = _median(values)
        spread = _median(np.abs(values - level))
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


def _neighbours(window, peak, noise):
    """See `StampQuality.neighbours`; `window` with the source positive, `peak` in the window without its border."""
    y, x = peak[0] + 1, peak[1] + 1
    around = window[y - 1 : y + 2, x - 1 : x + 2].clip(min=0.0) + 2.0 * noise
    pairs = around[0, 1] * around[2, 1], around[1, 0] * around[1, 2]
    return float(np.sqrt(min(pairs)) / max(window[y, x], noise))


def judge_difference(alert, stamp, minimum):
    """The quality of an alert's difference stamp.

    Raises
    ------
    NotScorable
        `constant_stamp`, `no_source` (below the card's `stamp_snr`), `too_sharp` (above its `max_sharpness`, or below its
        `min_neighbours`).
    """
    quality = measure(stamp, alert.survey)
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
    return quality
