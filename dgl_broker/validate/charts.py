"""Drawings of a validation: tracks of scores over time, and scores of two tables against each other."""

import numpy as np

from dgl_broker.html.axes import Axis, Frame, padded, path
from dgl_broker.html.markup import element, number

GROUP_STYLES = {"live": 6, "injected": 2, "known lensed supernovae": 3, "known negatives": 1}


def plot_tracks(tracks, threshold=None, width=1080, height=360):
    """Log-odds of objects against days since their first alert; a filled point passed.

    Parameters
    ----------
    tracks : list of dict
        As `measured.tracks` gives them.
    threshold : float, optional
    """
    scores = [s for track in tracks for s in track["score"] if s is not None]
    days = [d for track in tracks for d in track["days"]]
    low, high = padded([*scores, *([threshold] if threshold is not None else [])])
    x = Axis("days since the object's first alert here", 0.0, 1.04 * max([*days, 1.0]))
    frame = Frame(x, Axis("log-odds", low, high), width, height)
    parts = [frame.grid(8, 6)]
    if threshold is not None:
        y = float(frame.py(threshold))
        parts.append(element("path", d=f"M{frame.left} {number(y)}H{width - frame.right}", class_="trigger"))
        end = width - frame.right - 2
        parts.append(element("text", "threshold", x=end, y=y - 5, text_anchor="end", class_="tick trigger-text"))
    for track in tracks:
        parts.append(element("g", _track(frame, track), class_=f"s{GROUP_STYLES[track['group']]}"))
    parts.append(frame.border())
    groups = dict.fromkeys(track["group"] for track in tracks)
    spoken = ", ".join(f"{sum(t['group'] == g for t in tracks)} {g}" for g in groups)
    drawing = frame.sheet(parts, title="Scores of objects over time", description=spoken)
    keys = [element("span", _dot(GROUP_STYLES[g]), f" {g}") for g in groups]
    return element("figure", drawing, element("div", keys, class_="legend"))


def _track(frame, track):
    known = [(d, s, p) for d, s, p in zip(track["days"], track["score"], track["passed"]) if s is not None]
    if not known:
        return []
    xs, ys = frame.px([d for d, _, _ in known]), frame.py([s for _, s, _ in known])
    title = element("title", f"{track['object']}, {track['group']}")
    parts = [element("path", title, d=path(xs, ys), class_="line", style="stroke-width:1.2;opacity:.55")]
    for at, y, (day, score, passed) in zip(xs, ys, known):
        words = f"{track['object']}, {day:.1f} d: {score:+.2f}{', passed' if passed else ''}"
        kind = "fill" if passed else "hollow"
        parts.append(element("circle", element("title", words), cx=float(at), cy=float(y), r=3.2, class_=kind))
    return parts


def _dot(style):
    dot = element("circle", cx=7, cy=7, r=4, class_="fill")
    return element("svg", dot, viewBox="0 0 14 14", width=14, height=14, class_=f"s{style}", aria_hidden="true")


def plot_pairs(after, before, moved, size=420):
    """Scores of the same alerts in two tables; those that change sides stand out."""
    low, high = padded([*after, *before])
    axis = {"low": low, "high": high}
    frame = Frame(Axis("log-odds before", **axis), Axis("log-odds after", **axis), size + 60, size + 20)
    ends = np.array([low, high])
    parts = [frame.grid(), element("path", d=path(frame.px(ends), frame.py(ends)), class_="reference")]
    order = np.argsort(np.asarray(moved, bool), kind="stable")
    xs, ys = frame.px(before), frame.py(after)
    for n in order:
        style = {"r": 3.6, "class_": "fill s2"} if moved[n] else {"r": 2.0, "class_": "fill s1", "opacity": 0.45}
        parts.append(element("circle", cx=float(xs[n]), cy=float(ys[n]), **style))
    parts.append(frame.border())
    n_moved = int(np.count_nonzero(moved))
    words = f"{len(after)} alerts, of which {n_moved} pass in one table alone"
    drawing = frame.sheet(parts, title="Scores of the same alerts in both tables", description=words)
    keys = [element("span", _dot(1), " the same side"), element("span", _dot(2), " passes in one alone")]
    return element("figure", drawing, element("div", keys, class_="legend"))


def small_track(track, width=414, height=120):
    """The track of one object, for its card."""
    known = [s for s in track["score"] if s is not None]
    low, high = padded(known)
    x = Axis("days", 0.0, 1.04 * max([*track["days"], 1.0]))
    frame = Frame(x, Axis("log-odds", low, high), width, height, left=52, bottom=34, top=8)
    parts = [frame.grid(5, 3), element("g", _track(frame, track), class_="s1"), frame.border()]
    return element("figure", frame.sheet(parts, title="Score over time", description=f"{len(known)} scored alerts"))
