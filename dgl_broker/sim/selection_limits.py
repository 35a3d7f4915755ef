"""How bright a transient must become to be drawn at all, and how likely a lens makes it so.

Most supernovae of the universe are never seen, so a system is drawn only if its transient's peak passes a magnitude in one
band: about the depth of a good visit (84th percentile of `visits_rubin.npz`; the median of `visits_ztf.npz`). The shape of
the population above it is kept; every system's truth holds the limit and how many draws it took.
"""

import numpy as np

from dgl_broker.alert import BANDS

PEAK_LIMIT_MAG = {
    "lsst": {"u": 23.9, "g": 24.7, "r": 24.3, "i": 23.8, "z": 23.1, "y": 22.3},
    "ztf": {"g": 21.0, "r": 20.8, "i": 20.6},
}
SURVEY_SPAN_MJD = {"lsst": (60980.0, 64632.0), "ztf": (58288.0, 59822.0)}
# Bands in which field objects and catalogues stop mattering for a stamp.
FIELD_LIMIT_I = {"lsst": 24.5, "ztf": 21.0}
FIELD_HALF_ARCSEC = {"lsst": 9.0, "ztf": 34.0}


def limits(survey):
    """Peak limits (6,) in the order of `BANDS`; -inf where a band is not observed."""
    return np.array([PEAK_LIMIT_MAG[survey].get(band, -np.inf) for band in BANDS])


def needed_magnification(peak_mag, survey):
    """By how much a transient must be magnified to pass the limit in its best band; peak_mag (n, 6) -> (n,)."""
    with np.errstate(invalid="ignore"):
        return 10.0 ** (0.4 * np.min(peak_mag - limits(survey), axis=-1))


def multiple_survival(needed):
    """Share of the multiply imaged region where the total magnification is at least `needed`.

    That of an isothermal sphere, min(1, (2 / mu)^2): an ellipsoid's differs by tens of per cent, the same for all classes.
    """
    return np.minimum(1.0, (2.0 / np.maximum(needed, 1e-9)) ** 2)


def single_survival(needed):
    """1 where an unmagnified transient passes, else 0."""
    return (np.asarray(needed) <= 1.0).astype(float)
