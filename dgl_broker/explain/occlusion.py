"""Which inputs moved a score: each taken away in turn, everything that follows from it made anew, and scored again.

A part's worth is the log-odds with it minus the log-odds without it: positive where it spoke for a lensed supernova. Parts act
together, so their worths do not add up to the score. Points of the light curve are taken out of the alert itself, before the
example is built, so scales and numbers beside the light curve follow; of the survey's own counts nothing is changed.
"""

from dataclasses import dataclass, replace

import numpy as np

from dgl_broker.alert import BANDS, LightCurve
from dgl_broker.errors import NotScorable
from dgl_broker.example import stack

EPOCH_DAYS = 0.4  # points closer than this are one epoch: visits of one night
TRIGGER_DAYS = 1e-6
BLOCKS = 10  # along a side of the stamp


@dataclass(frozen=True)
class Worth:
    """What one part was worth: `delta` in log-odds, None where without it the alert would be refused, for `reason`."""

    name: str
    delta: float | None
    reason: str | None = None
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Epoch:
    """One night of the light curve: `days` before the trigger, its points by band, and its `worth`."""

    days: float
    bands: str
    worth: Worth


@dataclass(frozen=True, eq=False)
class Occlusion:
    """All that was taken away. `pixels` (K, K): worth of square blocks of all planes, `side` px wide; rows from the south."""

    log_odds: float
    inputs: tuple
    bands: tuple
    epochs: tuple
    pixels: np.ndarray
    block_px: int
    side: int


def occlude(scorer, alert, companions):
    """Take an alert's inputs away one by one.

    Parameters
    ----------
    scorer : Scorer
    alert : Alert
        Scorable.
    companions : dict
        Band to `Companion`, as it was scored with.

    Returns
    -------
    Occlusion

    Raises
    ------
    NotScorable
        If the alert itself cannot be scored.
    """
    return _Bench(scorer, alert, companions).run()


class _Bench:
    def __init__(self, scorer, alert, companions):
        self.scorer, self.alert, self.companions = scorer, alert, companions
        (self.example,) = scorer.build_examples([alert], [companions])
        if isinstance(self.example, NotScorable):
            raise self.example
        self.planes = getattr(scorer.spec, "planes", None) or tuple(scorer.spec.bands)

    def run(self):
        curve, trigger = self.alert.light_curve, self._is_trigger()
        inputs = [
            ("difference and template stamps", self._without_stamps()),
            ("template stamp", self._without_plane("template")),
        ]
        inputs += [("all points but the trigger", self._with_points(trigger))]
        inputs += [(f"companion in {b}", self._without_companion(b)) for b in self.companions]
        bands = [(f"{b} points", self._with_points(trigger | (curve.band != n))) for n, b in self._bands(trigger)]
        nights = self._nights(trigger)
        epochs = [(f"{days:+.1f} d", self._with_points(~rows)) for days, rows in nights]
        side = self.example.image.shape[-1]
        block = max(1, -(-side // BLOCKS))
        k = -(-side // block)
        pixels = [(None, self._without_block(i, j, block)) for i in range(k) for j in range(k)]
        log_odds, found = self._score([*inputs, *bands, *epochs, *pixels])
        parts = iter(found)
        worths = [[next(parts) for _ in group] for group in (inputs, bands, epochs, pixels)]
        return Occlusion(
            log_odds,
            tuple(worths[0]),
            tuple(worths[1]),
            tuple(
                Epoch(days, "".join(BANDS[n] for n in np.unique(curve.band[rows])), worth)
                for (days, rows), worth in zip(nights, worths[2], strict=True)
            ),
            np.array([w.delta for w in worths[3]], float).reshape(k, k),
            block,
            side,
        )

    def _score(self, parts):
        """Log-odds of the whole, and the worth of each part."""
        examples = [self.example] + [e for _, e in parts if not isinstance(e, NotScorable)]
        table = self.scorer.ensemble.score(stack(examples), [e.completeness.strata for e in examples])
        whole, *others = np.asarray(table.log_odds, float).tolist()
        scores = iter(others)
        found = []
        for name, example in parts:
            if isinstance(example, NotScorable):
                found.append(Worth(name, None, example.reason, example.detail))
            else:
                found.append(Worth(name, whole - next(scores)))
        return whole, found

    def _is_trigger(self):
        curve = self.alert.light_curve
        return (np.abs(curve.mjd_tai - self.alert.mjd_tai) < TRIGGER_DAYS) & (curve.band == BANDS.index(self.alert.band))

    def _bands(self, trigger):
        curve = self.alert.light_curve
        return [(n, b) for n, b in enumerate(BANDS) if np.any((curve.band == n) & ~trigger)]

    def _nights(self, trigger):
        """[(days from the trigger, its points)] of those that the network sees, the trigger's own point left out."""
        curve = self.alert.light_curve
        seen = np.zeros(len(curve), bool)
        seen[-self.scorer.spec.steps :] = True
        out, left = [], np.flatnonzero(seen & ~trigger)
        while len(left):
            near = left[curve.mjd_tai[left] - curve.mjd_tai[left[0]] < EPOCH_DAYS]
            rows = np.zeros(len(curve), bool)
            rows[near] = True
            out.append((float(curve.mjd_tai[near].mean() - self.alert.mjd_tai), rows))
            left = np.setdiff1d(left, near, assume_unique=True)
        return out

    def _with_points(self, keep):
        """The example of the alert with some points of its light curve only."""
        curve = self.alert.light_curve
        fields = {name: getattr(curve, name)[keep] for name in LightCurve.__slots__}
        return self._built(replace(self.alert, light_curve=LightCurve(**fields)), self.companions)

    def _without_companion(self, band):
        return self._built(self.alert, {b: c for b, c in self.companions.items() if b != band})

    def _built(self, alert, companions):
        return self.scorer.build_examples([alert], [companions])[0]

    def _without_plane(self, kind):
        """The example as if that stamp had not been in the packet."""
        image = self.example.image.copy()
        for n, plane in enumerate(self.planes):
            if plane in (kind, f"{kind}_mask"):
                image[n] = 0
        return replace(self.example, image=image)

    def _without_stamps(self):
        return replace(self.example, image=np.zeros_like(self.example.image))

    def _without_block(self, i, j, block):
        """The example with a square of all planes masked."""
        image = self.example.image.copy()
        image[:, i * block : (i + 1) * block, j * block : (j + 1) * block] = 0
        return replace(self.example, image=image)
