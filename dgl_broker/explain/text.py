"""An explanation in a few lines, for the terminal."""

from dgl_broker.html.alert_words import signed

STRONGEST = 6


def explanation_text(one):
    """What the page says, in short."""
    row, c = one.found.row, one.comparison
    lines = [f"{row['survey']} {row['alert_id']}, scored by {row['bundle_id']} {str(row['bundle_sha256'])[:12]}"]
    if c.log_odds_then is not None and c.log_odds_now is not None:
        change = abs(c.log_odds_then - c.log_odds_now)
        lines.append(
            f"log-odds {signed(c.log_odds_then, '+.4f')} recorded, {signed(c.log_odds_now, '+.4f')} now ({change:.1g} apart)"
        )
    else:
        lines.append(f"recorded {row['status']} ({row['reason'] or 'no reason'}), now {one.outcome.status}"
                     f" ({one.outcome.reason or 'no reason'})")  # fmt: skip
    lines.append("REPRODUCED" if c.reproduced else "NOT REPRODUCED")
    for d in c.differences:
        expected = "" if d.allowed is None else f", expected within {d.allowed:.2g}"
        lines.append(f"  {d.what}: recorded {d.then}, now {d.now}{expected}")
    for verdict in one.outcome.verdicts:
        said = "passed" if verdict.passed else "did not pass: " + ", ".join(name for name, _ in verdict.failed)
        lines.append(f"{verdict.filter} version {verdict.version}: {said}")
    if one.occlusion is not None:
        parts = [*one.occlusion.inputs, *one.occlusion.bands, *(e.worth for e in one.occlusion.epochs)]
        known = sorted((w for w in parts if w.delta is not None), key=lambda w: -abs(w.delta))
        lines.append("what moved it most: " + ", ".join(f"{w.name} {signed(w.delta, '+.2f')}" for w in known[:STRONGEST]))
    return "\n".join(lines)
