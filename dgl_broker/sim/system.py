"""What the sky holds at one position: the boundary between the population (physics) and the survey side (observation).

Sky offsets are (east, north) in arcsec from the system's centre; images have rows growing north, columns growing east.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

KINDS = {
    # class: kinds that belong to it
    "no_lens": (
        "sn_ia_host", "sn_cc_host", "sn_ia_lrg", "sn_cc_lrg", "sibling_sne", "agn", "variable_star", "tde", "slsn",
        "moving_object", "cosmic_ray", "bad_column", "dipole",
    ),
    "lens": ("lensed_quasar", "sn_ia_in_lens", "sn_cc_in_lens", "sn_outside_images", "agn_in_lens", "lens_bad_subtraction"),
    "lensed_sn_ia": ("lensed_sn_ia",),
    "lensed_sn_cc": ("lensed_sn_cc",),
}  # fmt: skip
CLASS_OF_KIND = {kind: label for label, kinds in KINDS.items() for kind in kinds}


class Variability(Protocol):
    """Everything that varies in a system, its images included."""

    n_sources: int

    def flux_njy(self, mjd_tai: np.ndarray, band: np.ndarray) -> np.ndarray:
        """Flux of each point source at each visit.

        Parameters
        ----------
        mjd_tai, band : arrays, shape (n,)
            Times, and bands as indices into `dgl_broker.alert.BANDS`; all visits of a system in one call, so that
            stochastic variability is consistent across them.

        Returns
        -------
        array, shape (n_sources, n), float64, nJy
            Above the static level; a quasar's mean is part of it.
        """

    def offsets_arcsec(self, mjd_tai: np.ndarray) -> np.ndarray:
        """Place of each source at each visit, (n_sources, n, 2) east and north [arcsec]."""


class StaticScene(Protocol):
    """Everything that does not vary: galaxies, arcs, stars."""

    def image_njy(self, bands: str, side: int, pixel_scale_arcsec: float) -> np.ndarray:
        """Flux per pixel before any PSF, (len(bands), side, side) float32, nJy, centred on the system's centre."""


@dataclass
class CatalogueEntry:
    """A static object as a reference catalogue (Pan-STARRS1) would list it: offsets, star score 0..1, magnitudes by band."""

    east_arcsec: float
    north_arcsec: float
    star_score: float
    magnitude: dict


@dataclass
class System:
    """One drawn system. `truth` holds numbers for labels: z_lens, z_source, n_images, separation_arcsec, magnification, ..."""

    seed: int
    index: int
    kind: str
    ra: float
    dec: float
    scene: StaticScene
    variability: Variability
    reference_mjd_tai: float  # around which things happen: explosion or peak
    active_days: tuple[float, float]  # (from, to) relative to reference_mjd_tai in which detections can be expected
    artefact: str | None = None  # made by the survey side: "cosmic_ray", "bad_column", "dipole", "bad_subtraction"
    catalogue: list[CatalogueEntry] = field(default_factory=list)
    galaxy_id: int = -1  # identity of the drawn galaxies: no id in two splits
    truth: dict = field(default_factory=dict)

    @property
    def label(self):
        """The class of `dgl_broker.scores.CLASSES` that this kind belongs to."""
        return CLASS_OF_KIND[self.kind]

    def rng(self, stream):
        """A generator for one purpose: the same (seed, index, stream) gives the same numbers wherever it is called.

        Streams from 1000 on are the population's, those below the survey side's.
        """
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.index, stream]))
