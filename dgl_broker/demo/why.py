"""Why a filter passed an alert or did not: every criterion with what was asked and what was found."""


def requirement(criterion):
    """What a criterion asks, in words: `at least 0.02; unknown passes`; facts of another name than its own are named."""
    options = [" and ".join(_test(test, criterion.name) for test in tests) for tests in criterion.alternatives]
    return " or ".join(options) + f"; unknown {'passes' if criterion.unknown == 'pass' else 'fails'}"


def _test(test, name):
    fact = "" if test.fact == name else f"{test.fact} "
    if test.choices is not None:
        return fact + " or ".join(map(_plain, test.choices))
    if test.high is None:
        return f"{fact}at least {test.low:g}"
    if test.low is None:
        return f"{fact}at most {test.high:g}"
    return f"{fact}from {test.low:g} to {test.high:g}"


def _plain(value):
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
        words = ", ".join(f"{k} {_plain(v)}" for k, v in found.items()) if isinstance(found, dict) else _plain(found)
        rows.append((criterion.name, requirement(criterion), words, criterion.name not in failed))
    value = getattr(scores, chosen.score)
    rows.append((chosen.score, f"at least {chosen.threshold:g}", _plain(value), chosen.score not in failed))
    return rows
