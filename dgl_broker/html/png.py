"""A PNG file from pixels, and how flux becomes colour. No library: a report must be written wherever the filter runs."""

import base64
import struct
import zlib

import numpy as np

from dgl_broker.html.markup import Markup

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Missing pixels: a mid grey with a lighter diagonal, blunt enough that no star looks like it. Outside a stamp: plain dark.
MASK_GREY, MASK_STRIPE, BEYOND = (92, 96, 104), (168, 172, 180), (30, 34, 42)
_STRIPE_PX = 6  # period of the hatch in the picture's own pixels

# Stops of the scales, dark at zero so that faint things stand out: 0..1 for light on the sky, -1..1 for a difference.
# Blue against orange is told apart by all common kinds of colour blindness.
_LIGHT = ((0.0, (9, 11, 16)), (0.35, (66, 70, 80)), (0.7, (168, 171, 176)), (1.0, (255, 253, 246)))
_SIGNED = (
    (-1.0, (196, 226, 255)), (-0.5, (54, 130, 214)), (0.0, (14, 16, 22)), (0.5, (222, 116, 30)), (1.0, (255, 233, 190)),
)  # fmt: skip


def png(pixels):
    """Pixels as a PNG file (ISO/IEC 15948), 8-bit RGB, rows from the top.

    Parameters
    ----------
    pixels : array, shape (H, W, 3), uint8

    Returns
    -------
    bytes
    """
    pixels = np.ascontiguousarray(pixels, np.uint8)
    height, width, channels = pixels.shape
    if channels != 3:
        raise ValueError(f"pixels of shape {pixels.shape}, expected (H, W, 3)")
    # Filter 2 (up): each row as its difference from the one above, which is zero where a pixel is drawn several rows high.
    rows = pixels.reshape(height, width * 3)
    above = np.vstack([np.zeros((1, width * 3), np.uint8), rows[:-1]])
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def data_uri(pixels):
    """The PNG of `pixels` as an address that carries it, for `src`."""
    return Markup("data:image/png;base64," + base64.b64encode(png(pixels)).decode())


def _coloured(level, stops):
    at = [s for s, _ in stops]
    return np.stack([np.interp(level, at, [rgb[c] for _, rgb in stops]) for c in range(3)], axis=-1)


def _noise(values):
    """Level and noise of a picture: median, and 1.4826 times the median absolute deviation (never 0)."""
    level = float(np.median(values)) if values.size else 0.0
    noise = 1.4826 * float(np.median(np.abs(values - level))) if values.size else 0.0
    if not noise > 0:
        noise = float(values.std()) if values.size else 0.0
    return level, noise if noise > 0 else 1.0


def stretch(plane, valid, signed, curve="asinh"):
    """Flux on an asinh scale (Lupton et al. 1999, doi:10.1086/301004): linear in the noise, logarithmic above.

    Parameters
    ----------
    plane, valid : arrays, shape (H, W)
        Flux in any unit, and which pixels hold one.
    signed : bool
        A difference: zero stays zero. Otherwise the sky's level is taken off.
    curve : "asinh" or "linear"
        "linear" for what is on such a scale already.

    Returns
    -------
    array, shape (H, W), float64
        -1..1 for a signed plane, 0..1 otherwise; 0 where not valid.
    """
    values = np.asarray(plane, float)[valid]
    level, noise = _noise(values)
    if not values.size:
        return np.zeros(np.shape(plane))
    bend = {"asinh": np.arcsinh, "linear": np.asarray}[curve]
    scaled = bend((np.where(valid, plane, level) - (0.0 if signed else level)) / (2.0 * noise))
    # At least 5 sigma to the end of the scale: noise must look like noise.
    high = max(np.abs(scaled).max() if signed else scaled.max(), float(bend(2.5)))
    if signed:
        return np.where(valid, scaled / high, 0.0)
    low = float(bend(-1.0))
    return np.where(valid, np.clip((scaled - low) / (high - low), 0.0, 1.0), 0.0)


def paint(level, signed):
    """Levels of `stretch` as RGB, same rows: array (H, W, 3), uint8."""
    return np.rint(_coloured(level, _SIGNED if signed else _LIGHT)).astype(np.uint8)


def picture(plane, valid=None, signed=False, scale=6, curve="asinh", beyond=None):
    """A plane of pixels as RGB: stretched, coloured, enlarged, missing pixels hatched.

    Parameters
    ----------
    plane : array, shape (H, W)
        Rows from the south: row 0 is drawn at the bottom.
    valid : array of bool, shape (H, W), optional
        All where not given; pixels that are not finite are missing in any case.
    signed : bool
    scale : int
        Picture pixels per pixel.
    curve : "asinh" or "linear"
    beyond : array of bool, shape (H, W), optional
        Pixels outside the stamp, which are left dark instead of hatched.

    Returns
    -------
    array, shape (H * scale, W * scale, 3), uint8
    """
    plane = np.asarray(plane, float)
    valid = np.isfinite(plane) if valid is None else np.asarray(valid, bool) & np.isfinite(plane)
    level = stretch(np.where(valid, plane, 0.0), valid, signed, curve)
    rgb = paint(level, signed)
    if beyond is not None:
        rgb[np.asarray(beyond, bool)] = BEYOND
    rgb = rgb[::-1]
    rgb = np.repeat(np.repeat(rgb, scale, axis=0), scale, axis=1)
    hole = ~valid if beyond is None else ~valid & ~np.asarray(beyond, bool)
    missing = np.repeat(np.repeat(hole[::-1], scale, axis=0), scale, axis=1)
    y, x = np.indices(missing.shape)
    stripe = (x + y) % _STRIPE_PX < 2
    rgb[missing & stripe] = MASK_STRIPE
    rgb[missing & ~stripe] = MASK_GREY
    return rgb
