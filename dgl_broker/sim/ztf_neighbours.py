"""What stands near a ZTF detection: sources of the reference image, of Pan-STARRS1 and of Gaia."""

import numpy as np

from dgl_broker.surveys.ztf import write

FAINTEST_REFERENCE = 23.0  # mag: what references of some 16 exposures and Pan-STARRS1 stacks still list
REFERENCE_RADIUS_ARCSEC = 17.0  # the farthest nearest source in real packets


class ZtfNeighbours:
    """Neighbours of one system's detections, from its catalogue; beyond it, field sources of a random distance."""

    def __init__(self, system, rng):
        self.catalogue = [e for e in system.catalogue if _listed(e)]
        self.sharpness, self.chi = rng.uniform(0.1, 0.6), rng.uniform(1.0, 6.0)
        self.gaia = rng.uniform(4.0, 60.0), rng.uniform(16, 20.5), rng.uniform(20, 89), rng.uniform(10, 14)
        self.has_bright = rng.uniform() < 0.3

    def reference(self, east, north, band):
        """Distance, offsets, magnitude, star score of the nearest reference source; a faint far one if none is near."""
        best = None
        for entry in self.catalogue:
            magnitude = entry.magnitude.get(band)
            distance = float(np.hypot(entry.east_arcsec - east, entry.north_arcsec - north))
            if magnitude is not None and magnitude < FAINTEST_REFERENCE and (best is None or distance < best[0]):
                best = distance, entry.east_arcsec, entry.north_arcsec, float(magnitude), entry.star_score
        if best is not None and best[0] < REFERENCE_RADIUS_ARCSEC:
            return best
        return 14.0, east + 11.0, north - 8.7, 22.9, 0.5

    def shape(self, star_score):
        """`chinr` and `sharpnr` of a reference source: stars near 0.5 and 0, galaxies above."""
        return float(0.5 + (1 - star_score) * self.chi), float((1 - star_score) * self.sharpness - 0.02)

    def fields(self, east, north):
        """Pan-STARRS1 and Gaia fields of a detection."""
        places = np.array([[e.east_arcsec, e.north_arcsec] for e in self.catalogue]).reshape(-1, 2)
        distance = np.hypot(*(places - [east, north]).T)
        stars = [(r, e.magnitude) for r, e in zip(distance, self.catalogue) if e.star_score > 0.7]
        near = min(stars, key=lambda star: star[0], default=None)
        gaia = self.gaia[:2]
        if near is not None and near[0] < gaia[0]:
            gaia = float(near[0]), float(near[1].get("r", 20.0))
        bright = self.gaia[2:] if self.has_bright else (write.NO_VALUE, write.NO_VALUE)
        scores, magnitudes = [e.star_score for e in self.catalogue], [e.magnitude for e in self.catalogue]
        return write.neighbours(distance, scores, magnitudes) | {
            "neargaia": gaia[0],
            "maggaia": gaia[1],
            "neargaiabright": bright[0],
            "maggaiabright": bright[1],
        }


def _listed(entry):
    """Whether reference catalogues would list it: bright enough in a band."""
    return any(m is not None and np.isfinite(m) and m < FAINTEST_REFERENCE for m in entry.magnitude.values())
