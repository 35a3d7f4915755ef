"""Guards of an activation: what a filter lets through on a reference night and of injections, before it comes into force.

They ask two things of what was replayed (`replay --ungated`): `candidates_per_night` and `completeness` at a threshold.
`Replayed` answers from arrays, `dgl_broker.tune` from a table in order. A NaN score (refused, or never scored) never passes.
"""

from dataclasses import dataclass

import numpy as np

from dgl_broker.errors import GuardRefused

# A night is the UTC date for ZTF and the date 12 hours earlier for Rubin, whose nights in Chile span midnight UTC.
NIGHT_SHIFT_DAYS = {"ztf": 0.0, "lsst": -0.5}
TAI_MINUS_UTC_DAYS = 37.0 / 86400.0  # since 2017, IERS Bulletin C; a leap second more would move no alert of a dark sky


def night_of(survey, mjd_tai):
    """The night of each alert, as days of `datetime64[D]`.

    Parameters
    ----------
    survey : "ztf" or "lsst"
    mjd_tai : array, shape (n,)
    """
    day = np.floor(np.asarray(mjd_tai, float) - TAI_MINUS_UTC_DAYS + NIGHT_SHIFT_DAYS[survey]).astype(np.int64)
    return np.datetime64("1858-11-17", "D") + day  # MJD 0


@dataclass(frozen=True)
class Replayed:
    """Scores of replayed alerts.

    `scores` (n,) float64, `precut_passed` (n,) bool; `groups` (n,): the night of each alert for a reference, its object for
    injections. `sampled` is the share of alerts that the replay took.
    """

    scores: np.ndarray
    precut_passed: np.ndarray
    groups: np.ndarray
    sampled: float = 1.0

    def __len__(self):
        return len(self.scores)

    def passes(self, threshold):
        """Whether each alert passes, shape (n,) bool."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.precut_passed, bool) & (np.asarray(self.scores, float) >= threshold)

    def candidates_per_night(self, threshold):
        """Candidates of each night at a threshold, scaled up from the sample: (nights, counts), nights without any too."""
        nights, index = np.unique(np.asarray(self.groups), return_inverse=True)
        counts = np.bincount(index, weights=self.passes(threshold), minlength=len(nights))
        return nights, counts / self.sampled

    def completeness(self, threshold):
        """(share of injected objects of which at least one alert passes, number of objects)."""
        objects, index = np.unique(np.asarray(self.groups), return_inverse=True)
        hits = np.bincount(index, weights=self.passes(threshold), minlength=len(objects))
        return (float(np.mean(hits > 0)), len(objects)) if len(objects) else (float("nan"), 0)


def rate_refusal(filter_, reference):
    """Why a filter may not be activated for what it lets through on the reference nights; None if it may."""
    limit = filter_.max_candidates_per_night
    if limit is None:
        return None
    if reference is None or not len(reference):
        return f"{filter_.name}: no reference night, expected one to hold max_candidates_per_night {limit:g} against"
    nights, counts = reference.candidates_per_night(filter_.threshold)
    worst = int(np.argmax(counts))
    if counts[worst] > limit:
        found = f"{counts[worst]:g} candidates in the night {nights[worst]} at {filter_.score} >= {filter_.threshold:g}"
        return f"{filter_.name}: {found}, expected at most max_candidates_per_night {limit:g}"
    return None


def completeness_refusal(filter_, injections):
    """Why a filter may not be activated for the injections that it loses; None if it may."""
    floor = filter_.completeness_floor
    if floor is None:
        return None
    if injections is None or not len(injections):
        return f"{filter_.name}: no injections, expected some to hold completeness_floor {floor:g} against"
    share, n = injections.completeness(filter_.threshold)
    if share < floor:
        found = f"completeness {share:.3g} on {n} injected objects at {filter_.score} >= {filter_.threshold:g}"
        return f"{filter_.name}: {found}, expected at least completeness_floor {floor:g}"
    return None


def bundle_refusal(filter_, bundle_sha256):
    """Why a filter may not judge scores of this bundle: it was tuned for another. None if it may, or was tuned for none."""
    if filter_.bundle_sha256 is None or bundle_sha256 is None or filter_.bundle_sha256 == bundle_sha256:
        return None
    return (
        f"{filter_.name} version {filter_.version}: tuned for bundle {filter_.bundle_sha256}, "
        f"the bundle in use is {bundle_sha256}; `dgl-broker tune carry` makes a filter for it"
    )


def activation_refusals(filter_, bundle_sha256, reference=None, injections=None):
    """All reasons not to activate a filter, in words; empty if there is none.

    Parameters
    ----------
    filter_ : Filter
    bundle_sha256 : str
        Of the bundle that scored `reference` and `injections`, and that runs.
    reference : Replayed, optional
        Real alerts of one or more nights, `groups` their nights; or anything that counts them in the same way.
    injections : Replayed, optional
        Alerts of injected lensed supernovae, `groups` their objects; or anything that counts them in the same way.
    """
    checks = (
        bundle_refusal(filter_, bundle_sha256),
        rate_refusal(filter_, reference),
        completeness_refusal(filter_, injections),
    )
    return [why for why in checks if why is not None]


def guard_activation(filter_, bundle_sha256, reference=None, injections=None):
    """Nothing, if the filter may be activated.

    Raises
    ------
    GuardRefused
        With every reason.
    """
    refusals = activation_refusals(filter_, bundle_sha256, reference, injections)
    if refusals:
        raise GuardRefused("; ".join(refusals), refusals)
