"""What a kind of system is made of, and what every kind needs: one attempt's surroundings, single supernovae, nuclei.

A builder takes a `Draw` and gives `Parts`, or None where the draw failed its selection and must be repeated with fresh
numbers: galaxies and transient are rejected together, so that the population above the limit keeps its shape.
"""

from dataclasses import dataclass, field

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.photometry import AB_ZERO_POINT_NJY
from dgl_broker.sim.galaxies import Galaxy
from dgl_broker.sim.lens_population import pick_explosion
from dgl_broker.sim.lensing import Lens
from dgl_broker.sim.quasars import draw_agn
from dgl_broker.sim.selection_limits import limits, single_survival
from dgl_broker.sim.supernovae import templates
from dgl_broker.sim.variability import Explosions, Flash, Nothing

ALWAYS_DAYS = (-250.0, 250.0)
UNRESOLVED_ARCSEC = {"lsst": 0.8, "ztf": 2.0}
FORCED_DEPTH = 0.3  # share of the limiting flux down to which forced photometry still says something


@dataclass
class Draw:
    """One attempt's surroundings: the generator, survey, data folder, Milky-Way dust and reference time."""

    rng: np.random.Generator
    survey: str
    folder: object
    ebv: float
    dust: np.ndarray  # (6,) mag
    reference_mjd: float

    @property
    def table(self):
        """The survey's supernova templates."""
        return templates(self.survey, self.folder)

    @property
    def limit_njy(self):
        """Peak limit (6,) as flux; infinite where a band is not observed."""
        return 10.0 ** (0.4 * (AB_ZERO_POINT_NJY - limits(self.survey)))


@dataclass
class Parts:
    """What a kind is made of. `points` are lasting point sources for the catalogue: (east, north, magnitudes (6,))."""

    galaxies: list[Galaxy] = field(default_factory=list)
    lens: Lens | None = None
    source: Galaxy | None = None
    variability: object = field(default_factory=Nothing)
    active_days: tuple = ALWAYS_DAYS
    truth: dict = field(default_factory=dict)
    artefact: str | None = None
    points: list = field(default_factory=list)
    stars: list = field(default_factory=list)  # (east, north, magnitudes (6,)) in the static scene


def galaxy_truth(prefix, galaxy, dust):
    """griz magnitudes behind Milky-Way dust, radius and index of a galaxy, for the record."""
    mags = galaxy.magnitudes + dust
    numbers = {f"{prefix}_mag_{band}": float(mags[BANDS.index(band)]) for band in "griz"}
    return {**numbers, f"{prefix}_radius_arcsec": galaxy.radius_arcsec, f"{prefix}_sersic_n": galaxy.sersic_n}


def peak_truth(draw, peak_mag):
    """Peak magnitude as seen (6,), in the band where it is farthest above the survey's limit."""
    best = int(np.argmin(peak_mag - limits(draw.survey)))
    return {"peak_mag": float(peak_mag[best]), "peak_band": BANDS[best]}


def supernova_truth(draw, explosion, z, peak_mag):
    """Numbers of one supernova; `peak_mag` (6,) as seen, magnified."""
    numbers = {
        "sn_type": explosion.sn_type,
        "sn_template": explosion.name,
        "sn_absolute_b": explosion.absolute_b,
        "z_transient": z,
    }
    return numbers | peak_truth(draw, peak_mag)


def observed_peak(draw, peak_mag):
    """Peak magnitudes (6,) with those in bands that the survey lacks at 99."""
    return np.where(np.isfinite(limits(draw.survey)), peak_mag, 99.0)


def flash_days(draw, flashes):
    """Days from the reference time in which any of the flashes is near or above the limit; None where never."""
    spans = []
    for flash in flashes:
        days = flash.table.bright_days(FORCED_DEPTH * draw.limit_njy / flash.magnification)
        if days is not None:
            spans.append((days[0] + flash.peak_mjd - draw.reference_mjd, days[1] + flash.peak_mjd - draw.reference_mjd))
    if not spans:
        return None
    return min(s[0] for s in spans) - 3.0, max(s[1] for s in spans) + 5.0


def seen_peak(draw, flashes, separation_arcsec):
    """Peak magnitudes (6,) of the brightest image, or of all together where they are not resolved."""
    if separation_arcsec > UNRESOLVED_ARCSEC[draw.survey]:
        best = max(flash.magnification for flash in flashes)
        return observed_peak(draw, flashes[0].table.peak_magnitude() - 2.5 * np.log10(best))
    days = np.arange(-30.0, 61.0, 5.0) * flashes[0].table.stretch / 2.0
    times = np.unique(np.concatenate([days + flash.peak_mjd for flash in flashes]))
    band = np.arange(6)[:, None]
    total = sum(flash.magnification * flash.table.at(times[None, :] - flash.peak_mjd, band) for flash in flashes)
    return observed_peak(draw, AB_ZERO_POINT_NJY - 2.5 * np.log10(np.maximum(total.max(axis=1), 1e-6)))


def single_supernova(draw, galaxy, supernova_class, magnification=1.0, place=None, peak_shift_days=0.0):
    """A supernova that follows a galaxy's light, bright enough to be seen; (Explosions, days, truth) or None."""
    picked = pick_explosion(draw.rng, draw.table, draw.survey, supernova_class, galaxy.z, draw.ebv,
                            lambda needed: single_survival(needed / magnification))  # fmt: skip
    if picked is None:
        return None
    explosion = picked[0]
    table = draw.table.light_curve(explosion, galaxy.z, draw.ebv)
    flash = Flash(table, draw.reference_mjd + peak_shift_days, magnification)
    days = flash_days(draw, [flash])
    if days is None:
        return None
    if place is None:
        place = galaxy.draw_offsets(draw.rng, 1)[0] + [galaxy.east, galaxy.north]
    peak = observed_peak(draw, table.peak_magnitude() - 2.5 * np.log10(magnification))
    truth = supernova_truth(draw, explosion, galaxy.z, peak)
    truth["offset_arcsec"] = float(np.hypot(place[0] - galaxy.east, place[1] - galaxy.north))
    return Explosions(place, [flash]), days, truth | {"n_images": 1, "magnification": magnification}


def span(draw):
    """First and last MJD of a stochastic source's grid."""
    return draw.reference_mjd - 900.0, draw.reference_mjd + 900.0


def nucleus_in(draw, galaxy):
    """An active nucleus in a galaxy, within the survey's limits; (Nucleus, truth) or None."""
    return draw_agn(draw.rng, galaxy, draw.survey, draw.dust, span(draw))
