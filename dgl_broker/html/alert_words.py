"""An alert in words and numbers with their units, for the terminal and for pages alike."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np

from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT
from dgl_broker.photometry import MJD_OF_JD, jd_utc_from_mjd_tai, mag_from_flux
from dgl_broker.surveys import FACTS

KIND_WORDS = {DETECTION: "detection", FORCED: "forced", UPPER_LIMIT: "upper limit"}
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)  # MJD 0
# Facts that the lines above the list say already.
_SAID = frozenset(
    ("survey", "band", "ra", "dec", "mjd_tai", "reliability", "n_detections", "days_since_first", "snr", "magnitude")
)


def sexagesimal(ra_deg, dec_deg):
    """ICRS position as hours and degrees: `10h00m24.00s +02°12′00.0″`."""
    seconds = round((ra_deg % 360.0) * 240.0, 2) % 86400.0
    hours, rest = divmod(seconds, 3600.0)
    minutes, secs = divmod(rest, 60.0)
    arcsec = round(abs(dec_deg) * 3600.0, 1)
    degrees, left = divmod(arcsec, 3600.0)
    sign = "−" if dec_deg < 0 else "+"
    return f"{hours:02.0f}h{minutes:02.0f}m{secs:05.2f}s {sign}{degrees:02.0f}°{left // 60:02.0f}′{left % 60:04.1f}″"


def utc(mjd_tai):
    """MJD TAI as a UTC date and time to the second; "no date" beyond the calendar."""
    try:
        days = float(jd_utc_from_mjd_tai(mjd_tai)) - MJD_OF_JD
        return (_MJD_EPOCH + timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError):
        return "no date"


def signed(value, form):
    """A number in the format `form` with a real minus sign."""
    return format(value, form).replace("-", "−")


def flux_words(flux_njy, err_njy):
    """Difference flux in microjansky with its error, S/N and AB magnitude of its size."""
    text = f"{signed(flux_njy / 1000, '.4g')} ± {err_njy / 1000:.2g} µJy"
    if err_njy > 0:
        text += f", S/N {signed(flux_njy / err_njy, '.1f')}"
    magnitude = float(mag_from_flux(abs(flux_njy)))
    if math.isfinite(magnitude):
        text += f", AB {magnitude:.2f}" + (", fainter than the template" if flux_njy < 0 else "")
    return text


def fact_words(name, value):
    """A fact's value with its unit, and what the fact is."""
    unit, meaning = FACTS.get(name, ("", ""))
    if isinstance(value, bool | np.bool_):
        return ("yes" if value else "no"), meaning
    if isinstance(value, int | np.integer):
        return f"{value}" + (f" {unit}" if unit else ""), meaning
    if isinstance(value, float | np.floating):
        plain = unit.startswith(("MJD", "deg"))
        text = f"{value:.5f}" if plain else f"{value:.4g}"
        return text.replace("-", "−") + (f" {unit}" if unit else ""), meaning
    return str(value), meaning


def describe_alert(alert):
    """The alert as (name, text) lines.

    Parameters
    ----------
    alert : dgl_broker.alert.Alert

    Returns
    -------
    list of (str, str)
    """
    lines = [
        ("alert", str(alert.alert_id)),
        ("object", alert.object_id or "none given"),
        ("packet", alert.schema),
        ("position", f"RA {alert.ra:.6f}, Dec {signed(alert.dec, '+.6f')} deg ICRS ({sexagesimal(alert.ra, alert.dec)})"),
        ("trigger", f"MJD {alert.mjd_tai:.5f} TAI ({utc(alert.mjd_tai)}), band {alert.band}"),
        ("difference flux", flux_words(alert.flux_njy, alert.flux_err_njy)),
        ("reliability", "unknown" if alert.reliability is None else f"{alert.reliability:.3f} (0 bogus to 1 real)"),
    ]
    since = alert.first_detection_mjd_tai
    age = "first detection unknown" if since is None else f"first {alert.mjd_tai - since:.2f} d before the trigger"
    lines.append(("detections", f"{alert.n_detections}, {age}"))
    lines.append(("in the packet", describe_points(alert.light_curve)))
    if alert.is_solar_system:
        lines.append(("solar system", "the survey matched it to a known body"))
    return lines


def describe_points(curve):
    """How many points of each kind and band."""
    parts = []
    for kind, word in ((DETECTION, "detection"), (FORCED, "forced point"), (UPPER_LIMIT, "upper limit")):
        n = int(np.count_nonzero(curve.kind == kind))
        if n:
            bands = [f"{b} {c}" for i, b in enumerate(BANDS) if (c := int(np.sum((curve.kind == kind) & (curve.band == i))))]
            parts.append(f"{n} {word}{'s' if n != 1 else ''} ({', '.join(bands)})")
    return "; ".join(parts) if parts else "no points"


def further_facts(alert):
    """Facts that `describe_alert` does not say, as (name, value with unit, meaning); unknown ones are left out."""
    known = ((n, v) for n, v in alert.facts.items() if v is not None and n not in _SAID)
    return [(name, *fact_words(name, value)) for name, value in known if not (isinstance(value, float) and math.isnan(value))]


def describe_completeness(completeness):
    """What an example was made of, as (name, text) lines; of an alert bundle's or a paper bundle's completeness."""
    c = completeness
    n_left = getattr(c, "n_dropped_epochs", 0)
    lines = [
        ("bands used", c.bands_used or "none"),
        ("points used", f"{c.n_epochs}" + (f", {n_left} older ones left out" if n_left else "")),
        ("detections", f"{c.n_detections}, forced {c.n_forced}, upper limits {c.n_upper_limits}"),
        ("valid pixels", f"{100 * c.valid_fraction:.0f} % of the difference stamp"),
    ]
    if getattr(c, "stamp_snr", None) is not None:
        lines.append(
            ("source on the stamp", f"S/N {c.stamp_snr:.1f}, sharpness {c.stamp_sharpness:.2f} (a star stays below 0.5)")
        )
    lines.append(("missing", ", ".join(c.missing) if c.missing else "nothing"))
    if c.companion_alert_ids:
        lines.append(("companions", ", ".join(str(i) for i in c.companion_alert_ids)))
    return lines
