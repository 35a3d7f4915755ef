"""Light curves of a batch of alerts -> what the recurrent networks and the `informed` vector see.

Everything is taken from points up to the trigger, scaled by constants of the card and never by the curve itself, so that a
score at one alert uses no later epoch and over-luminosity stays visible. Points of a batch are laid end to end and treated
elementwise; sums run within one alert only.
"""

import numpy as np

from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT

LONG_AGO_DAYS = 400.0  # clip of ages; LSST packets carry 12 months
MAX_SNR = 1e4
POINT_FEATURES = (
    "mask", "age", "gap", "snr", "flux", "flux_err", "total", "has_total", "is_detection", "is_upper_limit",
    *(f"band_{b}" for b in BANDS),
)  # fmt: skip


class Points:
    """The points of many light curves end to end: columns of shape (n_points,), and `owner`, the alert each belongs to."""

    def __init__(self, alerts):
        curves = [alert.light_curve for alert in alerts]
        self.n_alerts = len(alerts)
        self.count = np.array([len(c) for c in curves], np.int64)
        self.owner = np.repeat(np.arange(self.n_alerts), self.count)
        self.start = np.concatenate([[0], np.cumsum(self.count)[:-1]]).astype(np.int64)
        for name in ("mjd_tai", "band", "flux_njy", "flux_err_njy", "kind", "total_njy"):
            parts = [getattr(c, name) for c in curves]
            setattr(self, name, np.concatenate(parts) if parts else np.zeros(0))
        trigger = np.array([alert.mjd_tai for alert in alerts], float)
        self.age = np.clip(trigger[self.owner] - self.mjd_tai, 0.0, LONG_AGO_DAYS)
        self.from_end = np.repeat(self.start + self.count, self.count) - 1 - np.arange(len(self.owner))
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = np.where(self.flux_err_njy > 0, self.flux_njy / self.flux_err_njy, 0.0)
        self.snr = np.clip(np.nan_to_num(snr), -MAX_SNR, MAX_SNR)

    def sum_by(self, key, n_keys, values, where):
        """Sum of `values` over the points of each alert and key; (n_alerts, n_keys) float64, in the points' own order."""
        slot = (self.owner * n_keys + key)[where]
        return np.bincount(slot, values[where], self.n_alerts * n_keys).reshape(self.n_alerts, n_keys)

    def max_by(self, key, n_keys, values, where):
        """Greatest of `values` over the points of each alert and key; -inf where there is none."""
        out = np.full(self.n_alerts * n_keys, -np.inf)
        np.maximum.at(out, (self.owner * n_keys + key)[where], values[where])
        return out.reshape(self.n_alerts, n_keys)


def scaled_flux(flux_njy, softening_njy):
    """asinh(flux / softening): linear in the noise, logarithmic above it (Lupton et al. 1999, doi:10.1086/301004)."""
    return np.arcsinh(flux_njy / softening_njy)


def point_features(points, names, steps, softening_njy):
    """The last `steps` points of each alert, the trigger's last.

    Parameters
    ----------
    points : Points
    names : sequence of str
        From `POINT_FEATURES`, in the order of the card.
    steps : int
    softening_njy : float
        Where the flux scale turns from linear to logarithmic [nJy], about one visit's noise.

    Returns
    -------
    array, shape (n_alerts, steps, len(names)), float32
        Rows without a point, at the beginning, are zero in every feature, `mask` included.
    """
    keep = points.from_end < steps
    gap = np.diff(points.mjd_tai, prepend=points.mjd_tai[:1])
    gap[points.start[points.count > 0]] = 0.0
    has_total = np.isfinite(points.total_njy)
    columns = {
        "mask": lambda: np.ones(len(points.owner)),
        "age": lambda: np.log1p(points.age) / 3.0,
        "gap": lambda: np.log1p(np.clip(gap, 0.0, LONG_AGO_DAYS)) / 3.0,
        "snr": lambda: np.arcsinh(points.snr) / 3.0,
        "flux": lambda: scaled_flux(points.flux_njy, softening_njy) / 3.0,
        "flux_err": lambda: np.log(np.clip(points.flux_err_njy / softening_njy, 1e-3, 1e4)) / 3.0,
        "total": lambda: scaled_flux(np.where(has_total, points.total_njy, 0.0), softening_njy) / 3.0,
        "has_total": lambda: has_total.astype(float),
        "is_detection": lambda: (points.kind == DETECTION).astype(float),
        "is_upper_limit": lambda: (points.kind == UPPER_LIMIT).astype(float),
        **{f"band_{b}": lambda i=i: (points.band == i).astype(float) for i, b in enumerate(BANDS)},
    }
    out = np.zeros((points.n_alerts, steps, len(names)), np.float32)
    at = (points.owner[keep], steps - 1 - points.from_end[keep])
    for f, name in enumerate(names):
        out[(*at, f)] = columns[name]()[keep]
    return out


def summary_features(points, bands, softening_njy, first_detection_mjd_tai):
    """Numbers over the whole known history of each alert, as {name: array of shape (n_alerts,)}.

    Parameters
    ----------
    points : Points
    bands : str
        The survey's bands, e.g. "ugrizy".
    softening_njy : float
    first_detection_mjd_tai : array, shape (n_alerts,)
        As the survey states it, NaN where unknown.
    """
    n_bands = len(BANDS)
    detected = points.kind == DETECTION
    measured = points.kind != UPPER_LIMIT
    has_total = np.isfinite(points.total_njy)
    n_measured = points.sum_by(points.band, n_bands, np.ones(len(points.owner)), measured)
    n_detected = points.sum_by(points.band, n_bands, np.ones(len(points.owner)), detected)
    max_snr = points.max_by(points.band, n_bands, points.snr, measured)
    max_flux = points.max_by(points.band, n_bands, points.flux_njy, detected)
    n_total = points.sum_by(points.band, n_bands, np.ones(len(points.owner)), has_total)
    host = points.sum_by(points.band, n_bands, points.total_njy - points.flux_njy, has_total)
    youngest = -points.max_by(points.band, n_bands, -points.age, detected)
    out = {}
    for b in bands:
        i = BANDS.index(b)
        seen, hosted = n_detected[:, i] > 0, n_total[:, i] > 0
        out[f"n_points_{b}"] = np.log1p(n_measured[:, i]) / 3.0
        out[f"n_detections_{b}"] = np.log1p(n_detected[:, i]) / 3.0
        out[f"max_snr_{b}"] = np.arcsinh(np.where(n_measured[:, i] > 0, max_snr[:, i], 0.0)) / 3.0
        out[f"max_flux_{b}"] = scaled_flux(np.where(seen, max_flux[:, i], 0.0), softening_njy) / 3.0
        out[f"last_detection_age_{b}"] = np.log1p(np.where(seen, youngest[:, i], LONG_AGO_DAYS)) / 3.0
        mean_host = np.where(hosted, host[:, i] / np.maximum(n_total[:, i], 1), 0.0)
        out[f"host_{b}"] = scaled_flux(mean_host, softening_njy) / 3.0
        out[f"has_host_{b}"] = hosted.astype(float)
    zero = np.zeros(len(points.owner), np.int64)
    total_detected = points.sum_by(zero, 1, np.ones(len(points.owner)), detected)[:, 0]
    negative = points.sum_by(zero, 1, np.ones(len(points.owner)), detected & (points.flux_njy < 0))[:, 0]
    before = (points.mjd_tai < np.nan_to_num(first_detection_mjd_tai)[points.owner] - 1.0) & (points.kind == FORCED)
    n_before = points.sum_by(zero, 1, np.ones(len(points.owner)), before)[:, 0]
    chi2_before = points.sum_by(zero, 1, points.snr**2, before)[:, 0]
    out["n_detections"] = np.log1p(total_detected) / 3.0
    out["negative_fraction"] = negative / np.maximum(total_detected, 1)
    out["n_before"] = np.log1p(n_before) / 3.0
    out["chi2_before"] = np.log1p(chi2_before / np.maximum(n_before, 1)) / 3.0
    return out
