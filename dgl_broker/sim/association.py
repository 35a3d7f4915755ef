"""From blended light to alerts: detections on the difference image, and the objects that they are associated with.

Detection: sources of one sign merge where the PSF-convolved difference image has one peak for them. The peaks are those of the
Gaussian mixture of equal noise-equivalent width, found by mean shift from every source (an ascent to the local maximum): two
equal sources merge below 1.2 FWHM, unequal ones farther. A peak is a detection when its PSF flux is more than five times its
error as the survey states it. Association: a detection within the radius of a known object of the system belongs to the nearest
one, else it starts a new object.
"""

from dataclasses import dataclass, field

import numpy as np

from dgl_broker.sim.visits import STATED_ERROR

THRESHOLD = 5.0
RADIUS_ARCSEC = {"lsst": 1.0, "ztf": 1.5}
FAINTEST = 2.2  # S/N of all light of a peak below which noise lifts 3 in 1000 over the threshold: not looked at
SAME_PEAK = 0.15  # of the FWHM: ascents that end closer than this are one peak
CENTROID = 0.6  # error of a centroid along an axis, FWHM / (S/N): sqrt(2) sigma / (S/N) for a Gaussian


@dataclass
class Detection:
    """One detection: `visit` indexes the visits; place and centroid noise [arcsec]; fluxes [nJy]."""

    visit: int
    east: float
    north: float
    shift_e: float  # centroid noise contained in `east`, `north`
    shift_n: float
    flux: float
    error: float  # of the pixels' noise
    stated_error: float  # as the survey gives it
    deep: float  # the template's noise in a PSF flux here
    n_merged: int  # point sources that share the peak with at least a tenth of its flux
    patch: object = None  # the images, where the detection was made on them
    kind: str = "source"  # or the artefact's name


@dataclass
class DiaObject:
    """Detections that a survey calls one object, in order of time, and its place after each: east, north [arcsec].

    The place is the mean of the detections' places, weighted by (S/N)^2 with a ceiling, so that no single one fixes it.
    """

    number: int
    detections: list = field(default_factory=list)
    places: list = field(default_factory=list)
    _sums: tuple = (0.0, 0.0, 0.0)

    def add(self, detection):
        """The next detection."""
        weight = min((detection.flux / detection.error) ** 2, 1e4)
        total, east, north = self._sums
        self._sums = total + weight, east + weight * detection.east, north + weight * detection.north
        self.detections.append(detection)
        self.places.append((self._sums[1] / self._sums[0], self._sums[2] / self._sums[0]))


def find_peaks(change, offset, width):
    """Peaks of the PSF-convolved difference image, by mean shift from each source.

    Parameters
    ----------
    change : array, shape (S, n)
        Signed flux of each source in each visit.
    offset : array, shape (S, n, 2)
    width : array, shape (n,)
        Standard deviation of the convolved PSF [arcsec].

    Returns
    -------
    array, shape (S, n, 2)
        Where the ascent from each source ends.
    """
    place = np.array(offset, float)
    weight = np.abs(change)[None] * (np.sign(change)[None] == np.sign(change)[:, None])  # (S to, S from, n)
    if len(change) < 2:
        return place
    for _ in range(30):
        distance_sq = np.sum((place[:, None] - offset[None]) ** 2, axis=-1)
        pull = weight * np.exp(-0.5 * distance_sq / width**2) + 1e-300
        moved = np.einsum("ijn,jnk->ink", pull, offset) / np.sum(pull, axis=1)[..., None]
        done = np.max(np.abs(moved - place)) < 1e-3
        place = moved
        if done:
            break
    return place


def detect(measurer, rng):
    """Detections of point sources in all visits, in order of time.

    Only what changes makes a detection here: where less than half of a flux is change of the point sources (the rest being
    subtraction errors or noise) there is none. Artefacts are made by `sim.artefacts`.

    Returns
    -------
    list of Detection
    """
    sky = measurer.sky
    n_sources, n = sky.change.shape
    centroid = rng.standard_normal((max(n_sources, 1), n, 2))
    if not n_sources or not n:
        return []
    change = np.where(measurer.in_field, sky.change, 0.0)
    place = find_peaks(change, sky.offset, np.sqrt(2.0) * measurer.effective_fwhm / 2.355)
    distance = np.linalg.norm(place[:, None] - place[None], axis=-1)
    same = (distance < SAME_PEAK * measurer.effective_fwhm) & (np.sign(change)[:, None] == np.sign(change)[None])
    # A source leads its peak if no other source of the same peak is brighter.
    brighter = (np.abs(change)[None] > np.abs(change)[:, None]) | (
        (np.abs(change)[None] == np.abs(change)[:, None])
        & (np.arange(n_sources)[None, :, None] < np.arange(n_sources)[:, None, None])
    )
    together = np.sum(same * np.abs(change)[None], axis=1)
    least = FAINTEST * STATED_ERROR[sky.survey] * measurer.sky_error
    leads = ~np.any(same & brighter, axis=1) & (together > least)
    source, visit = np.nonzero(leads)
    if not len(visit):
        return []
    share = np.sum(same * (np.abs(change)[None] > 0.1 * np.abs(change)[:, None]), axis=1)
    first = measurer.at(visit, place[source, visit, 0], place[source, visit, 1])
    snr = np.abs(first.flux) / first.error
    stated = STATED_ERROR[sky.survey]
    real = (
        (snr > (THRESHOLD - 1.0) * stated)
        & (np.abs(first.variable) > 0.5 * np.abs(first.flux))
        & (first.variable * first.flux > 0)
    )
    found = []
    for k in np.flatnonzero(real):
        j, i = source[k], visit[k]
        moved = centroid[j, i] * CENTROID * measurer.effective_fwhm[i] / snr[k]
        # A peak is searched for, so its flux is above that at the true place: F (1 + r^2 / (4 sigma^2)), sigma of the PSF.
        rise = 1.0 + np.sum(moved**2) / (4.0 * (measurer.effective_fwhm[i] / 2.355) ** 2)
        if snr[k] * rise <= THRESHOLD * stated:
            continue
        found.append(
            Detection(
                visit=int(i),
                east=float(place[j, i, 0] + moved[0]),
                north=float(place[j, i, 1] + moved[1]),
                shift_e=float(moved[0]),
                shift_n=float(moved[1]),
                flux=float(first.flux[k] * rise),
                error=float(first.error[k]),
                stated_error=float(first.error[k] * stated),
                deep=float(first.deep[k]),
                n_merged=int(share[j, i]),
            )
        )
    return sorted(found, key=lambda d: (d.visit, -abs(d.flux)))


def associate(detections, survey):
    """Objects of a system from its detections in order of time.

    Detections of one visit that fall on the same object: the nearest takes it, the other starts an object of its own, as a
    survey that matches one to one does.

    Returns
    -------
    list of DiaObject
    """
    objects, radius = [], RADIUS_ARCSEC[survey]
    for detection in detections:
        best, nearest = None, radius
        for known in objects:
            if known.detections[-1].visit == detection.visit:
                continue
            east, north = known.places[-1]
            distance = float(np.hypot(east - detection.east, north - detection.north))
            if distance < nearest:
                best, nearest = known, distance
        if best is None:
            best = DiaObject(number=len(objects))
            objects.append(best)
        best.add(detection)
    return objects
