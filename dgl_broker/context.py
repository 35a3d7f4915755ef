"""The `informed` vector of alert bundles: numbers about the trigger, the history and the host, each with its own `has_`.

What a pipeline invents (reliability, extendedness, star scores) is left out on purpose: simulated and real values differ,
and a network would learn that. Those serve the pre-cuts.
"""

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.light_curve import LONG_AGO_DAYS, scaled_flux, summary_features

PS1_BANDS = "griz"
SUMMARY_PER_BAND = (
    "n_points", "n_detections", "max_snr", "max_flux", "last_detection_age", "host", "has_host",
)  # fmt: skip


def context_names(survey, bands):
    """Names of everything the context of a survey's alert can hold, in order; a card takes these or some of them."""
    names = [f"trigger_band_{b}" for b in bands]
    names += ["trigger_snr", "trigger_flux", "days_since_first", "n_detections", "negative_fraction", "n_before"]
    names += ["chi2_before", "template_flux", "has_template_flux"]
    names += [f"{s}_{b}" for b in bands for s in SUMMARY_PER_BAND]
    if survey == "lsst":
        names += [f"{kind}_{b}" for b in bands for kind in ("science_mean", "has_science_mean")]
    if survey == "ztf":
        for n in (1, 2):
            names += [f"ps1_{n}_{b}" for b in PS1_BANDS] + [f"has_ps1_{n}_{b}" for b in PS1_BANDS]
            names += [f"ps1_{n}_separation", f"has_ps1_{n}_separation"]
        names += ["reference_magnitude", "has_reference_magnitude", "reference_separation"]
    return tuple(names)


def _fact(alerts, name):
    """A fact of each alert as float64, NaN where unknown."""
    values = [alert.facts.get(name) for alert in alerts]
    return np.array([np.nan if v is None else float(v) for v in values], float)


def _scaled_magnitude(mag):
    """Magnitudes about 20, where most host galaxies are; 0 where unknown."""
    return np.where(np.isfinite(mag), (np.clip(mag, 8.0, 28.0) - 20.0) / 3.0, 0.0)


def _scaled_separation(arcsec):
    return np.where(np.isfinite(arcsec), np.log1p(np.clip(arcsec, 0.0, 60.0)), 0.0)


def context_features(alerts, points, spec):
    """The card's context of a batch.

    Parameters
    ----------
    alerts : list of Alert
    points : dgl_broker.light_curve.Points
        Of the same alerts.
    spec : dgl_broker.example.ExampleSpec

    Returns
    -------
    array, shape (n_alerts, len(spec.context)), float32
    """
    first = np.array([np.nan if a.first_detection_mjd_tai is None else a.first_detection_mjd_tai for a in alerts], float)
    mjd = np.array([a.mjd_tai for a in alerts], float)
    flux = np.array([a.flux_njy for a in alerts], float)
    err = np.array([a.flux_err_njy for a in alerts], float)
    band = np.array([BANDS.index(a.band) for a in alerts])
    values = summary_features(points, spec.bands, spec.flux_softening_njy, first)
    days = np.clip(np.nan_to_num(mjd - first), 0.0, 10 * LONG_AGO_DAYS)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.nan_to_num(np.where(err > 0, flux / err, 0.0))
    values["trigger_snr"] = np.arcsinh(snr) / 3.0
    values["trigger_flux"] = scaled_flux(flux, spec.flux_softening_njy) / 3.0
    values["days_since_first"] = np.log1p(days) / 3.0
    for b in spec.bands:
        values[f"trigger_band_{b}"] = (band == BANDS.index(b)).astype(float)

    def with_flag(name, fact, scale):
        value = _fact(alerts, fact)
        values[name] = scale(value)
        values[f"has_{name}"] = np.isfinite(value).astype(float)

    def flux_scale(value):
        return scaled_flux(np.nan_to_num(value), spec.flux_softening_njy) / 3.0

    with_flag("template_flux", "template_flux_njy", flux_scale)
    if spec.survey == "lsst":
        for b in spec.bands:
            with_flag(f"science_mean_{b}", f"{b}_science_flux_mean_njy", flux_scale)
    if spec.survey == "ztf":
        for n in (1, 2):
            for b in PS1_BANDS:
                with_flag(f"ps1_{n}_{b}", f"ps1_{n}_{b}", _scaled_magnitude)
            with_flag(f"ps1_{n}_separation", f"ps1_{n}_separation_arcsec", _scaled_separation)
        with_flag("reference_magnitude", "reference_magnitude", _scaled_magnitude)
        with_flag("reference_separation", "reference_separation_arcsec", _scaled_separation)
    return np.stack([values[name] for name in spec.context], axis=1).astype(np.float32)
