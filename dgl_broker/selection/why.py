"""Why a filter passed an alert or did not: every criterion with what was asked and what was found."""

from dgl_broker.selection.words import plain, requirement


def criteria_rows(chosen, alert, scores):
    """Each criterion of a filter on one alert, the score last.

    Parameters
    ----------
    chosen : dgl_broker.selection.Filter
    alert : Alert
    scores : Scores or None
        None where it was refused: then the score is not met.

    Returns
    -------
    list of (str, str, str, bool)
        Name, what is asked, what was found, whether it is met.
    """
    cache, rows = {}, []
    met = dict(chosen.precut(alert.facts, cache=cache).met)
    for criterion in chosen.criteria:
        found = criterion.value(alert.facts, cache)
        words = ", ".join(f"{k} {plain(v)}" for k, v in found.items()) if isinstance(found, dict) else plain(found)
        holds = met[criterion.name]
        rows.append((criterion.name, requirement(criterion), words, criterion.unknown == "pass" if holds is None else holds))
    value = None if scores is None else getattr(scores, chosen.score)
    passes = value is not None and value >= chosen.threshold
    rows.append((chosen.score, f"at least {chosen.threshold:g}", "none" if value is None else plain(value), passes))
    return rows
