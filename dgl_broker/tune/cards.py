"""The alerts just above and just below the line, each as a small card: stamps, light curve, what is known of it."""

import numpy as np

from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT
from dgl_broker.html.alert_words import describe_points
from dgl_broker.html.axes import Axis, Frame, path
from dgl_broker.html.bands import marker
from dgl_broker.html.light_curves import NJY_A_MICROJANSKY, flux_range
from dgl_broker.html.markup import element, number
from dgl_broker.html.png import data_uri, picture
from dgl_broker.html.sky import read_sky
from dgl_broker.tune.alerts import LENSED, LENSED_CC, LENSED_IA, NEGATIVE, UNKNOWN_CLASS

EACH_SIDE = 12
AROUND_DAYS = 100.0  # of the light curve: what lies before is in the alert's own page
WIDTH, HEIGHT = 156, 66
CLASS_WORDS = {LENSED: "lensed SN", LENSED_IA: "lensed SN Ia", LENSED_CC: "lensed SN CC"}


def nearest(selected, threshold, each=EACH_SIDE):
    """Rows of the alerts just above a threshold and just below it, the best first; among those that the pre-cuts accept."""
    above = selected.passing_rows(threshold)[-each:]
    k = len(selected.passing(threshold))
    below, look = np.empty(0, np.int64), each
    while len(below) < each and (k + look <= len(selected.ok) or look == each):
        look *= 8
        below = k + np.flatnonzero(selected.ok[k : k + look])[:each]
    return above, selected.ranked.rows[below]


def describe(alerts, row, score=None):
    """One alert of the tables for JSON: ids as text, what is known of it."""
    detections = alerts.facts.get("n_detections")
    n = None if detections is None or not np.isfinite(detections[row]) else int(detections[row])
    return {
        "survey": alerts.survey.one(row),
        "alert_id": str(alerts.alert_id[row]),
        "object": alerts.object_name[alerts.object[row]],
        "score": None if score is None or not np.isfinite(score) else float(score),
        "night": alerts.nights[alerts.night[row]] if alerts.night[row] >= 0 else None,
        "band": str(alerts.facts["band"][row]) or None,
        "n_detections": n,
        "truth": truth(alerts, row),
        "live": bool(alerts.stream[row]),
    }


def truth(alerts, row):
    """What is known of an alert, in words; None where nothing is."""
    class_, kind = int(alerts.class_[row]), alerts.kind.one(row)
    if class_ == UNKNOWN_CLASS:
        return "injected" if alerts.injected[row] else None
    words = (kind or "negative").replace("_", " ") if class_ == NEGATIVE else CLASS_WORDS[class_]
    return f"{'simulated' if alerts.injected[row] else 'known'} {words}"


def pictures(alert):
    """Stamps and light curve of a decoded alert, small.

    Returns
    -------
    dict
        `stamps`: {"template", "difference"} to an address that carries the picture, or to why there is none; `width_arcsec`;
        `light_curve`: SVG.
    """
    out = {"stamps": {}, "width_arcsec": None, "light_curve": str(small_light_curve(alert))}
    for kind, sky in read_sky(alert).items():
        if kind == "science":
            continue
        if isinstance(sky, str):
            out["stamps"][kind] = {"why": sky}
            continue
        side = sky.plane.shape[0]
        rgb = picture(sky.plane, sky.valid, kind == "difference", scale=max(1, round(120 / side)), beyond=sky.beyond)
        out["stamps"][kind] = {"uri": str(data_uri(rgb))}
        out["width_arcsec"] = round(side * sky.pixel_scale_arcsec, 1)
    return out


def small_light_curve(alert):
    """Signed difference flux against days from the trigger, without axes: its shape, its bands, its errors."""
    curve = alert.light_curve
    days = np.asarray(curve.mjd_tai, float) - alert.mjd_tai
    flux, err = curve.flux_njy / NJY_A_MICROJANSKY, curve.flux_err_njy / NJY_A_MICROJANSKY
    kept = np.isfinite(days) & np.isfinite(flux) & np.isfinite(err) & (days >= -AROUND_DAYS) & (curve.kind != UPPER_LIMIT)
    days, flux, err, kind, band = days[kept], flux[kept], err[kept], curve.kind[kept], curve.band[kept]
    low, high = flux_range(flux, err, kind) if len(flux) else (0.0, 1.0)
    span = (high - low) or 1.0
    first = min(float(days.min()) if len(days) else 0.0, -2.0)
    x, y = Axis("days", 1.05 * first, -0.04 * first), Axis("flux", low - 0.1 * span, high + 0.1 * span)
    frame = Frame(x, y, WIDTH, HEIGHT, left=2, right=4, top=3, bottom=12)
    zero, at = float(frame.py(0.0)), float(frame.px(0.0))
    parts = [element("path", d=path((frame.left, WIDTH - frame.right), (zero, zero)), class_="zero")]
    parts.append(element("path", d=f"M{number(at)} {frame.top}V{HEIGHT - frame.bottom}", class_="trigger"))
    for n in np.lexsort((days, kind == DETECTION)):
        px, letter = float(frame.px(days[n])), BANDS[band[n]]
        ends = frame.py([flux[n] - err[n], flux[n] + err[n]])
        thin = " thin" if kind[n] == FORCED else ""
        parts.append(element("path", d=f"M{number(px)} {number(ends[0])}V{number(ends[1])}", class_=f"band-{letter} bar{thin}"))
        shape = "hollow" if kind[n] == FORCED else "fill"
        parts.append(marker(letter, px, float(frame.py(flux[n])), 2.0 if kind[n] == FORCED else 2.7, class_=shape))
    parts.append(element("text", f"{-first:.0f} d before".replace("-", "−"), x=2, y=HEIGHT - 1, class_="tick"))
    top = element("text", f"{high:.3g} µJy", x=WIDTH - 4, y=9, text_anchor="end", class_="tick")
    return frame.sheet(parts, top, title="Light curve", description=describe_points(curve), class_="tiny")
