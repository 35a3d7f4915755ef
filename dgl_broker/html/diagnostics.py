"""What a classifier's errors look like: the confusion matrix and the reliability diagram."""

import numpy as np

from dgl_broker.html.axes import Axis, Frame, path
from dgl_broker.html.markup import element, number


def _share(value):
    return f"{100 * value:.1f} %"


_MATRIX_CAPTION = "Rows are true classes, columns what was said; shares are of the row"


def confusion_matrix(counts, classes, lo=None, hi=None, caption=_MATRIX_CAPTION):
    """A confusion matrix as a table: share of the true class, its interval, and the count in each cell.

    Parameters
    ----------
    counts : array, shape (K, K)
        Integers, true class by row.
    classes : sequence of str
    lo, hi : arrays, shape (K, K), optional
        Interval of each share.
    """
    counts = np.asarray(counts)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"counts of shape {counts.shape}, expected {(len(classes), len(classes))}")
    rows = []
    for i, true in enumerate(classes):
        total = int(counts[i].sum())
        cells = [element("th", true, element("small", f"n = {total}", class_="soft"), scope="row")]
        for j, said in enumerate(classes):
            share = counts[i, j] / total if total else 0.0
            words = [element("b", _share(share))] if total else ["no object"]
            if lo is not None and total:
                words.append(element("small", f"{_share(lo[i][j])} to {_share(hi[i][j])}"))
            words.append(element("small", f"{int(counts[i, j])}"))
            tint = f"background:color-mix(in srgb, var(--s1) {round(100 * share)}%, var(--card))"
            on = "on" if share > 0.6 else None
            cells.append(element("td", words, style=tint, class_=on, title=f"{true} called {said}"))
        rows.append(element("tr", cells))
    head = element("tr", element("td"), [element("th", c, scope="col", style="text-align:center") for c in classes])
    body = [element("caption", caption), element("thead", head), element("tbody", rows)]
    matrix = element("table", body, class_="matrix")
    return element("div", matrix, class_="scroll", tabindex="0", role="group", aria_label=caption)


def reliability_diagram(predicted, observed, lo, hi, counts, title="Reliability", scale="linear", caption=None, size=360):
    """Observed share against predicted probability, with intervals and the number of alerts in each bin below.

    Parameters
    ----------
    predicted, observed, lo, hi : arrays, shape (n,)
        Mean prediction and observed share of each bin, and the share's interval. Empty bins are NaN.
    counts : array, shape (n,)
    scale : "linear" or "logit"
    """
    predicted, observed, lo, hi = (np.asarray(a, float) for a in (predicted, observed, lo, hi))
    good = np.isfinite(predicted) & np.isfinite(observed) & np.isfinite(lo) & np.isfinite(hi)
    if scale == "linear":
        ends = (0.0, 1.0)
    else:
        seen = np.concatenate([predicted[good], observed[good]])
        seen = seen[(seen > 0) & (seen < 1)]
        low = max(float(seen.min()) / 2, 1e-7) if seen.size else 1e-3
        high = min(1 - (1 - float(seen.max())) / 2, 1 - 1e-7) if seen.size else 1 - 1e-3
        ends = (min(low, 0.4), max(high, 0.6))
    x, y = Axis("predicted probability", *ends, scale), Axis("observed share", *ends, scale)
    frame = Frame(x, y, size + 60, size + 20)
    line = np.linspace(*ends, 200)
    parts = [frame.grid(), element("path", d=path(frame.px(line), frame.py(line)), class_="reference")]
    most = max(float(np.max(counts)), 1.0) if len(counts) else 1.0
    base = frame.height - frame.bottom
    for n in np.flatnonzero(good):
        at, value = float(frame.px(predicted[n])), float(frame.py(observed[n]))
        low, high = frame.py([lo[n], hi[n]])
        depth = 40.0 * float(counts[n]) / most
        words = f"predicted {predicted[n]:.3g}, observed {observed[n]:.3g} ({lo[n]:.3g} to {hi[n]:.3g}), n = {int(counts[n])}"
        parts.append(element("rect", x=at - 4, y=base - depth, width=8, height=depth, class_="track"))
        parts.append(element("path", d=f"M{number(at)} {number(low)}V{number(high)}", class_="bar s1"))
        parts.append(element("circle", element("title", words), cx=at, cy=value, r=4, class_="fill s1"))
    parts.append(frame.border())
    drawing = frame.sheet(parts, title=title, description=f"{int(good.sum())} bins against the diagonal")
    return element("figure", drawing, element("figcaption", caption) if caption else None)
