"""`Alert` -> `Example`: what the network sees of one alert, and a record of what was there and what was missing.

The card of the bundle says which planes, points and numbers, on which grid and scale, and the least that it needs; an
alert below that is refused with the reason. Alerts are treated a batch at a time, and each result is the same to the
bit whatever else is in the batch.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.context import context_features
from dgl_broker.errors import ConfigError, NotScorable, PacketError
from dgl_broker.light_curve import POINT_FEATURES, Points, point_features
from dgl_broker.planes import place_planes
from dgl_broker.stamp_quality import judge_difference, measure
from dgl_broker.stamps import MAX_INFLATED, read_stamp

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
    (a, b), (c, d) = stamp.matrix.tolist()
    scale = math.sqrt(abs(a * d - b * c))
    if abs(scale / spec.pixel_scale_arcsec - 1) > 0.05:
        raise NotScorable(
            "pixel_scale", f'{alert.name}: stamp of {scale:.3f}"/px, the bundle needs {spec.pixel_scale_arcsec}"/px'
        )


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
    read = {}
    for n, alert in enumerate(alerts):
        try:
            _check_alert(alert, spec)
            read[n] = _read_stamps(alert, stamp_bytes)
            _check_scale(alert, read[n][1], spec)
        except NotScorable as refusal:
            results[n] = refusal
    quality = _judged(alerts, read, spec, results)
    stamps = {}
    for n in quality:
        template, difference = read[n]
        stamps[n, "difference"] = difference
        if template is not None:
            stamps[n, "template"] = template
        for band, companion in companions[n].items():
            for kind in ("template", "difference"):
                if f"{kind}:{band}" in spec.planes and getattr(companion, kind) is not None:
                    stamps[n, f"{kind}:{band}"] = getattr(companion, kind)
    kept = sorted(quality)
    if not kept:
        return results
    planes = place_planes(stamps, spec.side, spec.pixel_scale_arcsec, spec.image_softening_njy)
    images = np.zeros((len(kept), len(spec.planes), spec.side, spec.side), np.float32)
    for row, n in enumerate(kept):
        for c, plane in enumerate(spec.planes):
            found = planes.get((n, plane.removesuffix("_mask")))
            if found is not None:
                images[row, c] = found[plane.endswith("_mask")]
    points = Points([alerts[n] for n in kept])
    curves = point_features(points, spec.features, spec.steps, spec.flux_softening_njy)
    contexts = context_features([alerts[n] for n in kept], points, spec)
    finite = np.isfinite(images).all(axis=(1, 2, 3)) & np.isfinite(curves).all(axis=(1, 2)) & np.isfinite(contexts).all(axis=1)
    companion_bands = spec.companion_bands
    sources = tuple(dict.fromkeys(plane.removesuffix("_mask") for plane in spec.planes))
    for row, n in enumerate(kept):
        alert, valid_fraction = alerts[n], _share(planes[n, "difference"][1])
        results[n] = _refused(alert, spec, valid_fraction, finite[row])
        if results[n] is None:
            missing = tuple(p for p in sources if (n, p) not in planes and ":" not in p)
            missing += tuple(f"companion:{b}" for b in companion_bands if b not in companions[n] and b != alert.band)
            if (n, "template") in planes and _share(planes[n, "template"][1]) < spec.minimum.get("valid_fraction", 0.0):
                missing += ("template_pixels",)
            used = companions[n] if companion_bands else {}
            completeness = _completeness(alert, spec, missing, valid_fraction, used, quality[n])
            results[n] = Example(images[row], curves[row], contexts[row], completeness)
    return results


def _judged(alerts, read, spec, results):
    """Quality of the difference stamps by number of the alert; refusals go into `results`."""
    quality = {}
    for survey in {alerts[n].survey for n in read}:
        asked = [n for n in read if alerts[n].survey == survey and results[n] is None]
        for n, found in zip(asked, measure([read[n][1] for n in asked], survey), strict=True):
            try:
                judge_difference(alerts[n], found, spec.minimum)
                quality[n] = found
            except NotScorable as refusal:
                results[n] = refusal
    return quality


def _share(mask):
    return float(np.count_nonzero(mask) / mask.size)


def _refused(alert, spec, valid_fraction, finite):
    """The refusal where too little of the difference lies on the grid, or a value is not finite; else None."""
    need = spec.minimum.get("valid_fraction", 0.0)
    if valid_fraction < need:
        return NotScorable(
            "valid_fraction",
            f"{alert.name}: {valid_fraction:.2f} of the difference's pixels are valid, the bundle needs {need}",
        )
    return None if finite else NotScorable("not_finite", f"{alert.name}: a value of the example is not finite")


def _completeness(alert, spec, missing, valid_fraction, companions, quality):
    """The record of what one example was made of."""
    curve = alert.light_curve
    bands = curve.bands_detected
    counts = np.bincount(curve.kind, minlength=3).tolist()
    return Completeness(
        bands_used=bands,
        n_epochs=min(len(curve), spec.steps),
        n_detections=counts[0],
        n_forced=counts[1],
        n_upper_limits=counts[2],
        n_dropped_epochs=max(len(curve) - spec.steps, 0),
        valid_fraction=valid_fraction,
        stamp_snr=quality.snr,
        stamp_sharpness=quality.sharpness,
        missing=missing,
        companion_alert_ids=tuple(sorted(c.alert_id for c in companions.values())),
        strata={
            "n_detections": counts[0],
            "n_bands": len(bands),
            "flux_njy": alert.flux_njy,
            "snr": alert.flux_njy / alert.flux_err_njy if alert.flux_err_njy > 0 else 0.0,
        },
    )
