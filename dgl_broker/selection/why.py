"""Why a filter passed an alert or did not: every criterion with what was asked and what was found."""

from dgl_broker.selection.words import plain, requirement


def criteria_rows(chosen, alert, scores):
    """Each criterion of a filter on one alert, the score last.

    Parameters
    ----------
    chosen : dgl_broker.selection.Filter
    alert : Alert
    scores : Scores

    Returns
    -------
    list of (str, str, str, bool)
        Name, what is asked, what was found, whether it is met.
    """
    verdict = chosen.judge(alert.facts, scores)
    failed = {name for name, _ in verdict.failed}
    rows, cache = [], {}
    for criterion in chosen.criteria:
        found = criterion.value(alert.facts, cache)
        words = ", ".join(f"{k} {plain(v)}" for k, v in found.items()) if isinstance(found, dict) else plain(found)
        rows.append((criterion.name, requirement(criterion), words, criterion.name not in failed))
    value = getattr(scores, chosen.score)
    rows.append((chosen.score, f"at least {chosen.threshold:g}", plain(value), chosen.score not in failed))
    return rows
