"""Filters in words: what a criterion asks, and what one filter says otherwise than another."""


def requirement(criterion):
    """What a criterion asks, in words: `at least 0.02; unknown passes`; facts of another name than its own are named."""
    options = [" and ".join(_test(test, criterion.name) for test in tests) for tests in criterion.alternatives]
    return " or ".join(options) + f"; unknown {'passes' if criterion.unknown == 'pass' else 'fails'}"


def _test(test, name):
    fact = "" if test.fact == name else f"{test.fact} "
    if test.choices is not None:
        return fact + " or ".join(map(plain, test.choices))
    if test.high is None:
        return f"{fact}at least {test.low:g}"
    if test.low is None:
        return f"{fact}at most {test.high:g}"
    return f"{fact}from {test.low:g} to {test.high:g}"


def plain(value):
    """A fact's value for people: `yes`, `0.4863`, `unknown`."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def differences(old, new):
    """What `new` says otherwise than `old`, a sentence each; empty where both judge alike.

    Parameters
    ----------
    old : Filter or None
        None for a filter that is new.
    new : Filter
    """
    if old is None:
        return [f"new, {new.score} at least {new.threshold:.10g}"]
    out = []
    if (old.score, old.threshold) != (new.score, new.threshold):
        score = "" if old.score == new.score else f"{new.score} "
        out.append(f"threshold {old.threshold:.10g} → {score}{new.threshold:.10g}")
    before, after = ({c.name: requirement(c) for c in f.require} for f in (old, new))
    out += [f"{name}: {before[name]} → {after[name]}" for name in before if name in after and before[name] != after[name]]
    out += [f"{name} taken out ({before[name]})" for name in before if name not in after]
    out += [f"{name} put in: {after[name]}" for name in after if name not in before]
    if old.bundle_sha256 != new.bundle_sha256:
        out.append(f"bundle {_short(old.bundle_sha256)} → {_short(new.bundle_sha256)}")
    for key, name in (("completeness_floor", "completeness floor"), ("max_candidates_per_night", "candidates a night at most")):
        if getattr(old, key) != getattr(new, key):
            out.append(f"{name} {plain(getattr(old, key))} → {plain(getattr(new, key))}".replace("unknown", "none"))
    return out


def _short(sha256):
    return "none" if sha256 is None else sha256[:8]
