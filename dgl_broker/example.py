"""`Alert` -> `Example`: what the network sees of one alert, and a record of what was there and what was missing.

The card of the bundle says which planes, points and numbers, on which grid and scale, and the least that it needs; an
alert below that is refused with the reason. Alerts are treated a batch at a time, and each result is the same to the
bit whatever else is in the batch.
"""

from dataclasses import dataclass, field

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.context import context_features
from dgl_broker.errors import ConfigError, NotScorable, PacketError
from dgl_broker.light_curve import POINT_FEATURES, Points, point_features
from dgl_broker.north_up import place_north_up
from dgl_broker.stamp_quality import judge_difference
from dgl_broker.stamps import MAX_INFLATED, read_stamp

MAX_NOISE_UNITS = 1e6  # a hot pixel of 1e30 must not overflow in the sums of the resampling
PLANES = ("template", "difference", "template_mask", "difference_mask")


@dataclass(frozen=True, slots=True)
class ExampleSpec:
    """What a bundle's card asks of an example.

    `planes` are of `PLANES`, then `template:<band>` / `difference:<band>` for companions. `minimum` holds the least that
    is scored: `n_detections`, `n_bands`, `valid_fraction` (of the difference plane), `stamp_snr`, `max_sharpness`,
    `min_neighbours`.
    """

    survey: str
    side: int
    pixel_scale_arcsec: float
    planes: tuple[str, ...]
    image_softening_njy: float
    steps: int
    features: tuple[str, ...]
    flux_softening_njy: float
    context: tuple[str, ...]
    bands: str
    minimum: dict

    @classmethod
    def from_card(cls, card):
        """The spec that a card states.

        Raises
        ------
        ConfigError
            If the card is of a paper bundle, or names a plane or feature that does not exist.
        """
        if card.get("kind") != "alert":
            raise ConfigError(f"bundle {card.get('id')}: kind {card.get('kind')!r}, expected 'alert'")
        image, curve = card["input"]["image"], card["input"]["light_curve"]
        unknown = [f for f in curve["features"] if f not in POINT_FEATURES]
        unknown += [p for p in image["planes"] if p not in PLANES and p.split(":")[0] not in PLANES[:2]]
        if unknown:
            raise ConfigError(f"bundle {card['id']}: unknown inputs {', '.join(unknown)}")
        return cls(
            survey=card["survey"],
            side=int(image["side"]),
            pixel_scale_arcsec=float(image["pixel_scale_arcsec"]),
            planes=tuple(image["planes"]),
            image_softening_njy=float(image["softening_njy"]),
            steps=int(curve["steps"]),
            features=tuple(curve["features"]),
            flux_softening_njy=float(curve["softening_njy"]),
            context=tuple(card["input"]["context"]),
            bands=card["input"].get("bands", BANDS),
            minimum=dict(card["input"]["minimum"]),
        )

    @property
    def companion_bands(self):
        """Bands whose companion stamps the card has planes for."""
        return tuple(b for b in BANDS if any(p.endswith(f":{b}") for p in self.planes))


@dataclass(frozen=True, slots=True)
class Completeness:
    """What an example was made of. `missing` names what was not there: `template`, `template_pixels`, `companion:g`, ..."""

    bands_used: str
    n_epochs: int
    n_detections: int
    n_forced: int
    n_upper_limits: int
    n_dropped_epochs: int
    valid_fraction: float
    stamp_snr: float
    stamp_sharpness: float
    missing: tuple[str, ...] = ()
    companion_alert_ids: tuple[int, ...] = ()
    strata: dict = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One alert for the network: `image` (C, S, S), `light_curve` (T, F), `context` (K,); float32, finite."""

    image: np.ndarray
    light_curve: np.ndarray
    context: np.ndarray
    completeness: Completeness


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """N examples: `images` (N, C, S, S), `light_curves` (N, T, F), `contexts` (N, K); float32."""

    images: np.ndarray
    light_curves: np.ndarray
    contexts: np.ndarray

    def __len__(self):
        return len(self.images)


def stack(examples):
    """Examples as one `Batch`."""
    return Batch(
        np.stack([e.image for e in examples]),
        np.stack([e.light_curve for e in examples]),
        np.stack([e.context for e in examples]),
    )


def _read_stamps(alert, max_bytes):
    """(template or None, difference) of an alert.

    Raises
    ------
    NotScorable
        `no_cutouts` where the packet brings none at all, `no_difference` where that one is missing or empty,
        `bad_cutout` where a stamp cannot be read.
    """
    cutouts = alert.cutouts
    if not (cutouts.science or cutouts.template or cutouts.difference):
        raise NotScorable("no_cutouts", f"{alert.name}: the packet holds no cutouts")
    try:
        difference = read_stamp(cutouts.difference, "difference", cutouts, max_bytes)
        template = read_stamp(cutouts.template, "template", cutouts, max_bytes)
    except PacketError as error:
        raise NotScorable("bad_cutout", f"{alert.name}: {error.detail}") from error
    if difference is None:
        raise NotScorable("no_difference", f"{alert.name}: difference stamp is missing or all zeros")
    return template, difference


def _check_alert(alert, spec):
    """Refuse what lies below the card's minimum before a stamp is read."""
    if alert.is_solar_system:
        raise NotScorable("solar_system", f"{alert.name}: matched to a solar-system object")
    if alert.band not in spec.bands:
        raise NotScorable("band", f"{alert.name}: band {alert.band}, the bundle knows {spec.bands}")
    if not (alert.cutouts.science or alert.cutouts.template or alert.cutouts.difference):
        raise NotScorable("no_cutouts", f"{alert.name}: the packet holds no cutouts")
    if alert.facts.get("time_is_plausible") is False:
        raise NotScorable("implausible_time", f"{alert.name}: MJD {alert.mjd_tai:.1f} TAI lies outside 1995 to 2055")
    curve = alert.light_curve
    for key, found in (("n_detections", curve.n_detections), ("n_bands", len(curve.bands_detected))):
        if found < spec.minimum.get(key, 1):
            raise NotScorable(key, f"{alert.name}: {key} {found}, the bundle needs {spec.minimum[key]}")


def _check_scale(alert, stamp, spec):
    scale = float(np.sqrt(abs(np.linalg.det(stamp.matrix))))
    if abs(scale / spec.pixel_scale_arcsec - 1) > 0.05:
        raise NotScorable(
            "pixel_scale", f'{alert.name}: stamp of {scale:.3f}"/px, the bundle needs {spec.pixel_scale_arcsec}"/px'
        )


def _ring_noise(stamp):
    """Level and noise of a stamp's outermost two pixels: median, and 1.4826 times the median absolute deviation."""
    edge = np.ones(stamp.pixels.shape, bool)
    edge[2:-2, 2:-2] = False
    ring = stamp.pixels[edge & stamp.valid]
    if ring.size < 16:
        ring = stamp.pixels[stamp.valid]
    level = np.median(ring)
    return level, 1.4826 * np.median(np.abs(ring - level))


def _scaled(stamp, softening_njy):
    """Pixels on the asinh scale: of nJy, or of the stamp's own noise above its own level where there is no zero point."""
    if stamp.in_njy:
        return stamp.pixels / np.float32(softening_njy)
    level, noise = _ring_noise(stamp)
    scaled = (stamp.pixels.astype(float) - level) / (noise or stamp.pixels.std() or 1.0)
    return np.where(stamp.valid, np.clip(scaled, -MAX_NOISE_UNITS, MAX_NOISE_UNITS), 0.0).astype(np.float32)


def _place(stamps, spec):
    """Stamps on the card's grid on the asinh scale: {index: (plane, valid)} of float32 and bool (S, S)."""
    placed = {}
    shapes = {}
    for key, stamp in stamps.items():
        shapes.setdefault(stamp.pixels.shape, []).append(key)
    for keys in shapes.values():
        planes, valid = place_north_up(
            np.stack([_scaled(stamps[k], spec.image_softening_njy) for k in keys])[:, None],
            np.stack([stamps[k].valid for k in keys])[:, None],
            np.stack([stamps[k].matrix for k in keys]),
            np.array([(stamps[k].x0, stamps[k].y0) for k in keys]),
            spec.side,
            spec.pixel_scale_arcsec,
        )
        planes = np.arcsinh(planes)
        placed.update({k: (planes[i, 0], valid[i, 0]) for i, k in enumerate(keys)})
    return placed


def build_examples(alerts, spec, companions=None, stamp_bytes=MAX_INFLATED):
    """Examples of a batch of alerts.

    Parameters
    ----------
    alerts : list of Alert
    spec : ExampleSpec
    companions : list of dict, optional
        Per alert {band: Companion}, earlier stamps of the same object in other bands.
    stamp_bytes : int
        Most that a stamp may have once inflated.

    Returns
    -------
    list of Example or NotScorable
        One for each alert, in order; a refusal says why.
    """
    companions = companions or [{}] * len(alerts)
    results = [None] * len(alerts)
    stamps, quality = {}, {}
    for n, alert in enumerate(alerts):
        try:
            _check_alert(alert, spec)
            template, difference = _read_stamps(alert, stamp_bytes)
            _check_scale(alert, difference, spec)
            quality[n] = judge_difference(alert, difference, spec.minimum)
        except NotScorable as refusal:
            results[n] = refusal
            continue
        stamps[n, "difference"] = difference
        if template is not None:
            stamps[n, "template"] = template
        for band, companion in companions[n].items():
            for kind in ("template", "difference"):
                if f"{kind}:{band}" in spec.planes and getattr(companion, kind) is not None:
                    stamps[n, f"{kind}:{band}"] = getattr(companion, kind)
    kept = [n for n in range(len(alerts)) if results[n] is None]
    if not kept:
        return results
    placed = _place(stamps, spec)
    points = Points([alerts[n] for n in kept])
    curves = point_features(points, spec.features, spec.steps, spec.flux_softening_njy)
    contexts = context_features([alerts[n] for n in kept], points, spec)
    for row, n in enumerate(kept):
        results[n] = _assemble(
            alerts[n],
            spec,
            {p: placed.get((n, p)) for p in _sources(spec)},
            curves[row],
            contexts[row],
            companions[n],
            quality[n],
        )
    return results


def _sources(spec):
    """The stamps that the card's planes are made of."""
    return tuple(dict.fromkeys(p.removesuffix("_mask") for p in spec.planes))


def _assemble(alert, spec, placed, light_curve, context, companions, quality):
    """One example of its parts, or the refusal where too little of the difference lies on the grid."""
    image = np.zeros((len(spec.planes), spec.side, spec.side), np.float32)
    for c, plane in enumerate(spec.planes):
        source = placed[plane.removesuffix("_mask")]
        if source is not None:
            image[c] = source[1] if plane.endswith("_mask") else source[0]
    valid_fraction = float(placed["difference"][1].mean())
    need = spec.minimum.get("valid_fraction", 0.0)
    if valid_fraction < need:
        return NotScorable(
            "valid_fraction",
            f"{alert.name}: {valid_fraction:.2f} of the difference's pixels are valid, the bundle needs {need}",
        )
    if not (np.isfinite(image).all() and np.isfinite(light_curve).all() and np.isfinite(context).all()):
        return NotScorable("not_finite", f"{alert.name}: a value of the example is not finite")
    missing = tuple(p for p in _sources(spec) if placed[p] is None and ":" not in p)
    missing += tuple(f"companion:{b}" for b in spec.companion_bands if b not in companions and b != alert.band)
    if placed.get("template") is not None and placed["template"][1].mean() < need:
        missing += ("template_pixels",)
    curve = alert.light_curve
    counts = np.bincount(curve.kind, minlength=3)
    completeness = Completeness(
        bands_used=curve.bands_detected,
        n_epochs=min(len(curve), spec.steps),
        n_detections=int(counts[0]),
        n_forced=int(counts[1]),
        n_upper_limits=int(counts[2]),
        n_dropped_epochs=max(len(curve) - spec.steps, 0),
        valid_fraction=valid_fraction,
        stamp_snr=quality.snr,
        stamp_sharpness=quality.sharpness,
        missing=missing,
        companion_alert_ids=tuple(sorted(c.alert_id for c in companions.values())) if spec.companion_bands else (),
        strata={
            "n_detections": int(counts[0]),
            "n_bands": len(curve.bands_detected),
            "flux_njy": alert.flux_njy,
            "snr": alert.flux_njy / alert.flux_err_njy if alert.flux_err_njy > 0 else 0.0,
        },
    )
    return Example(image, light_curve, context, completeness)
