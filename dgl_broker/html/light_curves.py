"""The light curve of an alert as SVG: signed difference flux against days from the trigger."""

import math

import numpy as np

from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT
from dgl_broker.html.alert_words import describe_points
from dgl_broker.html.axes import Axis, Frame, path
from dgl_broker.html.bands import marker, swatch
from dgl_broker.html.markup import Markup, element, join, number
from dgl_broker.photometry import AB_ZERO_POINT_NJY

NJY_A_MICROJANSKY = 1000.0
LIMIT_SIGMA = 5.0  # an upper limit's error is a fifth of it, see `LightCurve`
MAX_TITLES = 400  # points with a text of their own; beyond, the page grows and no one hovers
MIN_SPAN_DAYS = 2.0  # visits of one night lie minutes apart: no axis of thousandths of a day
_MAG_GAP_PX = 17


def flux_range(flux, err, kind):
    """(low, high) that a flux scale should show: zero, all detections with their errors, the rest without what is wild.

    Forced photometry is wild where it lies further from its middle 80 percent than 1.5 times their width: one bad
    subtraction would press everything else into a line.

    Parameters
    ----------
    flux, err, kind : arrays, shape (n,)
        In any unit; as in `LightCurve`.
    """
    shown = [flux[kind == DETECTION] - err[kind == DETECTION], flux[kind == DETECTION] + err[kind == DETECTION], [0.0]]
    forced = flux[kind == FORCED]
    if len(forced):
        low, high = np.percentile(forced, (10, 90))
        reach = 1.5 * (high - low)
        shown.append(np.clip([forced.min(), forced.max()], low - reach, high + reach))
    limits = LIMIT_SIGMA * err[kind == UPPER_LIMIT]
    if len(limits):
        highest = max((float(np.max(s)) for s in shown if len(s)), default=0.0)
        # A limit far above everything that was seen says nothing: it may stand at the edge.
        shown.append([min(np.percentile(limits, 75), 1.3 * highest) if highest > 0 else np.percentile(limits, 75)])
    values = np.concatenate([np.asarray(s, float) for s in shown])
    values = values[np.isfinite(values)]
    return float(min(values.min(), 0.0)), float(max(values.max(), 0.0))


def _limits(days, flux, err, kind):
    """Both axes: all of the time, and what `flux_range` says."""
    low, high = flux_range(flux, err, kind)
    span = (high - low) or 1.0
    first = min(float(days.min()), 0.0) if len(days) else 0.0
    last = max(float(days.max()), 0.0) if len(days) else 0.0
    first = min(first, -MIN_SPAN_DAYS) if last - first < MIN_SPAN_DAYS else first
    wide = last - first
    x = Axis("days from the trigger", first - 0.04 * wide, last + 0.05 * wide)
    return x, Axis("difference flux [µJy]", low - 0.08 * span, high + 0.1 * span)


def _magnitudes(frame):
    """AB magnitudes of positive flux at the right: full ones, then halves and tenths where there is room."""
    edge = frame.width - frame.right
    taken, parts = [], []
    zero = float(frame.py(0.0))
    brightest = AB_ZERO_POINT_NJY - 2.5 * math.log10(frame.y.high * NJY_A_MICROJANSKY)
    start = math.floor(brightest)
    for step, decimals in ((1.0, 0), (0.5, 1), (0.1, 1)):
        for n in range(round(6 / step)):
            magnitude = start + n * step
            flux = 10 ** (0.4 * (AB_ZERO_POINT_NJY - magnitude)) / NJY_A_MICROJANSKY
            at = float(frame.py(flux))
            if flux > frame.y.high or zero - at < _MAG_GAP_PX or any(abs(at - t) < _MAG_GAP_PX for t in taken):
                continue
            if step == 0.1 and len(taken) >= 3:
                continue
            taken.append(at)
            parts.append(element("line", x1=edge, x2=edge + 4, y1=at, y2=at, class_="axis"))
            parts.append(element("text", f"{magnitude:.{decimals}f}", x=edge + 7, y=at + 3.5, class_="tick"))
    if taken:
        middle = frame.top + (frame.height - frame.top - frame.bottom) / 2
        turn = f"translate({frame.width - 6} {number(middle)}) rotate(90)"
        parts.append(element("text", "AB mag", transform=turn, class_="label", text_anchor="middle"))
    return element("g", parts, aria_hidden="true")


def _dates(frame, trigger_mjd_tai):
    """MJD along the top."""
    mjd = Axis("MJD", frame.x.low + trigger_mjd_tai, frame.x.high + trigger_mjd_tai)
    parts = []
    for value, label in mjd.ticks(4):
        at = float(frame.px(value - trigger_mjd_tai))
        if at < frame.left + 52:
            continue  # the axis's name stands there
        parts.append(element("line", x1=at, x2=at, y1=frame.top - 4, y2=frame.top, class_="axis"))
        parts.append(element("text", label, x=at, y=frame.top - 8, class_="tick", text_anchor="middle"))
    parts.append(element("text", "MJD TAI", x=frame.left, y=frame.top - 8, class_="label", text_anchor="middle"))
    return element("g", parts, aria_hidden="true")


def _words(band, day, flux, err, kind):
    when = f"{BANDS[band]}, {day:+.2f} d".replace("-", "−")
    if kind == UPPER_LIMIT:
        return f"{when}: below {LIMIT_SIGMA * err:.3g} µJy (5 sigma)"
    what = "detection" if kind == DETECTION else "forced"
    return f"{when}: {flux:.3g} ± {err:.2g} µJy, {what}".replace("-", "−")


def _point(frame, band, x, flux, err, kind, title):
    """One point: marker with its error bar, or an arrow that hangs from the limit."""
    letter = BANDS[band]
    if kind == UPPER_LIMIT:
        at = float(frame.py(LIMIT_SIGMA * err))
        d = f"M{number(x - 4)} {number(at)}h8M{number(x)} {number(at)}v9m-2.6 -3.6l2.6 3.6l2.6 -3.6"
        return element("path", element("title", title) if title else None, d=d, class_=f"band-{letter} bar")
    y, thin = float(frame.py(flux)), " thin" if kind == FORCED else ""
    bar = None
    if math.isfinite(err) and err > 0:
        low, high = frame.py([flux - err, flux + err])
        bar = element("path", d=f"M{number(x)} {number(low)}V{number(high)}", class_=f"band-{letter} bar{thin}")
    size = 3.0 if kind == FORCED else 3.9
    shape = marker(letter, x, y, size, title, class_="hollow" if kind == FORCED else "fill")
    return join([bar, shape])


def plot_light_curve(curve, trigger_mjd_tai, width=620, height=290, name="the alert"):
    """The light curve of an alert.

    Parameters
    ----------
    curve : dgl_broker.alert.LightCurve
    trigger_mjd_tai : float
    width, height : int
    name : str
        Of the alert, for the words that stand for the picture.

    Returns
    -------
    Markup
        A `figure`: detections filled, forced photometry hollow, upper limits (5 sigma) as arrows; difference flux in
        microjansky at the left, AB magnitudes of it at the right, MJD TAI at the top, the trigger marked.
    """
    days = np.asarray(curve.mjd_tai, float) - trigger_mjd_tai
    flux, err = curve.flux_njy / NJY_A_MICROJANSKY, curve.flux_err_njy / NJY_A_MICROJANSKY
    sound = np.isfinite(days) & np.isfinite(flux) & np.isfinite(err)
    days, flux, err = days[sound], flux[sound], err[sound]
    kind, band = curve.kind[sound], curve.band[sound]
    x_axis, y_axis = _limits(days, flux, err, kind)
    frame = Frame(x_axis, y_axis, width, height, left=62, right=50, top=30)
    at, zero = float(frame.px(0.0)), float(frame.py(0.0))
    base = height - frame.bottom
    parts = [frame.grid(8, 5), element("path", d=path((frame.left, width - frame.right), (zero, zero)), class_="zero")]
    parts.append(element("path", d=f"M{number(at)} {frame.top}V{base}", class_="trigger"))
    order = np.lexsort((days, kind == DETECTION))  # detections last, so that they lie on top
    titled = len(order) <= MAX_TITLES
    points = []
    for n in order:
        title = _words(band[n], days[n], flux[n], err[n], kind[n]) if titled else None
        points.append(_point(frame, band[n], float(frame.px(days[n])), flux[n], err[n], kind[n], title))
    parts += [element("g", points), frame.border(), _magnitudes(frame), _dates(frame, trigger_mjd_tai)]
    trigger = np.flatnonzero((kind == DETECTION) & (np.abs(days) < 1e-6))
    if len(trigger):
        parts.append(element("circle", cx=at, cy=float(frame.py(flux[trigger[-1]])), r=8, class_="ring"))
    beyond = int(np.count_nonzero((flux > y_axis.high) | (flux < y_axis.low)))
    drawing = frame.sheet(
        parts,
        title=f"Light curve of {name}",
        description=f"{describe_points(curve)}. The trigger is at MJD {trigger_mjd_tai:.5f} TAI",
    )
    return element("figure", drawing, _legend(curve, beyond))


def _key(drawing, text):
    mark = element("svg", drawing, viewBox="0 0 14 14", width=14, height=14, aria_hidden="true")
    return element("span", mark, " ", text)


def _legend(curve, beyond):
    items = [swatch(b) for i, b in enumerate(BANDS) if np.any(curve.band == i)]
    keys = {
        DETECTION: (element("circle", cx=7, cy=7, r=4, class_="fill"), "detection"),
        FORCED: (element("circle", cx=7, cy=7, r=3.5, class_="hollow"), "forced"),
        UPPER_LIMIT: (element("path", d="M3 3h8M7 3v8m-2.6-3.6l2.6 3.6l2.6-3.6", class_="bar"), "5-sigma upper limit"),
    }
    items += [_key(*keys[k]) for k in keys if np.any(curve.kind == k)]
    items.append(_key(element("circle", cx=7, cy=7, r=5.5, class_="ring"), "the trigger"))
    if beyond:
        items.append(element("span", f"{beyond} points beyond the scale stand at its edge"))
    return element("div", items or Markup(""), class_="legend")
