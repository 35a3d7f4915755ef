"""What the ensemble said of one alert: classes as bars, members on a scale that shows small numbers."""

import math

from dgl_broker.html.axes import Axis, Frame, sheet
from dgl_broker.html.markup import element, number
from dgl_broker.html.tables import facts
from dgl_broker.scores import CLASSES, MEMBERS

CLASS_NAMES = {
    "no_lens": "no lens", "lens": "lens", "lensed_sn_ia": "lensed SN Ia", "lensed_sn_cc": "lensed SN CC",
}  # fmt: skip
MEMBER_NAMES = {"lonet": "LoNet", "glonet": "GloNet", "munet": "MuNet"}
_SCALE = Axis("p(lensed supernova)", 1e-6, 1 - 1e-6, "logit")


def probability(value):
    """A probability in as many digits as mean something: 0.9998, 0.42, 3.1e-05."""
    if value is None:
        return "unknown"
    if 0.01 <= value <= 0.99:
        return f"{value:.2f}"
    if value > 0.99:
        return f"{value:.4f}" if value < 0.99995 else f"1 − {1 - value:.1g}"
    return f"{value:.2g}"


def class_bars(scores, width=400):
    """The four class probabilities."""
    left, step, room = 104, 22, 64
    parts = []
    for n, name in enumerate(CLASSES):
        value, y = getattr(scores, f"p_{name}"), step * n
        length = (width - left - room) * min(max(value, 0.0), 1.0)
        parts.append(element("text", CLASS_NAMES[name], x=left - 10, y=y + 15, text_anchor="end"))
        parts.append(element("rect", x=left, y=y + 4, width=width - left - room, height=14, class_="track", rx=2))
        parts.append(element("rect", x=left, y=y + 4, width=float(length), height=14, class_=f"block c-{name}", rx=2))
        parts.append(element("text", probability(value), x=width - room + 8, y=y + 15, class_="tick"))
    spoken = ", ".join(f"{CLASS_NAMES[n]} {probability(getattr(scores, f'p_{n}'))}" for n in CLASSES)
    return sheet(width, step * len(CLASSES) + 4, parts, title="Class probabilities", description=spoken)


def member_dots(scores, width=400):
    """p_lsn of each network and of the ensemble on a logit scale; the dashed line is the share where nothing is known."""
    rows = [(MEMBER_NAMES[m], p) for m, p in zip(MEMBERS, scores.member_p_lsn)] + [("ensemble", scores.p_lsn)]
    step = 22
    frame = Frame(_SCALE, Axis("", 0.0, 1.0), width, step * len(rows) + 46, left=104, right=64, top=4, bottom=40)
    base, parts = frame.height - frame.bottom, []
    for value, label in ((1e-6, "10⁻⁶"), (1e-3, "0.001"), (0.5, "0.5"), (0.999, "0.999"), (1 - 1e-6, "1−10⁻⁶")):
        at = float(frame.px(value))
        parts.append(element("line", x1=at, x2=at, y1=frame.top, y2=base, class_="grid"))
        parts.append(element("text", label, x=at, y=base + 15, class_="tick", text_anchor="middle"))
    middle = (frame.left + width - frame.right) / 2
    parts.append(element("text", _SCALE.label, x=middle, y=frame.height - 6, class_="label", text_anchor="middle"))
    share = training_share(scores)
    if share is not None:
        at = number(float(frame.px(share)))
        parts.append(element("path", d=f"M{at} {frame.top}V{base}", class_="reference"))
    for n, (name, value) in enumerate(rows):
        y, at = frame.top + step * n + 11, float(frame.px(value))
        whole = name == "ensemble"
        weight = "650" if whole else None
        parts.append(element("text", name, x=frame.left - 10, y=y + 4, text_anchor="end", font_weight=weight))
        parts.append(element("line", x1=frame.left, x2=width - frame.right, y1=y, y2=y, class_="grid"))
        style = "fill s2" if whole else "fill s1"
        parts.append(
            element("circle", element("title", f"{name}: {value:.6g}"), cx=at, cy=y, r=6 if whole else 4.5, class_=style)
        )
        parts.append(element("text", probability(value), x=width - frame.right + 8, y=y + 4, class_="tick"))
    spoken = ", ".join(f"{name} {probability(value)}" for name, value in rows)
    return frame.sheet(parts, title="Probability of a lensed supernova by member", description=spoken)


def training_share(scores):
    """Share of lensed supernovae in the calibration split, from p_lsn and log_odds; None where p_lsn is 0 or 1."""
    if not 0.0 < scores.p_lsn < 1.0:
        return None
    logit = math.log(scores.p_lsn / (1.0 - scores.p_lsn)) - scores.log_odds
    return 1.0 / (1.0 + math.exp(-logit)) if abs(logit) < 30 else None


def score_facts(scores):
    """The numbers of a score with what they mean."""
    p_value = None
    if scores.p_value is not None:
        at_floor = scores.p_value_floor is not None and scores.p_value <= scores.p_value_floor
        p_value = f"{scores.p_value:.3g}{' (the floor)' if at_floor else ''}"
        if scores.stratum:
            p_value += f", against the null of {scores.stratum}"
    return facts(
        [
            ("log-odds", f"{scores.log_odds:+.2f}".replace("-", "−") + " (natural log of the likelihood ratio)"),
            ("posterior", f"{scores.posterior:.3g} at a prevalence of {scores.prevalence:.2g}"),
            ("p-value", p_value or "none: the bundle is not calibrated"),
            ("spread", f"{scores.spread:.2f} in logit between members"),
            ("bundle", element("span", f"{scores.bundle_id} ", element("code", scores.bundle_sha256[:12]))),
            ("ran on", f"{scores.device}, {scores.precision}"),
        ]
    )


def score_panel(scores):
    """Classes, members and numbers of one score."""
    title = element("h4", "Classes"), element("h4", "Members")
    return element("div", title[0], class_bars(scores), title[1], member_dots(scores), score_facts(scores))
