"""One system through one survey: visits, fluxes, detections, objects; what the packet makers start from."""

from dataclasses import dataclass

import numpy as np

from dgl_broker.sim.artefacts import artefact_detections
from dgl_broker.sim.association import associate, detect
from dgl_broker.sim.measure import Measurer
from dgl_broker.sim.observe import FIELD_ARCSEC, Sky
from dgl_broker.sim.visits import draw_visits

TEMPLATE_EPOCHS = 8  # epochs whose mean flux stands in the template, per band
TEMPLATE_BEFORE_DAYS = (120.0, 500.0)  # when they were taken, before the first visit considered


@dataclass
class Campaign:
    """A system as a survey found it; `sky` and `measurer` hold the visits (None without visits), `objects` the detections."""

    system: object
    sky: object
    measurer: object
    objects: list

    @property
    def visits(self):
        """Visits considered; None where there are none."""
        return None if self.sky is None else self.sky.visits


def source_fluxes(system, visits):
    """Fluxes of the point sources in the visits and in the templates, and their places.

    All times go to the variability model in one call, since stochastic light must be one curve.

    Returns
    -------
    flux, template : arrays, shape (S, n)
    offset : array, shape (S, n, 2)
    """
    n = len(visits)
    bands = np.unique(visits.band)
    rng = system.rng(12)
    early = visits.mjd_tai[0] - rng.uniform(*TEMPLATE_BEFORE_DAYS, (6, TEMPLATE_EPOCHS))[bands]
    times = np.concatenate([visits.mjd_tai, early.ravel()])
    filters = np.concatenate([visits.band, np.repeat(bands, TEMPLATE_EPOCHS)])
    flux = np.asarray(system.variability.flux_njy(times, filters), float).reshape(-1, len(times))
    offset = np.asarray(system.variability.offsets_arcsec(times), float).reshape(-1, len(times), 2)
    far = np.hypot(offset[..., 0], offset[..., 1]) > FIELD_ARCSEC[visits.survey]
    flux = np.where(far, 0.0, flux)
    means = flux[:, n:].reshape(-1, len(bands), TEMPLATE_EPOCHS).mean(axis=2)
    template = means[:, np.searchsorted(bands, visits.band)]
    return flux[:, :n], template, offset[:, :n]


def run_campaign(system, survey, visits=None):
    """Everything a survey detects of a system.

    Parameters
    ----------
    visits : Visits, optional
        Instead of those drawn for the system.
    """
    visits = draw_visits(system, survey) if visits is None else visits
    if not len(visits):
        return Campaign(system=system, sky=None, measurer=None, objects=[])
    sky = Sky(system, visits, *source_fluxes(system, visits))
    measurer = Measurer(sky, system.rng(13))
    detections = detect(measurer, system.rng(14))
    if system.artefact:
        detections = artefact_detections(sky, system.rng(15))
    return Campaign(system=system, sky=sky, measurer=measurer, objects=associate(detections, survey))
