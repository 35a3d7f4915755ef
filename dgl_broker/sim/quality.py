"""What a survey says about a detection beside flux and place: real-bogus scores, extendedness, moments.

These are drawn, not measured: distributions follow 103 real LSST alerts of v9 and v10 and 480 of ZTF (by S/N), artefacts lower
but overlapping, blends somewhat lower.
"""

import numpy as np
from scipy.special import expit

DEFAULT_RELIABILITY = 0.4863438308238983  # a spike in real packets, mostly on bright sources: it looks like a default


def reliability(snr, blended, artefact, brightness, draw, spike):
    """Rubin's real-bogus score of a detection.

    Parameters
    ----------
    snr : float
    blended : bool
        Several images share the peak.
    artefact : bool
    brightness : float
        Static flux at the place over the error of the difference flux.
    draw, spike : float
        A normal and a uniform random number.
    """
    if spike < (0.30 if brightness > 60 else 0.05):
        return DEFAULT_RELIABILITY
    rise = np.log(max(snr, 5.0) / 5.0)
    if artefact:
        logit = -1.3 + 0.2 * rise + 1.6 * draw
    else:
        logit = 0.2 + 2.6 * rise - 0.8 * blended + (0.6 + 1.7 * np.exp(-rise)) * draw
    return float(0.09 + 0.91 * expit(logit))


def extendedness(snr, blended, artefact, draw, lost):
    """Rubin's extendedness and the two shape moments over the PSF's, or None for both where none could be measured.

    `draw` holds three normal random numbers, `lost` is a uniform one.
    """
    rise = np.log(max(snr, 5.0) / 5.0)
    if lost < 0.35 * np.exp(-1.5 * rise):
        return None, None
    mean = 1.0 if artefact else 0.3 - 2.5 * rise + 1.5 * blended
    moments = 1.0 + (0.3 if blended else 0.0) + 2.0 / snr * draw[1], 1.0 + (0.3 if blended else 0.0) + 2.0 / snr * draw[2]
    return float(expit(mean + 2.3 * draw[0])), moments


def ztf_scores(snr, artefact, draw):
    """ZTF's `rb`, `drb`, `classtar` of an alert.

    Real triggers have drb above 0.9 in five of six cases; fainter ones spread over 0..1. `draw` holds three normal numbers.
    """
    rise = np.log(max(snr, 5.0) / 5.0)
    logit = (-1.5 + 1.8 * draw[0]) if artefact else (2.2 + 2.4 * rise + 2.0 * draw[0])
    rb = expit((-1.0 if artefact else 0.6 + 0.6 * rise) + 1.1 * draw[1])
    return float(rb), float(expit(logit)), float(np.clip(0.97 - 0.12 * abs(draw[2]) - (0.3 if artefact else 0.0), 0.0, 1.0))
