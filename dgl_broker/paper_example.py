"""`Alert` -> what the paper's networks saw: a griz mean image and a matched light curve of the whole blend, each scaled 0..1.

An alert rarely has this: the other bands come from companions, the side of the stamps from large footprints, the matched
steps from a dense cadence. Whatever is missing is a refusal with its reason; nothing is padded, filled or interpolated.
"""

from dataclasses import dataclass

import numpy as np

from dgl_broker.alert import BANDS, UPPER_LIMIT
from dgl_broker.errors import ConfigError, NotScorable, PacketError
from dgl_broker.example import Batch, Completeness, Example
from dgl_broker.north_up import place_north_up
from dgl_broker.photometry import AB_ZERO_POINT_NJY
from dgl_broker.stamps import MAX_INFLATED, read_stamp


@dataclass(frozen=True, slots=True)
class PaperSpec:
    """What a paper bundle's card asks for; `zero_points_mag` turns nJy into the counts per second that its data were in."""

    side: int
    pixel_scale_arcsec: float
    bands: str
    steps: int
    cadence_days: float
    zero_points_mag: tuple[float, ...]

    @classmethod
    def from_card(cls, card):
        """The spec that a card states; ConfigError if it is not of a paper bundle."""
        if card.get("kind") != "paper":
            raise ConfigError(f"bundle {card.get('id')}: kind {card.get('kind')!r}, expected 'paper'")
        image, curve = card["input"]["image"], card["input"]["light_curve"]
        bands = image["bands"]
        return cls(
            int(image["side"]),
            float(image["pixel_scale_arcsec"]),
            bands,
            int(curve["steps"]),
            float(curve.get("cadence_days", 3.0)),
            tuple(float(z) for z in image.get("zero_points_mag", [AB_ZERO_POINT_NJY] * len(bands))),
        )


def scale_jointly(values):
    """(x - min) / (max - min) over the whole sample, colours kept.

    Parameters
    ----------
    values : array, shape (N, ...)

    Returns
    -------
    scaled : array, shape (N, ...), float32
    usable : array, shape (N,), bool
        False for constant or not finite samples, whose `scaled` is zero.
    """
    values = np.asarray(values, np.float32)
    flat = values.reshape(len(values), -1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        low, high = flat.min(axis=1), flat.max(axis=1)
        usable = np.isfinite(low) & np.isfinite(high) & (high > low) & np.isfinite(high - low)
        scaled = (flat - low[:, None]) / (high - low)[:, None]
    scaled[~usable] = 0.0
    return scaled.reshape(values.shape), usable


def batch_from_arrays(images, light_curves, card):
    """Arrays as the paper has them as a `Batch`, scaled jointly per sample, and which samples are usable.

    Parameters
    ----------
    images : array, shape (N, B, H, W)
    light_curves : array, shape (N, T, B)

    Raises
    ------
    ConfigError
        If the shapes are not those of the card.
    """
    spec = PaperSpec.from_card(card)
    images, light_curves = np.asarray(images), np.asarray(light_curves)
    n_bands = len(spec.bands)
    for name, array, shape in (
        ("images", images, (n_bands, spec.side, spec.side)),
        ("light curves", light_curves, (spec.steps, n_bands)),
    ):
        if array.shape[1:] != shape or array.dtype.kind != "f":
            raise ConfigError(f"{name} {array.shape} {array.dtype}, the bundle needs (N, {', '.join(map(str, shape))}) floats")
    if len(images) != len(light_curves):
        raise ConfigError(f"{len(images)} images but {len(light_curves)} light curves")
    images, good = scale_jointly(images)
    light_curves, sound = scale_jointly(light_curves)
    return Batch(images, light_curves, np.zeros((len(images), 0), np.float32)), good & sound


def _science_planes(alert, companions, max_bytes):
    """{band: stamp planes to add up} of the bands at hand."""
    try:
        own = read_stamp(alert.cutouts.science, "science", alert.cutouts, max_bytes)
    except PacketError as error:
        raise NotScorable("bad_cutout", f"{alert.name}: {error.detail}") from error
    planes = {} if own is None else {alert.band: [own]}
    for band, companion in companions.items():
        if companion.template is not None and companion.difference is not None:
            planes.setdefault(band, [companion.template, companion.difference])
    return planes


def _image(alert, companions, spec, max_bytes):
    """(B, H, W) counts per second on the card's grid."""
    if not (alert.cutouts.science or alert.cutouts.template or alert.cutouts.difference):
        raise NotScorable("no_cutouts", f"{alert.name}: the packet holds no cutouts")
    planes = _science_planes(alert, companions, max_bytes)
    lacking = [b for b in spec.bands if b not in planes]
    if lacking:
        raise NotScorable("n_bands", f"{alert.name}: no stamps in {', '.join(lacking)}; a paper bundle needs {spec.bands}")
    image = np.zeros((len(spec.bands), spec.side, spec.side), np.float32)
    for b, band in enumerate(spec.bands):
        for stamp in planes[band]:
            scale = float(np.sqrt(abs(np.linalg.det(stamp.matrix))))
            if abs(scale / spec.pixel_scale_arcsec - 1) > 0.05:
                need = f'{spec.pixel_scale_arcsec}"/px'
                raise NotScorable("pixel_scale", f'{alert.name}: stamp of {scale:.3f}"/px, the bundle needs {need}')
            pixels, valid = place_north_up(
                stamp.pixels[None, None],
                stamp.valid[None, None],
                stamp.matrix[None],
                np.array([[stamp.x0, stamp.y0]]),
                spec.side,
                spec.pixel_scale_arcsec,
            )
            if not valid.all():
                raise NotScorable(
                    "valid_fraction",
                    f"{alert.name}: {valid.mean():.2f} of the {band} pixels are there, a paper bundle needs all "
                    f"{spec.side} x {spec.side}",
                )
            image[b] += pixels[0, 0] * np.float32(10 ** (0.4 * (spec.zero_points_mag[b] - AB_ZERO_POINT_NJY)))
    return image


def _light_curve(alert, spec):
    """(T, B) total flux in counts per second: inverse-variance means on steps that end at the trigger."""
    curve = alert.light_curve
    known = np.isfinite(curve.total_njy) & (curve.total_err_njy > 0) & (curve.kind != UPPER_LIMIT)
    step = spec.steps - 1 - np.floor((alert.mjd_tai - curve.mjd_tai) / spec.cadence_days).astype(int)
    flux = np.full((spec.steps, len(spec.bands)), np.nan)
    for b, band in enumerate(spec.bands):
        for t in range(spec.steps):
            here = known & (step == t) & (curve.band == BANDS.index(band))
            if here.any():
                weight = 1.0 / curve.total_err_njy[here] ** 2
                flux[t, b] = (curve.total_njy[here] * weight).sum() / weight.sum()
    if np.isnan(flux).any():
        raise NotScorable(
            "light_curve_steps",
            f"{alert.name}: {int(np.isfinite(flux).sum())} of {flux.size} steps of {spec.cadence_days:g} d measured, "
            "a paper bundle needs all",
        )
    return flux * 10 ** (0.4 * (np.array(spec.zero_points_mag) - AB_ZERO_POINT_NJY))


def build_paper_examples(alerts, spec, companions=None, stamp_bytes=MAX_INFLATED):
    """Examples of a batch of alerts for a paper bundle; as `dgl_broker.example.build_examples`."""
    companions = companions or [{}] * len(alerts)
    return [_build(alert, spec, companions[n], stamp_bytes) for n, alert in enumerate(alerts)]


def _build(alert, spec, companions, max_bytes):
    try:
        if alert.is_solar_system:
            raise NotScorable("solar_system", f"{alert.name}: matched to a solar-system object")
        image, image_ok = scale_jointly(_image(alert, companions, spec, max_bytes)[None])
        curve, curve_ok = scale_jointly(_light_curve(alert, spec)[None])
        if not (image_ok[0] and curve_ok[0]):
            raise NotScorable("constant_stamp", f"{alert.name}: image or light curve is constant or not finite")
    except NotScorable as refusal:
        return refusal
    counts = np.bincount(alert.light_curve.kind, minlength=3)
    completeness = Completeness(
        bands_used=spec.bands,
        n_epochs=spec.steps,
        n_detections=int(counts[0]),
        n_forced=int(counts[1]),
        n_upper_limits=int(counts[2]),
        n_dropped_epochs=0,
        valid_fraction=1.0,
        stamp_snr=float("nan"),
        stamp_sharpness=float("nan"),
        companion_alert_ids=tuple(sorted(c.alert_id for c in companions.values())),
    )
    return Example(image[0], curve[0], np.zeros(0, np.float32), completeness)
