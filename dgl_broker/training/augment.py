"""What is changed in an example each time it is shown in training: turns, flips, and things that a packet may lack.

Turns by quarter and mirror images leave every pixel as it is: no interpolation, no black corners. What is dropped is taken
away in the way a packet would lack it (points move up so that the last one stays last, flags go to 0, counts follow),
so that packets with shorter histories, fewer bands or no host facts are in domain. Nothing adds noise.

Axes: N batch, C plane, S side, T step, F feature, K context.
"""

import math
from dataclasses import dataclass, fields

import torch

from dgl_broker.errors import ConfigError

LONG_AGO = math.log1p(400.0) / 3.0  # `last_detection_age` of a band without a detection; see dgl_broker.light_curve
PER_BAND_ZERO = ("n_points", "n_detections", "max_snr", "max_flux", "host", "has_host", "science_mean", "has_science_mean")
BANDS = "ugrizy"


@dataclass(frozen=True)
class Augmentation:
    """Chances, each between 0 and 1, drawn for each example anew.

    turn : "quarters" (the eight turns and mirrors of a square), "any" (the authors': flips and a turn by any angle, nearest
    pixel, corners 0) or "none". drop_points : that a random share (up to `most_points`) of the points before the trigger is
    dropped that are no detections. drop_forced : all of those. drop_band : that each band but the trigger's is dropped.
    drop_totals : total flux and the host brightness made of it. drop_facts : each group of catalogue facts (template flux,
    mean science flux, the two nearest catalogue sources, reference object). drop_template : the template planes.
    drop_companion : each band's companion stamps.
    """

    turn: str = "quarters"
    drop_points: float = 0.0
    most_points: float = 0.7
    drop_forced: float = 0.0
    drop_band: float = 0.0
    drop_totals: float = 0.0
    drop_facts: float = 0.0
    drop_template: float = 0.0
    drop_companion: float = 0.0

    @classmethod
    def of(cls, settings):
        """From a dict of settings.

        Raises
        ------
        ConfigError
            If a key is unknown or a chance is not in 0..1.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise ConfigError(f"augmentation: {', '.join(unknown)} unknown, expected some of {', '.join(sorted(known))}")
        made = cls(**settings)
        if made.turn not in ("quarters", "any", "none"):
            raise ConfigError(f"augmentation: turn {made.turn!r}, expected quarters, any or none")
        for name in known - {"turn"}:
            if not 0 <= getattr(made, name) <= 1:
                raise ConfigError(f"augmentation: {name} {getattr(made, name)}, expected 0 to 1")
        return made


def turned(images, element):
    """Images (N, C, S, S) turned by `element % 4` quarters, and mirrored east-west from 4 on; element (N,) of 0..7."""
    out = torch.empty_like(images)
    for e in range(8):
        pick = element == e
        part = torch.rot90(images[pick], e % 4, (2, 3))
        out[pick] = part.flip(3) if e >= 4 else part
    return out


def turned_by_any_angle(images, generator):
    """The authors' augmentation: mirrored both ways by chance and turned by any angle, nearest pixel, outside 0."""
    n, device = len(images), images.device
    draw = torch.rand((3, n), generator=generator, device=device)
    angle = draw[0] * (2 * math.pi)
    mirror_x, mirror_y = (1 - 2 * (draw[i] < 0.5).float() for i in (1, 2))
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    matrix = torch.stack(
        [torch.stack([cos * mirror_x, -sin * mirror_y, zero], 1), torch.stack([sin * mirror_x, cos * mirror_y, zero], 1)], 1
    )
    grid = torch.nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)


class Augmenter:
    """Applies an `Augmentation` to batches of one card's input.

    Parameters
    ----------
    settings : Augmentation
    card_input : dict
        The "input" of the card. For paper bundles only `turn` does anything.
    """

    def __init__(self, settings, card_input):
        self.settings = settings
        curve = card_input.get("light_curve", {})
        self.feature = {name: i for i, name in enumerate(curve.get("features", ()))}
        self.context = {name: i for i, name in enumerate(card_input.get("context", ()))}
        self.planes = {name: i for i, name in enumerate(card_input.get("image", {}).get("planes", ()))}
        self.bands = [b for b in BANDS if f"band_{b}" in self.feature]
        self.groups = [g for g in (self._named(p) for p in self._fact_groups()) if g]

    @staticmethod
    def _fact_groups():
        """Prefixes of context names that are known or unknown together."""
        return (
            ("template_flux", "has_template_flux"),
            ("science_mean_", "has_science_mean_"),
            ("ps1_", "has_ps1_"),
            ("reference_", "has_reference_"),
        )

    def _named(self, prefixes):
        return [i for name, i in self.context.items() if name.startswith(prefixes)]

    def __call__(self, images, light_curves, contexts, generator):
        """New tensors of the same shapes; `generator` decides everything."""
        s, n, device = self.settings, len(images), images.device

        def chance(p, *shape):
            return torch.rand((n, *shape), generator=generator, device=device) < p

        if s.turn == "quarters":
            images = turned(images, torch.randint(0, 8, (n,), generator=generator, device=device))
        elif s.turn == "any":
            images = turned_by_any_angle(images, generator)
        if s.drop_template and "template" in self.planes:
            gone = chance(s.drop_template)
            images = images.clone()
            for name, c in self.planes.items():
                if name.startswith("template") and ":" not in name:
                    images[gone, c] = 0
        companions = sorted({name.split(":")[1] for name in self.planes if ":" in name})
        if s.drop_companion and companions:
            images, gone = images.clone(), chance(s.drop_companion, len(companions))
            for name, c in self.planes.items():
                if ":" in name:
                    images[gone[:, companions.index(name.split(":")[1])], c] = 0
        if not self.feature:
            return images, light_curves, contexts
        light_curves, contexts = light_curves.clone(), contexts.clone()
        light_curves, contexts = self._drop_points(light_curves, contexts, chance, generator)
        if s.drop_totals:
            self._drop_totals(light_curves, contexts, chance(s.drop_totals))
        for group in self.groups if s.drop_facts else ():
            gone = chance(s.drop_facts)
            contexts[:, group] *= ~gone[:, None]
        return images, light_curves, contexts

    def _drop_totals(self, light_curves, contexts, gone):
        for name in ("total", "has_total"):
            if name in self.feature:
                light_curves[:, :, self.feature[name]] *= ~gone[:, None]
        for b in self.bands:
            for name in (f"host_{b}", f"has_host_{b}"):
                if name in self.context:
                    contexts[:, self.context[name]] *= ~gone

    def _drop_points(self, light_curves, contexts, chance, generator):
        """Points, forced photometry and bands dropped; what is summed over them follows where it can be known."""
        s, (n, steps, _), device = self.settings, light_curves.shape, light_curves.device
        f = self.feature
        soft = light_curves[:, :, f["is_detection"]] < 0.5
        drop = torch.zeros((n, steps), dtype=torch.bool, device=device)
        if s.drop_points:
            share = torch.rand((n, 1), generator=generator, device=device) * s.most_points
            drop |= soft & chance(s.drop_points, 1) & (torch.rand((n, steps), generator=generator, device=device) < share)
        if s.drop_forced:
            gone = chance(s.drop_forced)
            drop |= soft & gone[:, None]
            self._forget_forced(contexts, gone)
        if s.drop_band and self.bands:
            columns = [f[f"band_{b}"] for b in self.bands]
            trigger = light_curves[:, -1][:, columns] > 0.5
            gone = chance(s.drop_band, len(self.bands)) & ~trigger
            drop |= ((light_curves[:, :, columns] > 0.5) & gone[:, None, :]).any(2)
            self._forget_bands(contexts, gone)
        drop[:, -1] = False
        return self._closed_up(light_curves, drop), contexts

    def _closed_up(self, light_curves, drop):
        """Light curves without the dropped points, the rest moved towards the trigger, gaps from the ages that remain."""
        f = self.feature
        there = light_curves[:, :, f["mask"]] > 0.5
        drop = drop & there
        touched = drop.any(1)
        if not bool(touched.any()):
            return light_curves
        keep = there & ~drop
        order = torch.argsort(keep.to(torch.int8), dim=1, stable=True)
        moved = torch.gather(light_curves * keep[:, :, None], 1, order[:, :, None].expand_as(light_curves))
        if "gap" in f and "age" in f:
            days = torch.expm1(3 * moved[:, :, f["age"]])
            gap = torch.zeros_like(days)
            gap[:, 1:] = (days[:, :-1] - days[:, 1:]).clamp(min=0)
            has = moved[:, :, f["mask"]] > 0.5
            has_before = torch.zeros_like(has)
            has_before[:, 1:] = has[:, :-1]
            moved[:, :, f["gap"]] = torch.log1p(gap) / 3 * (has & has_before)
        return torch.where(touched[:, None, None], moved, light_curves)

    def _forget_forced(self, contexts, gone):
        """No forced photometry: points are detections, nothing is known from before the first of them."""
        for b in self.bands:
            points, detections = self.context.get(f"n_points_{b}"), self.context.get(f"n_detections_{b}")
            if points is not None and detections is not None:
                contexts[:, points] = torch.where(gone, contexts[:, detections], contexts[:, points])
        for name in ("n_before", "chi2_before"):
            if name in self.context:
                contexts[:, self.context[name]] *= ~gone

    def _forget_bands(self, contexts, gone):
        """Bands (N, B) without any point."""
        total = 0
        for j, b in enumerate(self.bands):
            for prefix in PER_BAND_ZERO:
                at = self.context.get(f"{prefix}_{b}")
                if at is not None:
                    contexts[:, at] *= ~gone[:, j]
            at = self.context.get(f"last_detection_age_{b}")
            if at is not None:
                contexts[:, at] = torch.where(gone[:, j], torch.full_like(contexts[:, at], LONG_AGO), contexts[:, at])
            at = self.context.get(f"n_detections_{b}")
            if at is not None:
                total = total + torch.expm1(3 * contexts[:, at])
        at = self.context.get("n_detections")
        if at is not None and not isinstance(total, int):
            any_gone = gone.any(1)
            contexts[:, at] = torch.where(any_gone, torch.log1p(total) / 3, contexts[:, at])
