"""What `inspect` prints: the alert in words, its light curve as lines of blocks, scorability, scores."""

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT
from dgl_broker.errors import NotScorable
from dgl_broker.html.alert_words import KIND_WORDS, describe_alert, describe_completeness, further_facts, signed
from dgl_broker.html.light_curves import flux_range
from dgl_broker.html.scores import CLASS_NAMES, MEMBER_NAMES, probability
from dgl_broker.scores import CLASSES, MEMBERS

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 56
_LAST_POINTS = 8
_LIMIT_SIGMA = 5.0


def printable(text):
    """Text without what would move a terminal's cursor or change its colours: packets may hold anything."""
    return "".join(c if c.isprintable() else "�" for c in str(text))


def console(file=None):
    """Where it is printed; wide enough for a table where the output is no terminal."""
    out = Console(file=file, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = 118
    return out


def print_inspection(found, file=None):
    """Print an `Inspection`."""
    out = console(file)
    if found.error is not None:
        _print_error(out, found)
        return
    alert = found.alert
    _heading(out, alert.name)
    _pairs(out, describe_alert(alert))
    facts = further_facts(alert)
    if facts:
        _heading(out, "What the packet says besides")
        cells = [Text.assemble((f"{name} ", "dim"), printable(value)) for name, value, _ in facts]
        out.print(Padding(Columns(cells, column_first=True, padding=(0, 3)), (0, 0, 0, 2)))
    _heading(out, "Light curve")
    _print_curve(out, alert)
    _print_scorable(out, found)


def _heading(out, text):
    out.print()
    out.print(Text(printable(text), style="bold"))


def _pairs(out, pairs):
    width = max(len(name) for name, _ in pairs)
    for name, text in pairs:
        out.print(Text.assemble(f"  {name:<{width}}  ", printable(text)), soft_wrap=True)


def _print_error(out, found):
    message, error = found.message, found.error
    _heading(out, message.where())
    out.print(Text.assemble(("  cannot be read: ", "bold"), f"{error.reason}"))
    out.print(Text("  " + printable(error.detail)), soft_wrap=True)
    if message.value:
        begins = message.value[:16]
        shown = "".join(chr(b) if 32 <= b < 127 else "." for b in begins)
        out.print(Text(f"  {len(message.value)} bytes, beginning {begins.hex(' ')}  {shown}"))
    out.print(Text("  In the stream it becomes a dead letter with this reason."))
    if error.reason == "unknown_schema":
        out.print(Text("  Name a folder or a registry that has the schema with --schemas."))


def sparkline(days, flux, low, high, first, last, width=_SPARK_WIDTH):
    """Fluxes over a time axis as one line of blocks, the greatest of each column; `·` where there is no point.

    Parameters
    ----------
    days, flux : arrays, shape (n,)
    low, high : float
        Ends of the flux scale, shared by all lines.
    first, last : float
        Ends of the time axis [d].
    """
    cells = [None] * width
    for day, value in zip(days, flux):
        at = min(int((day - first) / ((last - first) or 1.0) * width), width - 1)
        cells[at] = value if cells[at] is None else max(cells[at], value)
    span = (high - low) or 1.0
    levels = [None if c is None else min(max(int((c - low) / span * len(_BLOCKS)), 0), len(_BLOCKS) - 1) for c in cells]
    return "".join("·" if n is None else _BLOCKS[n] for n in levels)


def _print_curve(out, alert):
    curve = alert.light_curve
    days = curve.mjd_tai - alert.mjd_tai
    flux = curve.flux_njy / 1000.0
    measured = (curve.kind != UPPER_LIMIT) & np.isfinite(flux)
    if not measured.any():
        out.print(Text("  no measured point"))
        return
    first, last = float(days.min()), max(float(days.max()), 0.0)
    low, high = flux_range(flux, curve.flux_err_njy / 1000.0, curve.kind)
    since = signed(first, ".1f" if first < -1 else ".3f")
    table = Table(box=None, pad_edge=False)
    for title in ("  band", "det.", "forced", "limits", f"{since} d to the trigger", "greatest [µJy]"):
        table.add_column(title, justify="left" if "trigger" in title or "band" in title else "right", no_wrap=True)
    for index, band in enumerate(BANDS):
        here = curve.band == index
        if not here.any():
            continue
        shown = here & measured
        counts = [str(int(np.sum(here & (curve.kind == kind)))) for kind in (DETECTION, FORCED, UPPER_LIMIT)]
        line = sparkline(days[shown], flux[shown], low, high, first, last)
        best = signed(float(flux[shown].max()), ".3g") if shown.any() else ""
        table.add_row(f"  {band}", *counts, Text(line), best)
    out.print(table)
    scale = f"  blocks from {signed(low, '.3g')} to {signed(high, '.3g')} µJy of difference flux"
    out.print(Text(scale, style="dim"))
    rows = np.argsort(days, kind="stable")[-_LAST_POINTS:]
    last_points = Table(box=None, pad_edge=False)
    for title in ("  last points", "band", "flux [µJy]", "error", "kind"):
        last_points.add_column(title, justify="right" if title in ("flux [µJy]", "error") else "left")
    for n in rows:
        kind, err = curve.kind[n], curve.flux_err_njy[n] / 1000
        value = f"< {_LIMIT_SIGMA * err:.3g}" if kind == UPPER_LIMIT else signed(flux[n], ".4g")
        when = f"  {signed(days[n], '+.3f')} d"
        last_points.add_row(
            when, BANDS[curve.band[n]], value, "" if kind == UPPER_LIMIT else f"{err:.2g}", KIND_WORDS[int(kind)]
        )
    out.print(last_points)


def _print_scorable(out, found):
    example = found.example
    card = found.bundle.card["id"] if found.bundle else "the survey's usual input"
    if isinstance(example, NotScorable):
        _heading(out, f"Not scorable with {card}: {example.reason}")
        out.print(Text("  " + printable(example.detail)), soft_wrap=True)
    else:
        _heading(out, f"Scorable with {card}")
        _pairs(out, describe_completeness(example.completeness))
    outcome = found.outcome
    if outcome is None:
        out.print(Text(f"  no scores: {found.no_bundle}"))
        return
    if outcome.cuts:
        _heading(out, "Pre-cuts")
        words = {True: "met", False: "NOT met", None: "unknown"}
        _pairs(out, [(name, words[met]) for name, met in outcome.cuts.items()])
    if outcome.scores is None:
        if not isinstance(example, NotScorable):
            out.print(Text(f"  not scored: {outcome.reason}: {printable(outcome.error or '')}"))
        return
    _heading(out, "Scores" if found.bundle.trained else "Scores (the weights are untrained: they mean nothing)")
    _pairs(out, score_lines(outcome.scores))
    for verdict in outcome.verdicts:
        failed = "; ".join(f"{name} is {value}" for name, value in verdict.failed)
        text = "passed" if verdict.passed else f"not passed: {failed}"
        out.print(Text(f"  {printable(verdict.filter)} version {verdict.version}: {printable(text)}"), soft_wrap=True)


def score_lines(scores):
    """A score as (name, text) lines."""
    lines = [(CLASS_NAMES[c], probability(getattr(scores, f"p_{c}"))) for c in CLASSES]
    members = ", ".join(f"{MEMBER_NAMES[m]} {probability(p)}" for m, p in zip(MEMBERS, scores.member_p_lsn))
    lines.append(("lensed SN", f"{probability(scores.p_lsn)} ({members}; spread {scores.spread:.2f} in logit)"))
    lines.append(
        ("log-odds", f"{signed(scores.log_odds, '+.3f')}, posterior {scores.posterior:.3g} at {scores.prevalence:.2g}")
    )
    p = "none" if scores.p_value is None else f"{scores.p_value:.3g} against the null of {scores.stratum}"
    lines.append(("p-value", p))
    lines.append(("bundle", f"{scores.bundle_id} {scores.bundle_sha256[:12]}, on {scores.device} in {scores.precision}"))
    return lines
